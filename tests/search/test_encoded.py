"""The encoder writes the bytes that are pinned, and the pins are sharp enough to see a price change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pc15.search import cost
from tests.golden import encoded

PINS: dict[str, str] = json.loads(encoded.INDEX.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("picture", "preset", "way"), encoded.cases(), ids=lambda word: word)
def test_the_encoder_writes_the_pinned_bytes(picture: str, preset: str, way: str) -> None:
    assert encoded.digest(picture, preset, way) == PINS[f"{picture}, {preset}, {way}"]


def test_every_pin_is_tested() -> None:
    assert list(PINS) == [", ".join(case) for case in encoded.cases()]
    assert len(set(PINS.values())) >= 40


def test_a_price_that_is_off_by_seven_parts_of_256_of_a_bit_breaks_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = cost.Costs.one_more

    def dearer(self: cost.Costs, *arguments: Any, **options: Any) -> int:
        return usual(self, *arguments, **options) + 7

    monkeypatch.setattr(cost.Costs, "one_more", dearer)
    many_tiles = [("scene", "balanced", "tiles of 8"), ("weave", "balanced", "tiles of 8, overlapping less")]
    assert all(encoded.digest(*case) != PINS[", ".join(case)] for case in many_tiles)
