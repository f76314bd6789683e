"""`pc15 bench rd`: whole files at rising rates, a CSV that survives being cut off, and input that cannot be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from pc15 import cli, decode, encode, psnr, render, ssim
from pc15.bench import codecs, rd
from pc15.bench.points import COLUMNS, Point, PointFile, read_points
from pc15.config import CodecConfig
from pc15.errors import ConfigError, ImageError, Pc15Error, SchemaError, UnknownNameError
from pc15.images import load_luma, save_image

HEAD = ",".join(COLUMNS) + "\n"
ROW = "rings.png,48,40,j2k,0.1,24,0.100000,20.0000,0.500000,0.00100,0.00100\n"
FAST = ["--presets", "fast", "--lambdas", "4,0.5", "--tile", "16", "--device", "cpu"]
JPEG = ["--presets", "none", "--against", "jpeg", "--max-bpp", "2.5"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a picture in it and another one below."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name, generator in (("rings.png", "RINGS"), ("deep/spiral.png", "SPIRAL")):
        y = render(generator, 40, 48)[0]
        save_image(tmp_path / "photos" / name, ((y + 1.0) * 127.5).round().to(torch.uint8))
    return tmp_path / "photos"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is really measured, as `picture codec setting`."""
    done: list[str] = []
    plain = rd._measure

    def noted(picture: Any, codec: Any, setting: float, *rest: Any) -> Point:
        done.append(f"{picture.name} {codec.name} {setting:g}")
        return plain(picture, codec, setting, *rest)

    monkeypatch.setattr(rd, "_measure", noted)
    return done


def bench(*argv: object) -> int:
    """Exit code of `pc15 bench rd`, wrong usage included."""
    try:
        return cli.main(["bench", "rd", *map(str, argv)])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- what is measured


def test_a_row_is_the_whole_file_of_one_gray_plane(photos: Path, tmp_path: Path) -> None:
    assert bench("--images", photos, "--out", tmp_path / "rd.csv", *FAST) == 0
    found = rows(tmp_path / "rd.csv")
    assert list(found[0]) == list(COLUMNS)
    assert [(r["image"], r["codec"], r["setting"]) for r in found] == [
        (image, "pc15-fast-tile16", lam) for image in ("deep/spiral.png", "rings.png") for lam in ("4", "0.5")
    ]
    u8 = load_luma(photos / "rings.png")
    data = encode(u8, CodecConfig.preset("fast", tile=16, lambda_rd=0.5, device="cpu"))["bitstream"]
    row, u8_hat = found[-1], decode(data)
    assert (row["width"], row["height"], int(row["bytes"])) == ("48", "40", len(data))
    assert row["bpp"] == f"{8 * len(data) / 1920:.6f}"
    assert row["psnr_y"] == f"{psnr(u8, u8_hat, data_range=255):.4f}"
    assert row["ssim"] == f"{ssim(u8, u8_hat, data_range=255):.6f}"
    assert float(row["enc_s"]) > 0 and float(row["dec_s"]) > 0


def test_a_ladder_is_left_after_its_first_point_above_the_limit(photos: Path, tmp_path: Path) -> None:
    assert bench("--images", photos, "--out", tmp_path / "rd.csv", *JPEG) == 0
    for image in ("rings.png", "deep/spiral.png"):
        bpps = [float(row["bpp"]) for row in rows(tmp_path / "rd.csv") if row["image"] == image]
        assert bpps[-1] > 2.5 and all(bpp <= 2.5 for bpp in bpps[:-1]) and len(bpps) > 2


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jpeg2000"])
def test_conventional_codecs_take_a_gray_plane_there_and_back(name: str) -> None:
    found = codecs.conventional([name])
    if not found:
        pytest.skip(f"this Pillow has no {name}")
    u8 = (torch.arange(64)[:, None] * 2 + torch.arange(48)).to(torch.uint8)
    sizes = []
    for setting in (found[0].settings[0], found[0].settings[-1]):
        encoded, decoded = codecs.coders(found[0], setting)
        sizes.append(len(encoded(u8)))
        back = decoded(encoded(u8))
        assert back.shape == u8.shape and back.dtype == torch.uint8
    assert psnr(u8, back, data_range=255) > 30 and sizes[0] <= sizes[1]


def test_options_that_differ_from_the_presets_are_in_the_name() -> None:
    assert codecs.own("fast", [1.0], device="cpu", tile=0, residual=True).name == "pc15-fast"
    assert codecs.own("fast", [1.0], tile=16, alpha_mix=0.25, overlap=3).name == "pc15-fast-alpha0.25-overlap3-tile16"
    assert codecs.own("fast", [0.5, 4.0, 0.5]).settings == (4.0, 0.5)


@pytest.mark.slow
def test_processes_give_the_rows_that_one_gives(photos: Path, tmp_path: Path) -> None:
    def content(path: Path) -> list[tuple[str, ...]]:
        return sorted(tuple(row[name] for name in COLUMNS[:-2]) for row in rows(path))

    assert bench("--images", photos, "--out", tmp_path / "one.csv", *JPEG) == 0
    assert bench("--images", photos, "--out", tmp_path / "two.csv", *JPEG, "--workers", "2") == 0
    assert content(tmp_path / "one.csv") == content(tmp_path / "two.csv")


# ---------------------------------------------------------------- going on


def test_a_run_that_was_cut_off_goes_on(
    photos: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "rd.csv", tmp_path / "whole.csv"
    assert bench("--images", photos, "--out", whole, *JPEG) == 0
    total, plain = len(measured), rd._measure

    def cut_off(*asked: Any) -> Point:
        if len(measured) == total + 3:
            raise KeyboardInterrupt
        return plain(*asked)

    monkeypatch.setattr(rd, "_measure", cut_off)
    assert bench("--images", photos, "--out", out, *JPEG) == 130
    assert len(rows(out)) == 3
    monkeypatch.setattr(rd, "_measure", plain)
    assert bench("--images", photos, "--out", out, *JPEG) == 0
    assert sorted(measured[total:]) == sorted(measured[:total])
    assert [p.key for p in read_points(out)] == [p.key for p in read_points(whole)]
    before = out.read_bytes()
    assert bench("--images", photos, "--out", out, *JPEG) == 0
    assert len(measured) == 2 * total and out.read_bytes() == before


def test_a_torn_last_line_is_dropped_with_a_notice_and_measured_again(
    photos: Path, tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rd.csv"
    assert bench("--images", photos, "--out", out, *JPEG) == 0
    whole, last = out.read_text(), measured[-1]
    for cut in (2, 30):  # inside the last number, and inside the line
        measured.clear()
        out.write_text(whole[:-cut])
        capsys.readouterr()
        assert bench("--images", photos, "--out", out, *JPEG) == 0
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and shown.startswith("pc15: warning: ") and "torn line" in shown
        assert measured == [last]
        assert [line.split(",")[:9] for line in out.read_text().splitlines()] == [
            line.split(",")[:9] for line in whole.splitlines()
        ]


def test_force_measures_again_what_was_asked_and_keeps_the_rest(
    photos: Path, tmp_path: Path, measured: list[str]
) -> None:
    out = tmp_path / "rd.csv"
    out.write_text(HEAD + ROW)
    assert bench("--images", photos, "--out", out, *JPEG) == 0
    first = list(measured)
    assert bench("--images", photos / "rings.png", "--out", out, *JPEG, "--force") == 0
    assert measured[len(first) :] == [name for name in first if name.startswith("rings.png")]
    assert sorted(measured[: len(first)]) == sorted(
        f"{p.image} {p.codec} {p.setting}" for p in read_points(out) if p.codec == "jpeg"
    )
    assert ROW in out.read_text()


def test_a_picture_of_another_size_is_another_picture(photos: Path, tmp_path: Path, measured: list[str]) -> None:
    out = tmp_path / "rd.csv"
    assert bench("--images", photos / "rings.png", "--out", out, *JPEG) == 0
    count = len(measured)
    save_image(photos / "rings.png", load_luma(photos / "rings.png")[:, :32])
    assert bench("--images", photos / "rings.png", "--out", out, *JPEG) == 0
    assert len(measured) > count and {row["height"] for row in rows(out)} == {"40", "32"}


def test_rows_are_in_the_file_as_soon_as_they_are_added(tmp_path: Path) -> None:
    with PointFile(tmp_path / "deep" / "rd.csv") as file:
        assert (tmp_path / "deep" / "rd.csv").read_text() == HEAD
        file.add(Point("a, b.png", 8, 8, "x", "1", 4, 0.5, float("inf"), 1.0, 0.1, 0.1))
        assert read_points(file.path) == list(file.points.values())
        assert file.path.read_text().endswith('"a, b.png",8,8,x,1,4,0.500000,inf,1.000000,0.10000,0.10000\n')


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("my notes\n", "begins with 'my notes'"),
        ("no newline", "begins with 'no newline'"),
        (HEAD + ROW + ROW.replace("24,", "many,"), "line 3: bytes is 'many', it must be a whole number from 1"),
        (HEAD + ROW.replace("0.100000", "0"), "bpp is '0', it must be a number above 0"),
        (HEAD + ROW.replace("20.0000", "nan"), "psnr_y is 'nan'"),
        (HEAD + ROW.replace("0.500000", "1.5"), "ssim is '1.5', it must be a number from -1 to 1"),
        (HEAD + "a,b\n" + ROW, "line 2: 2 cells instead of 11"),
        (HEAD + "\0\xff" * 9, "torn"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "rd.csv"
    path.write_bytes(content.encode("latin-1"))
    if says == "torn":  # not UTF-8, but only after the last newline
        with PointFile(path) as file:
            assert file.points == {} and path.read_text() == HEAD
        return
    with pytest.raises(SchemaError) as raised:
        PointFile(path)
    assert says in str(raised.value)
    assert path.read_bytes() == content.encode("latin-1")


def test_a_torn_header_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "rd.csv").write_text(HEAD[:20])
    with PointFile(tmp_path / "rd.csv"):
        assert (tmp_path / "rd.csv").read_text() == HEAD


# ---------------------------------------------------------------- beside other codecs


def test_anchors_stand_beside_what_is_measured(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, anchors = tmp_path / "rd.csv", tmp_path / "anchors.csv"
    steps = range(12)
    anchors.write_text(
        HEAD
        + "".join(f"rings.png,48,40,j2k,{i},9,{0.05 * 1.5**i:.6f},{8 + 2 * i}.0,0.{10 + 7 * i},0,0\n" for i in steps)
        + ROW.replace("rings", "unrelated").replace("j2k", "bpg")
        + ROW.replace("j2k", "jpeg")
    )
    before = anchors.read_bytes()
    html, results = tmp_path / "rd.html", tmp_path / "rd.json"
    argv = ["--images", photos, "--out", out, *JPEG, "--anchors", anchors, "--plots", html, "--compressai", results]
    assert bench(*argv, "--reference", "j2k") == 0
    shown = capsys.readouterr()
    assert "lacks 1 of 2 pictures, such as deep/spiral.png" in shown.err
    assert "BD-rate of jpeg against j2k, per picture" in shown.out and "bpg" not in shown.out
    assert anchors.read_bytes() == before and {row["codec"] for row in rows(out)} == {"jpeg"}
    assert "BD-rate against j2k" in html.read_text()
    assert (tmp_path / "rd-jpeg.json").is_file() and (tmp_path / "rd-j2k.json").is_file()

    argv = ["--images", photos / "rings.png", "--out", tmp_path / "b.csv", "--presets", "none"]
    assert bench(*argv, "--anchors", anchors) == 0
    assert "j2k" in capsys.readouterr().out and rows(tmp_path / "b.csv") == []


def test_an_anchor_file_may_lack_its_last_newline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "anchors.csv"
    path.write_text(HEAD + ROW + ROW.strip())
    assert len(read_points(path)) == 2 and not caplog.records
    path.write_text(HEAD + ROW + ROW[:30])
    assert len(read_points(path)) == 1 and "torn" in caplog.text


def test_a_codec_that_pillow_lacks_is_left_out_with_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(codecs.features, "check", lambda name: name != "avif")
    out = tmp_path / "rd.csv"
    assert bench("--images", photos, "--out", out, "--presets", "none", "--against", "avif,jpeg", "--max-bpp", "2") == 0
    assert capsys.readouterr().err == (
        "pc15: warning: this Pillow was built without avif, so it is left out; a full build of Pillow has it\n"
    )
    assert {row["codec"] for row in rows(out)} == {"jpeg"}
    assert bench("--images", photos, "--out", tmp_path / "b.csv", "--presets", "none", "--against", "avif") == 2
    assert "no codec to measure" in capsys.readouterr().err


# ---------------------------------------------------------------- input that cannot be


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--presets", "fats"], "no preset 'fats'; did you mean fast?"),
        (["--presets", "fast,,oracle"], "has an empty name"),
        (["--against", "jpg"], "no codec 'jpg' to compare with; did you mean jpeg?"),
        (["--lambdas", "4,1,small"], "'small' in '4,1,small' is not a number"),
        (["--lambdas", "4,,1"], "is not a number"),
        (["--lambdas", "4,-1"], "lambda_rd is -1.0; give a number from"),
        (["--lambdas", "nan"], "lambda_rd is nan"),
        (["--alpha", "2"], "alpha_mix is 2.0; give a number from 0.0 to 1.0"),
        (["--tile", "3"], "tile is 3; give a whole number from 4 to 1024"),
        (["--max-bpp", "0"], "max_bpp is 0.0; give bits per pixel above 0"),
        (["--jobs", "0"], "'0' is no whole number from 1 up"),
        (["--reference", "jpg", "--against", "jpeg"], "no codec 'jpg' to compare with; did you mean jpeg?"),
        (["--presets", "none"], "no codec to measure"),
        (["--compressai", "rd.csv"], "name one file twice"),
        (["--lamdas", "4"], "unknown argument --lamdas; did you mean --lambdas?"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_measured(
    argv: list[str], says: str, photos: Path, measured: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(photos.parent)
    assert bench("--images", photos, "--out", "rd.csv", *argv) == 2
    shown = capsys.readouterr()
    assert says in shown.err and shown.err.startswith("pc15: error: ") and shown.err.count("\n") == 1
    assert shown.out == "" and measured == []


def test_pictures_that_cannot_be_measured_are_refused_before_any_work(photos: Path, measured: list[str]) -> None:
    out = photos.parent / "rd.csv"

    def refused(kind: type[Exception], says: str, *images: Path, **options: Any) -> None:
        with pytest.raises(kind, match=says):
            rd.run_rd(images, out, rd.RdOptions(presets=[], against=["jpeg"], **options))
        assert measured == [] and not out.exists()

    (photos.parent / "empty").mkdir()
    refused(ImageError, "no picture in", photos.parent / "empty")
    refused(ImageError, "no picture in", *[])
    refused(ImageError, "no file or folder", photos / "none.png")
    (photos.parent / "other").mkdir()
    save_image(photos.parent / "other" / "rings.png", torch.zeros(1, 20, 20, dtype=torch.uint8))
    refused(ConfigError, "would both be rings.png", photos, photos.parent / "other")
    (photos.parent / "anchors.csv").write_text(HEAD + ROW)
    other = photos / "deep"
    refused(
        ConfigError, "one is spiral.png 48x40, there is rings.png 48x40", other, anchors=photos.parent / "anchors.csv"
    )
    save_image(photos / "tiny.png", torch.zeros(1, 10, 20, dtype=torch.uint8))
    refused(ImageError, "tiny.png has 20x10 pixels; SSIM needs 11x11", photos)
    (photos / "tiny.png").write_text("no picture")
    refused(ImageError, r"tiny.png", photos)
    with pytest.raises(UnknownNameError, match="'bpg'"):
        rd.run_rd([photos], out, rd.RdOptions(against=["bpg"]))


def test_a_process_that_dies_leaves_the_rows(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    def died(*_: object) -> Point:
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(rd, "_measure", died)
    with pytest.raises(Pc15Error, match="a process died while measuring; .* run again to go on"):
        rd.run_rd([photos], tmp_path / "rd.csv", rd.RdOptions(presets=[], against=["jpeg"]))
    assert (tmp_path / "rd.csv").read_text() == HEAD


# ---------------------------------------------------------------- help


def test_help_names_every_option_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "8,4,2,1,0.5,0.25,0.12,0.06",
        "jpeg, webp, avif, jpeg2000",
        "(default: 1.5)",
        "fast, balanced, oracle",
        "--plots",
    ):
        assert part in text
    assert text.count("(default: ") >= 10


# ---------------------------------------------------------------- side by side


def test_a_sheet_sets_codecs_beside_the_picture_at_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, sheet = tmp_path / "patches.png", tmp_path / "sheet.png"  # no pattern, whose search would take its time
    patches = torch.randint(0, 256, (1, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    save_image(source, patches.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2))
    arguments = ["bench", "sheet", str(source), "--out", str(sheet), "--preset", "fast", "--against", "jpeg"]
    assert cli.main([*arguments, "--rates", "0.4,2", "--crop", "0,0,20,24"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    ours = [line for line in lines if line[0] == "pc15-fast"]
    assert [float(line[2]) for line in ours] == sorted(float(line[2]) for line in ours)
    assert all(float(line[2]) <= rate for line, rate in zip(ours, (0.4, 2.0), strict=True))
    _, height, width = load_luma(sheet).shape
    assert width > 3 * 24 and height > 2 * 20
    assert cli.main([*arguments, "--crop", "0,0,20,4000"]) == 2
    assert "do not suit a picture of" in capsys.readouterr().err
