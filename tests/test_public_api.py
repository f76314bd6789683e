"""The public names of pc15 and the ways they are called: what users' code relies on."""

from __future__ import annotations

import ast
import importlib
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pc15
from pc15.hooks.base import NoOpinion

ROOT = Path(__file__).resolve().parent.parent
PROMISED = """
encode_y decode_y CodecConfig rans_encode rans_decode build_rans_tables read_bitstream write_bitstream pack_v15
unpack_v15 score_rd_numpy psnr ssim list_generators render tile_seed TileGridCfg tile_image blend seam_penalty_mask
TileBatchSpec TileRec PathsConfig env_summary AiHooks Selector ParamPredictor RdPredictor HeuristicHooks
encode_y_with_hooks make_labels encode encode_many decode decode_many Pc15Error learn
""".split()  # noqa: SIM905
REFERENCE_GENERATORS = """
ANGLE_GRADIENT BRICK BRICK_NOISE CHECKER CHECKER_DISTORTED COMPOSITE CONCENTRIC_SQUARES DIAMOND_GRID DOTS FBM_RIDGED
GABOR GABOR_BANK GABOR_NOISE GAUSSIAN_SPOTS GRADIENT_LINEAR GRADIENT_RADIAL HERRINGBONE HEX_GRID ISOBANDS KALEIDOSCOPE
LATTICE MARBLE MOIRE PEBBLES PERLIN PLAID POLAR_CHECKER RINGS RIPPLE SPIRAL SPIRAL_SQUARE STARFIELD STRIPES
STRIPES_MULTISCALE SUNBURST SWIRL TRI_TILING TURBULENCE VALUE_NOISE VORONOI_CELLS VORONOI_EDGES WAVES_BEND WAVES_CIRC
WAVES_DIR WEAVE WOOD WORLEY
""".split()  # noqa: SIM905
TOOLKIT = ("lightning", "wandb", "datasets", "sklearn")


def in_a_fresh_process(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", PROMISED)
def test_the_name_is_there(name: str) -> None:
    assert getattr(pc15, name) is not None
    assert name in pc15.__all__
    assert name in dir(pc15)


def test_all_lists_exactly_the_promised_names() -> None:
    assert sorted(pc15.__all__) == sorted(PROMISED)


def test_type_checkers_see_the_same_names() -> None:
    """The lazy names and the imports under TYPE_CHECKING name the same homes."""
    tree = ast.parse((ROOT / "pc15" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    for name in set(PROMISED) - {"learn"}:
        assert getattr(importlib.import_module(str(seen[name])), name) is getattr(pc15, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'encode_yy'"):
        pc15.encode_yy  # noqa: B018
    with pytest.raises(ImportError):
        from pc15 import no_such_name  # noqa: F401


def test_the_version_is_a_literal() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pc15.__version__)
    assert pc15.env_summary()["pc15"] == pc15.__version__


def test_importing_pc15_imports_next_to_nothing() -> None:
    shown = in_a_fresh_process("import sys, pc15; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])")
    assert shown.strip() == "[]"


def test_the_codec_needs_nothing_of_the_toolkits() -> None:
    code = f"""
import sys
for name in {TOOLKIT}: sys.modules[name] = None
import torch, pc15
for name in pc15.__all__:
    if name not in ("make_labels", "learn"): getattr(pc15, name)
cfg = pc15.CodecConfig.preset("fast", tile=16, max_layers=0)
print(pc15.decode_y(pc15.encode_y(torch.full((1, 1, 8, 8), 0.5), cfg)["bitstream"]).shape)
assert not any(m.startswith("pc15learn") for m in sys.modules)
"""
    assert in_a_fresh_process(code).strip() == "torch.Size([1, 1, 8, 8])"


def test_learn_is_pc15learn() -> None:
    shown = in_a_fresh_process(
        "import pc15.learn, pc15learn, sys; print(pc15.learn is pc15learn)\n"
        "from pc15 import learn; from pc15.learn import TileRow as a; from pc15learn.schema import TileRow as b\n"
        "print(a is b, learn is pc15learn)\n"
        f"print([m for m in {TOOLKIT} if m in sys.modules])"
    )
    assert shown.split("\n")[:3] == ["True", "True True", "[]"]
    import pc15learn

    assert pc15.learn is pc15learn
    assert pc15.make_labels is pc15learn.make_labels


# ---------------------------------------------------------------- call forms


def test_a_picture_goes_there_and_back(tmp_path: Path) -> None:
    from pc15 import (
        AiHooks,
        CodecConfig,
        HeuristicHooks,
        ParamPredictor,
        RdPredictor,
        Selector,
        TileRec,
        decode_y,
        encode_y,
        encode_y_with_hooks,
        read_bitstream,
        write_bitstream,
    )

    with pytest.warns(UserWarning, match="without the selector hook"):
        hooks = AiHooks(selector=Selector(weights=tmp_path / "m1.safetensors"))
    with pytest.warns(UserWarning) as warned:
        AiHooks(
            selector=Selector(weights="m1.safetensors"),
            param_predictor=ParamPredictor(weights="m2.safetensors"),
            rd_predictor=RdPredictor(weights="m3.safetensors"),
        )
    assert len(warned) == 3
    cfg = CodecConfig(tile=256, overlap=24, lambda_rd=0.015, alpha_mix=0.7, seed=1234, ai=hooks)
    cfg = cfg.but(tile=16, overlap=4, max_layers=1)
    img_y = torch.linspace(0, 1, 20).expand(1, 1, 18, 20)
    enc = encode_y(img_y, cfg)
    assert set(enc) == {"bitstream", "bpp", "stats", "tile_map"}
    assert isinstance(enc["bitstream"], bytes)
    assert isinstance(enc["bpp"], float)
    assert isinstance(enc["stats"], dict)
    assert isinstance(enc["tile_map"], list)
    assert all(isinstance(tile, TileRec) for tile in enc["tile_map"])
    assert enc.tile_maps == [enc["tile_map"]]
    assert dict(enc) == enc == {key: enc[key] for key in ("bitstream", "bpp", "stats", "tile_map")}
    with pytest.raises(KeyError):
        enc["tile_maps"]

    img_hat = decode_y(enc["bitstream"], device="cpu")
    assert (img_hat.shape, img_hat.dtype) == (img_y.shape, torch.float32)
    assert set(encode_y_with_hooks(img_y, cfg.but(ai=None), HeuristicHooks(topk=8))) == set(enc)

    write_bitstream(tmp_path / "a.pc15", enc["bitstream"])
    assert read_bitstream(tmp_path / "a.pc15") == enc["bitstream"]


def test_without_options_the_balanced_preset_is_taken() -> None:
    y = torch.linspace(0, 1, 40).expand(1, 1, 24, 40)
    picture = (y[0] * 255).round().to(torch.uint8)
    balanced = pc15.CodecConfig.preset("balanced")
    assert pc15.encode_y(y)["bitstream"] == pc15.encode_y(y, balanced)["bitstream"]
    assert pc15.encode(picture)["bitstream"] == pc15.encode(picture, balanced)["bitstream"]


def test_pictures_are_measured() -> None:
    from pc15 import psnr, ssim

    a = torch.full((1, 1, 16, 16), 0.25)
    assert psnr(a, a + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1.0)


def test_patterns_are_drawn(device: torch.device) -> None:
    from pc15 import list_generators, render

    names = list_generators()
    assert set(REFERENCE_GENERATORS) | {"EDGE", "LINE", "SPOT", "BLOB", "CORNER"} <= set(names)
    pattern = render(
        name="STRIPES",
        H=256,
        W=256,
        params={"freq": 6.0, "angle_deg": 15.0, "phase": 0.25, "contrast": 0.9},
        batch=1,
        device=device,
        dtype=torch.float16,
    )
    assert pattern.shape == (1, 1, 256, 256)
    assert pattern.dtype == torch.float16
    assert pattern.device.type == device.type
    assert 0.8 < float(pattern.max()) <= 0.9


@pytest.mark.parametrize(("window", "params"), [("hann", None), ("tukey", None), ("kaiser", {"beta": 5.0})])
def test_tiles_are_cut_and_blended(window: str, params: dict[str, float] | None) -> None:
    from pc15 import TileGridCfg, blend, tile_image

    H, W = 300, 510
    y = torch.ones(1, 1, H, W)
    spec = tile_image(y, TileGridCfg(size=256, overlap=24))
    assert spec.count == spec.ny * spec.nx == len(spec.starts) == 2 * 3
    assert spec.starts == sorted(spec.starts)
    assert spec.starts[-1] == (H - 256, W - 256)
    assert spec.tiles is not None
    y_hat = blend(spec.tiles, spec, H, W, window=window, window_params=params)  # type: ignore[arg-type]
    torch.testing.assert_close(y_hat, y, rtol=0, atol=1e-6)


def test_the_seam_mask_is_0_in_the_middle_and_1_at_the_rim() -> None:
    from pc15 import seam_penalty_mask

    m = seam_penalty_mask(size=256, overlap=24, power=1.5).reshape(256, 256)
    assert float(m[128, 128]) == 0.0
    assert torch.equal(m[0], torch.ones(256))


def test_symbols_are_coded() -> None:
    from pc15 import build_rans_tables, rans_decode, rans_encode

    table = build_rans_tables({"letters": [5, 3, 0, 1]})["letters"]
    symbols = [0, 1, 0, 3, 2, 0]
    assert rans_decode(rans_encode(symbols, table), table, count=len(symbols)) == symbols


def test_headers_are_packed() -> None:
    from pc15 import pack_v15, unpack_v15
    from pc15.bitstream import Header, PlaneSpec

    spec = PlaneSpec(tile=32, overlap=8, window=0, subsample=0, amp_step=20, dc_step=20)
    header = Header(width=640, height=480, color=0, planes=(spec,))
    assert unpack_v15(pack_v15(header)) == (header, len(pack_v15(header)))


def test_costs_seeds_and_places_are_given(tmp_path: Path) -> None:
    import numpy as np

    from pc15 import PathsConfig, env_summary, score_rd_numpy, tile_seed

    tile = np.full((16, 16), 0.5)
    assert score_rd_numpy(tile, tile, 256.0, lambda_rd=0.015) == pytest.approx(0.015)
    assert tile_seed(1234, 0) != tile_seed(1234, 1)
    assert 0 <= tile_seed(seed=1234, index=5) < 2**31
    paths = PathsConfig(
        base=tmp_path,
        dataset_images=tmp_path / "images",
        artifacts_subdir="artifacts",
        cache_subdir=".cache",
        labels_dir=None,
    )
    assert paths.labels == tmp_path / "artifacts" / "labels"
    assert {"pc15", "python", "torch", "cuda_available", "env"} <= set(env_summary())


def test_a_tile_is_a_record_that_is_stored_and_read_back() -> None:
    from pc15 import TileRec, tile_seed
    from pc15.bitstream import TileRec as same

    assert TileRec is same
    bare = TileRec(tile_id=3, gen_id=5, qv_id=7, seed=11, rec_flags=1, payload_fmt=1, payload=b"")
    assert TileRec(3, 5, 7, 11, 1, 1, b"") == bare == TileRec.from_dict(bare.to_dict())
    assert TileRec.from_dict({"tile_id": 3, "gen_id": 5, "qv_id": 7, "seed": 11}) == TileRec(3, 5, 7, 11)
    with pytest.raises(pc15.Pc15Error, match="ends early"):
        bare.layers  # noqa: B018
    wave = torch.sin(torch.arange(40) * 0.9).mul(0.4).add(0.5).expand(1, 1, 40, 40)
    cfg = pc15.CodecConfig.preset("fast", residual=False, tile=16, overlap=4, max_layers=2, merge=True, lambda_rd=0.05)
    tiles = pc15.encode_y(wave, cfg)["tile_map"]
    assert [tile.tile_id for tile in tiles] == list(range(len(tiles)))
    assert any(tile.layers for tile in tiles)
    for tile in tiles:
        back = TileRec.from_dict(tile.to_dict())
        assert back == tile and back.program == tile.program
        assert tile.rec_flags == bool(tile.layers) | 2 * any(layer.merge for layer in tile.layers)
        if tile.layers:
            first = tile.layers[0]
            assert (tile.gen_id, tile.qv_id, tile.seed) == (first.gen, first.qv_id, tile_seed(1234, first.seed_index))
        else:
            assert (tile.gen_id, tile.qv_id, tile.seed) == (-1, -1, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"gen_id": "5"}, {"seed": True}, {"payload": "text"}, {"more": 1}, {"tile_id": 1.5}, {"seed": -1}],
)
def test_a_record_of_something_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(pc15.Pc15Error, match="record"):
        pc15.TileRec.from_dict({"tile_id": 3, "gen_id": 5, "qv_id": 7, "seed": 11, **wrong})
    for nothing in (None, [1], "text"):
        with pytest.raises(pc15.Pc15Error, match="not fields by name"):
            pc15.TileRec.from_dict(nothing)  # type: ignore[arg-type]
    for payload in (b"\x80", b"\x03\x02", b"\x03\x00\x00", b"\x03\x7f", b"\x03\x01\x01\x01\x01\x01\x00\x7f"):
        with pytest.raises(pc15.Pc15Error, match="record"):
            pc15.TileRec(0, 0, 0, 0, payload_fmt=1, payload=payload).program  # noqa: B018


def test_the_seeds_names_answer(tmp_path: Path) -> None:
    from pc15.learn import HeuristicHooks, PathsConfig, encode_y_with_hooks, env_summary

    assert (HeuristicHooks, PathsConfig) == (pc15.HeuristicHooks, pc15.PathsConfig)
    assert (encode_y_with_hooks, env_summary) == (pc15.encode_y_with_hooks, pc15.env_summary)
    paths = PathsConfig(base=tmp_path, dataset_images=tmp_path / "images").ensure()
    assert paths.artifacts_path == tmp_path / "artifacts"
    assert paths.outputs_path == tmp_path / "artifacts" / "outputs"
    assert paths.outputs_path.is_dir()
    a = torch.full((1, 1, 16, 16), 0.25)
    assert pc15.psnr(a, a + 0.1).item() == pytest.approx(20.0, abs=1e-4)
    assert pc15.ssim(a, a).item() == 1.0
    assert type(pc15.ssim(a, a).item()) is float
    spec = pc15.tile_image(a, pc15.TileGridCfg(size=16, overlap=4))
    assert isinstance(spec, pc15.TileBatchSpec)
    assert (spec.size, spec.overlap) == (16, 4)


def test_rans_id_is_the_id_of_the_tables() -> None:
    cfg = pc15.CodecConfig(rans_id="mine")
    assert (cfg.rans_id, cfg.table_id) == ("mine", "mine")
    assert cfg == pc15.CodecConfig(table_id="mine")
    assert pc15.CodecConfig().rans_id == "v15_default"
    assert cfg.but(seed=7).rans_id == "mine"
    assert cfg.but(table_id="other").rans_id == cfg.but(rans_id="other").table_id == "other"
    assert pc15.CodecConfig.preset("fast", rans_id="mine").table_id == "mine"
    with pytest.raises(pc15.Pc15Error, match="two words for one thing"):
        pc15.CodecConfig(rans_id="mine", table_id="other")


def test_hooks_that_steer_nothing_cost_no_byte(tmp_path: Path) -> None:
    y = torch.rand(1, 1, 24, 40, generator=torch.Generator().manual_seed(1))  # no pattern
    balanced = pc15.CodecConfig.preset("balanced")
    plain = pc15.encode_y(y, balanced)["bitstream"]
    assert not pc15.encode_y(y, balanced)["tile_map"]
    assert pc15.encode_y_with_hooks(y, balanced, NoOpinion())["bitstream"] == plain
    assert pc15.encode_y_with_hooks(y, balanced, pc15.HeuristicHooks(topk=8))["bitstream"] != plain  # busy squares
    calm = 0.5 + y / 16  # in which rules leave nothing out
    made = pc15.encode_y_with_hooks(calm, balanced, pc15.HeuristicHooks(topk=8))["bitstream"]
    assert made == pc15.encode_y(calm, balanced)["bitstream"]
    tiles = pc15.CodecConfig.preset("fast", residual=False, tile=16, max_layers=1)
    with pytest.warns(UserWarning, match="without the selector hook"):
        broken = pc15.AiHooks(selector=pc15.Selector(weights=tmp_path / "m1.safetensors"))
    assert pc15.encode_y_with_hooks(y, tiles, broken)["bitstream"] == pc15.encode_y(y, tiles)["bitstream"]


def test_every_error_is_one_class() -> None:
    from pc15 import Pc15Error

    errors = importlib.import_module("pc15.errors")
    for name in errors.__all__:
        if name not in ("checked_max_pixels", "did_you_mean", "shown"):
            assert issubclass(getattr(errors, name), Pc15Error)
