"""One writer at a time, as long as it lives, and what killed writers leave is cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pc15.errors import BusyError, ConfigError
from pc15.locks import sole_writer
from pc15.paths import ready_to_write, replacing, write_atomic

HOLD = "import sys, time\nfrom pc15.{}\nwith {}(sys.argv[1]):\n    print('in', flush=True)\n    time.sleep(60)"


def holding(where: str, context: str, path: Path) -> subprocess.Popen[str]:
    """A process that has entered a context, and stays in it."""
    code = HOLD.format(f"{where} import {context}", context)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_writer_is_refused_and_the_first_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "tiles.jsonl"
    with sole_writer(target):
        with (
            pytest.raises(BusyError, match=r"tiles.jsonl is being written by another process; wait"),
            sole_writer(target),
        ):
            pass
        with sole_writer(tmp_path / "other.jsonl"):
            pass
    assert os.listdir(tmp_path) == []
    with sole_writer(target):
        pass


def test_a_writer_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    process = holding("locks", "sole_writer", tmp_path / "labels")
    try:
        with pytest.raises(BusyError), sole_writer(tmp_path / "labels"):
            pass
    finally:
        end(process)
    with sole_writer(tmp_path / "labels"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_what_killed_writers_leave_is_removed_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = (holding("paths", "replacing", tmp_path / "a.bin") for _ in range(2))
    try:
        litter = set(os.listdir(tmp_path))
        end(dead)
        assert len(litter) == 2
        code = "import sys\nfrom pc15.paths import write_atomic\nwrite_atomic(sys.argv[1], b'')"
        write = [sys.executable, "-c", code, str(tmp_path / "b.bin")]
        subprocess.run(write, check=True)
        assert set(os.listdir(tmp_path)) == litter | {"b.bin"}  # a file this young may not be locked yet
        for name in litter:
            os.utime(tmp_path / name, (time.time() - 90, time.time() - 90))
        subprocess.run(write, check=True)
        left = set(os.listdir(tmp_path)) - {"b.bin"}
        assert len(left) == 1 and left < litter
    finally:
        end(dead)
        end(alive)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.bin") as file:
        file.write(b"new")
        1 / 0  # noqa: B018
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/fd")
def test_pipes_are_written_to(tmp_path: Path) -> None:
    read, write = os.pipe()
    write_atomic(f"/dev/fd/{write}", b"data")
    os.close(write)
    with os.fdopen(read, "rb") as file:
        assert file.read() == b"data"


def test_folders_of_outputs_are_made_and_tried(tmp_path: Path) -> None:
    assert ready_to_write(tmp_path / "new" / "deep" / "a.bin") == tmp_path / "new" / "deep" / "a.bin"
    assert os.listdir(tmp_path / "new" / "deep") == []
    with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
        ready_to_write(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a file stands where its folder should"):
        ready_to_write(tmp_path / "file" / "a.bin")
    with pytest.raises(OSError, match="/proc"):
        ready_to_write("/proc/none/a.bin")


def refuses(*_: object, **__: object) -> None:
    raise AssertionError("worked before it looked at the output")


@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("pc15 generators --preview {}.png", "pc15.viz.generator_sheet"),
        ("pc15 bench sheet a.png --out {}.png", "pc15.bench.sheet.compare"),
        ("pc15 bench rd --images a.png --out a.csv --html {}.html", "pc15.bench.rd.run_rd"),
        ("pc15 bench rd --images a.png --out a.csv --compressai {}.json", "pc15.bench.rd.run_rd"),
        ("pc15 bench speed --images a.png --out {}.csv", "pc15.bench.speed.run_speed"),
        ("pc15learn codebooks --images {image} --out {}.npz", "pc15learn.codebooks.train.collect_targets"),
        ("pc15learn codebooks --labels a --out {}.npz", "pc15learn.codebooks.train.labelled_targets"),
        ("pc15learn tables --images {image} --out {}.json", "pc15learn.train_tables.load_codebook"),
        ("pc15learn tables --labels a --out {}.json", "pc15learn.train_tables.open_together"),
        ("pc15learn tables --streams a.pc15 --out {}.json", "pc15learn.train_tables.read_bitstream"),
        ("pc15learn make-tiles --images {image} --out {}.jsonl", "pc15learn.tiles.list_images"),
    ],
)
def test_outputs_are_tried_before_the_work(
    command: str, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pc15.cli import main as pc15_main
    from pc15learn.cli import main as learn_main

    monkeypatch.setattr(work, refuses)
    (tmp_path / "a.png").touch()
    (tmp_path / "file").touch()
    words = [word.format(tmp_path / "file" / "mine", image=tmp_path / "a.png") for word in command.split()]
    run = pc15_main if words[0] == "pc15" else learn_main
    assert run(words[1:]) in (1, 2)
    assert "a file stands where its folder should" in capsys.readouterr().err
    words = [word.format(tmp_path / "new" / "mine", image=tmp_path / "a.png") for word in command.split()]
    with pytest.raises(AssertionError, match="worked before"):
        run(words[1:])
    assert (tmp_path / "new").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_odd_names_can_stand_in_a_table(tmp_path: Path) -> None:
    from pc15.bench.rd import find_pictures
    from pc15.images import save_image

    save_image(tmp_path / "a.png", np.zeros((1, 20, 20), np.uint8))
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/a\xe9.png")
    assert [picture.name for picture in find_pictures([tmp_path])] == ["a\\udce9.png"]
