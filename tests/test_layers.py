"""Modules import only from layers below their own, and the decoder knows nothing of the encoder.

docs/architecture.md describes the layers; this list is the rule itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    "pc15learn",
    "pc15.cli",
    "pc15.inspection",
    "pc15.stream_map",
    "pc15.lower",
    "pc15.bench pc15.pil pc15.warm pc15.assembly pc15.publish",
    "pc15.report pc15.viz",
    "pc15.encoder",
    "pc15.plan",
    "pc15.search",
    "pc15.config",
    "pc15.hooks",
    "pc15.search.cells",
    "pc15.search.bank",
    "pc15.search.bank_store pc15.search.single_steps pc15.search.expansion",
    "pc15.search.backend",
    "pc15.search.windows pc15.search.knot_spans pc15.search.sizes",
    "pc15.residual.enc",
    "pc15.decoder pc15.draw_scaled pc15.perceptual",
    "pc15.images pc15.metrics",
    "pc15.picture_files",
    "pc15.draw",
    "pc15.residual pc15.dc_surface",
    "pc15.flat pc15.drawing_cost",
    "pc15.bitstream",
    "pc15.proc",
    "pc15.entropy",
    "pc15.tiling pc15.quant pc15.color pc15.luma",
    "pc15.blend_weights",
    "pc15.grids",
    "pc15.fixed",
    "pc15.runtime pc15.yaml_files pc15.config_files",
    "pc15.paths pc15.plugins",
    "pc15.extras pc15.locks pc15.seed",
    "pc15.errors pc15.scales pc15._version",
)
"""From top to bottom; packages of one line do not import each other."""
FLOOR = {name: floor for floor, names in enumerate(reversed(LAYERS)) for name in names.split()}
HAND_ON = {"pc15", "pc15.learn", "pc15.__main__"}
"""Modules that only hand names on, from any layer."""


def layer(module: str) -> str | None:
    """The longest name in FLOOR that a module lies in; None for the package root, which hands names on."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOOR), None)


def imports(source: str) -> Iterator[str]:
    """Modules and names of ours that a source imports when it runs, inside functions too."""
    tree = ast.parse(source)
    only_types = {
        below
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for below in ast.walk(part)
    }
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("pc15", "pc15learn"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ("pc15", "pc15learn"))


def files() -> Iterator[tuple[str, Path]]:
    for package in ("pc15", "pc15learn"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def upward(module: str, source: str) -> list[str]:
    """Imports of a module that its layer forbids."""
    own = layer(module)
    others = {name: layer(name) for name in imports(source)}
    return [
        f"{module} imports {name}"
        for name, other in others.items()
        if other is None or own is None or (other != own and FLOOR[other] >= FLOOR[own])
    ]


def test_modules_import_only_from_layers_below() -> None:
    wrong = [
        line
        for module, path in files()
        if module not in HAND_ON
        for line in upward(module, path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    sources = dict(files())
    graph = {m: {home(name, sources) for name in imports(p.read_text(encoding="utf-8"))} for m, p in sources.items()}
    for module in HAND_ON:
        graph.pop(module, None)
    while free := [m for m, below in graph.items() if not (below & graph.keys()) - {m}]:
        for module in free:
            del graph[module]
    assert graph == {}, "these import each other, or modules that do"


LIGHT = ("pc15.decoder", "pc15.encoder", "pc15.images", "pc15.metrics", "pc15.pil", "pc15.cli")
"""Modules that photographs go through where there is no torch."""
EXTRAS = {"torch", "safetensors", "lightning", "datasets", "pyarrow", "sklearn", "fsspec", "wandb", "ray", "triton"}


def read_at_once(path: Path) -> set[str]:
    """Full names of what a file imports when it is itself imported: not inside functions, nor for types alone."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            waiting += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            waiting += node.body
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_photographs_need_is_read_without_torch() -> None:
    """The rule of the light base: whatever these modules import when they are read imports no extra."""
    sources = dict(files())
    waiting = [module for module in sources if module.startswith(LIGHT)]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen or module in HAND_ON:
            continue
        seen.add(module)
        names = read_at_once(sources[module])
        heavy = {name.split(".")[0] for name in names} & EXTRAS
        assert not heavy, f"{module} imports {heavy} when it is read; import it where it is used, by load_torch"
        ours = {home(name, sources) for name in names if name.split(".")[0] in ("pc15", "pc15learn")}
        parents = {part.rpartition(".")[0] for part in ours}
        waiting += [name for name in ours | parents if name in sources]
    assert {"pc15.residual.enc.rdo", "pc15.bitstream.read", "pc15.plan.choose", "pc15.color"} <= seen
    assert not seen & {"pc15.draw", "pc15.plan.tiles", "pc15.search.single_pattern", "pc15.proc.codebook"}


def home(name: str, sources: dict[str, Path]) -> str:
    """The module that an imported name is, or lies in."""
    return name if name in sources else name.rpartition(".")[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pc15.tiling", "from pc15.encoder import encode"),
        ("pc15.residual.reconstruct", "def f():\n    from pc15.residual.enc.plane import encode_plane"),
        ("pc15.decoder", "import pc15.config"),
        ("pc15.search.plane", "from pc15 import encode"),
        ("pc15.search.cells", "from pc15.hooks.protocol import LayerView"),
        ("pc15.search.backend.torch_ops", "from pc15.search.bank import Bank"),
        ("pc15.search.windows", "from pc15.config import CodecConfig"),
    ],
)
def test_an_import_from_above_is_seen(module: str, source: str) -> None:
    assert upward(module, source)


def test_only_the_backend_asks_which_device_it_is_on() -> None:
    for module, path in files():
        if module.startswith(("pc15.search.", "pc15.plan")) and not module.startswith("pc15.search.backend"):
            text = path.read_text(encoding="utf-8")
            assert ".is_cuda" not in text, module
            assert "device.type" not in text, module


def test_only_one_file_touches_private_names_of_numba() -> None:
    for module, path in files():
        if module != "pc15.runtime._numba_internals":
            assert "numba.core" not in path.read_text(encoding="utf-8"), module


def test_the_toolkit_uses_no_private_name_of_the_codec() -> None:
    for module, path in files():
        if module.startswith("pc15learn"):
            used = imports(path.read_text(encoding="utf-8"))
            private = [n for n in used if n.startswith("pc15.") and "._" in n and n != "pc15._version.__version__"]
            assert private == [], module
