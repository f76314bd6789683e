"""What all commands share: JSON, quiet, verbose, jobs, skipped files, totals, bars; and the names of options."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import pc15.cli
import pc15learn.cli
from pc15 import CodecConfig, encode, encoder
from pc15.bitstream.programs import Programs
from pc15.cli.answer import Answer
from pc15.cli.encode_stats import COLUMNS
from pc15.cli.program import Program
from pc15.images import load_rgb, save_image
from pc15.runtime.progress import Quiet

MAINS = {"pc15": pc15.cli.main, "pc15learn": pc15learn.cli.main}
COMMANDS = [
    *[("pc15", name) for name in pc15.cli.COMMANDS if name != "bench"],
    *[("pc15", "bench", name) for name in pc15.cli.BENCHMARKS],
    *[("pc15learn", name) for name in pc15learn.cli.COMMANDS],
]
QUICK = ["--preset", "fast", "--lambda", "1", "--device", "cpu"]
FLAT = ["--residual", "off", "--max-layers", "0"]


def program(name: str) -> Program:
    return MAINS[name].__self__  # type: ignore[attr-defined, no-any-return]


def options(words: Sequence[str]) -> dict[str, object]:
    """The options of a command, by each of their names."""
    parser = program(words[0]).parser(list(words[1:]))
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        parser.parse_args([*words[1:], "--help"])
    found = parser
    for word in words[1:]:
        found = next(action for action in found._actions if isinstance(action.choices, dict)).choices[word]
    return dict(found._option_string_actions)


def run(*argv: object) -> int:
    return pc15.cli.main([str(arg) for arg in argv])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures of 24x18 pixels, one of them below another folder."""
    y, x = torch.meshgrid(torch.arange(18), torch.arange(24), indexing="ij")
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "deep/c.png")):
        save_image(folder / name, torch.stack([x * 10, y * 12, 255 - x * (7 + i)]).to(torch.uint8))
    return folder


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_answers_in_json_and_can_be_quiet(words: Sequence[str]) -> None:
    own = options(words)
    assert {"--json", "-q", "--quiet", "-v", "--verbose"} <= own.keys()
    assert own["--json"].nargs == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_has_the_same_names_everywhere(words: Sequence[str]) -> None:
    own = options(words)
    for names in (("-o", "--out"), ("-j", "--jobs", "--workers"), ("-q", "--quiet"), ("-v", "--verbose")):
        there = {own.get(name) for name in names}
        assert len(there) == 1, f"{words}: {names}"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_takes(words: Sequence[str]) -> None:
    for name, action in options(words).items():
        assert action.help, f"{words}: {name}"  # type: ignore[attr-defined]
        assert action.nargs == 0 or action.metavar or action.choices, f"{words}: {name}"  # type: ignore[attr-defined]


def test_an_option_takes_the_same_form_everywhere() -> None:
    """One metavar, or the same choices, for each name; `--out` names what a command makes."""
    forms: dict[str, set[object]] = {}
    for words in COMMANDS:
        for name, action in options(words).items():
            if name in ("--lambdas", "--device", "--alpha", "--max-pixels", "--jobs", "--limit", "--seed", "--presets"):
                form = action.metavar or tuple(action.choices)  # type: ignore[attr-defined]
                forms.setdefault(name, set()).add(form)
    forms["--device"].discard(("auto", "cpu", "cuda"))  # of fit, where --devices says how many
    assert {name: form for name, form in forms.items() if len(form) > 1} == {}


@pytest.mark.parametrize("name", MAINS)
def test_summaries_are_what_the_commands_say_of_themselves(name: str) -> None:
    own = program(name)
    known = [(word, word, text) for word, text in own.commands.items() if word not in own.groups]
    for word, group in own.groups.items():
        known += [(f"{word}_{part}", part, text) for part, text in group.commands.items()]
    for module, _, summary in known:
        doc = sys.modules.get(path := f"{own.package}.{module.replace('-', '_')}") or __import__(path, fromlist=["run"])
        assert " ".join(doc.run.__doc__.split("\n\n")[0].split()) == f"{summary[0].upper()}{summary[1:]}."


# ---------------------------------------------------------------- answers


def test_rows_are_written_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(as_json=True)
    answer.put(name="x", nothing=float("inf"))
    for i in range(2):
        answer.row("files", {"i": i}, "not for machines")
        assert f'"i": {i}' in capsys.readouterr().out
    answer.put(total={"files": 2})
    answer.close()
    assert capsys.readouterr().out.endswith("\n}\n")


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_answer_is_valid_json_wherever_it_ends(rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(as_json=True)
    answer.put(a=[1, {"b": float("nan")}])
    answer.begin_list("files")
    for i in range(rows):
        answer.row("files", {"i": i})
    answer.say("not for machines")
    answer.close()
    assert json.loads(capsys.readouterr().out) == {"a": [1, {"b": None}], "files": [{"i": i} for i in range(rows)]}


def test_a_folder_is_answered_by_lines_and_a_total(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    assert run("encode", photos, "-o", out, *QUICK) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(out / name) for name in ("a.pc15", "b.pc15", "deep/c.pc15")]
    size = sum(path.stat().st_size for path in out.rglob("*.pc15"))
    assert total.startswith(f"3 pictures, 0.0 megapixels, {size} bytes, {8 * size / (3 * 432):.4f} bpp, ")


def test_a_folder_is_answered_in_json(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "bad.png").write_text("no picture")
    out = photos.parent / "out"
    assert run("encode", photos, "-o", out, *QUICK, "--json") == 1
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    assert sorted(Path(row["source"]).name for row in content["files"]) == ["a.png", "b.png", "bad.png", "c.png"]
    wrong = [row for row in content["files"] if "error" in row]
    assert len(wrong) == 1 and "not an image" in wrong[0]["error"] and "bad.png" in shown.err
    done = [row for row in content["files"] if "error" not in row]
    sizes = [row["bytes"] for row in done]
    assert sizes == [Path(row["target"]).stat().st_size for row in done]
    total = content["total"]
    assert (total["files"], total["done"], total["failed"], total["skipped"]) == (4, 3, 1, 0)
    assert total["bytes"] == sum(sizes) and total["pixels"] == 3 * 432
    assert total["bpp"] == pytest.approx(8 * sum(sizes) / (3 * 432))

    assert run("decode", out, "-o", photos.parent / "back", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["width"] for row in content["files"]] == [24] * 3 and content["total"]["done"] == 3


def test_quiet_is_quiet_but_for_errors(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    assert run("encode", photos, "-o", out, *QUICK, "-q") == 0
    assert run("decode", out, "-o", photos.parent / "back", "--quiet") == 0
    assert run("metrics", photos / "a.png", out / "a.pc15", "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert run("decode", photos / "a.png", "-o", photos.parent / "b.png", "-q") == 1
    assert capsys.readouterr().err.startswith("pc15: error: ")


def test_files_that_are_there_can_be_left(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    out.mkdir()
    (out / "b.pc15").write_bytes(b"kept")
    assert run("encode", photos, "-o", out, *QUICK, "--skip-existing") == 0
    assert "2 pictures, 1 skipped" in capsys.readouterr().out.splitlines()[-1]
    assert (out / "b.pc15").read_bytes() == b"kept"
    assert run("encode", photos, "-o", out, *QUICK) == 0
    assert (out / "b.pc15").read_bytes()[:4] == b"PC15"
    back = photos.parent / "back"
    assert run("decode", out, "-o", back) == 0
    shutil.copy(back / "a.png", back / "b.png")
    capsys.readouterr()
    assert run("decode", out, "-o", back, "--skip-existing", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["total"]["skipped"] == 3 and all(row["skipped"] for row in content["files"])
    assert (back / "b.png").read_bytes() == (back / "a.png").read_bytes()


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_the_number_of_jobs_changes_no_byte(jobs: str, photos: Path) -> None:
    out, back = photos.parent / "out", photos.parent / "back"
    assert run("encode", photos, "-o", out, *QUICK, "--jobs", jobs) == 0
    cfg = CodecConfig.preset("fast", lambda_rd=1.0, device="cpu")
    for name in ("a", "b"):
        assert (out / f"{name}.pc15").read_bytes() == encode(load_rgb(photos / f"{name}.png"), cfg)["bitstream"]
    (out / "a0.pc15").write_bytes(b"PC15 damaged")
    assert run("decode", out, "-o", back, "-j", jobs) == 1
    assert sorted(path.name for path in back.rglob("*.png")) == ["a.png", "b.png", "c.png"]


def test_statistics_are_a_row_per_picture(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, stats = photos.parent / "out", photos.parent / "stats.csv"
    save_image(photos / "small.png", torch.zeros(1, 5, 5, dtype=torch.uint8))
    assert run("encode", photos, "-o", out, *QUICK, "--stats", stats) == 0
    with stats.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [Path(row["source"]).name for row in rows] == ["a.png", "b.png", "c.png", "small.png"]
    assert [int(row["bytes"]) for row in rows] == [Path(row["stream"]).stat().st_size for row in rows]
    assert rows[-1]["ssim_y"] == "" and 0 < float(rows[0]["ssim_y"]) < 1
    capsys.readouterr()
    assert run("metrics", photos / "a.png", out / "a.pc15", "--json") == 0
    assert float(rows[0]["psnr_y"]) == pytest.approx(json.loads(capsys.readouterr().out)["psnr_y"], abs=0.1)

    (out / "b.pc15").unlink()
    assert run("encode", photos, "-o", out, *QUICK, "--stats", stats, "--skip-existing") == 0
    assert len(stats.read_text().splitlines()) == 1 + 4 + 1, "a later run adds what it did"
    stats.write_text("other,columns\n")
    assert run("encode", photos, "-o", out, *QUICK, "--stats", stats) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
def test_a_name_is_one_line_of_the_answer(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a.png").rename(photos / "a\nout: 9x9 colour, done\x1b[2K.png")
    assert run("encode", photos, "-o", photos.parent / "out", *QUICK) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3 + 1 and "a\\nout: 9x9" in shown and "\x1b" not in shown


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("flags", "drawn"), [([], True), (["-q"], False)])
def test_bars_are_drawn_on_a_terminal_alone(
    flags: list[str], drawn: bool, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["encode", photos, "-o", photos.parent / "out", *QUICK, *flags]
    for stderr, expected in ((Terminal(), drawn), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert run(*argv) == 0
        assert ("encoding" in stderr.getvalue()) == expected


def test_of_one_photograph_superblocks_are_counted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[float, float]] = []
    y, x = np.mgrid[:140, :200]
    save_image(photos / "large.png", torch.from_numpy((x * y % 251).astype(np.uint8))[None])

    class Counted(Quiet):
        def reset(self, total: float | None = None) -> None:
            counts.append((total or 0, 0))

        def update(self, n: float | None = 1) -> None:
            counts[-1] = counts[-1][0], counts[-1][1] + (n or 0)

    bar = Counted()
    monkeypatch.setattr(encoder, "progress_bar", lambda *_: contextlib.nullcontext(bar))
    for jobs in ("1", "2"):
        assert run("encode", photos / "large.png", "-o", photos.parent / "large.pc15", "--jobs", jobs) == 0
        assert counts == [(3 * 4, 3 * 4)] and bar.unit == "superblock"
        counts.clear()


# ---------------------------------------------------------------- info


def test_info_of_a_folder_is_a_line_each_and_a_total(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "out"
    assert run("encode", photos, "-o", out, *QUICK) == 0
    capsys.readouterr()
    assert run("info", out) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("24x18 colour, YCbCr 4:2:0, " in line and "residual" in line for line in lines)
    assert total.startswith("3 streams, ")
    (out / "broken.pc15").write_bytes(b"PC15")
    assert run("info", out, "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["total"]["failed"] == 1 and content["total"]["done"] == 3
    assert next(row for row in content["files"] if "planes" in row)["planes"][0]["name"] == "Y"
    assert run("info", out, "--tiles") == 2


def test_info_speaks_of_what_there_is(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = photos.parent / "a.pc15"
    assert run("encode", photos / "a.png", "-o", stream, *QUICK) == 0
    capsys.readouterr()
    assert run("info", stream) == 0
    shown = capsys.readouterr().out
    assert "residual step" in shown and "sine wiener blend" in shown
    for word in ("overlap", "window", "amp step", "codebook", "seed", "no layers"):
        assert word not in shown, "of a stream without tiles"
    assert run("encode", photos / "a.png", "-o", stream, *QUICK, *FLAT, "--tile", "16") == 0
    capsys.readouterr()
    assert run("info", stream) == 0
    shown = capsys.readouterr().out
    assert "overlap" in shown and "codebook" in shown and "residual" not in shown and "tools" not in shown


def test_tiles_are_listed_a_row_at_a_time(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = photos.parent / "a.pc15"
    assert run("encode", photos / "a.png", "-o", stream, *QUICK, *FLAT, "--tile", "8") == 0
    capsys.readouterr()
    records, asked = Programs.records, []
    monkeypatch.setattr(Programs, "records", lambda self: asked.append(self.tiles) or records(self))
    assert run("info", stream, "--tiles", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    rows = list(itertools.chain(*([p["tiles"][1]] * p["tiles"][0] for p in content["planes"])))
    assert asked == rows and sum(rows) == len(content["tile_map"])
