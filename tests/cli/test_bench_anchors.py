"""Codecs to compare with that are programs or optional libraries, in colour too, and curves that others published."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tqdm import tqdm

from pc15 import cli, render
from pc15.bench import codecs, programs
from pc15.bench.codecs import coders, conventional, own
from pc15.bench.exchange import compressai_results, read_curve, write_results
from pc15.bench.points import ColorPoint, PerceptualPoint, read_points
from pc15.bench.summary import bd_rates, tables
from pc15.cli.bench_rd import codec_names
from pc15.color import rgb_to_ycbcr420, ycbcr420_to_rgb
from pc15.config import CodecConfig
from pc15.errors import ConfigError, ImageError, SchemaError, UnknownNameError
from pc15.images import load_luma, save_image
from pc15.metrics import ciede2000, ciede2000_lab, ms_ssim, psnr
from pc15.perceptual import vif

FAKE = """#!{python} -SE
import sys, zlib
args, name = sys.argv, sys.argv[0].rpartition("/")[2]
def after(*flags):
    return next((args[args.index(flag) + 1] for flag in flags if flag in args), None)
if "-encoders" in args:
    print(" V..... libx265  HEVC\\n V..... libvvenc  VVC" if "{libraries}" else " V..... mpeg4  MPEG-4")
    sys.exit()
if "{broken}":
    sys.exit("some talk\\nthis picture is not for me")
source = after("--input", "-i")
decodes = name == "vvdecapp" or (name == "ffmpeg" and not source.endswith(".yuv"))
data = open(source or after("-b"), "rb").read()
if decodes:
    data = zlib.decompress(data)
    deep = name == "vvdecapp" or after("-pix_fmt") == "yuv420p10le"
    shown = b"".join((4 * v).to_bytes(2, "little") for v in data) if deep else data
    open(after("-o") or args[-1], "wb").write(shown)
    sys.exit()
qp = after("--qp", "-q", "-qp") or after("-x265-params").partition("qp=")[2].partition(":")[0]
step = 1 + int(qp) // 8
shown = bytes(v - v % step for v in data)
stream = after("--output") or after("-b") or after("-o") or args[-1]
open(stream, "wb").write(zlib.compress(shown))
recon = after("--recon") or (after("-o") if after("-b") else None)
if recon:
    open(recon, "wb").write(shown)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    programs._encoders.cache_clear()
    return folder


def install(folder: Path, *names: str, broken: str = "", libraries: str = "yes") -> None:
    """Programs that take the command lines of the real ones, and quantize samples."""
    for name in names:
        text = FAKE.replace("{python}", sys.executable).replace("{broken}", broken).replace("{libraries}", libraries)
        if name == "vvdecapp":
            text = text.replace('source = after("--input", "-i")', 'source = after("-b")')
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def picture(h: int = 35, w: int = 46) -> torch.Tensor:
    """[3,h,w] uint8, of odd height."""
    planes = [render(name, h, w)[0, 0] for name in ("RINGS", "PLAID", "PERLIN")]
    return ((torch.stack(planes) + 1) * 127.5).round().to(torch.uint8)


# ---------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("codec", "installed"),
    [
        ("x265", ["x265"]),
        ("x265", ["ffmpeg"]),
        ("vvenc", ["vvencFFapp"]),
        ("vvenc", ["vvencapp", "vvdecapp"]),
        ("vvenc", ["vvencapp", "ffmpeg"]),
        ("vvenc", ["ffmpeg"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_program_on_the_path_codes_a_picture_there_and_back(codec: str, installed: list[str], path: Path) -> None:
    install(path, *installed)
    rgb = picture()
    y = rgb_to_ycbcr420(rgb)[0]
    (gray,), (color,) = conventional([codec]), conventional([codec], color=True)
    encoded, decoded = coders(gray, 31)
    data = encoded(y)
    assert torch.equal(decoded(data), y - y % 4) and len(data) > 0
    encoded, decoded = coders(color, 0)
    assert torch.equal(decoded(encoded(rgb)), ycbcr420_to_rgb(*rgb_to_ycbcr420(rgb)))


def test_a_program_that_fails_says_so_in_its_own_last_words(path: Path) -> None:
    install(path, "x265", broken="yes")
    (codec,) = conventional(["x265"])
    with pytest.raises(ImageError, match="x265 at 31: .*x265 failed .1.: this picture is not for me"):
        coders(codec, 31)[0](picture()[0])
    (path / "x265").write_text(f"#!{sys.executable} -SE\n")  # writes nothing
    with pytest.raises(ImageError, match="wrote no stream at QP 31"):
        coders(codec, 31)[0](picture()[0])


def test_programs_that_are_absent_are_left_out_with_a_line_each(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(path, "ffmpeg", libraries="")
    install(path, "vvencFFapp.off")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    save_image(tmp_path / "p.png", picture())
    argv = ["bench", "rd", "--images", str(tmp_path / "p.png"), "--out", str(tmp_path / "o.csv"), "--presets", "none"]
    assert cli.main([*argv, "--against", "x265,vvenc,jxl,jpeg", "--max-bpp", "2"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["pc15"] * 3
    assert "x265 is left out: there is neither x265 nor ffmpeg with libx265 on the PATH" in said[0]
    assert "neither vvencFFapp, vvencapp with vvdecapp, nor ffmpeg with libvvenc" in said[1]
    assert "jxl is left out: it needs imagecodecs, which pip install 'pc15[bench]' brings" in said[2]
    assert {point.codec for point in read_points(tmp_path / "o.csv")} == {"jpeg"}
    assert cli.main([*argv, "--against", "vvenc,jpeg", "--vvenc", str(tmp_path / "nowhere")]) == 2
    assert "there is no program" in capsys.readouterr().err


def test_vvenc_may_be_given_by_its_path(path: Path, tmp_path: Path) -> None:
    install(tmp_path, "my-vvencFFapp", "vvencapp", "vvdecapp")
    (codec,) = conventional(["vvenc:preset=slow"], vvenc=tmp_path / "my-vvencFFapp")
    assert codec.name == "vvenc-presetslow"
    assert codec.program == programs.Program(str(tmp_path / "my-vvencFFapp"), "vvencFFapp")
    (codec,) = conventional(["vvenc"], vvenc=tmp_path / "vvencapp")
    assert codec.program == programs.Program(str(tmp_path / "vvencapp"), "vvencapp", str(tmp_path / "vvdecapp"))


# ---------------------------------------------------------------- options and libraries


def test_names_take_options_with_commas() -> None:
    assert codec_names("jpeg,avif:speed=3,tune=ssim,webp") == ["jpeg", "avif:speed=3,tune=ssim", "webp"]
    names = [codec.name for codec in conventional(["avif:tune=ssim,speed=3", "avif", "webp:method=2"])]
    assert names == ["avif-speed3-tunessim", "avif", "webp-method2"]
    for wrong, error, says in (
        ("avif:sped=3", UnknownNameError, "avif has no option 'sped'; did you mean speed?"),
        ("jpeg:speed=3", UnknownNameError, "jpeg has no option 'speed' .there are none."),
        ("avif:speed=11", ConfigError, "speed of avif is '11'; choose one of 0, 1"),
        ("x265:preset=", ConfigError, "preset of x265 is ''"),
    ):
        with pytest.raises(error, match=says):
            conventional([wrong])


def test_avif_is_tuned_as_asked() -> None:
    rgb = picture(64, 64)
    made = {
        name: coders(conventional([name], color=True)[0], 40)[0](rgb)
        for name in ("avif", "avif:tune=ssim", "avif:speed=9")
    }
    assert len(set(made.values())) == 3


def test_jpeg_xl_takes_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    fake = ModuleType("imagecodecs")
    fake.__spec__ = type(sys.__spec__)("imagecodecs", None)

    def encode(pixels: np.ndarray, **options: object) -> bytes:
        seen.append({"shape": pixels.shape, **options})
        return pixels.tobytes()

    shapes = {35 * 46: (35, 46), 3 * 35 * 46: (35, 46, 3)}
    fake.jpegxl_encode = encode  # type: ignore[attr-defined]
    fake.jpegxl_decode = lambda data, numthreads: np.frombuffer(data, np.uint8).reshape(shapes[len(data)])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imagecodecs", fake)
    rgb = picture()
    for color, given in ((False, rgb[0]), (True, rgb)):
        (codec,) = conventional(["jxl:effort=3"], color=color)
        encoded, decoded = coders(codec, 1.6)
        assert torch.equal(decoded(encoded(given)), given)
    assert [one["shape"] for one in seen] == [(35, 46), (35, 46, 3)]
    assert all(one["distance"] == 1.6 and one["effort"] == 3 for one in seen)


# ---------------------------------------------------------------- colour


def test_ciede2000_is_sharmas_and_scikit_images() -> None:
    pairs = [  # from Sharma, Wu and Dalal, table 1: hues about blue, gray ones, and hues that go round
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0011), 7.2195),
        ((50.0, -0.0010, 2.4900), (50.0, 0.0011, -2.4900), 4.7461),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    one, other = (np.array([pair[i] for pair in pairs]).T for i in range(2))
    assert ciede2000_lab(one, other).tolist() == pytest.approx([pair[2] for pair in pairs], abs=5e-5)
    color = pytest.importorskip("skimage.color")
    a, b = picture(), picture().flip(2)
    lab = [color.rgb2lab(p.permute(1, 2, 0).numpy()) for p in (a, b)]
    assert float(ciede2000(a, b, 255)) == pytest.approx(color.deltaE_ciede2000(*lab).mean(), abs=2e-3)
    assert ciede2000(a, a, 255) == 0.0
    with pytest.raises(ImageError, match="three channels"):
        ciede2000(a[:1], b[:1], 255)


@pytest.fixture
def colored(tmp_path: Path) -> tuple[Path, list[ColorPoint]]:
    """A folder of one picture, and its points in colour, of PC15 with and without a tool and of JPEG."""
    (tmp_path / "set").mkdir()
    save_image(tmp_path / "set" / "p.png", picture(48, 48))
    out = tmp_path / "rd.csv"
    argv = ["bench", "rd", "--images", str(tmp_path / "set"), "--out", str(out), "--color", "--device", "cpu"]
    argv += ["--presets", "fast", "--lambdas", "1,0.2,0.03", "--max-bpp", "9"]
    assert cli.main([*argv, "--tools", "sine,wiener,blend"]) == 0
    assert cli.main([*argv, "--against", "jpeg", "--results", str(tmp_path / "results")]) == 0
    points = read_points(out)
    assert all(isinstance(point, ColorPoint) for point in points)
    return tmp_path, points  # type: ignore[return-value]


def test_points_of_colour_are_the_whole_files_of_rgb(
    colored: tuple[Path, list[ColorPoint]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, points = colored
    assert (folder / "rd.csv").read_text().splitlines()[0] == ",".join(field.name for field in fields(ColorPoint))
    assert {point.codec for point in points} == {"pc15-fast", "pc15-fast-toolssine+wiener+blend", "jpeg"}
    rgb, (codec,) = picture(48, 48), [own("fast", [0.2], color=True, device="cpu")]
    encoded, decoded = coders(codec, 0.2)
    data = encoded(rgb)
    point = next(point for point in points if point.codec == "pc15-fast" and point.setting == "0.2")
    assert (point.bytes, point.bpp) == (len(data), round(8 * len(data) / 48**2, 6))
    shown = decoded(data)
    assert point.psnr_rgb == round(psnr(rgb, shown, 255), 4)
    in_db = [float(psnr(a, b, 255)) for a, b in zip(rgb_to_ycbcr420(rgb), rgb_to_ycbcr420(shown), strict=True)]
    assert [point.psnr_y, point.psnr_cb, point.psnr_cr] == [round(value, 4) for value in in_db]
    assert point.psnr_611 == round((6 * in_db[0] + in_db[1] + in_db[2]) / 8, 4)
    assert point.ciede2000 == round(ciede2000(rgb, shown, 255), 5)
    assert set(bd_rates(points, "pc15-fast", "jpeg")) == {"PSNR-RGB", "PSNR-6:1:1", "SSIM-Y", "CIEDE2000"}
    titles = [table.title for table in tables(points, "jpeg")]
    assert "BD-rate against jpeg" in titles and "BD-rate against jpeg, by component" in titles
    means = next(table for table in tables(points, None) if table.title.startswith("Mean CIEDE2000"))
    assert all(float(cell.rstrip("*")) > 0 for row in means.rows for cell in row[1:] if "n/a" not in cell)


def test_luma_and_colour_are_not_mixed_in_one_file(
    colored: tuple[Path, list[ColorPoint]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = colored
    argv = ["bench", "rd", "--images", str(folder / "set"), "--presets", "none", "--against", "jpeg", "--max-bpp", "1"]
    assert cli.main([*argv, "--out", str(folder / "rd.csv")]) == 1
    assert "rd.csv holds rows of colour; measure them with --color" in capsys.readouterr().err
    assert cli.main([*argv, "--out", str(folder / "luma.csv"), "--anchors", str(folder / "rd.csv")]) == 2
    assert "rd.csv is of colour, unlike what is measured" in capsys.readouterr().err


def test_perceptual_qualities_stand_beside_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchmetrics")
    source, out, anchors = tmp_path / "p.png", tmp_path / "rd.csv", tmp_path / "anchors.csv"
    save_image(source, picture(170, 164))
    argv = ["bench", "rd", "--images", str(source), "--out", str(out), "--presets", "none", "--max-bpp", "9"]
    assert cli.main([*argv, "--against", "jpeg,webp", "--perceptual", "--compressai", str(tmp_path / "c.json")]) == 0
    shown = capsys.readouterr().out
    assert "Mean MS-SSIM-Y at bpp" in shown and "VIF mean" in shown
    points = read_points(out)
    assert all(isinstance(point, PerceptualPoint) for point in points)
    (webp,) = conventional(["webp"])
    encoded, decoded = coders(webp, webp.settings[3])
    y, y_hat = (luma.numpy() for luma in (load_luma(source)[0], decoded(encoded(load_luma(source)[0]))))
    point = next(point for point in points if point.codec == "webp" and point.setting == f"{webp.settings[3]:g}")
    assert (point.ms_ssim, point.vif) == (round(ms_ssim(y, y_hat, 255), 6), round(vif(y, y_hat, 255), 5))  # type: ignore[attr-defined]
    assert set(bd_rates(points, "webp", "jpeg")) == {"PSNR", "SSIM", "SSIM-dB", "MS-SSIM-dB", "VIF"}
    assert {"ms-ssim", "vif"} < set(json.loads((tmp_path / "c-webp.json").read_text())["results"])

    before = out.read_bytes()  # a second run finds everything there; one of other rows leaves the file alone
    assert cli.main([*argv, "--against", "jpeg,webp", "--perceptual"]) == 0
    assert cli.main([*argv, "--against", "jpeg"]) == 1
    assert "of luma, with MS-SSIM and VIF; measure them with no --color and --perceptual" in capsys.readouterr().err
    assert out.read_bytes() == before

    argv = [*argv[:5], str(anchors), *argv[6:]]  # beside points that lack them, what all have is told
    argv += ["--results", str(tmp_path / "results")]
    assert cli.main([*argv, "--against", "jpeg", "--anchors", str(out), "--reference", "webp"]) == 0
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"pictures-luma.csv", "pictures-luma-jpeg.json"}
    shown = capsys.readouterr().out
    assert "BD-rate against webp" in shown and "VIF" not in shown
    mixed = [replace(point, codec=f"pc15-{point.codec}") for point in [*points, *read_points(anchors)]]
    first = next(table for table in tables(mixed, None) if table.title == "Means per setting")
    assert first.header[-3:] == ["SSIM", "encode s", "decode s"]
    assert "vif" not in compressai_results(mixed, "pc15-webp")["results"]
    save_image(source, picture(160, 164))
    assert cli.main([*argv, "--against", "jpeg", "--perceptual"]) == 1
    assert "p.png has 164x160 pixels; MS-SSIM needs 161x161, leave it out" in capsys.readouterr().err


def test_results_of_a_release_are_the_points_and_the_means(colored: tuple[Path, list[ColorPoint]]) -> None:
    folder, points = colored
    kept = folder / "results"
    names = ["set-color-jpeg.json", "set-color-pc15-fast-toolssine+wiener+blend.json", "set-color-pc15-fast.json"]
    assert sorted(file.name for file in kept.iterdir()) == sorted([*names, "set-color.csv"])
    assert sorted(read_points(kept / "set-color.csv"), key=str) == sorted(points, key=str)
    text = (kept / "set-color.csv").read_bytes()
    write_results(points[::-1], kept, "set-color")
    assert (kept / "set-color.csv").read_bytes() == text  # in an order of its own
    given = json.loads((kept / "set-color-jpeg.json").read_text())
    assert given == compressai_results(points, "jpeg")
    assert set(given["results"]) >= {"bpp", "psnr-rgb", "psnr-611", "ciede2000", "encoding_time"}


def test_curves_that_others_published_stand_beside_means(
    colored: tuple[Path, list[ColorPoint]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, points = colored
    own_means = compressai_results(points, "pc15-fast")["results"]
    double = {"name": "twice", "results": {"psnr": own_means["psnr-rgb"], "bpp": [2 * b for b in own_means["bpp"]]}}
    far = {"results": {"psnr-rgb": [60.0, 70.0], "bpp": [1.0, 2.0]}}
    (folder / "twice.json").write_text(json.dumps(double))
    (folder / "far.json").write_text(json.dumps(far))
    argv = ["bench", "rd", "--images", str(folder / "set"), "--out", str(folder / "rd.csv"), "--color"]
    argv += ["--presets", "none", "--anchors", str(folder / "results" / "set-color.csv")]
    given = f"{folder / 'twice.json'},jpeg,{folder / 'far.json'}"
    assert cli.main([*argv, "--reference", given, "--html", str(folder / "page.html")]) == 0
    shown = capsys.readouterr().out
    line = next(row for row in shown[shown.index("published means") :].splitlines() if row.startswith("pc15-fast "))
    assert line.split("  ")[1:] and "-50.0 (100 %)" in line and "refused (0 %)" in line
    assert "BD-rate against jpeg" in shown
    assert "twice" in (folder / "page.html").read_text()
    (folder / "luma.json").write_text(json.dumps({"results": {"psnr-y": [30.0, 31.0], "bpp": [1.0, 2.0]}}))
    for name, says in (("luma.json", "has no psnr-rgb"), ("page.html", "not a result file"), ("none.json", "not a")):
        with pytest.raises(SchemaError, match=says):
            read_curve(folder / name, color=True)
    assert read_curve(folder / "luma.json", color=False).psnr == (30.0, 31.0)
    assert cli.main([*argv, "--reference", "jpeg,webp"]) == 2
    assert "--reference names the codecs jpeg and webp; give one" in capsys.readouterr().err


def test_own_streams_are_read_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes vouch for few pixels, but whoever made the stream need not ask."""
    from pc15.bench import inclass
    from pc15.bench.points import Key
    from pc15.bitstream import container
    from pc15learn import bench as hook_bench
    from pc15learn.train_tables import count_stream

    monkeypatch.setattr(container, "FREE_PIXELS", 1 << 8)
    monkeypatch.setattr(container, "PIXELS_PER_BYTE", 1)
    y = torch.full((48, 48), 90, dtype=torch.uint8)
    (codec,) = [own("fast", [4.0], device="cpu")]
    encoded, decoded = coders(codec, 4.0)
    data = encoded(y)
    assert len(data) < 100
    assert decoded(data).shape == y.shape
    assert codecs._decoded_with("mixed", codecs._residual_alone(y, codec.cfg, {})).shape == y.shape  # type: ignore[arg-type]
    cfg = CodecConfig.preset("fast", device="cpu", lambda_rd=4.0)
    assert inclass._measure(Key("p", 48, 48, "pc15", "4"), y[None], cfg).bytes == len(data)
    assert count_stream(data) == {}
    method = hook_bench.Method("none", {})
    with tqdm(disable=True) as quiet:
        ((measured, _),) = hook_bench._in_turn([("p", y[None, None] / 255.0)], cfg, [method], 1, quiet)
    assert measured.bpp > 0.0
