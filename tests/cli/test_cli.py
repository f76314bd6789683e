"""The command line: what it writes, what it says, and how it fails."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pc15 import CodecConfig, cli, decode, encode, read_bitstream
from pc15.bitstream import read_container
from pc15.bitstream.container import write_container
from pc15.cli.encode import config_file
from pc15.config_files import find_config
from pc15.images import load_luma, load_rgb, save_image

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["encode", "decode", "info", "generators", "metrics", "bench", "bench rd", "bench ablation", "env"]
QUICK = ["--preset", "fast", "--tile", "16", "--max-layers", "2", "--residual", "off", "--device", "cpu"]
FLAT = [*QUICK, "--max-layers", "0"]
TINY = CodecConfig.preset("fast", residual=False, tile=16, max_layers=2, device="cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A colour picture of 24x18 pixels."""
    y, x = torch.meshgrid(torch.arange(18), torch.arange(24), indexing="ij")
    planes = torch.stack([x * 10, y * 12, 255 - x * 9]).to(torch.uint8)
    save_image(tmp_path / "photo.png", planes)
    return tmp_path / "photo.png"


@pytest.fixture
def stream(photo: Path) -> Path:
    """The picture, encoded."""
    path = photo.with_suffix(".pc15")
    assert cli.main(["encode", str(photo), "-o", str(path), *QUICK]) == 0
    return path


def run(*argv: object) -> int:
    """Exit code of one command, wrong usage included."""
    try:
        return cli.main([str(arg) for arg in argv])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fresh(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pc15", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


# ---------------------------------------------------------------- there and back


def test_a_picture_goes_there_and_back(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream, back = photo.with_name("a.pc15"), photo.with_name("back.png")
    assert run("encode", photo, "-o", stream, *QUICK, "--lambda", "0.005") == 0
    data = stream.read_bytes()
    assert f"{stream}: 24x18 in {len(data)} bytes, {8 * len(data) / 432:.4f} bpp" in capsys.readouterr().out
    assert data == encode(load_rgb(photo), TINY.but(lambda_rd=0.005))["bitstream"]
    assert run("decode", stream, "-o", back) == 0
    assert torch.equal(load_rgb(back), decode(data))
    assert f"{back}: 24x18 from {len(data)} bytes" in capsys.readouterr().out


def test_luma_alone_is_coded_on_request_or_when_there_is_no_colour(photo: Path) -> None:
    gray = photo.with_name("gray.png")
    save_image(gray, load_luma(photo))
    for source, flags in ((photo, ["--gray"]), (gray, [])):
        target = source.with_suffix(".pc15")
        assert run("encode", source, "-o", target, *QUICK, *flags) == 0
        assert read_container(target.read_bytes()).header.color == 0
        assert run("decode", target, "-o", photo.with_name("back.png")) == 0
        assert load_luma(photo.with_name("back.png")).shape == (1, 18, 24)
    assert gray.with_suffix(".pc15").read_bytes() == photo.with_suffix(".pc15").read_bytes()


def test_an_existing_stream_is_replaced(photo: Path, stream: Path) -> None:
    first = stream.read_bytes()
    assert run("encode", photo, "-o", stream, *QUICK) == 0
    assert stream.read_bytes() == first
    assert run("encode", photo, "-o", stream, *QUICK, "--lambda", "5") == 0
    assert len(stream.read_bytes()) < len(first)
    assert sorted(p.name for p in stream.parent.iterdir()) == ["photo.pc15", "photo.png"]


def test_flags_reach_the_header(photo: Path) -> None:
    target = photo.with_suffix(".pc15")
    flags = ["--overlap", "5", "--seed", "7", "--window", "tukey", "--window-param", "0.5", "--payload-format", "raw"]
    assert run("encode", photo, "-o", target, *QUICK, *flags, "--section-rows", "1", "--alpha", "0", "--gray") == 0
    header = read_container(target.read_bytes()).header
    spec = header.planes[0]
    assert (spec.tile, spec.overlap, spec.window, spec.window_param) == (16, 5, 1, 128)
    assert (header.seed, header.payload_fmt, header.section_rows) == (7, 1, 1)


def test_a_config_file_sets_options_and_flags_win(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = photo.with_name("options.yaml")
    config.write_text("preset: fast\ntile: 16\nresidual: false\nmax_layers: 0\nseed: 5\ndevice: cpu\n")
    target = photo.with_suffix(".pc15")
    assert run("encode", photo, "-o", target, "--config", config, "--seed", "6") == 0
    assert read_container(target.read_bytes()).header.seed == 6
    assert read_container(target.read_bytes()).header.planes[0].tile == 16
    capsys.readouterr()
    for text, says in (
        ("lamda_rd: 0.1", "'lamda_rd'; did you mean lambda_rd?"),
        ("tile: [", "is not YAML"),
        ("- 1", "holds list, not lines of `option: value`"),
        ("lambda_rd: cheap", "lambda_rd is 'cheap'; give a number"),
        ("preset: quick", "no preset 'quick'"),
        ("ai: heuristic", "hooks are given by --hooks"),
    ):
        config.write_text(text)
        assert run("encode", photo, "-o", target, "--config", config) == 2
        assert says in capsys.readouterr().err
    assert run("encode", photo, "-o", target, "--config", photo.with_name("none.yaml")) == 1
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "codec").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_are_the_presets(path: Path) -> None:
    assert CodecConfig.preset("fast", **config_file(path)) == CodecConfig.preset(path.stem)


def test_a_packaged_config_goes_by_its_name(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_name, by_preset = photo.with_name("name.pc15"), photo.with_name("preset.pc15")
    assert run("encode", photo, "-o", by_name, "--config", "fast") == 0
    assert run("encode", photo, "-o", by_preset, "--preset", "fast") == 0
    assert by_name.read_bytes() == by_preset.read_bytes()
    assert run("encode", photo, "-o", by_name, "--config", "quack") == 2
    assert "no config 'quack' (packaged are balanced, fast, oracle; or give the path of" in capsys.readouterr().err
    assert run("encode", photo, "-o", by_name, "--config", "fats") == 2
    assert "did you mean fast?" in capsys.readouterr().err


def test_a_file_wins_over_the_packaged_config_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("fast", "codec").is_absolute() and find_config("fast", "codec").stem == "fast"
    (tmp_path / "fast").write_text("lambda_rd: 3")
    assert config_file(Path("fast")) == {"lambda_rd": 3}
    for path in ("fast.yaml", "no/fast"):  # whoever reads it says that it is not there
        assert find_config(path, "codec") == Path(path)


# ---------------------------------------------------------------- several at once


def test_a_bad_picture_does_not_stop_the_others(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, second, out = photo.with_name("bad.png"), photo.with_name("second.png"), photo.with_name("out")
    bad.write_text("no picture")
    shutil.copy(photo, second)
    assert run("encode", photo, bad, photo.with_name("none.png"), second, "-o", out, *QUICK) == 1
    assert sorted(p.name for p in out.iterdir()) == ["photo.pc15", "second.pc15"]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("pc15: error: ") for line in errors)
    assert "bad.png" in errors[0] and "none.png" in errors[1]
    assert errors[2] == "pc15: error: 2 of 4 failed, the others are done"

    (out / "broken.pc15").write_bytes(b"PC15")
    assert run("decode", out, "-o", photo.with_name("back")) == 1
    assert sorted(p.name for p in photo.with_name("back").iterdir()) == ["photo.png", "second.png"]
    assert "broken.pc15" in capsys.readouterr().err


def test_a_folder_stands_for_its_pictures(photo: Path) -> None:
    folder = photo.parent / "in"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(photo, folder / "a.png")
    shutil.copy(photo, folder / "deep" / "b.PNG")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._a.png").write_text("AppleDouble")
    (folder / ".thumbs").mkdir()
    shutil.copy(photo, folder / ".thumbs" / "t.png")
    out = photo.parent / "out"
    assert run("encode", folder, "-o", out, *FLAT) == 0
    assert files_of(out) == ["a.pc15", "deep/b.pc15"]
    assert run("decode", out, "-o", photo.parent / "back") == 0
    assert files_of(photo.parent / "back") == ["a.png", "deep/b.png"]
    assert run("encode", photo, "-o", f"{photo.parent}/new/", *FLAT) == 0
    assert (photo.parent / "new" / "photo.pc15").is_file()


def test_equal_names_below_a_folder_stay_apart(photo: Path) -> None:
    folder, out = photo.parent / "in", photo.parent / "out"
    for name in ("x/a.png", "y/a.png", "y/a.bmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(folder / name, load_rgb(photo))
    assert run("encode", folder, "-o", out, *FLAT) == 0
    assert files_of(out) == ["x/a.pc15", "y/a.bmp.pc15", "y/a.png.pc15"]


def test_one_picture_in_a_folder_becomes_a_folder(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = photo.parent / "in", photo.parent / "out"
    folder.mkdir()
    shutil.copy(photo, folder / "a.png")
    assert run("encode", folder, "-o", out, *FLAT) == 0
    assert files_of(out) == ["a.pc15"]
    assert run("encode", folder, "-o", photo, *FLAT) == 2
    assert "is a file, but the input is a folder; give a folder" in capsys.readouterr().err


def test_an_empty_folder_does_not_stop_the_others(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photo.parent / "none").mkdir()
    assert run("encode", photo.parent / "none", photo, "-o", photo.parent / "out", *FLAT) == 1
    assert files_of(photo.parent / "out") == ["photo.pc15"]
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"pc15: error: there is no file to read in {photo.parent / 'none'}"
    assert errors[1] == "pc15: error: 1 of 2 failed, the others are done"


def test_a_folder_that_takes_no_file_is_noticed_before_the_work(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pc15.encoder.encode_many", lambda *_: pytest.fail("worked first"))
    assert run("encode", photo, "-o", photo / "below" / "a.pc15", *FLAT) == 1
    assert "a file stands where its folder should" in capsys.readouterr().err


# ---------------------------------------------------------------- standard input and output


def piped(*argv: object, given: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pc15", *map(os.fsencode, map(str, argv))]
    everything = {**os.environ, **env}
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, timeout=120, env=everything)


def test_pictures_and_streams_go_through_pipes(photo: Path) -> None:
    picture = photo.read_bytes()
    want = encode(load_rgb(photo), TINY.but(max_layers=0))["bitstream"]
    ran = piped("encode", "-", "-o", "-", *FLAT, given=picture)
    assert (ran.returncode, ran.stdout) == (0, want)
    assert b"standard output: 24x18 in " in ran.stderr
    told = piped("encode", "-", "-o", "-", *FLAT, "--json", given=picture)
    assert told.stdout == want and json.loads(told.stderr)["files"][0]["bytes"] == len(want)
    told = piped("decode", "-", "-o", "-", "--json", given=want)
    assert torch.equal(load_rgb(io.BytesIO(told.stdout)), decode(want)) and json.loads(told.stderr)["total"]
    back = piped("decode", "-", "-o", "-", given=want)
    assert torch.equal(load_rgb(io.BytesIO(back.stdout)), decode(want))
    assert piped("info", "-", given=want).stdout.startswith(b"-: 24x18 colour")
    assert b"PSNR-Y" in piped("metrics", photo, "-", given=want).stdout
    assert piped("metrics", "-", photo, given=picture).stdout.startswith(b"PSNR-Y  inf dB")
    if sys.platform != "win32":
        assert piped("encode", photo, "-o", "/dev/stdout", *FLAT).stdout == want
        with (photo.parent / "redirected").open("wb") as file:
            command = [sys.executable, "-m", "pc15", "encode", str(photo), "-o", "/dev/stdout", *FLAT]
            subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.PIPE, check=True, timeout=120)
        assert (photo.parent / "redirected").read_bytes().startswith(want)


def test_an_error_is_in_the_json_too(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["metrics", photo, photo.with_name("none.png")], ["generators", "NOPE"], ["info", photo]):
        assert run(*argv, "--json") in (1, 2)
        shown = capsys.readouterr()
        said = json.loads(shown.out)
        assert (said["error"] if "error" in said else said["streams"][0]["error"]) in shown.err


def test_pipes_that_cannot_be_meant_are_refused(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, says in (
        (["encode", photo, photo, "-o", "-"], "-o - is standard output, but"),
        (["encode", photo.parent, "-o", "-"], "but the input is a folder"),
        (["encode", "-", "-o", photo.parent], "standard input has no name"),
        (["metrics", "-", "-"], "standard input holds one picture, not both"),
    ):
        assert run(*argv, *(FLAT if argv[0] == "encode" else [])) == 2
        assert says in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_names_that_the_console_cannot_show_are_shown_with_backslashes(photo: Path) -> None:
    folder, out = photo.parent / "in", photo.parent / "out"
    folder.mkdir()
    for name in (b"a\xe9.png", "λ.png".encode(), b"z.png"):
        shutil.copy(photo, os.fsencode(folder) + b"/" + name)
    ran = piped("encode", folder, "-o", out, *FLAT, PYTHONIOENCODING="ascii:strict")
    assert ran.returncode == 0, ran.stderr
    assert b"a\\udce9.pc15: 24x18" in ran.stdout and b"\\u03bb.pc15: 24x18" in ran.stdout
    assert sorted(os.listdir(os.fsencode(out))) == [b"a\xe9.pc15", b"z.pc15", "λ.pc15".encode()]


def test_commands_work_without_docstrings(photo: Path) -> None:
    assert piped("env", PYTHONOPTIMIZE="2").returncode == 0
    shown = piped("encode", "--help", PYTHONOPTIMIZE="2").stdout.decode()
    assert "Describe pictures as programs" in shown and "--lambda" in shown
    ran = [sys.executable, "-OO", "-m", "pc15learn", "--help"]
    assert b"make-tiles" in subprocess.run(ran, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout


def test_outputs_that_would_collide_or_mislead_are_refused(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = photo.parent / "deep" / "photo.png"
    other.parent.mkdir()
    shutil.copy(photo, other)
    before = photo.read_bytes()
    for argv, says in (
        (["encode", photo, other, "-o", photo.parent / "out"], "would both become"),
        (["encode", photo, other, "-o", photo], "is a file, but there are 2 inputs; give a folder"),
        (["encode", photo, "-o", photo], "is the input itself"),
        (["decode", photo, "-o", photo], "is the input itself"),
        (["decode", photo, "-o", photo.parent / "a.pngg"], "did you mean .png?"),
        (["decode", photo.parent / "deep", "-o", photo.parent / "out"], "no file in"),
    ):
        assert run(*argv) == 2
        assert says in capsys.readouterr().err
    assert photo.read_bytes() == before


# ---------------------------------------------------------------- info


def test_info_accounts_for_every_byte(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", stream, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    data = read_bitstream(stream)
    assert sum(content["bytes_of"].values()) == content["bytes"] == len(data)
    assert content["bytes_of"]["sections"] == sum(content["section_bytes"])
    assert sum(content["bits_by_kind"].values()) / 8 == pytest.approx(content["bytes_of"]["sections"], abs=5 * 3)
    layers = sum(
        len(tile.layers) for plane in encode(load_rgb(stream.with_suffix(".png")), TINY)["tile_map"] for tile in plane
    )
    assert sum(content["layers_by_generator"].values()) == layers
    assert [plane["name"] for plane in content["planes"]] == ["Y", "Cb", "Cr"]
    for plane in content["planes"]:
        ny, nx = plane["tiles"]
        assert sum(plane["tiles_by_layers"]) == ny * nx
        assert 0 < plane["dc_step"] < 1 and 0 < plane["amp_step"] < 1
    assert "tile_map" not in content

    assert run("info", stream, "--json", "--tiles") == 0
    tiles = json.loads(capsys.readouterr().out)["tile_map"]
    assert sum(len(tile["layers"]) for tile in tiles) == layers
    assert len(tiles) == sum(plane["tiles"][0] * plane["tiles"][1] for plane in content["planes"])


def test_info_says_what_the_bits_of_a_residual_decide(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = photo.with_suffix(".pc15")
    assert run("encode", photo, "-o", target, "--preset", "fast", "--lambda", "0.05", "--device", "cpu") == 0
    capsys.readouterr()
    assert run("info", target, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    bits = content["bits_by_kind"]
    coded = encode(load_rgb(photo), CodecConfig.preset("fast", lambda_rd=0.05, device="cpu"))["stats"]["bits_by_kind"]
    assert bits == {kind: pytest.approx(cost, abs=0.01) for kind, cost in coded.items()}
    assert {"residual split", "residual mode", "residual level not 0", "residual sign"} <= set(bits)
    residuals = content["section_bytes"][-3:]
    assert sum(bits.values()) / 8 == pytest.approx(sum(residuals), abs=4 * 3)


def test_info_tells_of_a_residual_that_is_sound_outside_and_damaged_inside(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = photo.with_suffix(".pc15")
    assert run("encode", photo, "-o", target, "--preset", "fast", "--device", "cpu", "--gray") == 0
    stream = read_container(target.read_bytes())
    damaged = [bytes([*payload[:-1], payload[-1] ^ 1]) for payload in stream.residuals if payload is not None]
    target.write_bytes(write_container(replace(stream, residuals=list(damaged))))
    capsys.readouterr()
    assert run("info", target) == 1
    shown = capsys.readouterr()
    assert "plane 0, residual of pixel rows 0 to 17" in shown.err
    assert "residual unread" in shown.out


def test_info_reads_well(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", stream, "--tiles") == 0
    text = capsys.readouterr().out
    ids = "tables v15_trained, codebook v15_trained"
    for part in ("24x18 colour", ids, "seed 1234", "bytes: header ", "dc "):
        assert part in text
    assert "plane 2 row 0 col 0 at y=0 x=0: dc " in text


def test_info_shows_what_hooks_left(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = photo.with_suffix(".pc15")
    assert run("encode", photo, "-o", target, *QUICK, "--hooks", "heuristic", "--gray") == 0
    capsys.readouterr()
    assert run("info", target) == 0
    assert '"name": "heuristic"' in capsys.readouterr().out


def test_damage_is_described_and_drawn_around(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(stream.read_bytes())
    data[-3] ^= 1  # the CRC of the last section
    stream.write_bytes(data)
    back = stream.with_name("rest.png")
    capsys.readouterr()
    assert run("decode", stream, "-o", back) == 1
    assert "section 2 of 3" in capsys.readouterr().err
    assert not back.exists()
    assert run("info", stream) == 1
    shown = capsys.readouterr()
    assert "section 2 of 3" in shown.err and "24x18" in shown.out
    assert run("decode", stream, "-o", back, "--lenient") == 0
    assert "pc15: warning: concealed: section 2 of 3" in capsys.readouterr().err
    assert load_rgb(back).shape == (3, 18, 24)


# ---------------------------------------------------------------- generators, metrics, env


def test_generators_are_listed_described_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generators") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "name", "entries", "seeds", "parameters"]
    assert any(line.split()[:2] == ["32", "STRIPES"] and "angle_deg 0..180" in line for line in lines)

    sheet = tmp_path / "sheet.png"
    assert run("generators", "stripes", "--preview", sheet) == 0
    text = capsys.readouterr().out
    assert text.startswith("STRIPES, generator 32: ") and "softness" in text
    assert load_luma(sheet).numel() > 96 * 96 * 9

    assert run("generators", "STRIPE") == 2
    assert "no generator 'STRIPE'; did you mean STRIPES?" in capsys.readouterr().err
    assert run("generators", "--preview", tmp_path / "sheet.psd") == 1
    assert "unknown suffix '.psd'" in capsys.readouterr().err


def test_metrics_compare_pictures_and_streams(photo: Path, stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("metrics", photo, stream) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["PSNR-Y", "SSIM-Y", "bpp"]
    assert run("metrics", photo, stream, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 10 < found["psnr_y"] < 60
    assert found["bpp"] == 8 * stream.stat().st_size / 432
    assert run("metrics", photo, photo, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["psnr_y"] is None and found["ssim_y"] == pytest.approx(1.0)

    large, small = photo.with_name("large.png"), photo.with_name("small.png")
    save_image(large, torch.arange(161 * 161).remainder(256).to(torch.uint8).view(1, 161, 161))
    save_image(small, torch.zeros(1, 5, 5, dtype=torch.uint8))
    assert run("metrics", large, large) == 0
    assert "MS-SSIM-Y  1.000000" in capsys.readouterr().out
    assert run("metrics", large, large, "--perceptual") == 0
    assert "VIF-Y      1.000000" in capsys.readouterr().out
    assert run("metrics", small, small) == 0
    assert capsys.readouterr().out.split() == ["PSNR-Y", "inf", "dB"]
    assert run("metrics", large, small) == 1
    assert "different shapes" in capsys.readouterr().err
    assert run("metrics", large, photo.with_name("none.pc15")) == 1
    assert "cannot read" in capsys.readouterr().err


def test_env_says_what_the_machine_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("env") == 0
    assert "PC15_MODELS_DIR" in capsys.readouterr().out
    assert run("env", "--json") == 0
    assert json.loads(capsys.readouterr().out)["torch"] == str(torch.__version__)


# ---------------------------------------------------------------- help and errors


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert f"  pc15 {command}" in text.split("examples:")[1]
    assert text.count("\n") > 8


def test_only_the_chosen_command_is_loaded() -> None:
    code = "import sys\nfrom pc15 import cli\ntry: cli.main(['env', '--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(m for m in sys.modules if m.startswith('pc15.')))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    loaded = [
        "pc15._version",
        "pc15.cli",
        "pc15.cli.answer",
        "pc15.cli.env",
        "pc15.cli.parser",
        "pc15.cli.program",
        "pc15.errors",
        "pc15.extras",
    ]
    loaded += ["pc15.locks", "pc15.paths", "pc15.runtime", "pc15.runtime.device"]  # which calm OpenMP's threads
    assert ran.stdout.splitlines()[-1] == str(loaded), ran.stderr


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("encode", "-h") == 0
    text = " ".join(capsys.readouterr().out.split())
    cfg = CodecConfig.preset("balanced")
    assert f"(default: {cfg.lambda_rd})" in text
    assert "exhaustive in oracle" in text
    assert text.count("(default: ") >= 14


@pytest.mark.parametrize(
    "argv", [["--help"], ["encode", "--help"], ["bench", "--help"], ["bench", "rd", "--help"], ["--version"]]
)
def test_help_comes_at_once(argv: list[str]) -> None:
    """Within 0.3 s of processor time, because nothing heavy is imported."""
    code = (
        "import sys, time\nfrom pc15 import cli\n"
        f"try: cli.main({argv})\nexcept SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'numpy', 'numba', 'PIL', 'yaml', 'tqdm') if m in sys.modules]\n"
        "print(heavy, time.process_time())"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    loaded, seconds = ran.stdout.splitlines()[-1].rsplit(" ", 1)
    assert loaded == "[]", ran.stderr
    assert float(seconds) < 0.3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "arguments are required: COMMAND"),
        (["enocde"], "did you mean encode?"),
        (["bench"], "arguments are required: BENCHMARK"),
        (["bench", "rdd"], "did you mean rd?"),
        (["bench", "rd"], "arguments are required: --images, -o/--out"),
        (["encode", "a.png"], "-o/--out"),
        (["encode", "a.png", "-o", "b", "--lamda", "1"], "unknown argument --lamda; did you mean --lambda?"),
        (["encode", "a.png", "-o", "b", "--tile", "big"], "invalid int value: 'big'"),
        (["encode", "a.png", "-o", "b", "--preset", "fats"], "did you mean fast?"),
        (["encode", "a.png", "-o", "b", "--tile", "3"], "tile is 3; give a whole number from 4 to 1024"),
        (["encode", "a.png", "-o", "b", "--tile", "16", "--overlap", "16"], "not below the tile's 16"),
        (["encode", "a.png", "-o", "b", "--device", "cudaa"], "did you mean cuda?"),
        (["encode", "a.png", "-o", "b", "--hooks", "heuristics"], "did you mean heuristic?"),
    ],
)
def test_wrong_usage_is_one_line_and_2(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.startswith("pc15: error: ") and shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_folder_without_weights_is_no_hooks(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = photo.parent / "weights"
    weights.mkdir()
    argv = ["encode", photo, "-o", photo.parent / "a.pc15", *QUICK, "--hooks", weights]
    assert run(*argv) == 2
    assert "no .safetensors file" in capsys.readouterr().err
    (weights / "m1.safetensors").write_bytes(b"")
    for card in (None, "", "role: [selector]\n", "role: selector\n"):
        if card is not None:
            (weights / "m1.yaml").write_text(card)
        assert run(*argv) == 0  # weights that cannot be used cost a warning, not the stream
        shown = capsys.readouterr()
        assert shown.err.count("pc15: warning: ") == 1 and "m1" in shown.err
        assert read_container((photo.parent / "a.pc15").read_bytes()).metadata is None


def test_a_full_disk_leaves_the_old_stream(photo: Path, stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resource = pytest.importorskip("resource")
    old = stream.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        assert run("encode", photo, "-o", stream, *QUICK, "--seed", "1234", "--lambda", "0.001") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(photo) in capsys.readouterr().err
    assert stream.read_bytes() == old
    assert sorted(p.name for p in stream.parent.iterdir()) == ["photo.pc15", "photo.png"]


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run_env(_: object) -> int:
        """Wait."""
        raise KeyboardInterrupt

    monkeypatch.setattr("pc15.cli.env.run", run_env)
    assert run("env") == 130
    assert capsys.readouterr().err == "pc15: error: interrupted; what was finished stays\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
def test_a_reader_that_has_enough_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pc15.cli", "generators"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(timeout=60)


def test_a_failed_command_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.pc15").write_bytes(b"not a stream")
    ran = fresh("info", str(tmp_path / "a.pc15"))
    assert ran.returncode == 1
    assert ran.stderr.startswith("pc15: error: ") and ran.stderr.count("\n") == 1
    assert "not a PC15 stream" in ran.stderr
