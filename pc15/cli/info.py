"""`pc15 info`: the contents of a stream."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc15.cli.files import read_stream
from pc15.cli.parser import DONE, FAILED, STREAM_PIXELS, Parser, add_max_pixels, columns, complain
from pc15.errors import BitstreamError
from pc15.residual.tools import TOOLS

if TYPE_CHECKING:
    from pc15.bitstream.container import Stream
    from pc15.bitstream.header import Header
    from pc15.bitstream.programs import Programs


EXAMPLES = (
    "info photo.pc15",
    "info photo.pc15 --tiles",
    "info photo.pc15 --json",
    "info - < photo.pc15",
)


def run(args: argparse.Namespace) -> int:
    """Say what a stream holds: its header, where its bytes and bits go, and which patterns it is made of.

    Nothing is drawn.  A damaged stream is described as far as it can be read.
    """
    from pc15.bitstream.read import read_programs

    data = read_stream(args.stream, strict=False, max_pixels=args.max_pixels)
    header, programs, metadata, damage = read_programs(data, strict=False, max_pixels=args.max_pixels)
    content = _described(data, header, programs, metadata, damage)
    content["metadata"] = metadata
    content["damage"] = damage
    if args.tiles:
        content["tile_map"] = _tile_map(header, programs)
    if args.json:
        print(json.dumps({"stream": str(args.stream), **content}, indent=2))
    else:
        _print_info(args.stream, content)
    return FAILED if damage else DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("stream", type=Path, metavar="STREAM", help="a stream, or - for standard input")
    add.add_argument("--tiles", action="store_true", help="also list every tile's program")
    add.add_argument("--json", action="store_true", help="print one JSON object")
    add_max_pixels(add, STREAM_PIXELS)


def _described(
    data: bytes,
    header: Header,
    programs: Sequence[Programs],
    metadata: dict[str, Any] | None,
    damage: list[str],
) -> dict[str, Any]:
    """A stream's header, sizes and statistics as plain JSON values; what else is damaged is added to `damage`."""
    import numpy as np

    from pc15.bitstream import read_container, section_spans, unpack_v15
    from pc15.bitstream.header import CRC_BYTES, PAYLOAD_RAW, VERSION, WINDOWS, plane_size, tile_counts
    from pc15.bitstream.ports import Writer
    from pc15.bitstream.read import section_syntax
    from pc15.bitstream.sections import code_section
    from pc15.entropy.tables import load_table
    from pc15.proc.codebook import load_codebook
    from pc15.proc.generators import NAMES
    from pc15.quant import step_q15

    tables, codebook = load_table(header.table_id), load_codebook(header.codebook_id)
    stream = read_container(data, strict=False, max_pixels=header.width * header.height)
    sections = stream.sections
    payload = [None if section is None else len(section) for section in (*sections, *stream.residuals)]
    bits: dict[str, float] = {}
    for span, section in zip(section_spans(header), sections, strict=True):
        if section is None:
            continue
        writer, nx = Writer(tables), tile_counts(header, span.grid)[1]
        part = programs[span.grid].rows(span.row_start * nx, span.row_stop * nx)
        code_section(writer, section_syntax(header, span, codebook), part)
        for kind, cost in writer.bits_by_kind().items():
            kind = f"coarse {kind}" if header.grids[span.grid].coarse else kind
            bits[kind] = bits.get(kind, 0.0) + cost
    bits |= _residual_bits(stream, damage)
    squares = _square_layers(stream)
    grids: dict[tuple[int, bool], dict[str, Any]] = {}
    for which, (index, spec, coarse) in enumerate(header.grids):
        most = int(programs[which].count.max(initial=-1))
        counts = [int((programs[which].count == layers).sum()) for layers in range(most + 1)]
        grids[index, coarse] = {
            "tile": spec.tile,
            "overlap": spec.overlap,
            "window": WINDOWS[spec.window],
            "window_param": float(next(iter(params.values()))) if (params := spec.window_params()) else None,
            "tiles": list(tile_counts(header, which)),
            "amp_step": step_q15(spec.amp_step) / 32768,
            "dc_step": step_q15(spec.dc_step) / 32768,
            "tiles_by_layers": counts,
        }
    planes = []
    for index, spec in enumerate(header.planes):
        height, width = plane_size(header, index)
        planes.append(
            {
                "name": ("Y", "Cb", "Cr")[index],
                "width": width,
                "height": height,
                **grids[index, False],
                "residual_step": 2.0 ** (-(spec.residual - 1) / 8) if spec.residual else None,
                "tools": [name for name, bit in TOOLS.items() if spec.tools & bit],
                "coarse": grids.get((index, True)),
            }
        )
    used: dict[str, int] = {}
    merged = sum(int((plane.source > 0).sum()) for plane in programs)
    for plane in programs:
        there = np.arange(plane.gen.shape[1]) < plane.count[:, None]
        for gen, layers in enumerate(np.bincount(plane.gen[there]).tolist()):
            if layers:
                used[NAMES[gen]] = used.get(NAMES[gen], 0) + layers
    parts = {
        "header": unpack_v15(data, max_pixels=header.width * header.height)[1],
        "sections": sum(size or 0 for size in payload),
        "CRCs": CRC_BYTES * (len(payload) + header.has_metadata),
        "metadata": len(_canonical(metadata)) if metadata is not None else 0,
    }
    return {
        "version": VERSION,
        "width": header.width,
        "height": header.height,
        "color": "ycbcr420" if header.color else "gray",
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "seed": header.seed,
        "table_id": header.table_id,
        "codebook_id": header.codebook_id,
        "payload_format": "raw" if header.payload_fmt == PAYLOAD_RAW else "rans",
        "section_rows": header.section_rows,
        "planes": planes,
        "bytes_of": {**parts, "lengths" if None not in payload else "lengths, lost": len(data) - sum(parts.values())},
        "section_bytes": payload,
        "bits_by_kind": {kind: round(cost, 2) for kind, cost in sorted(bits.items())},
        "layers_merged": merged,
        "squares": squares,
        "layers_by_generator": dict(sorted(used.items(), key=lambda item: (-item[1], item[0]))),
    }


def _residual_bits(stream: Stream, damage: list[str]) -> dict[str, float]:
    """Bits of all residual sections, by the kind of decision that they were spent on."""
    from pc15.bitstream.header import plane_size, residual_spans

    bits: dict[str, float] = {}
    if not any(stream.residuals):
        return bits
    from pc15.residual.bits import residual_bits  # loads numba

    for span, payload in zip(residual_spans(stream.header), stream.residuals, strict=True):
        if payload is None:
            continue
        width, spec = plane_size(stream.header, span.plane)[1], stream.header.planes[span.plane]
        try:
            tally = residual_bits(payload, span.row_stop - span.row_start, width, spec.residual - 1, spec.tools)
        except BitstreamError as error:
            where = f"plane {span.plane}, residual of pixel rows {span.row_start} to {span.row_stop - 1}"
            damage.append(f"{where}: {error}")
            tally = {"unread": 8.0 * len(payload)}
        for kind, cost in tally.items():
            bits[f"residual {kind}"] = bits.get(f"residual {kind}", 0.0) + cost
    return bits


def _square_layers(stream: Stream) -> dict[str, Any]:
    """Layers in the residual's squares: how many, their share of the planes, and of each generator."""
    from pc15.bitstream.header import plane_size, residual_spans
    from pc15.proc.generators import NAMES

    used: dict[str, dict[str, int]] = {}
    drawn = 0
    if any(stream.residuals):
        from pc15.residual.bits import residual_layers  # loads numba

        for span, payload in zip(residual_spans(stream.header), stream.residuals, strict=True):
            if payload is None:
                continue
            width, spec = plane_size(stream.header, span.plane)[1], stream.header.planes[span.plane]
            with contextlib.suppress(BitstreamError):  # said already, where its bits were counted
                layers, area = residual_layers(
                    payload, span.row_stop - span.row_start, width, spec.residual - 1, spec.tools
                )
                drawn += area
                for gen, (count, pixels) in layers.items():
                    own = used.setdefault(NAMES[gen], {"layers": 0, "pixels": 0})
                    own["layers"] += count
                    own["pixels"] += pixels
    pixels = sum(math.prod(plane_size(stream.header, plane)) for plane in range(len(stream.header.planes)))
    return {
        "layers": sum(own["layers"] for own in used.values()),
        "area": min(1.0, drawn / pixels),
        "by_generator": dict(sorted(used.items(), key=lambda item: (-item[1]["layers"], item[0]))),
    }


def _canonical(metadata: dict[str, Any]) -> bytes:
    """Metadata in the form that it has in the stream."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _tile_map(header: Header, programs: Sequence[Programs]) -> list[dict[str, Any]]:
    """Every tile's place and program."""
    from pc15.bitstream.programs import SIDES
    from pc15.draw import plane_grid
    from pc15.proc.generators import NAMES

    tiles = []
    for which, ((index, _, coarse), plane) in enumerate(zip(header.grids, programs, strict=True)):
        if not plane.tiles:
            continue
        grid = plane_grid(header, which)
        for n, (record, (y, x)) in enumerate(zip(plane.records(), grid.starts, strict=True)):
            layers = [
                {
                    "generator": NAMES[layer.gen],
                    "qv_id": layer.qv_id,
                    "offsets": list(layer.offsets),
                    "seed_index": layer.seed_index,
                    "amp": layer.amp,
                    "merge": None if layer.merge is None else [SIDES[layer.merge.side], layer.merge.layer],
                }
                for layer in record.layers
            ]
            place = {"plane": index, "coarse": coarse, "row": n // grid.nx, "col": n % grid.nx, "y": y, "x": x}
            tiles.append({**place, "dc": record.dc, "layers": layers})
    return tiles


def _print_info(path: Path, content: dict[str, Any]) -> None:
    kind = "colour, YCbCr 4:2:0" if content["color"] == "ycbcr420" else "gray"
    print(
        f"{path}: {content['width']}x{content['height']} {kind}, {content['bytes']} bytes, {content['bpp']:.4f} bpp\n"
        f"version {content['version']}, tables {content['table_id']}, codebook {content['codebook_id']}, "
        f"seed {content['seed']}, payload {content['payload_format']}\n"
    )
    rows = [
        (
            "plane",
            "size",
            "tile",
            "overlap",
            "window",
            "tiles",
            "amp step",
            "DC step",
            "residual step",
            "tiles by layers 0, 1, ...",
        )
    ]
    for plane in content["planes"]:
        for grid, name in ((plane["coarse"], f"{plane['name']} coarse"), (plane, plane["name"])):
            if grid is None:
                continue
            window = grid["window"] + (f" {grid['window_param']:g}" if grid["window_param"] is not None else "")
            step = grid.get("residual_step")
            rows.append(
                (
                    name,
                    f"{plane['width']}x{plane['height']}",
                    str(grid["tile"]),
                    str(grid["overlap"]),
                    window,
                    f"{grid['tiles'][1]}x{grid['tiles'][0]}",
                    f"{grid['amp_step']:.5f}",
                    f"{grid['dc_step']:.5f}",
                    "none" if step is None else f"{step:.5f}",
                    " ".join(map(str, grid["tiles_by_layers"])),
                )
            )
    print(columns(rows))
    print("\nbytes: " + ", ".join(f"{name} {size}" for name, size in content["bytes_of"].items() if size))
    if len(content["section_bytes"]) > 1:
        print("sections: " + " ".join("lost" if size is None else str(size) for size in content["section_bytes"]))
    total = sum(content["bits_by_kind"].values()) or 1.0
    print(
        "\n"
        + columns(
            [
                ("symbols", "bits", "share"),
                *((k, f"{b:.1f}", f"{b / total:.1%}") for k, b in content["bits_by_kind"].items()),
            ],
            right=(1, 2),
        )
    )
    if content["layers_merged"]:
        print(f"\n{content['layers_merged']} of the layers continue a neighbour's")
    used = content["layers_by_generator"]
    layers = sum(used.values())
    if used:
        print(
            "\n"
            + columns(
                [("generator", "layers", "share"), *((g, str(n), f"{n / layers:.1%}") for g, n in used.items())],
                right=(1, 2),
            )
        )
    elif not content["squares"]["layers"]:
        print("\nno layers")
    if squares := content["squares"]["by_generator"]:
        total, bits = content["squares"]["layers"], content["bits_by_kind"].get("residual pattern", 0.0)
        print(
            f"\n{total} layers in squares of the residual, on {content['squares']['area']:.1%} of the picture, "
            f"of {bits / total:.1f} bits each"
        )
        found = [
            (g, str(own["layers"]), f"{own['layers'] / total:.1%}", str(own["pixels"])) for g, own in squares.items()
        ]
        print(columns([("generator", "layers", "share", "pixels"), *found], right=(1, 2, 3)))
    if content["metadata"] is not None:
        print("\nmetadata: " + json.dumps(content["metadata"], sort_keys=True))
    for tile in content.get("tile_map", []):
        which = f"plane {tile['plane']}" + " coarse" * tile["coarse"]
        place = f"{which} row {tile['row']} col {tile['col']} at y={tile['y']} x={tile['x']}"
        print(f"{place}: dc {tile['dc']}" + "".join(f"; {_layer_text(layer)}" for layer in tile["layers"]))
    for sentence in content["damage"]:
        complain(sentence)


def _layer_text(layer: dict[str, Any]) -> str:
    offsets = " offsets " + ",".join(f"{o:+d}" for o in layer["offsets"]) if any(layer["offsets"]) else ""
    seed = f" seed {layer['seed_index']}" if layer["seed_index"] else ""
    return f"{layer['amp']:+d} {layer['generator']} {layer['qv_id']}{offsets}{seed}"
