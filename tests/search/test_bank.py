"""Banks are drawn once, kept on disk for every process, and drawn again when what lies there cannot be theirs."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import NAMES
from pc15.runtime import notices
from pc15.search import bank as module
from pc15.search import bank_store
from pc15.search.bank import Bank, get_bank

CPU = torch.device("cpu")
FEW = Codebook("few", tuple(entry[:2] for entry in load_codebook("v15_grid").entries))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on disk and in memory."""
    monkeypatch.setenv("PC15_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "_LOADED", type(module._LOADED)())
    monkeypatch.setattr(notices, "_said", set())
    return tmp_path / "banks"


def fresh() -> Bank:
    """The bank as another process would get it."""
    module._LOADED.clear()
    return get_bank(16, FEW, 7, CPU)


def same(a: Bank, b: Bank) -> bool:
    parts = ("drawn", "pixels", "rms", "drawn_rms", "gen", "qv", "seed")
    return a.start == b.start and all(torch.equal(getattr(a, part), getattr(b, part)) for part in parts)


def test_rows_are_the_patterns_that_the_decoder_draws(cache: Path) -> None:
    bank = fresh()
    drawn = bank.drawn.to(torch.float64)
    assert bank.rows == len(drawn) == bank.start[-1] > 2 * len(NAMES)
    assert drawn.mean(dim=1).abs().max() <= 1
    assert torch.equal(bank.drawn_rms, drawn.square().mean(dim=1).sqrt().floor().to(torch.int32))
    assert torch.allclose(bank.rms, bank.pixels.to(torch.float64).square().mean(dim=1).sqrt())
    lively = bank.drawn_rms > 0
    assert bank.pixels[lively].to(torch.int32).abs().amax(dim=1).eq(127).all()
    assert not bank.pixels[~lively].any()


def test_another_process_maps_what_the_first_one_drew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fresh()
    assert len(list(cache.glob("*.npy"))) == 3 == len(list(cache.iterdir())) - 1
    monkeypatch.setattr(module, "_draw", lambda *_: pytest.fail("drawn a second time"))
    assert same(first, fresh())


@pytest.mark.parametrize("harm", ["cut", "emptied", "foreign", "another type", "zeroed", "one bit"])
def test_a_damaged_cache_is_drawn_anew_with_a_notice(harm: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = fresh()
    for path in sorted(cache.glob("*.npy")):
        kept, array = path.read_bytes(), np.load(path)
        path.unlink()  # `first` still maps it
        if harm == "cut":
            path.write_bytes(kept[: len(kept) - 5])
        elif harm == "emptied":
            path.write_bytes(b"")
        elif harm == "zeroed":  # as a power loss leaves it
            path.write_bytes(kept[:128] + bytes(len(kept) - 128))
        elif harm == "one bit":
            path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:])
        elif harm == "foreign":
            path.write_bytes(b"\x89PNG" + kept[4:])
        else:
            np.save(path, array.astype(np.float32))
        with caplog.at_level(logging.WARNING):
            assert same(first, fresh())
        assert path.name in caplog.text
        assert "anew" in caplog.text
        assert path.read_bytes() == kept
        caplog.clear()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"looks": 1, "sha256": 1}', '{"looks": {}, "sha256": {}}'])
def test_a_damaged_record_is_drawn_anew_with_a_notice(text: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = fresh()
    (record,) = cache.glob("*.json")
    kept = record.read_bytes()
    record.write_text(text)
    assert same(first, fresh())
    assert "drawing it anew" in caplog.text
    assert json.loads(record.read_bytes())["sha256"] == json.loads(kept)["sha256"]


def test_a_bank_is_compared_with_its_digests_only_when_it_looks_changed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fresh()
    compared: list[str] = []
    digest = bank_store._digest
    monkeypatch.setattr(bank_store, "_digest", lambda path: compared.append(path.name) or digest(path))
    monkeypatch.setattr(module, "_draw", lambda *_: pytest.fail("drawn a second time"))
    assert same(first, fresh())
    assert compared == []
    for path in cache.glob("*.npy"):  # as by a copy of the folder
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    assert same(first, fresh())
    assert len(compared) == 3
    assert same(first, fresh())
    assert len(compared) == 3


def test_banks_that_were_not_used_for_longest_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {path.name.partition(".")[0] for path in cache.iterdir()}

    def bank_of(seed: int) -> str:
        before = names() if cache.exists() else set()
        module._LOADED.clear()
        get_bank(16, FEW, seed, CPU)
        (new,) = (names() - before) or {""}
        return new

    a = bank_of(1)
    size = sum(path.stat().st_size for path in cache.iterdir())
    monkeypatch.setattr(bank_store, "MOST_BYTES", 2 * size + size // 2)
    b = bank_of(2)
    assert bank_of(1) == ""  # used again, from the disk
    (cache / ".0123.tmp").write_bytes(b"left by a kill")
    os.utime(cache / ".0123.tmp", (0, 0))
    c = bank_of(3)
    assert names() == {a, c} != {b}
    assert len(list(cache.iterdir())) == 8
    monkeypatch.setattr(bank_store, "MOST_BYTES", 1)
    last = bank_of(4)
    assert names() == {last}


def test_a_half_written_bank_is_never_seen(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = module._draw

    def interrupted(*arguments):
        yield next(draw(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fresh()
    assert list(cache.iterdir()) == []


def test_where_nothing_can_be_written_the_bank_stays_in_memory(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = fresh()
    for path in cache.iterdir():
        path.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert same(expected, fresh())
    assert "memory only" in caplog.text
    assert "set PC15_CACHE_DIR" in caplog.text


def test_many_may_draw_the_same_bank_at_once(cache: Path) -> None:
    cache.mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        banks = list(pool.map(lambda _: module._stored(16, FEW, 7, CPU, "a bank"), range(4)))
    for other in banks[1:]:
        assert torch.equal(banks[0].drawn, other.drawn) and torch.equal(banks[0].rms, other.rms)
    assert len(list(cache.glob("*.npy"))) == 3 == len(list(cache.iterdir())) - 1
