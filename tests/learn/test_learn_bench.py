"""The report, the benchmark, the command line, and the samples that the project draws itself."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from pc15.config import PROGRAMS, CodecConfig
from pc15.encoder import EncodeResult
from pc15.errors import ConfigError, ImageError
from pc15.images import load_rgb, save_image
from pc15.report import Report, png_bytes, svg_plot
from pc15learn import cli
from pc15learn.bench import Searches, compressai_results, methods_of, run_bench
from pc15learn.bench_tables import Measured, front, summary, table_text, verdict
from pc15learn.demo import jpeg_of, made_of, pieces
from pc15learn.labels.columns import read_shard
from pc15learn.labels.manifest import read_manifest, shard_paths
from pc15learn.sample_data import draw_samples
from pc15learn.schema import read_rows
from pc15learn.tiles import load_tile_pixels

SAMPLES = Path(__file__).resolve().parents[2] / "datasets" / "samples"


class Balanced(HTMLParser):
    """Fails on tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def row(method: str, seconds: float, rd: float, **changes: Any) -> Measured:
    values = {
        "image": "a.png",
        "lambda_rd": 0.5,
        "decode_seconds": 0.1,
        "bpp": 0.2,
        "psnr": 25.0,
        "ssim": 0.8,
        "ms_ssim": 0.9,
    }
    return Measured(method=method, seconds=seconds, rd=rd, **{**values, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- report


def test_a_report_is_one_file_that_needs_no_other(tmp_path: Path):
    page = Report("T & <t>", "lead")
    page.section("S").text("a < b").table(["x", "y"], [["<b>", 1.5]])
    page.pictures([("p", torch.zeros(3, 8, 8, dtype=torch.uint8)), ("q", torch.zeros(8, 8, dtype=torch.uint8))])
    page.plot({"a": [(0.1, 1.0), (1.0, 2.0)], "b": [(0.5, 1.5)]}, x="bpp", y="dB", log_x=True)
    text = page.write(tmp_path / "r" / "page.html").read_text()
    assert "T &amp; &lt;t&gt;" in text and "&lt;b&gt;" in text and "<b>" not in text
    assert text.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', text)
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert page.html() == text


def test_a_report_refuses_what_it_cannot_show():
    with pytest.raises(ConfigError, match="1 cells under a header of 2"):
        Report("t").table(["a", "b"], [["x"]])
    with pytest.raises(ImageError, match="uint8"):
        png_bytes(torch.zeros(8, 8))


def test_a_plot_leaves_out_what_is_not_finite():
    nan, inf = float("nan"), float("inf")
    assert svg_plot({"a": [(1.0, nan), (inf, 1.0)]}, x="x", y="y") == "<p>Nothing to plot.</p>"
    assert svg_plot({"a": [(0.0, 1.0), (1.0, 1.0)]}, x="x", y="y", log_x=True).count("<circle") == 1
    assert svg_plot({"a": [(5.0, 3.0)]}, x="x", y="y").count("<circle") == 1


# ---------------------------------------------------------------- bench


def test_the_table_is_means_and_deltas_against_exhaustive():
    measured = [
        row("exhaustive", 4.0, 1.0),
        row("exhaustive", 6.0, 2.0, image="b"),
        row("screened", 1.0, 2.0),
        row("x", 2.0, 1.0),
    ]
    table = summary(measured)
    assert verdict(measured) == "At lambda 0.5 no other way is both faster and better than: screened, x."
    assert [r["method"] for r in table] == ["exhaustive", "screened", "x"]
    assert table[0]["seconds"] == 5.0
    assert table[0]["dRD %"] == 0.0
    assert table[1]["speed-up"] == 5.0
    assert table[1]["dRD %"] == pytest.approx(100 / 3)
    assert len({len(line) for line in table_text(table).splitlines()}) == 1


def curve(method: str, seconds: float, share: float, *, learned: bool = False) -> list[Measured]:
    """Points of two pictures at four rates that need a share of the bits of the others."""
    return [
        row(
            method, seconds, 0.5 - 0.1 * i + 4.0 / 2**i * share * 0.1 * 2**i, image=image, lambda_rd=4.0 / 2**i,
            bpp=share * 0.1 * 2**i, psnr=25.0 + i, ssim=0.7 + 0.05 * i, learned=learned,
        )
        for image in ("a", "b")
        for i in range(4)
    ]  # fmt: skip


def test_the_front_is_time_against_bits_at_equal_quality() -> None:
    measured = [
        *curve("exhaustive", 8.0, 1.0), *curve("screened", 4.0, 1.02), *curve("M1", 2.0, 1.01, learned=True),
        *curve("M1+M2", 5.0, 1.03, learned=True), *curve("M9", 1.0, 0.99, learned=True),
    ]  # fmt: skip
    table = {line["method"]: line for line in front(measured)}
    for method, (speed, percent) in {"screened": (2.0, 2.0), "M1": (4.0, 1.0), "M9": (8.0, -1.0)}.items():
        assert table[method]["speed-up"] == speed
        for name in ("BD-PSNR %", "BD-SSIM %", "BD-RD %"):
            assert table[method][name] == pytest.approx(percent)
    assert [name for name, line in table.items() if line["front"]] == ["M9"]
    said = verdict(measured).splitlines()
    assert said[0] == "No other search is both faster and better than: M9."
    assert said[1].startswith("M1 is 4.0 times as fast as exhaustive search, at +1.00 % by PSNR, +1.00 % by SSIM")
    worse = "the fastest search without learning that is no worse: it"
    assert said[1].endswith(f"4.00 times as fast as exhaustive, {worse} wins.")
    assert said[2].endswith(f"0.80 times as fast as screened, {worse} loses.")
    assert said[3].endswith("no search without learning is as good: it wins.")
    assert "M1+M2  " in table_text(front(measured))
    assert front(curve("M1", 1.0, 1.0)) == []
    assert all("BD-RD %" not in line for line in front([line for line in measured if line.lambda_rd == 4.0]))


def test_the_baseline_weights_are_among_the_methods() -> None:
    cfg = CodecConfig.preset("balanced", tile=32)
    methods, notes = methods_of(Searches(["baseline"], presets=["fast", "oracle"]), cfg)
    assert [m.name for m in methods] == [
        "exhaustive", "screened", "indexed", "heuristic", "exhaustive, beam 8", "preset fast", "preset oracle", "M1",
    ]  # fmt: skip
    assert [m.learned for m in methods] == [False] * 7 + [True] and notes == []
    assert cfg.but(**methods[0].changes).recall == 0


def test_results_are_in_the_layout_of_compressai():
    table = summary([row("M1", 1.0, 1.0, bpp=0.4), row("M1", 1.0, 1.0, bpp=0.1, lambda_rd=1.0)])
    results = compressai_results("M1", table, CodecConfig())
    assert set(results) == {"name", "description", "results"}
    assert results["results"]["bpp"] == [0.1, 0.4]
    assert {"psnr-y", "ms-ssim-y", "encoding_time", "decoding_time"} <= set(results["results"])


def test_missing_weights_leave_learned_hooks_out_with_a_note(tmp_path: Path):
    cfg = CodecConfig.preset("fast")
    methods, notes = methods_of(Searches([tmp_path], [4, 8]), cfg)
    assert [m.name for m in methods] == [
        "exhaustive", "screened", "indexed K=4", "indexed K=8", "heuristic K=4", "heuristic K=8"
    ]  # fmt: skip
    assert [m.changes.get("cells") for m in methods] == [None, None, 16, 32, None, None]
    assert notes == [f"no weights in {tmp_path}, so learned hooks are left out"]
    assert methods_of(Searches(topk=[8]), cfg)[1] == ["no weights were given, so learned hooks are left out"]


def test_bench_compares_searches_on_the_same_pictures(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        save_image(tmp_path / "in" / f"{name}.png", draw_samples(48)["cloth"])
    cfg = CodecConfig.preset("fast", tile=16, overlap=4, lambda_rd=1.0, max_layers=1, codebook_id="v15_grid")
    result = run_bench(tmp_path / "in", tmp_path / "out", cfg=cfg, limit=1)
    assert [m.method for m in result.measured] == ["exhaustive", "screened", "indexed", "heuristic"]
    assert {m.image for m in result.measured} == {"a.png"}
    with result.csv.open() as file:
        assert [r["method"] for r in csv.DictReader(file)] == ["exhaustive", "screened", "indexed", "heuristic"]
    assert json.loads((tmp_path / "out" / "heuristic.json").read_text())["name"] == "pc15-heuristic"
    parser = Balanced()
    parser.feed(result.html.read_text())
    assert parser.open == []


def test_pictures_encoded_together_are_coded_as_alone(tmp_path: Path) -> None:
    for name, picture in list(draw_samples(48).items())[:3]:
        save_image(tmp_path / f"{name}.png", picture[1:2])
    cfg = CodecConfig.preset("fast", **{**PROGRAMS, "tile": 16, "overlap": 4, "max_layers": 1})
    alone, together = (
        run_bench(tmp_path, tmp_path / "out", cfg=cfg, lambdas=[2.0, 0.5], together=way).measured
        for way in (False, True)
    )
    found, expected = (
        {(m.image, m.method, m.lambda_rd): (m.bpp, m.psnr, m.ssim, m.rd) for m in way} for way in (together, alone)
    )
    assert found == expected
    assert len(found) == 3 * 4 * 2
    assert len({m.seconds for m in together}) == 4 * 2  # each one's share of its call


def test_searches_of_photographs_stand_beside_the_oracle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "a.png", draw_samples(96)["wall"])
    given = ["bench", "--images", str(tmp_path), "--photographs", "--out", str(tmp_path / "out"), "--repeats", "1"]
    assert cli.main([*given, "--lambdas", "0.1"]) == 0
    with (tmp_path / "out" / "bench.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["method"] for r in rows] == ["exhaustive", "preset fast", "preset balanced", "heuristic", "M4"]
    assert len({r["bpp"] for r in rows}) > 2
    assert methods_of(Searches([tmp_path], photographs=True), CodecConfig.preset("oracle"))[1] != []
    capsys.readouterr()
    assert cli.main([*given, "--tile", "32"]) == 2
    assert "--tile is about tile programs" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [{"limit": 0}, {"repeats": 0}, {"searches": Searches(["baseline"], [0])}])
def test_bench_options_out_of_range_are_refused(tmp_path: Path, bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        run_bench(SAMPLES, tmp_path, **bad)


# ---------------------------------------------------------------- samples and demo


def test_samples_are_what_the_project_draws():
    for name, picture in draw_samples().items():
        assert torch.equal(load_rgb(SAMPLES / f"{name}.png"), picture), f"{name}: run python -m pc15learn.sample_data"


def test_samples_have_tiles_and_labels_that_can_be_read():
    tiles = list(read_rows(SAMPLES / "tiles.jsonl"))
    assert load_tile_pixels(tiles, SAMPLES).shape == (len(tiles), 32, 32)
    oracle = read_manifest(SAMPLES / "labels")
    labels = [found for path in shard_paths(SAMPLES / "labels") for found in read_shard(path, oracle).to_pylist()]
    assert {found["tile_id"] for found in labels} <= {found.tile_id for found in tiles}
    assert sum(len(found["layers"]) for found in labels) > len(labels)


def test_the_best_jpeg_within_a_size_is_found():
    photo = draw_samples()["stones"]
    small, low = jpeg_of(photo, 2500)
    large, high = jpeg_of(photo, 6000)
    assert len(small) <= 2500 < len(large) <= 6000
    assert low < high
    assert jpeg_of(photo, 1)[1] == 1


def test_pieces_are_spread_over_the_picture():
    found = pieces(torch.arange(300 * 500).view(1, 300, 500).expand(3, -1, -1), 4, 100)
    assert [piece.shape for piece in found] == [(3, 100, 100)] * 4
    assert [int(piece[0, 0, 0]) for piece in found] == [0, 300, 50200, 100100]


# ---------------------------------------------------------------- the command


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from pc15learn.cli import main\n"
        "try:\n    main(['label', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'datasets', 'wandb', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    began = time.perf_counter()
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert time.perf_counter() - began < 5.0  # 0.15 s on an idle machine
    for option in ("--tiles", "--lambda", "--alpha", "--shard-size", "--device", "--limit", "--preset"):
        assert option in shown.stdout


def test_commands_run_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tiles, labels = str(tmp_path / "tiles.jsonl"), str(tmp_path / "labels")
    assert (
        cli.main(
            ["make-tiles", "--images", str(SAMPLES), "--out", tiles, "--tile", "16", "--overlap", "4", "--limit", "3"]
        )
        == 0
    )
    assert "tiles; 5 pictures cut now" in capsys.readouterr().out
    given = ["--tiles", tiles, "--out", labels, "--preset", "fast", "--lambda", "1.0", "--top", "4", "--limit", "6"]
    assert cli.main(["label", *given, "--random", "2", "--device", "cpu"]) == 0
    assert "6 tiles in 1 shards, 1 of them labelled now" in capsys.readouterr().out
    assert cli.main(["label", *given, "--random", "2", "--alpha", "0.1"]) == 2
    assert "another oracle (different: options.alpha_mix)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["fit", "--config", "x.yaml", "--online", "a", "--labels", "b"], "give one of them"),
        (["export", "--ckpt", "nowhere.ckpt", "--out", "x"], "run pc15learn fit first"),
        (["label", "--tiles", "nowhere.jsonl", "--out", "x"], "cannot read nowhere.jsonl"),
        (["make-tiles", "--images", "nowhere", "--out", "x/tiles.jsonl"], "no file or folder nowhere"),
        (["bench", "--images", "nowhere", "--out", "x", "--preset", "fast"], "no file or folder nowhere"),
    ],
)
def test_errors_are_one_line_and_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("pc15learn: error: ")
    assert says in error
    assert error.count("\n") == 1


def test_an_interruption_says_that_work_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pc15learn.export.export_weights", interrupted)
    assert cli.main(["export", "--ckpt", "a", "--out", "b"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layers", "kinds", "says"),
    [
        (0, ("residual levels",), "A residual alone: no pattern was worth its bits here."),
        (0, ("dc",), "Flat tiles: no pattern was worth its bits here."),
        (7, ("dc",), "A program of 7 patterns."),
        (7, ("dc", "residual levels"), "A program of 7 patterns and a residual."),
    ],
)
def test_the_demo_says_what_its_photo_is_made_of(layers: int, kinds: tuple[str, ...], says: str):
    stats = {"layers": layers, "bits_by_kind": dict.fromkeys(kinds, 1.0)}
    assert made_of(EncodeResult(b"", 0.0, stats, [], 0)) == says
