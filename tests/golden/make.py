"""Golden streams: small programs made by hand, and the SHA-256 of the 8-bit planes they decode to.

    python -m tests.golden.make             write every stream and golden.json again, after a deliberate change
    python -m tests.golden.make --hashes    print what the streams decode to, as JSON: nothing but the decoder is loaded

The programs come from a seeded generator and not from the encoder's search, so that a better search changes no stream.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pc15.bitstream.header import Header, PlaneSpec
    from pc15.bitstream.programs import LayerRec, Programs, TileProgram

FOLDER = Path(__file__).parent
INDEX = FOLDER / "golden.json"
TILES = (8, 16, 24, 32, 48, 64, 128)
OVERLAPS = {8: 3, 16: 5, 24: 0, 32: 9, 48: 17, 64: 31, 128: 57}
SIZES = ((1, 1), (97, 1), (1, 97), (33, 33), (65, 47))  # W, H


def names() -> list[str]:
    """The committed streams."""
    return sorted(path.stem for path in FOLDER.glob("*.pc15"))


def hashes(name: str, device: str = "cpu") -> list[str]:
    """SHA-256 of each decoded plane of a committed stream."""
    from pc15.decoder import decode_stream

    decoded = decode_stream((FOLDER / f"{name}.pc15").read_bytes(), device=device)
    return [hashlib.sha256(plane.cpu().numpy().tobytes()).hexdigest() for plane in decoded.planes]


# ---------------------------------------------------------------- programs


class _Maker:
    """Random but reproducible programs for tiles of one size: `random.Random` is the same everywhere."""

    def __init__(self, name: str, tile: int = 16) -> None:
        from pc15.proc.codebook import GRID_ID, load_codebook

        self.rng = random.Random(name)
        self.codebook = load_codebook(GRID_ID)
        self.cut(tile)

    def cut(self, tile: int) -> None:
        """Go on with tiles of another size."""
        from pc15.proc.codebook import offset_reach
        from pc15.proc.spec import fine_bits

        self.fine = fine_bits(tile)
        self.reach = offset_reach(self.fine)

    def layer(self, gen: int, amp: int | None = None) -> LayerRec:
        """Any entry, mostly without offsets."""
        from pc15.bitstream.programs import LayerRec
        from pc15.proc.codebook import OFFSET_MAX
        from pc15.proc.generators import load

        rng, generator = self.rng, load(gen)
        reach = OFFSET_MAX << self.fine if rng.random() < 0.3 else 0
        return LayerRec(
            gen=gen,
            qv_id=rng.randrange(self.codebook.size(gen)),
            offsets=tuple(rng.randint(-reach, reach) for _ in generator.params_at(self.fine)),
            seed_index=rng.randrange(generator.seeds),
            amp=rng.choice([-1, 1]) * rng.randint(1, 6) if amp is None else amp,
        )

    def tile(self, layers: int, top: int) -> TileProgram:
        """A DC level and some layers."""
        from pc15.bitstream.programs import TileProgram
        from pc15.proc.generators import NAMES

        gens = [self.rng.randrange(len(NAMES)) for _ in range(layers)]
        return TileProgram(self.rng.randrange(top), tuple(self.layer(gen) for gen in gens))

    def extremes(self, gen: int, top: int) -> list[TileProgram]:
        """Each parameter as low and as high as a stream can say, then all of them, then seeds and amplitudes."""
        import torch

        from pc15.bitstream.programs import LayerRec, TileProgram
        from pc15.proc.generators import load

        generator, entries = load(gen), self.codebook.starts(gen, self.fine, torch.device("cpu"))
        count = len(generator.params_at(self.fine))
        layers = []
        for p in range(count):
            for end, entry in ((-1, entries[:, p].argmin()), (1, entries[:, p].argmax())):
                offsets = tuple(end * self.reach if i == p else 0 for i in range(count))
                layers.append(LayerRec(gen, int(entry), offsets, 0, 4 * end))
        for end in (-1, 1):
            qv = 0 if end < 0 else len(entries) - 1
            layers.append(LayerRec(gen, qv, (end * self.reach,) * count, generator.seeds - 1, 15 * end))
        layers += [self.layer(gen, amp) for amp in (-1, 16, -40)]
        return [TileProgram(top // 2 + self.rng.randint(-2, 2), (layer,)) for layer in layers]


def _merging(
    maker: _Maker, header: Header, index: int = 0, layers: int = 3, share: float = 0.6, side: int | None = None
) -> Programs:
    """Tiles of which a share of the layers continue neighbours where there are any, or those of one side."""
    from pc15.bitstream.header import plane_grid
    from pc15.bitstream.programs import MERGE_FROM, MERGE_REACH, LayerRec, Merge, Programs, TileProgram
    from pc15.quant import dc_levels

    rng, grid = maker.rng, plane_grid(header, index)
    maker.cut(header.grids[index].spec.tile)
    rows, records = header.section_rows or grid.ny, []
    starts: list[list[int]] = []  # tile where each layer's pattern starts
    for n in range(grid.count):
        tile = maker.tile(rng.randint(layers // 2, layers), dc_levels(header.grids[index].spec.dc_step))
        chosen, homes = [], []
        for layer in tile.layers:
            ways = [
                (s, k)
                for s, (down, right) in enumerate(MERGE_FROM)
                if side in (None, s) and (n // grid.nx % rows) + down >= 0 and 0 <= n % grid.nx + right < grid.nx
                for k, home in enumerate(starts[n + down * grid.nx + right])
                if max(n // grid.nx - home // grid.nx, abs(n % grid.nx - home % grid.nx)) <= MERGE_REACH
            ]
            home, merge = n, None
            if ways and rng.random() < share:
                merge = Merge(*rng.choice(ways))
                down, right = MERGE_FROM[merge.side]
                other = n + down * grid.nx + right
                home, before = starts[other][merge.layer], records[other].layers[merge.layer]
                amp = max(1, abs(before.amp) + rng.randint(-1, 1)) * (-1 if rng.random() < 0.1 else 1)
                amp = -amp if before.amp < 0 else amp
                layer = LayerRec(before.gen, before.qv_id, before.offsets, before.seed_index, amp, merge)
            chosen.append(layer)
            homes.append(home)
        records.append(TileProgram(tile.dc, tuple(chosen)))
        starts.append(homes)
    return Programs.from_records(records)


def _plane(tile: int, overlap: int, **changes: Any) -> PlaneSpec:
    from pc15.bitstream.header import PlaneSpec

    fields = {"window": 0, "subsample": 0, "amp_step": 24, "dc_step": 24, **changes}
    return PlaneSpec(tile=tile, overlap=overlap, **fields)


def _header(W: int, H: int, *planes: PlaneSpec, **changes: Any) -> Header:
    from pc15.bitstream.header import Header

    return Header(width=W, height=H, color=int(len(planes) == 3), planes=planes, **changes)


def _pack(
    maker: _Maker,
    header: Header,
    layers: int = 2,
    rows: list[TileProgram] | None = None,
    metadata: dict[str, Any] | None = None,
) -> bytes:
    """A stream of the given tiles, or of random ones with up to `layers` layers."""
    from pc15.bitstream.header import plane_grid
    from pc15.bitstream.programs import Programs
    from pc15.encoder import repack
    from pc15.quant import dc_levels

    programs = []
    for index, (_, spec, _) in enumerate(header.grids):
        count, top = plane_grid(header, index).count, dc_levels(spec.dc_step)
        maker.cut(spec.tile)
        records = rows or [maker.tile(maker.rng.randint(0, layers), top) for _ in range(count)]
        programs.append(Programs.from_records(records))
    data: bytes = repack(header, programs, metadata)["bitstream"]
    return data


# ---------------------------------------------------------------- streams


def streams() -> Iterator[tuple[str, bytes]]:
    """Every golden stream."""
    import torch

    from pc15 import CodecConfig, encode, render
    from pc15.bitstream.programs import MAX_LAYERS, TileProgram
    from pc15.bitstream.read import read_programs
    from pc15.encoder import repack
    from pc15.proc.generators import NAMES
    from pc15.quant import dc_levels
    from pc15.residual.tools import CHROMA_TOOLS, TOOLS

    top = dc_levels(24)

    for gen, generator in enumerate(NAMES):  # every parameter's ends
        name = f"gen_{generator.lower()}"
        tile = TILES[gen % len(TILES)]
        maker = _Maker(name, tile)
        rows = maker.extremes(gen, top)
        yield name, _pack(maker, _header(tile * len(rows), tile - gen % 3, _plane(tile, 0)), rows=rows)

    for tile in TILES:  # every generator at every tile size
        name = f"tile_{tile}"
        maker, stride = _Maker(name, tile), tile - OVERLAPS[tile]
        side = -(-len(NAMES) // 6)
        header = _header(5 * stride + tile, (side - 1) * stride + tile, _plane(tile, OVERLAPS[tile]))
        rows = [TileProgram(maker.rng.randrange(top), (maker.layer(i % len(NAMES)),)) for i in range(6 * side)]
        yield name, _pack(maker, header, rows=rows)

    for tile, W, H in ((200, 200, 96), (520, 64, 33)):  # one tile, larger than the picture, all of its precision
        maker = _Maker(name := f"whole_{tile}", tile)
        rows = [TileProgram(top // 2, tuple(maker.layer(gen) for gen in (29, 32, 12, 34)))]
        yield name, _pack(maker, _header(W, H, _plane(tile, 0)), rows=rows)

    for W, H in SIZES:
        maker = _Maker(name := f"size_{W}x{H}")
        yield name, _pack(maker, _header(W, H, _plane(16, 4)), layers=MAX_LAYERS)

    for name, window, param in (
        ("window_hann", 0, 0),
        ("window_tukey", 1, 0),
        ("window_tukey_sharp", 1, 20),
        ("window_kaiser", 2, 0),
        ("window_kaiser_wide", 2, 9),
    ):
        maker = _Maker(name)
        yield name, _pack(maker, _header(75, 50, _plane(24, 11, window=window, window_param=param)), layers=3)
    maker = _Maker(name := "overlap_most")
    yield name, _pack(maker, _header(13, 11, _plane(8, 7)))
    maker = _Maker(name := "tile_least")
    yield name, _pack(maker, _header(21, 10, _plane(4, 1)))

    luma, chroma = _plane(16, 5), _plane(16, 5, subsample=1, amp_step=18)
    for name, W, H, planes in (
        ("colour", 48, 32, (luma, chroma, chroma)),
        ("colour_odd", 33, 65, (luma, chroma, chroma)),
        ("colour_1x1", 1, 1, (luma, chroma, chroma)),
        ("colour_three", 47, 31, (luma, _plane(32, 7, subsample=1), _plane(8, 0, subsample=1, window=2))),
    ):
        maker = _Maker(name)
        yield name, _pack(maker, _header(W, H, *planes), layers=3)

    for name, changes in (
        ("raw", {"payload_fmt": 1}),
        ("sections", {"section_rows": 2}),
        ("seed_0", {"seed": 0}),
        ("seed_top", {"seed": (1 << 32) - 1}),
        ("everything", {"seed": 99, "section_rows": 1, "payload_fmt": 1}),
    ):
        maker = _Maker(name)
        metadata = {"note": "λ", "ai": {"name": "none", "version": 1}} if name == "everything" else None
        yield name, _pack(maker, _header(49, 83, _plane(16, 3), **changes), layers=3, metadata=metadata)
    for name, W, H, tile, overlap, merging in (  # layers that continue neighbours
        *((f"merge_{('left', 'top', 'top_left', 'top_right')[s]}", 71, 58, 16, 3, {"side": s}) for s in range(4)),
        ("merge_few", 150, 90, 16, 5, {"share": 0.1}),
        ("merge_nearly_all", 150, 90, 16, 5, {"share": 0.97}),
        ("merge_deep", 60, 40, 16, 4, {"layers": MAX_LAYERS}),
        ("merge_long", 70 * 4 + 4, 8, 8, 4, {"layers": 1, "share": 1.0}),
        ("merge_fine", 130, 100, 48, 17, {"layers": 4}),
        ("merge_most_overlap", 16, 13, 8, 7, {}),
    ):
        maker, header = _Maker(name, tile), _header(W, H, _plane(tile, overlap))
        yield name, repack(header, [_merging(maker, header, **merging)])["bitstream"]
    for name, planes, options in (
        ("merge_sections", (_plane(16, 3),), {"section_rows": 2}),
        ("merge_raw", (_plane(16, 3),), {"payload_fmt": 1}),
        ("merge_colour", (luma, chroma, chroma), {"section_rows": 3}),
    ):
        maker, header = _Maker(name), _header(75, 83, *planes, **options)
        yield name, repack(header, [_merging(maker, header, i) for i in range(len(planes))])["bitstream"]

    coarse, above = _plane(64, 9), _plane(16, 5, subsample=1)
    for name, W, H, planes, options in (  # tiles upon a coarse grid
        ("coarse_64", 150, 90, (_plane(16, 5, under=coarse),), {}),
        ("coarse_128", 200, 140, (_plane(64, 31, window=1, under=_plane(128, 57, window=2, amp_step=30)),), {}),
        ("coarse_whole", 97, 65, (_plane(24, 0, under=_plane(200, 0)),), {}),
        ("coarse_1x1", 1, 1, (_plane(8, 3, under=_plane(16, 0)),), {}),
        ("coarse_steps", 60, 45, (_plane(8, 2, dc_step=3, under=_plane(32, 8, dc_step=42)),), {}),
        ("coarse_sections", 49, 150, (_plane(16, 3, under=_plane(32, 9)),), {"section_rows": 2}),
        ("coarse_raw", 40, 83, (_plane(16, 3, under=_plane(48, 17)),), {"payload_fmt": 1, "section_rows": 1}),
        (
            "coarse_colour",
            75,
            83,
            (replace(luma, under=coarse), *[replace(above, under=_plane(32, 0, subsample=1))] * 2),
            {},
        ),
        ("coarse_luma", 48, 32, (replace(luma, under=coarse), chroma, chroma), {}),
        ("coarse_chroma", 47, 31, (luma, chroma, replace(above, under=_plane(40, 8, subsample=1))), {}),
    ):
        maker, header = _Maker(name), _header(W, H, *planes, **options)
        yield name, _pack(maker, header, layers=3)
    maker, header = _Maker(name := "coarse_merge"), _header(150, 90, _plane(16, 5, under=_plane(48, 17)))
    yield name, repack(header, [_merging(maker, header, i) for i in range(2)])["bitstream"]

    maker = _Maker(name := "metadata")
    yield name, _pack(maker, _header(20, 20, _plane(16, 3)), metadata={"made by": "hand", "n": [1, 2.5, None, True]})

    maker = _Maker(name := "flat")
    yield name, _pack(maker, _header(40, 40, _plane(16, 0)), rows=[TileProgram(k * (top - 1) // 8) for k in range(9)])
    maker = _Maker(name := "clipped")  # every layer as strong as it can be, far outside 0..1
    most = [TileProgram(0, tuple(maker.layer(32, amp) for amp in [500] * MAX_LAYERS)), TileProgram(top - 1)]
    most.append(TileProgram(top - 1, tuple(maker.layer(43, amp) for amp in [-500] * MAX_LAYERS)))
    yield name, _pack(maker, _header(48, 16, _plane(16, 0)), rows=most)
    for name, amp_step, dc_step in (("steps_coarse", 0, 0), ("steps_fine", 63, 42)):
        maker = _Maker(name)
        spec = _plane(16, 6, amp_step=amp_step, dc_step=dc_step)
        yield name, _pack(maker, _header(41, 37, spec), layers=4)

    for name, W, H, cfg in (  # levels as an encoder leaves them: a payload cannot be made by hand
        ("residual", 70, 41, {"max_layers": 0, "lambda_rd": 0.05}),
        ("residual_coarse", 130, 67, {"max_layers": 0, "lambda_rd": 8.0}),
        ("residual_fine", 33, 18, {"max_layers": 0, "lambda_rd": 1e-4}),
        ("residual_tiles", 61, 40, {"tile": 16, "overlap": 5, "max_layers": 2, "lambda_rd": 0.2}),
        ("residual_sections", 40, 150, {"max_layers": 0, "section_rows": 1, "lambda_rd": 0.1}),
        ("coarse_residual", 61, 90, {"tile": 16, "overlap": 5, "coarse": 32, "max_layers": 2, "section_rows": 4}),
    ):
        picture = render("WOOD", H, W, seed=7)[0] * 0.6 + render("VORONOI_CELLS", H, W, seed=3)[0] * 0.4
        options = CodecConfig.preset("fast", device="cpu", tools="none").but(**cfg)
        yield name, encode(((picture + 1) * 127.5).round().to(torch.uint8), options)["bitstream"]
    three, tiles = "sine,wiener,blend", {"tile": 16, "overlap": 5, "max_layers": 2}
    for name, W, H, cfg in (  # coding tools of the residual, one by one and together
        *(
            (f"tool_{tool}", 72, 130, {"tools": tool, "lambda_rd": 0.05})
            for tool, bit in TOOLS.items()
            if not bit & CHROMA_TOOLS
        ),
        ("tools", 97, 75, {"tools": three, "lambda_rd": 0.3}),
        ("tools_fine", 33, 18, {"tools": three, "lambda_rd": 1e-4}),
        ("tools_sections", 40, 150, {"tools": three, "section_rows": 1, "lambda_rd": 0.02}),
        ("tools_tiles", 61, 70, {"tools": three, "lambda_rd": 0.02, **tiles}),
        ("trellis", 97, 75, {"tools": f"{three},trellis", "lambda_rd": 0.3}),
        ("trellis_fine", 33, 18, {"tools": f"{three},trellis", "lambda_rd": 1e-5}),
        ("trellis_sections", 40, 150, {"tools": f"{three},trellis", "section_rows": 1, "lambda_rd": 0.02}),
        ("trellis_tiles", 61, 70, {"tools": f"{three},trellis", "lambda_rd": 0.02, **tiles}),
        ("patterns_coarse", 130, 101, {"tools": f"{three},patterns", "lambda_rd": 2.0}),
        ("patterns_fine", 72, 60, {"tools": f"{three},patterns", "lambda_rd": 0.03}),
        ("patterns_sections", 72, 150, {"tools": "patterns", "section_rows": 1, "lambda_rd": 0.3}),
        ("patterns_tiles", 61, 70, {"tools": "patterns", "lambda_rd": 0.1, **tiles}),
        ("five", 97, 75, {"tools": f"{three},trellis,patterns", "lambda_rd": 0.3}),
        ("five_sections", 130, 101, {"tools": "trellis,patterns", "section_rows": 1, "lambda_rd": 2.0}),
        ("splits", 130, 101, {"tools": f"{three},trellis,patterns,splits", "lambda_rd": 0.3}),
        ("splits_coarse", 131, 97, {"tools": f"{three},splits", "lambda_rd": 4.0}),
        ("splits_fine", 33, 18, {"tools": f"{three},trellis,splits", "lambda_rd": 1e-4}),
        ("splits_sections", 72, 150, {"tools": "trellis,splits", "section_rows": 1, "lambda_rd": 0.1}),
        ("splits_tiles", 61, 70, {"tools": f"{three},splits", "lambda_rd": 0.05, **tiles}),
        ("borders", 130, 101, {"tools": f"{three},trellis,patterns,splits,borders", "lambda_rd": 0.3}),
        ("borders_coarse", 131, 97, {"tools": f"{three},patterns,splits,borders", "lambda_rd": 4.0}),
        ("borders_fine", 33, 18, {"tools": f"{three},trellis,borders", "lambda_rd": 1e-4}),
        ("borders_sections", 72, 150, {"tools": "trellis,splits,borders", "section_rows": 1, "lambda_rd": 0.1}),
        ("borders_tiles", 61, 70, {"tools": f"{three},splits,borders", "lambda_rd": 0.05, **tiles}),
    ):
        picture = render("WOOD", H, W, seed=7)[0] * 0.5 + render("VORONOI_EDGES", H, W, seed=3)[0] * 0.5
        options = CodecConfig.preset("balanced", device="cpu").but(**{"max_layers": 0, **cfg})
        yield name, encode(((picture + 1) * 127.5).round().to(torch.uint8), options)["bitstream"]
    for name, tile, options in (  # tables and codebook that a header names by one byte
        ("trained", 32, {}),
        ("trained_small", 16, {"section_rows": 2, "merge": True}),
        ("trained_large", 64, {"refine": 1}),
    ):
        picture = render("WOOD", 83, 110, seed=7)[0] * 0.6 + render("VORONOI_CELLS", 83, 110, seed=3)[0] * 0.4
        options = CodecConfig.preset(
            "fast", tile=tile, residual=False, lambda_rd=0.02, max_layers=6, device="cpu", **options
        )
        data = encode(((picture + 1) * 127.5).round().to(torch.uint8), options)["bitstream"]
        yield name, data
    header, programs, _, _ = read_programs(data)  # and hooks that it names by another
    yield "hooks", repack(header, programs, {"ai": {"name": "heuristic"}})["bitstream"]
    picture = torch.cat([render(name, 50, 45)[0] for name in ("RINGS", "PLAID", "PERLIN")])
    options = CodecConfig.preset("fast", max_layers=0, lambda_rd=0.05, device="cpu", tools="none")
    yield "residual_colour", encode(((picture + 1) * 127.5).round().to(torch.uint8), options)["bitstream"]
    for name, W, H, cfg in (  # chroma predicted from the planes before it
        ("cross", 75, 139, {"lambda_rd": 0.1}),
        ("cross_only", 75, 139, {"lambda_rd": 0.1, "tools": "cross"}),
        ("cross_coarse", 150, 131, {"lambda_rd": 2.0}),
        ("cross_fine", 33, 17, {"lambda_rd": 1e-4}),
        ("cross_1x1", 1, 1, {"lambda_rd": 1e-3}),
        ("cross_sections", 41, 300, {"section_rows": 1}),
        ("cross_tiles", 61, 70, {"lambda_rd": 0.1, **tiles}),
        ("six", 150, 139, {"lambda_rd": 0.5, "tools": f"{three},trellis,patterns,cross"}),
        ("six_fine", 66, 41, {"lambda_rd": 0.01, "tools": f"{three},trellis,patterns,cross"}),
        ("eight", 150, 139, {"lambda_rd": 0.5, "tools": f"{three},trellis,patterns,cross,splits,borders"}),
    ):
        shared = render("WOOD", H, W, seed=7)[0] * 0.5 + render("VORONOI_CELLS", H, W, seed=3)[0] * 0.4
        red, blue = render("PERLIN", H, W, seed=5)[0], render("RINGS", H, W)[0]
        picture = torch.cat((shared + 0.3 * red, 0.7 * shared, -0.6 * shared + 0.2 * blue)).clamp(-1, 1)
        options = CodecConfig.preset("balanced", device="cpu").but(
            **{"max_layers": 0, "tools": f"{three},cross", **cfg}
        )
        yield name, encode(((picture + 1) * 127.5).round().to(torch.uint8), options)["bitstream"]


def write() -> None:
    """Write all streams and their index; streams that are no longer made are removed."""
    index = {}
    made = dict(streams())
    for name in set(names()) - set(made):
        (FOLDER / f"{name}.pc15").unlink()
    for name, data in made.items():
        (FOLDER / f"{name}.pc15").write_bytes(data)
        index[name] = hashes(name)
    lines = [f"  {json.dumps(name)}: {json.dumps(planes)}" for name, planes in sorted(index.items())]
    INDEX.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FOLDER}: {len(index)} streams, {sum(map(len, made.values()))} bytes")


def main() -> None:
    """Write the streams, or print what they decode to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", action="store_true", help="print {stream: [SHA-256 of each plane]}")
    args = parser.parse_args()
    if args.hashes:
        print(json.dumps({name: hashes(name) for name in names()}))
    else:
        write()


if __name__ == "__main__":
    main()
