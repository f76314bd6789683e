"""`pc15 info`: the contents of streams."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc15.cli.files import Tally, find_sources, read_stream
from pc15.cli.parser import (
    DONE,
    FAILED,
    STREAM_PIXELS,
    STREAM_SUFFIX,
    Parser,
    add_max_pixels,
    columns,
    complain,
    count,
)
from pc15.errors import BitstreamError, ConfigError
from pc15.paths import ready_to_write, write_atomic
from pc15.residual.tools import TOOLS

if TYPE_CHECKING:
    from pc15.bitstream.container import Stream
    from pc15.bitstream.header import Header
    from pc15.bitstream.programs import Programs


EXAMPLES = (
    "info photo.pc15",
    "info photo.pc15 --tiles",
    "info photo.pc15 --map map.png",
    "info photo.pc15 --json",
    "info streams/",
    "info - < photo.pc15",
)


def run(args: argparse.Namespace) -> int:
    """Say what streams hold: their headers, where their bytes and bits go, and which patterns they are made of.

    Of a folder, or of several streams, that is a line each and totals; with --json all of it.  Nothing is drawn.  A
    damaged stream is described as far as it can be read.
    """
    if len(args.streams) == 1 and not args.streams[0].is_dir():
        return _tell_one(args, args.streams[0])
    for option, does in (("tiles", "lists the tiles"), ("map", "draws a map")):
        if getattr(args, option):
            raise ConfigError(f"--{option} {does} of one stream; give its name")
    sources = [source.path for source in find_sources(args.streams, (STREAM_SUFFIX,))]
    tally = Tally(args.answer, "stream", len(sources))
    for source in sources:
        with tally.of(source, source):
            content = _content(_bytes(source, args), args.max_pixels)[0]
            pixels, damage = content["width"] * content["height"], content["damage"]
            said = f"{_title(content)}, {_kinds(content)}" + ", damaged" * bool(damage)
            tally.done(source, source, said, {"pixels": pixels, "bytes": content.pop("bytes")}, **content)
            if damage:
                raise BitstreamError(damage[0])
    return tally.close()


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "streams", nargs="+", type=Path, metavar="STREAM", help="streams, folders of them, or - for standard input"
    )
    add.add_argument("--tiles", action="store_true", help="also list every tile's program")
    add.add_argument(
        "--map",
        type=Path,
        metavar="FILE.png",
        help="also draw where the patterns and the squares of luma lie, and the bits per pixel",
    )
    add_max_pixels(add, STREAM_PIXELS)


def _bytes(path: Path, args: argparse.Namespace) -> bytes:
    return read_stream(path, strict=False, max_pixels=args.max_pixels)


def _content(data: bytes, max_pixels: int | None) -> tuple[dict[str, Any], Header, Sequence[Programs]]:
    """All that is said of a stream, but for its tiles."""
    from pc15.bitstream.read import read_programs

    header, programs, metadata, damage = read_programs(data, strict=False, max_pixels=max_pixels)
    content = _described(data, header, programs, metadata, damage)
    return content | {"metadata": metadata, "damage": damage}, header, programs


def _tell_one(args: argparse.Namespace, path: Path) -> int:
    if args.map:
        ready_to_write(args.map)
    data = _bytes(path, args)
    content, header, programs = _content(data, args.max_pixels)
    answer = args.answer
    answer.put(stream=str(path), **content)
    if not answer.as_json:
        answer.say(_text(path, content))
    if args.tiles:
        answer.begin_list("tile_map")
        for tile in _tile_map(header, programs):
            answer.row("tile_map", tile, None if answer.as_json else _tile_text(tile))
    for sentence in content["damage"]:
        complain(sentence)
    if args.map and not content["damage"]:
        _draw_map(data, args.map, args.max_pixels)
    return FAILED if content["damage"] else DONE


def _draw_map(data: bytes, to: Path, max_pixels: int | None) -> None:
    from pc15.stream_map import stream_map  # loads what draws

    buffer = io.BytesIO()
    stream_map(data, max_pixels=max_pixels).save(buffer, "PNG")
    write_atomic(to, buffer.getvalue())


def _tile_bits(header: Header, programs: Sequence[Programs], there: Sequence[bool]) -> dict[str, float]:
    """Bits of each kind of symbol in the sections of tiles that are there, in order."""
    from pc15.bitstream import section_spans
    from pc15.bitstream.ports import Writer
    from pc15.bitstream.read import coded_alike
    from pc15.bitstream.sections import code_sections

    bits: dict[str, float] = {}
    spans = [span for span, found in zip(section_spans(header), there, strict=True) if found]
    for syntax, tables, places in coded_alike([(header, span) for span in spans]):
        writer = Writer(tables, len(places))
        parts = []
        for span in (spans[place] for place in places):
            parts.append(programs[span.grid].rows(span.row_start * syntax.nx, span.row_stop * syntax.nx))
        code_sections(writer, syntax, parts)
        for place, tally in zip(places, writer.tallies(), strict=True):
            coarse = "coarse " if header.grids[spans[place].grid].coarse else ""
            for kind, cost in tally.items():
                bits[coarse + kind] = bits.get(coarse + kind, 0.0) + cost
    return bits


def _described(
    data: bytes,
    header: Header,
    programs: Sequence[Programs],
    metadata: dict[str, Any] | None,
    damage: list[str],
) -> dict[str, Any]:
    """A stream's header, sizes and statistics as plain JSON values; what else is damaged is added to `damage`."""
    import numpy as np

    from pc15.bitstream import read_container, unpack_v15
    from pc15.bitstream.header import CRC_BYTES, PAYLOAD_RAW, VERSION, WINDOWS, plane_size, tile_counts
    from pc15.proc.generators import NAMES
    from pc15.quant import step_q15

    stream = read_container(data, strict=False, max_pixels=header.width * header.height)
    sections = stream.sections
    payload = [None if section is None else len(section) for section in (*sections, *stream.residuals)]
    bits = _tile_bits(header, programs, [section is not None for section in sections])
    residual, squares = _residuals(stream, damage)
    bits |= residual
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
        "metadata": len(_canonical(metadata)) if header.has_metadata and metadata is not None else 0,
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


def _residuals(stream: Stream, damage: list[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Bits of all residual sections by the kind of decision, and layers in squares with their share of the planes."""
    from pc15.bitstream.header import plane_size, residual_spans
    from pc15.proc.generators import NAMES

    bits: dict[str, float] = {}
    used: dict[str, dict[str, int]] = {}
    drawn = 0
    if any(stream.residuals):
        from pc15.residual.bits import ResidualReport, residual_report  # loads numba

        for span, payload in zip(residual_spans(stream.header), stream.residuals, strict=True):
            if payload is None:
                continue
            width, spec = plane_size(stream.header, span.plane)[1], stream.header.planes[span.plane]
            try:
                told = residual_report(
                    payload, span.row_stop - span.row_start, width, spec.residual - 1, spec.tools, span.plane
                )
            except BitstreamError as error:
                where = f"plane {span.plane}, residual of pixel rows {span.row_start} to {span.row_stop - 1}"
                damage.append(f"{where}: {error}")
                told = ResidualReport({"unread": 8.0 * len(payload)}, {}, 0)
            for kind, cost in told.bits.items():
                bits[f"residual {kind}"] = bits.get(f"residual {kind}", 0.0) + cost
            for gen, (count, pixels) in told.layers.items():
                own = used.setdefault(NAMES[gen], {"layers": 0, "pixels": 0})
                own["layers"] += count
                own["pixels"] += pixels
            drawn += told.drawn
    pixels = sum(math.prod(plane_size(stream.header, plane)) for plane in range(len(stream.header.planes)))
    squares = {
        "layers": sum(own["layers"] for own in used.values()),
        "area": min(1.0, drawn / pixels),
        "by_generator": dict(sorted(used.items(), key=lambda item: (-item[1]["layers"], item[0]))),
    }
    return bits, squares


def _canonical(metadata: dict[str, Any]) -> bytes:
    """Metadata in the form that it has in the stream."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _tile_map(header: Header, programs: Sequence[Programs]) -> Iterator[dict[str, Any]]:
    """Every tile's place and program, a row of tiles at a time."""
    from pc15.bitstream.programs import SIDES
    from pc15.proc.generators import NAMES

    for which, ((index, _, coarse), plane) in enumerate(zip(header.grids, programs, strict=True)):
        if not plane.tiles:
            continue
        from pc15.bitstream.header import plane_grid

        grid = plane_grid(header, which)
        for row, y in enumerate(grid.ys):
            records = plane.rows(row * grid.nx, (row + 1) * grid.nx).records()
            for column, (record, x) in enumerate(zip(records, grid.xs, strict=True)):
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
                place = {"plane": index, "coarse": coarse, "row": row, "col": column, "y": int(y), "x": int(x)}
                yield {**place, "dc": record.dc, "layers": layers}


def _title(content: dict[str, Any]) -> str:
    kind = "colour, YCbCr 4:2:0" if content["color"] == "ycbcr420" else "gray"
    return f"{content['width']}x{content['height']} {kind}, {content['bytes']} bytes, {content['bpp']:.4f} bpp"


def _kinds(content: dict[str, Any]) -> str:
    """Layers, residual or both that a stream is made of, in a few words."""
    layers = sum(content["layers_by_generator"].values())
    planes = content["planes"]
    layers += content["squares"]["layers"]
    kinds = [count(layers, "layer")] if layers or any(plane["tile"] for plane in planes) else []
    kinds += ["residual"] if any(plane["residual_step"] is not None for plane in planes) else []
    return " and ".join(kinds)


def _text(path: Path, content: dict[str, Any]) -> str:
    """A stream, described for people: what it does not have is not spoken of."""
    tiled = any(plane["tile"] for plane in content["planes"])
    about = f"version {content['version']}"
    if tiled:
        about += f", tables {content['table_id']}, codebook {content['codebook_id']}, seed {content['seed']}"
        about += f", payload {content['payload_format']}" * (content["payload_format"] != "rans")
    blocks = [f"{path}: {_title(content)}\n{about}", _planes_text(content["planes"])]
    sizes = ", ".join(f"{name} {size}" for name, size in content["bytes_of"].items() if size)
    if len(content["section_bytes"]) > 1:
        own = " ".join("lost" if size is None else str(size) for size in content["section_bytes"])
        sizes += f"\nsections: {own}"
    blocks.append(f"bytes: {sizes}")
    bits = content["bits_by_kind"]
    total = sum(bits.values()) or 1.0
    rows = [("symbols", "bits", "share"), *((kind, f"{b:.1f}", f"{b / total:.1%}") for kind, b in bits.items())]
    blocks.append(columns(rows, right=(1, 2)))
    if content["layers_merged"]:
        blocks.append(f"{content['layers_merged']} of the layers continue a neighbour's")
    used = content["layers_by_generator"]
    layers = sum(used.values())
    if used:
        rows = [("generator", "layers", "share"), *((g, str(n), f"{n / layers:.1%}") for g, n in used.items())]
        blocks.append(columns(rows, right=(1, 2)))
    elif tiled and not content["squares"]["layers"]:
        blocks.append("no layers")
    if squares := content["squares"]["by_generator"]:
        total, bits_of_them = content["squares"]["layers"], bits.get("residual pattern", 0.0)
        blocks.append(
            f"{total} layers in squares of the residual, on {content['squares']['area']:.1%} of the picture, "
            f"of {bits_of_them / total:.1f} bits each"
        )
        each = [
            (g, str(own["layers"]), f"{own['layers'] / total:.1%}", str(own["pixels"])) for g, own in squares.items()
        ]
        blocks.append(columns([("generator", "layers", "share", "pixels"), *each], right=(1, 2, 3)))
    if content["metadata"] is not None:
        blocks.append("metadata: " + json.dumps(content["metadata"], sort_keys=True))
    return "\n\n".join(blocks)


def _planes_text(planes: list[dict[str, Any]]) -> str:
    """The table of planes and of their grids, without columns that all of them leave empty."""
    head = ("plane", "size", "tile", "overlap", "window", "tiles", "amp step", "DC step", "residual step", "tools")
    rows = [[*head, "tiles by layers 0, 1, ..."]]
    for plane in planes:
        for grid, name in ((plane["coarse"], f"{plane['name']} coarse"), (plane, plane["name"])):
            if grid is None:
                continue
            window = grid["window"] + (f" {grid['window_param']:g}" if grid["window_param"] is not None else "")
            step = grid.get("residual_step")
            ny, nx = grid["tiles"]
            tiles = [str(grid["tile"]), str(grid["overlap"]), window, f"{nx}x{ny}"]
            tiles += [f"{grid['amp_step']:.5f}", f"{grid['dc_step']:.5f}"]
            residual = ["" if step is None else f"{step:.5f}", " ".join(grid.get("tools", []))]
            layers = " ".join(map(str, grid["tiles_by_layers"]))
            size = f"{plane['width']}x{plane['height']}"
            rows.append([name, size, *(tiles if grid["tile"] else [""] * 6), *residual, layers * bool(grid["tile"])])
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return columns([[row[i] or "-" for i in used] for row in rows])


def _tile_text(tile: dict[str, Any]) -> str:
    which = f"plane {tile['plane']}" + " coarse" * tile["coarse"]
    place = f"{which} row {tile['row']} col {tile['col']} at y={tile['y']} x={tile['x']}"
    return f"{place}: dc {tile['dc']}" + "".join(f"; {_layer_text(layer)}" for layer in tile["layers"])


def _layer_text(layer: dict[str, Any]) -> str:
    offsets = " offsets " + ",".join(f"{o:+d}" for o in layer["offsets"]) if any(layer["offsets"]) else ""
    seed = f" seed {layer['seed_index']}" if layer["seed_index"] else ""
    return f"{layer['amp']:+d} {layer['generator']} {layer['qv_id']}{offsets}{seed}"
