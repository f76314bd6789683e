"""The only seed derivation: integer mixing of the stream's seed and a small index, no position, no time.

A layer codes the index, so that all tiles share one bank of noise patterns.
Source: the splitmix64 finaliser, G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014.
"""

from __future__ import annotations

_MASK64 = (1 << 64) - 1


def tile_seed(seed: int, index: int) -> int:
    """Seed of noise number `index` of a stream whose global seed is `seed`; an integer in [0, 2**31).

    Args:
        seed: the stream's seed; only its low 32 bits count.
        index: the small seed index that a layer codes, >= 0.
    """
    seed, index = int(seed), int(index)  # NumPy's would not mix as wide as this
    z = (((seed & 0xFFFFFFFF) << 32) ^ (index & 0xFFFFFFFF)) + 0x9E3779B97F4A7C15 & _MASK64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK64
    return (z ^ (z >> 31)) >> 33
