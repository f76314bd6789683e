"""The scale of samples: 8 bits survive Q12, and a scaled pattern is rounded as its formula says."""

from __future__ import annotations

import torch

from pc15.luma import MIDDLE, SAMPLE_ONE, as_q12, to_pixels
from pc15.proc.registry import scaled_pattern

BYTES = torch.arange(256, dtype=torch.uint8)


def test_every_byte_comes_back_from_its_sample() -> None:
    samples = as_q12(BYTES)
    assert samples.dtype == torch.int32
    assert samples.tolist() == [(value * SAMPLE_ONE + 127) // 255 for value in range(256)]
    assert torch.equal(to_pixels(samples), BYTES)


def test_samples_beyond_the_scale_are_clamped() -> None:
    assert to_pixels(torch.tensor([-9, 0, MIDDLE, SAMPLE_ONE, SAMPLE_ONE + 9])).tolist() == [0, 0, 128, 255, 255]


def test_a_picture_may_be_of_any_layout_and_is_left_as_it_is() -> None:
    turned = BYTES.view(16, 16).T
    assert torch.equal(to_pixels(as_q12(turned)), turned)
    wide = BYTES.to(torch.int32)
    as_q12(wide)
    assert torch.equal(wide, BYTES.to(torch.int32))


def test_a_scaled_pattern_is_rounded_to_the_nearest_sample() -> None:
    factor, pattern = torch.tensor([32768, -7, 0]).int(), torch.tensor([-16384, -5, 3, 16384]).int()
    drawn = scaled_pattern(factor, pattern.view(1, 2, 2).expand(3, 2, 2))
    expected = [[(f * p + (1 << 16)) >> 17 for p in pattern.tolist()] for f in factor.tolist()]
    assert drawn.flatten(1).tolist() == expected
    assert pattern.tolist() == [-16384, -5, 3, 16384]
