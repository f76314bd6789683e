"""Sizes that kernels share out their work by."""

LANES = 128
"""Threads of a program instance; in exact scores, each has one SSIM block of one candidate."""
RUN = 8
"""Neighbouring pixels that a thread reads at once."""
