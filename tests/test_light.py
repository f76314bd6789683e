"""The base alone: photographs are coded without torch, to the same bytes and pixels, and what needs more says so."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pc15
from pc15.bitstream import Header, Stream, write_container
from pc15.bitstream.alphabets import Syntax
from pc15.bitstream.header import tile_counts
from pc15.bitstream.ports import Writer
from pc15.bitstream.programs import Programs
from pc15.bitstream.read import read_container, read_programs
from pc15.bitstream.sections import code_section
from pc15.draw import predict_plane
from pc15.entropy.tables import load_table
from pc15.extras import EXTRA_OF
from pc15.luma import to_pixels
from pc15.proc.codebook import load_codebook
from pc15.quant import dc_levels
from tests.fuzz.hostile import spec

ROOT = Path(pc15.__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
BLOCK = "import sys\nfor name in ('torch', 'safetensors', 'tqdm'): sys.modules[name] = None\n"
"""What a process without the extras is like; tqdm is left out, too, where no terminal shows progress."""
WANTED = 'pip install "pc15[programs]"'


def alone(code: str, folder: Path, *, block: str = BLOCK) -> subprocess.CompletedProcess[str]:
    """Code in a fresh process without torch."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", block + code], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


def photo() -> np.ndarray:
    """[80,136,3] uint8: smoothed noise, without any pattern, as photographs are."""
    noise = np.random.default_rng(5).normal(0, 260, (84, 140, 3)).cumsum(0).cumsum(1)
    smooth = noise[4:, 4:] - noise[:-4, 4:] - noise[4:, :-4] + noise[:-4, :-4]
    return (128 + smooth / 16).clip(0, 255).astype(np.uint8)


PHOTO = """
import hashlib, json, io
import numpy as np
from PIL import Image
import pc15, pc15.pil
from pc15.cli import main
sha = lambda data: hashlib.sha256(data).hexdigest()
image = Image.open("photo.png")
coded = pc15.encode(image)
y = pc15.encode_y(image)["bitstream"]
saved = io.BytesIO()
image.save(saved, format="PC15")
kept = [np.asarray(pc15.decode(coded["bitstream"])), np.asarray(pc15.decode_y(y))]
kept += pc15.decode_many([coded["bitstream"], y], output="numpy")
assert main(["encode", "photo.png", "-o", OUT + ".pc15"]) == 0
assert main(["decode", OUT + ".pc15", "-o", OUT + ".png"]) == 0
assert main(["metrics", "photo.png", OUT + ".pc15", "--json"]) == 0
assert main(["info", OUT + ".pc15", "--json"]) == 0
print("RESULT", json.dumps([
    sha(coded["bitstream"]), sha(y), sha(saved.getvalue()), *(sha(part.tobytes()) for part in kept),
    sha(Image.open(saved).tobytes()), sha(open(OUT + ".pc15", "rb").read()), sha(open(OUT + ".png", "rb").read()),
    pc15.psnr(np.asarray(image), kept[0].transpose(1, 2, 0), 255), coded["stats"], coded["tile_map"],
]))
"""


def test_a_photograph_has_the_same_bytes_and_pixels_without_torch(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    found = []
    for block in (BLOCK, ""):
        name = "light" if block else "full"
        ran = alone(f"OUT = {name!r}\n{PHOTO}", tmp_path, block=block)
        assert ran.returncode == 0, ran.stderr
        said, _, result = ran.stdout.rpartition("RESULT")
        found.append((re.sub("light|full|, [0-9.]+ s", "", said), json.loads(result)))
    assert found[0] == found[1]
    assert found[0][1][-1] == [[], [], []]


def test_nothing_of_a_photograph_loads_torch_where_it_is_installed(tmp_path: Path) -> None:
    grain = np.random.default_rng(5).integers(0, 256, (48, 136), dtype=np.uint8)  # gradients tell that it is no pattern
    Image.fromarray(grain).save(tmp_path / "grain.png")
    code = f"""
import sys
import pc15, pc15.pil
from PIL import Image
from pc15.cli import main
main(["encode", "grain.png", "-o", "a.pc15", "--quality", "60"])
main(["decode", "a.pc15", "-o", "a.png"])
main(["info", "a.pc15"])
main(["metrics", "grain.png", "a.pc15"])
Image.open("a.pc15").load()
for stream in ("a.pc15", {str(GOLDEN / "residual_colour.pc15")!r}):
    pc15.decode(stream, output="numpy"), pc15.decode_y(stream, output="numpy")
print("LOADED", *[name for name in ("torch", "tqdm", "safetensors") if name in sys.modules])
assert pc15.decode("a.pc15").dtype is sys.modules["torch"].uint8, "tensors, where torch is there"
"""
    ran = alone(code, tmp_path, block="")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].split() == ["LOADED"]


def test_a_photograph_is_decoded_without_loading_numba_once_its_loops_are_kept(tmp_path: Path) -> None:
    code = f"import pc15; pc15.decode({str(GOLDEN / 'six.pc15')!r}, output='numpy')\n"
    for _ in range(2):
        ran = alone(f"{code}print('numba' in sys.modules, 'torch' in sys.modules)", tmp_path, block="import sys\n")
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["False", "False"]


def test_what_needs_torch_says_which_extra_it_wants(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    code = f"""
import contextlib, io, json
import pc15
from pc15.cli import main
from pc15.config import CodecConfig
tiles = {str(GOLDEN / "tile_32.pc15")!r}
said = []
for name, call in [
    ("decode", lambda: pc15.decode(tiles)),
    ("lenient", lambda: pc15.decode(tiles, strict=False)),
    ("many", lambda: pc15.decode_many([tiles])),
    ("tensor", lambda: pc15.decode({str(GOLDEN / "residual.pc15")!r}, output="torch")),
    ("cuda", lambda: pc15.decode({str(GOLDEN / "residual.pc15")!r}, device="cuda")),
    ("search", lambda: pc15.encode("photo.png", CodecConfig.preset("fast", tile=16))),
    ("name", lambda: pc15.render),
    ("hooks", lambda: pc15.HeuristicHooks),
]:
    try:
        call()
        said.append([name, "", "nothing"])
    except pc15.Pc15Error as error:
        said.append([name, type(error).__name__, str(error)])
for words in (["decode", tiles, "-o", "a.png"], ["generators"],
              ["bench", "rd", "--images", ".", "--out", "rd.csv"],
              ["encode", "photo.png", "-o", "a.pc15", "--hooks", "heuristic"]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main([*words, "-q"])
    said.append([" ".join(words[:2]), "MissingExtraError" if code else "", errors.getvalue()])
print("RESULT", json.dumps(said))
"""
    ran = alone(code, tmp_path)
    assert ran.returncode == 0, ran.stderr
    for name, kind, text in json.loads(ran.stdout.rpartition("RESULT")[2]):
        assert kind == "MissingExtraError", (name, text)
        assert WANTED in text, (name, text)
        assert len(text.strip().splitlines()) == 1, (name, text)


def test_hooks_of_photographs_do_without(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom pc15.hooks.base import NoOpinion\n"
        "from pc15.hooks.squares import QUARTERS, SquareChoice\n\n\n"
        "class Plain(NoOpinion):\n    def squares(self, view):\n"
        "        ways = np.full(view.energies(8).shape, QUARTERS, np.uint8)\n"
        "        return SquareChoice(ways={8: ways}, about={'name': 'plain'})\n"
    )
    code = """from pc15.cli import main
raise SystemExit(main(["encode", "photo.png", "-o", "a.pc15", "--hooks", "mine:Plain"]))
"""
    ran = alone(code, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert read_container((tmp_path / "a.pc15").read_bytes()).metadata == {"ai": {"name": "plain"}}


def test_a_perceptual_metric_says_which_extra_it_wants(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    code = "from pc15.cli import main\nassert main(['metrics', 'photo.png', 'photo.png', '--perceptual'])"
    ran = alone(code, tmp_path, block=BLOCK + "sys.modules['torchmetrics'] = None\n")
    assert ran.returncode == 0, ran.stderr
    assert 'needs torchmetrics, which is not installed; install it with: pip install "pc15[bench]"' in ran.stderr


def test_a_picture_that_looks_like_one_pattern_is_coded_as_a_photograph_and_that_is_said_once(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    stripes = (127.5 + 120 * np.sin((x + 0.4 * y) / 3)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    code = """
import numpy as np
import pc15
from PIL import Image
for _ in range(2):
    coded = pc15.encode("stripes.png")
picture = np.asarray(Image.open("stripes.png"))[None]
print(coded["stats"]["layers"], pc15.psnr(picture, pc15.decode(coded["bitstream"]), 255))
"""
    ran = alone(code, tmp_path)
    assert ran.returncode == 0, ran.stderr
    layers, quality = map(float, ran.stdout.split())
    assert layers == 0 and quality > 20
    assert ran.stderr.count("looks like one pattern") == ran.stderr.count(WANTED) == 1


def test_programs_are_read_and_described_without_torch(tmp_path: Path) -> None:
    """Of every golden stream: what needs torch is drawing alone."""
    code = f"""
import hashlib, pathlib
from pc15.bitstream.read import read_programs
from pc15.cli import main
from pc15.errors import MissingTableError
digest = hashlib.sha256()
for path in sorted(pathlib.Path({str(GOLDEN)!r}).glob("*.pc15")):
    for programs in read_programs(path.read_bytes())[1]:
        digest.update(repr(programs.records()).encode())
assert main(["info", {str(GOLDEN / "everything.pc15")!r}, "--tiles", "--json"]) == 0
print("RESULT", digest.hexdigest(), "torch" in sys.modules and sys.modules["torch"] is not None)
"""
    without, there = alone(code, tmp_path), alone(code, tmp_path, block="import sys\n")
    assert without.returncode == there.returncode == 0, without.stderr + there.stderr
    assert without.stdout == there.stdout and without.stdout.rstrip().endswith("False")


def test_tiles_without_patterns_are_drawn_without_torch(tmp_path: Path) -> None:
    data = flat_tiles()
    (tmp_path / "flat.pc15").write_bytes(data)
    code = """
import hashlib
import numpy as np
import pc15
from pc15.cli import main
pixels = pc15.decode("flat.pc15", output="numpy")
assert np.array_equal(pc15.decode_many(["flat.pc15"], output="numpy")[0], pixels)
assert main(["decode", "flat.pc15", "-o", "flat.png"]) == 0
print("RESULT", hashlib.sha256(pixels.tobytes()).hexdigest(), sys.modules.get("torch"))
"""
    header, programs, *_ = read_programs(data)
    rows = [predict_plane([*programs], header, 0, load_codebook(header.codebook_id), torch.device("cpu"))]
    expected = hashlib.sha256(to_pixels(rows[0]).numpy().tobytes()).hexdigest()
    for block in (BLOCK, "import sys\n"):
        ran = alone(code, tmp_path, block=block)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.split()[-3:] == ["RESULT", expected, "None"]


def flat_tiles() -> bytes:
    """200x130, tiles of 16 px upon coarse ones of 48 px, none with a layer."""
    header = Header(200, 130, 0, (dataclasses.replace(spec(16, 5), under=spec(48, 7)),))
    codebook = load_codebook(header.codebook_id)
    rng = np.random.default_rng(3)
    sections = []
    for which, grid in enumerate(header.grids):
        ny, nx = tile_counts(header, which)
        programs = Programs.empty(ny * nx)
        programs.dc[:] = rng.integers(0, dc_levels(grid.spec.dc_step), ny * nx)
        writer = Writer(load_table(header.table_id))
        syntax = Syntax.of(ny, nx, grid.spec.tile, grid.spec.amp_step, grid.spec.dc_step, False, codebook)
        code_section(writer, syntax, programs)
        sections.append(writer.rans_bytes())
    return write_container(Stream(header, sections))


def test_outputs_are_of_the_kind_that_is_asked_for() -> None:
    data = (GOLDEN / "colour.pc15").read_bytes()
    tensor, array = pc15.decode(data), pc15.decode(data, output="numpy")
    assert isinstance(tensor, torch.Tensor) and isinstance(array, np.ndarray)
    assert np.array_equal(tensor.numpy(), array)
    luma = pc15.decode_y(data, output="numpy")
    assert luma.dtype == np.float32 and np.array_equal(pc15.decode_y(data).numpy(), luma)
    with pytest.raises(pc15.Pc15Error, match="output is 'list'; choose one of auto, numpy, torch"):
        pc15.decode(data, output="list")  # type: ignore[call-overload]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory of a process alone")
@pytest.mark.parametrize("words", [["decode", "DATA", "-o", "a.png"], ["info", "DATA"]])
def test_a_small_residual_that_claims_much_takes_little(tmp_path: Path, words: list[str]) -> None:
    """A damaged residual, refused within the memory and time that a process without torch and numba takes."""
    from pc15.bitstream.container import read_container, write_container

    stream = read_container((GOLDEN / "residual.pc15").read_bytes())
    bad = [bytes(part or b"")[:20] + b"\x9a" * 60 for part in stream.residuals]
    (tmp_path / "bad.pc15").write_bytes(write_container(dataclasses.replace(stream, residuals=bad)))
    code = f"""
import re, time
from pathlib import Path
from pc15.cli import main
main({[word.replace("DATA", "bad.pc15") for word in words]!r})
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print("TOOK", time.process_time(), int(peak) / 1024)
"""
    for _ in range(2):  # the first may compile
        ran = alone(code, tmp_path, block="")
        assert ran.returncode == 0, ran.stderr
    assert "damaged" in ran.stderr
    seconds, mib = map(float, ran.stdout.rpartition("TOOK")[2].split())
    assert mib < 200
    assert seconds < 3, "a second, on a machine that does nothing else"


# ---------------------------------------------------------------- dependencies


def imported() -> dict[str, set[str]]:
    """Top-level names of other projects' modules that the packages import, and where."""
    found: dict[str, set[str]] = {}
    for package in ("pc15", "pc15learn"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                    names = [node.module]
                for name in names:
                    found.setdefault(name.split(".")[0], set()).add(path.relative_to(ROOT).as_posix())
    return {
        name: places for name, places in found.items() if name not in {*sys.stdlib_module_names, "pc15", "pc15learn"}
    }


def declared() -> dict[str, set[str]]:
    """Names of the distributions of each extra; "" for the base."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {re.split(r"[^\w.-]", line)[0].lower() for line in lines if not line.startswith("pc15[")}
        for extra, lines in groups.items()
    }


WITHOUT_IMPORT = {"track": {"tensorboard"}, "learn": {"datasets"}}
"""Distributions that no statement imports: Lightning's logger loads tensorboard, `hf_datasets` looks for datasets."""
KERNELS = {"triton"}
"""Comes with builds of torch for CUDA, which alone can use it."""


def test_nothing_imported_is_missing_and_nothing_declared_is_unused() -> None:
    owners = importlib.metadata.packages_distributions()
    used = {owner.lower() for name in imported() for owner in owners.get(name, [name])}
    known = declared()
    everywhere = set.union(*(known[extra] for extra in known if extra not in ("dev", "all", "docs")))
    assert used - everywhere - KERNELS == set(), "imported and not declared"
    unused = {extra: names - used - WITHOUT_IMPORT.get(extra, set()) for extra, names in known.items()}
    assert {extra: names for extra, names in unused.items() if names and extra not in ("dev", "all", "docs")} == {}


def test_every_optional_module_names_the_extra_that_has_it() -> None:
    owners, known = importlib.metadata.packages_distributions(), declared()
    for module, extra in EXTRA_OF.items():
        assert {owner.lower() for owner in owners.get(module, [module])} & known[extra], (module, extra)
    optional = set.union(*(names for extra, names in known.items() if extra not in ("", "dev", "all", "docs")))
    named = {owner.lower() for module in EXTRA_OF for owner in owners.get(module, [module])}
    assert optional <= named
