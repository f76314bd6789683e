"""Codebooks, tables, cards, configs and rows of anybody: used, or refused by a typed error, soon, in little memory."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pc15.proc.codebook as codebooks
from pc15 import CodecConfig, decode, encode
from pc15.cli.encode import config_file
from pc15.entropy.tables import _read_tables
from pc15.errors import ConfigError, HooksError, ImageError, MissingTableError, Pc15Error, SchemaError
from pc15.hooks.learned import RdPredictor, Selector
from pc15.images import save_image
from pc15.proc.generators import NAMES, load
from pc15learn.config import FitConfig, TrainConfig, load_config
from pc15learn.schema import TileRow, dump, read_rows
from pc15learn.tiles import load_tile_pixels, make_tiles
from tests.fuzz.files import VALUES, YAMLS, flipped, npy, npz, tables
from tests.fuzz.files import codebooks as hostile_codebooks

STRIPES = len(load(NAMES.index("STRIPES")).params)
PACKAGED = Path(codebooks.__file__).parent
CODEBOOKS = dict(hostile_codebooks(STRIPES))


# ---------------------------------------------------------------- codebooks and tables


@pytest.mark.parametrize("name", CODEBOOKS)
def test_a_hostile_codebook_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(CODEBOOKS[name])
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(MissingTableError, match="codebook 'mine' in .* is damaged"):
        codebooks._read("mine", path)
    assert time.process_time() - began < 1.0
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_codebook_in_fortran_s_order_or_of_wide_integers_is_the_same(tmp_path: Path) -> None:
    levels = np.arange(2 * STRIPES).reshape(2, STRIPES) % 3
    for array in (levels.astype("<i2"), np.asfortranarray(levels.astype(">i8")), levels.astype("u1")):
        (tmp_path / "mine.npz").write_bytes(npz({"STRIPES": npy(array)}))
        assert (
            codebooks._read("mine", tmp_path / "mine.npz").entries[NAMES.index("STRIPES")].tolist() == levels.tolist()
        )


def test_a_damaged_codebook_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    """The book of one generator, so that most of the file is headers; and the packaged one."""
    small = npz({"STRIPES": npy(np.zeros((40, STRIPES), "<i2")), "weights": npy(np.ones(40, "<i4"))})
    packaged, refused = (PACKAGED / "v15_trained.npz").read_bytes(), 0
    for case in range(400):
        rng = np.random.default_rng((11, case))
        (tmp_path / "mine.npz").write_bytes(flipped(rng, packaged if case % 20 == 0 else small))
        try:
            codebooks._read("mine", tmp_path / "mine.npz")
        except MissingTableError:
            refused += 1
    assert refused > 200


def test_hostile_tables_are_refused(tmp_path: Path) -> None:
    sound = (PACKAGED.parent / "entropy" / "v15_default.json").read_bytes()
    path, refused = tmp_path / "v15_default.json", 0
    small = json.loads(sound)
    small["tables"] = {name: small["tables"][name] for name in [*small["tables"]][:3]}
    for number, (name, data) in enumerate(tables(json.dumps(small).encode())):
        path.write_bytes(data)
        try:
            _read_tables("v15_default", path, number, len(data))
        except MissingTableError as error:
            assert len(str(error)) < 4000, name
            refused += 1
    assert refused > 100
    with pytest.raises(MissingTableError, match="regular file"):
        _read_tables("v15_default", Path("/dev/zero"), 0, 0)


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("text", YAMLS, ids=lambda text: text[:20])
def test_a_hostile_config_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(str(caught.value)) < 1000
    try:
        options = config_file(path)
        CodecConfig.preset(options.pop("preset", "fast"), **options)
    except Pc15Error as error:
        assert len(str(error)) < 1000
    assert time.process_time() - began < 3.0


def test_an_option_s_name_is_not_taken_for_the_preset_s(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: fast\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="sets name, which is no option"):
        config_file(tmp_path / "a.yaml")
    assert CodecConfig.preset(name="fast") == CodecConfig.preset("fast")
    with pytest.raises(ConfigError, match="no option 'cls'"):
        CodecConfig.preset("fast", cls=1)


def test_a_config_is_no_device_and_no_gigabyte(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))
    for path in (Path("/dev/zero"), tmp_path / "large.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            load_config(path)
        with pytest.raises(OSError, match="regular file|more than"):
            config_file(path)


def test_every_option_of_every_config_refuses_what_it_cannot_be() -> None:
    for field in dataclasses.fields(CodecConfig):
        for value in VALUES:
            if field.name != "ai":
                _typed(lambda name=field.name, value=value: CodecConfig.preset("fast", **{name: value}))
    for kind, needed in ((FitConfig, {"role": "selector", "labels": "x"}), (TrainConfig, {})):
        for field in dataclasses.fields(kind):
            for value in VALUES:
                if field.name != "train":
                    _typed(
                        lambda kind=kind, name=field.name, value=value, needed=needed: kind(**{**needed, name: value})
                    )
    for value in VALUES:
        _typed(lambda value=value: CodecConfig.preset(value))
        _typed(lambda value=value: CodecConfig.preset("fast", quality=value))


def _typed(make: Any) -> None:
    try:
        make()
    except Pc15Error as error:
        assert len(str(error)) < 1000


# ---------------------------------------------------------------- the ends of what options say


def noise(colour: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (3 if colour else 1, 24, 40), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("lambda_rd", [1e-6, 1.5e-6, 2e-6, 1e6])
@pytest.mark.parametrize("residual", [True, False])
def test_lambda_works_to_the_ends_of_its_range(lambda_rd: float, residual: bool) -> None:
    for colour in (True, False):
        picture = noise(colour)
        cfg = CodecConfig.preset("fast", tile=16, lambda_rd=lambda_rd, residual=residual, max_layers=2, device="cpu")
        assert decode(encode(picture, cfg)["bitstream"]).shape == picture.shape


@pytest.mark.parametrize("tile", [0, 16])
def test_programs_without_layers_are_a_surface_of_dc(tile: int) -> None:
    cfg = CodecConfig.preset("fast", tile=tile, residual=False, max_layers=0, device="cpu")
    for picture in (noise(True), torch.full((1, 5, 7), 200, dtype=torch.uint8))[: 2 if tile else 1]:
        back = decode(encode(picture, cfg)["bitstream"])
        assert back.shape == picture.shape
        assert float((back.double().mean() - picture.double().mean()).abs()) < 12


@pytest.mark.parametrize(
    "options",
    [{}, {"merge": True}, {"search": "indexed"}, {"coarse": 32}, {"section_rows": 2, "merge": True}, {"refine": 1}],
    ids=lambda options: "_".join(options) or "plain",
)
def test_searches_of_no_layers_have_nothing_to_search(options: dict[str, object]) -> None:
    cfg = CodecConfig.preset("balanced", tile=16, residual=False, max_layers=0, device="cpu", **options)
    assert decode(encode(noise(False), cfg)["bitstream"]).shape == noise(False).shape


# ---------------------------------------------------------------- weights and cards


def test_hostile_cards_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    out.write_bytes(b"\0" * 8)
    base: dict[str, Any] = {
        "card": 1, "name": "a", "version": "1", "role": "selector", "feature_version": 1, "codec": "0" * 64,
        "codebook": {"id": "v15_trained", "fingerprint": "0" * 64}, "net": {"hidden": 8},
        "normalisation": {"mean": [0.0], "std": [1.0]}, "sha256": "0" * 64,
    }  # fmt: skip
    cards = [{**base, key: value} for key in base for value in VALUES]
    cards += [{**base, part: {**base[part], name: value}} for part in ("codebook", "net", "normalisation")
              for name in base[part] for value in VALUES]  # fmt: skip
    cards += [{**base, "normalisation": {"mean": [value], "std": [1.0]}} for value in VALUES]
    for card in cards:
        out.with_suffix(".yaml").write_text(json.dumps(card, default=str), encoding="utf-8")
        with pytest.raises(HooksError) as caught:
            Selector(out, strict=True)
        assert len(str(caught.value)) < 8000
    for text in YAMLS:
        out.with_suffix(".yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        with pytest.raises(HooksError):
            RdPredictor(out, strict=True)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.int8, torch.bool, torch.float64]
)
def test_weights_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    import safetensors.torch

    from pc15.hooks.weights import _check_tensors

    needed = {"weight": (torch.float32, (3, 4)), "bias": (torch.float32, (3,))}
    state = {"weight": torch.zeros(3, 4).to(dtype), "bias": torch.zeros(3)}
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(HooksError, match="tensor 'weight' is"):
        _check_tensors(needed, safetensors.torch.load(path.read_bytes()), path)


# ---------------------------------------------------------------- rows


def row(**changes: Any) -> str:
    content = dataclasses.asdict(TileRow(1, "ab-32-0-0", "a.png", "0" * 64, 0, 0, 32, 8, "train", 0.5, 0.1, 0.1))
    return json.dumps({**content, **changes})


def test_hostile_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiles.jsonl"
    names = [field.name for field in dataclasses.fields(TileRow)]
    fine = {"tile_id", "image", "mean", "std", "slope"}
    for name in names:
        for value in VALUES:
            path.write_text(row(**{name: value}) + "\n", encoding="utf-8")
            try:
                (found,) = read_rows(path)
            except SchemaError as error:
                assert len(str(error)) < 1000
            else:
                assert name in fine, (name, value)
                assert getattr(found, name) == value
    for line in ("[" * 100000, "9" * 10000, "nan", '{"v":1e999}', '"\\ud800"', "{" + '"a":' * 5000, "\xff"):
        path.write_bytes(line.encode("latin-1") + b"\n")
        with pytest.raises(SchemaError):
            list(read_rows(path))


@pytest.fixture
def pictured(tmp_path: Path) -> tuple[Path, TileRow]:
    save_image(tmp_path / "in.png", torch.full((1, 40, 50), 9, dtype=torch.uint8))
    make_tiles(tmp_path / "in.png", tmp_path / "tiles.jsonl")
    return tmp_path, next(iter(read_rows(tmp_path / "tiles.jsonl")))


def test_rows_reach_no_url_and_no_absolute_path_unless_asked(
    pictured: tuple[Path, TileRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, good = pictured
    data, asked = (folder / "in.png").read_bytes(), []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/in.png"
        for image in (
            url,
            f"simplecache::{url}",
            f"file://{folder}/in.png",
            "memory://x",
            str(folder / "in.png"),
            "/dev/zero",
        ):
            with pytest.raises(ImageError, match="a URL or an absolute path, and may come from anybody"):
                load_tile_pixels([dataclasses.replace(good, image=image)], folder)
        assert asked == []
        server.shutdown()
    there = dataclasses.replace(good, image=str(folder / "in.png"))
    assert load_tile_pixels([there], folder, anywhere=True).shape == (1, 32, 32)
    monkeypatch.setenv("PC15_ANY_PLACE", "1")
    assert load_tile_pixels([there], folder).shape == (1, 32, 32)
    monkeypatch.setenv("PC15_ANY_PLACE", "maybe")
    with pytest.raises(ConfigError, match="PC15_ANY_PLACE is 'maybe'"):
        load_tile_pixels([there], folder)


def test_what_a_row_names_is_read_no_further_than_a_limit(
    pictured: tuple[Path, TileRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, good = pictured
    up = "../" * len(folder.parts)
    for image in (f"{up}dev/zero", f"{up}dev/stdin", ".", "missing.png", "x" * 4000, f"{up}proc/self/mem"):
        with pytest.raises(ImageError):
            load_tile_pixels([dataclasses.replace(good, image=image)], folder)
    monkeypatch.setattr("pc15learn.tiles.MAX_PICTURE_BYTES", 20)
    with pytest.raises(ImageError, match="more than 20 bytes"):
        load_tile_pixels([good], folder)
    pytest.importorskip("fsspec")
    with pytest.raises(ImageError, match="more than 20 bytes"):
        load_tile_pixels([dataclasses.replace(good, image=f"file://{folder}/in.png")], folder, anywhere=True)
    for image in ("nothing://x/y.png", "memory://none.png", "http://127.0.0.1:9/x.png", "zip://a::memory://b"):
        with pytest.raises(ImageError):
            load_tile_pixels([dataclasses.replace(good, image=image)], folder, anywhere=True)


def test_a_tile_outside_its_picture_is_refused(pictured: tuple[Path, TileRow]) -> None:
    folder, good = pictured
    assert good.sha256 == hashlib.sha256((folder / "in.png").read_bytes()).hexdigest()
    for place in ({"y": 40}, {"x": 50}, {"y": (1 << 20) - 1}):
        with pytest.raises(ImageError, match="lies outside its picture of 50x40 pixels"):
            load_tile_pixels([dataclasses.replace(good, **place)], folder)
    assert dump(good)
