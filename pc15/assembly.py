"""A stream as JSON that people read and edit, and back: `asm(dis(stream)) == stream`, byte for byte.

The header's fields, every tile's program by names, and what is coded adaptively as base64: sections of the residual.
A layer's pattern is its codebook entry with the offsets from it; `parameters` says what these come to, in the units of
`pc15 generators`.  A layer that is written by hand may give `parameters` in place of `entry` and `offsets`: the entry
that comes nearest is taken.  `asm` refuses what no decoder would read, and says which tile and layer is meant.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pc15.bitstream.container import Stream, read_container, write_container
from pc15.bitstream.header import (
    COLOR_YCBCR420,
    PAYLOAD_RANS,
    PAYLOAD_RAW,
    WINDOWS,
    Header,
    PlaneSpec,
    plane_size,
    residual_spans,
    section_spans,
    tile_counts,
)
from pc15.bitstream.header_bytes import pack_v15
from pc15.bitstream.programs import AMP_MAX, MAX_LAYERS, SIDES, LayerRec, Merge, Programs, TileProgram
from pc15.bitstream.read import read_programs, read_sections
from pc15.entropy.tables import load_table
from pc15.errors import BitstreamError, ConfigError, did_you_mean, shown
from pc15.plan.write import write_section
from pc15.proc.codebook import Codebook, load_codebook, offset_reach
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import fine_bits
from pc15.quant import dc_levels
from pc15.residual.decode import read_field
from pc15.residual.tools import TOOLS, tools_of

__all__ = ["FORM", "asm", "dis"]

FORM = 1
"""Version of the JSON's form, its field `pc15_asm`."""
_PLANES = ("Y", "Cb", "Cr")
_GRID = ("tile", "overlap", "window", "window_param", "amp_step", "dc_step")
_PAYLOADS = {"rans": PAYLOAD_RANS, "raw": PAYLOAD_RAW}


# ---------------------------------------------------------------- bytes -> JSON


def dis(data: bytes, *, max_pixels: int | None = None) -> dict[str, Any]:
    """A stream as plain JSON values.

    Raises:
        BitstreamError, MissingTableError: as `decode_stream`; a damaged stream is refused.
    """
    header, programs, metadata, _ = read_programs(data, max_pixels=max_pixels)
    stream = read_container(data, max_pixels=header.width * header.height)
    codebook = load_codebook(header.codebook_id)
    residuals: dict[int, list[str]] = {}
    for span, payload in zip(residual_spans(header), stream.residuals, strict=True):
        residuals.setdefault(span.plane, []).append(base64.b64encode(payload or b"").decode("ascii"))
    planes: list[dict[str, Any]] = []
    for index, spec in enumerate(header.planes):
        own: dict[str, Any] = {"name": _PLANES[index], "coarse": None, "residual": None}
        for which, grid in enumerate(header.grids):
            if grid.plane == index:
                described = _grid_of(grid.spec, programs[which], tile_counts(header, which)[1], codebook)
                own |= {"coarse": described} if grid.coarse else described
        if spec.residual:
            tools = [name for name, bit in TOOLS.items() if spec.tools & bit]
            own["residual"] = {"step": spec.residual - 1, "tools": tools, "sections": residuals[index]}
        planes.append(own)
    return {
        "pc15_asm": FORM,
        "width": header.width,
        "height": header.height,
        "color": "ycbcr420" if header.color == COLOR_YCBCR420 else "gray",
        "seed": header.seed,
        "tables": header.table_id,
        "codebook": header.codebook_id,
        "payload": "raw" if header.payload_fmt == PAYLOAD_RAW else "rans",
        "section_rows": header.section_rows,
        "metadata": metadata,
        "planes": planes,
    }


def _grid_of(spec: PlaneSpec, programs: Programs, nx: int, codebook: Codebook) -> dict[str, Any]:
    if not spec.tile:
        return {"tile": 0, "tiles": []}
    fine = fine_bits(spec.tile)
    tiles = [
        {
            "at": list(divmod(n, nx)),
            "dc": record.dc,
            "layers": [_layer_of(one, fine, codebook) for one in record.layers],
        }
        for n, record in enumerate(programs.records())
    ]
    param = spec.window_param or None
    grid = [spec.tile, spec.overlap, WINDOWS[spec.window], param, spec.amp_step, spec.dc_step]
    return {**dict(zip(_GRID, grid, strict=True)), "tiles": tiles}


def _layer_of(layer: LayerRec, fine: int, codebook: Codebook) -> dict[str, Any]:
    if layer.merge is not None:
        return {"continues": {"side": SIDES[layer.merge.side], "layer": layer.merge.layer}, "amp": layer.amp}
    generator = load(layer.gen)
    params = generator.params_at(fine)
    offsets = torch.tensor([[*layer.offsets, *[0] * (len(params) - len(layer.offsets))]], dtype=torch.int64)
    levels = codebook.levels(layer.gen, torch.tensor([layer.qv_id]), offsets, fine)[0].tolist()
    values = {p.name: _value(p, level, fine) for p, level in zip(params, levels, strict=False)}
    own = {"generator": NAMES[layer.gen], "entry": layer.qv_id, "offsets": list(layer.offsets), "parameters": values}
    return own | ({"seed_index": layer.seed_index} if generator.seeds > 1 else {}) | {"amp": layer.amp}


def _value(param: Any, step: int, fine: int) -> float:
    """Public value of a sub-level, to six digits."""
    from decimal import Decimal

    return float(f"{param.value(Decimal(step) / (1 << param.shift(fine))):.6g}")


# ---------------------------------------------------------------- JSON -> bytes


def asm(content: Mapping[str, Any]) -> bytes:
    """The stream that JSON values of `dis` describe, edited or written by hand.

    Raises:
        ConfigError: a field that is missing, unknown, of another type or out of range, or a residual that its plane
            cannot have; it says where.
        MissingTableError: tables or a codebook that this machine does not have.
    """
    form = _Fields(content, "the stream")
    if (version := form.take("pc15_asm", int)) != FORM:
        raise ConfigError(f"pc15_asm is {version}; this build reads form {FORM}")
    width, height = form.take("width", int), form.take("height", int)
    color = form.one_of("color", {"gray": 0, "ycbcr420": COLOR_YCBCR420})
    seed, payload = form.take("seed", int), form.one_of("payload", _PAYLOADS)
    tables, codebook_id = form.take("tables", str), form.take("codebook", str)
    rows, metadata = form.take("section_rows", int), form.take("metadata", dict, None)
    planes = [_Fields(plane, f"plane {i}") for i, plane in enumerate(form.take("planes", list))]
    form.done()
    opened = [_Plane.of(plane, subsample=int(i > 0)) for i, plane in enumerate(planes)]
    header = Header(
        width, height, color, tuple(one.spec for one in opened), seed, tables, codebook_id, payload, rows
    )  # fmt: skip
    pack_v15(header)  # refuses what is out of range
    table_set, codebook = load_table(tables), load_codebook(codebook_id)
    given = [tiles for one in opened for tiles in one.tiles]
    programs = []
    for which, (grid, (where, tiles)) in enumerate(zip(header.grids, given, strict=True)):
        ny, nx = tile_counts(header, which)
        if len(tiles) != ny * nx:
            raise ConfigError(f"{where} has {len(tiles)} tiles; its grid has {ny} rows of {nx}")
        records = [
            _tile(_Fields(tile, f"{where}, tile {n}"), n, nx, grid.spec, codebook) for n, tile in enumerate(tiles)
        ]
        own = Programs.from_records(records)
        own.fine = fine_bits(grid.spec.tile)
        programs.append(own)
    sections: list[bytes | None] = []
    for span in section_spans(header):
        where, nx = header.grids[span.grid].rows(span.row_start, span.row_stop), tile_counts(header, span.grid)[1]
        try:
            programs[span.grid].rows(span.row_start * nx, span.row_stop * nx).resolve(nx)
            writer = write_section(header, span, programs[span.grid], table_set, codebook)
            sections.append(writer.raw_bytes() if header.payload_fmt == PAYLOAD_RAW else writer.rans_bytes())
        except BitstreamError as error:
            raise ConfigError(f"{where}: {error}") from error
    residuals = _residuals(header, opened)
    stream = Stream(header, sections, metadata, residuals=[*residuals])
    _check_read_back(stream, programs)
    return write_container(stream)


def _check_read_back(stream: Stream, programs: Sequence[Programs]) -> None:
    """Refuse programs that a decoder would read otherwise, such as patterns that reach too far."""
    try:
        ((found, _),) = read_sections([stream], strict=True)
    except BitstreamError as error:
        raise ConfigError(f"what was written cannot be read again: {error}") from error
    for which, (own, again) in enumerate(zip(programs, found, strict=True)):
        for n, (one, other) in enumerate(zip(own.records(), again.records(), strict=True)):
            if one != other:
                raise ConfigError(f"plane {stream.header.grids[which].plane}, tile {n} cannot be coded as it stands")


class _Plane:
    """A plane's fields: its spec, its tiles by grid with what they are called, and payloads of its residual."""

    def __init__(self, spec: PlaneSpec, tiles: list[tuple[str, list[Any]]], payloads: list[bytes]) -> None:
        self.spec, self.tiles, self.payloads = spec, tiles, payloads

    @classmethod
    def of(cls, plane: _Fields, subsample: int) -> _Plane:
        plane.take("name", str)
        under, coarse_tiles = None, []
        if (coarse := plane.take("coarse", dict, None)) is not None:
            fields = _Fields(coarse, f"{plane.where}, coarse")
            under, tiles = _spec(fields, subsample)
            fields.done()
            coarse_tiles = [(fields.where, tiles)]
        spec, tiles = _spec(plane, subsample, under)
        payloads: list[bytes] = []
        if (residual := plane.take("residual", dict, None)) is not None:
            fields = _Fields(residual, f"{plane.where}, residual")
            names, step = fields.take("tools", list), fields.take("step", int)
            for name in names:
                if not isinstance(name, str) or name not in TOOLS:
                    near = did_you_mean(str(name), TOOLS)
                    raise ConfigError(f"{fields.where}: no tool {shown(name)}{near}; there are {', '.join(TOOLS)}")
            payloads = [
                _bytes(text, f"{fields.where}, section {n}") for n, text in enumerate(fields.take("sections", list))
            ]
            fields.done()
            if not 0 <= step < 80:
                raise ConfigError(f"{fields.where}: step is {step}; give 0 to 79")
            spec = PlaneSpec(**{**vars(spec), "residual": step + 1, "tools": tools_of(names)})
        plane.done()
        return cls(spec, [*coarse_tiles, (plane.where, tiles)], payloads)


def _spec(fields: _Fields, subsample: int, under: PlaneSpec | None = None) -> tuple[PlaneSpec, list[Any]]:
    tile, tiles = fields.take("tile", int), fields.take("tiles", list)
    if tile == 0:
        return PlaneSpec(0, 0, 0, subsample, 0, 0, under=under), tiles
    window = fields.one_of("window", {name: i for i, name in enumerate(WINDOWS)})
    param = fields.take("window_param", int, None)
    if param == 0:
        raise ConfigError(f"{fields.where}: window_param is 0; give null for the window's own")
    overlap, amp_step, dc_step = (fields.take(name, int) for name in ("overlap", "amp_step", "dc_step"))
    return PlaneSpec(tile, overlap, window, subsample, amp_step, dc_step, param or 0, under=under), tiles


def _bytes(text: object, where: str) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{where} is no base64: {error}") from error
    raise ConfigError(f"{where} is {shown(text)}, not base64 in a string")


def _residuals(header: Header, planes: Sequence[_Plane]) -> list[bytes]:
    """Payloads of all residual sections, each of which was read."""
    found: list[bytes] = []
    spans = [*residual_spans(header)]
    for index, plane in enumerate(planes):
        own = [span for span in spans if span.plane == index]
        if len(own) != len(plane.payloads):
            raise ConfigError(
                f"plane {index}, residual has {len(plane.payloads)} sections; its size asks for {len(own)}"
            )
        for n, (span, payload) in enumerate(zip(own, plane.payloads, strict=True)):
            width, spec = plane_size(header, index)[1], plane.spec
            try:
                if payload:
                    read_field(payload, span.row_stop - span.row_start, width, spec.residual - 1, spec.tools, index)
            except BitstreamError as error:
                raise ConfigError(
                    f"plane {index}, residual, section {n} cannot be read with this size, step and tools: {error}"
                ) from error
            found.append(payload)
    return found


def _tile(fields: _Fields, number: int, nx: int, spec: PlaneSpec, codebook: Codebook) -> TileProgram:
    at, dc, layers = fields.take("at", list, None), fields.take("dc", int), fields.take("layers", list)
    fields.done()
    if at is not None and at != list(divmod(number, nx)):
        raise ConfigError(
            f"{fields.where}: at is {shown(at)}, but it stands in the place of {list(divmod(number, nx))}"
        )
    if not 0 <= dc < dc_levels(spec.dc_step):
        raise ConfigError(f"{fields.where}: dc is {dc}; give 0 to {dc_levels(spec.dc_step) - 1}")
    if len(layers) > MAX_LAYERS:
        raise ConfigError(f"{fields.where} has {len(layers)} layers; at most {MAX_LAYERS} can be coded")
    fine = fine_bits(spec.tile)
    own = [_layer(_Fields(layer, f"{fields.where}, layer {k}"), fine, codebook) for k, layer in enumerate(layers)]
    return TileProgram(dc, tuple(own))


def _layer(fields: _Fields, fine: int, codebook: Codebook) -> LayerRec:
    amp = fields.take("amp", int)
    if not 1 <= abs(amp) <= AMP_MAX:
        raise ConfigError(f"{fields.where}: amp is {amp}; give a whole number from 1 to {AMP_MAX}, or less than 0")
    if (continues := fields.take("continues", dict, None)) is not None:
        fields.done()
        way = _Fields(continues, f"{fields.where}, continues")
        side, number = way.one_of("side", {name: i for i, name in enumerate(SIDES)}), way.take("layer", int)
        way.done()
        if not 0 <= number < MAX_LAYERS:
            raise ConfigError(f"{way.where}: layer is {number}; give 0 to {MAX_LAYERS - 1}")
        return LayerRec(0, 0, (), 0, amp, Merge(side, number))
    gen = fields.one_of("generator", {name: i for i, name in enumerate(NAMES)})
    generator = load(gen)
    seed_index = fields.take("seed_index", int, 0)
    if not 0 <= seed_index < generator.seeds:
        raise ConfigError(f"{fields.where}: seed_index is {seed_index}; {NAMES[gen]} has 0 to {generator.seeds - 1}")
    entry, offsets = fields.take("entry", int, None), fields.take("offsets", list, None)
    values = fields.take("parameters", dict, None)
    fields.done()
    if entry is None:
        if values is None or offsets is not None:
            raise ConfigError(f"{fields.where} has no entry; give one with its offsets, or parameters alone")
        entry, steps = _nearest(fields.where, gen, values, fine, codebook)
        return LayerRec(gen, entry, steps, seed_index, amp)
    if not 0 <= entry < codebook.size(gen):
        raise ConfigError(
            f"{fields.where}: entry is {entry}; of {NAMES[gen]}, {codebook.id} has {codebook.size(gen)} entries"
        )
    params, reach = generator.params_at(fine), offset_reach(fine)
    steps = tuple(offsets if offsets is not None else [0] * len(params))
    if len(steps) != len(params) or not all(type(step) is int and abs(step) <= reach for step in steps):
        raise ConfigError(
            f"{fields.where}: offsets are {shown(list(steps))}; give {len(params)} whole numbers, {reach} at most"
        )
    layer = LayerRec(gen, entry, steps, seed_index, amp)
    if values is not None and values != (drawn := _layer_of(layer, fine, codebook)["parameters"]):
        changed = next(name for name in {**drawn, **values} if drawn.get(name) != values.get(name))
        raise ConfigError(
            f"{fields.where}: {changed} is {shown(values.get(changed))} in parameters, and {drawn.get(changed)} by "
            "entry and offsets; to have parameters count, leave entry and offsets out"
        )
    return layer


def _nearest(
    where: str, gen: int, values: Mapping[str, Any], fine: int, codebook: Codebook
) -> tuple[int, tuple[int, ...]]:
    """The entry and the offsets that come nearest to parameters: fewest steps apart, the first of those."""
    params = load(gen).params_at(fine)
    names = [p.name for p in params]
    for name, value in values.items():
        if name not in names:
            raise ConfigError(f"{where}: {NAMES[gen]} has no parameter {name!r}{did_you_mean(name, names)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise ConfigError(f"{where}: {name} is {shown(value)}, not a finite number")
    if not codebook.size(gen):
        raise ConfigError(f"{where}: codebook {codebook.id} has no entry of {NAMES[gen]}")
    levels = []
    for p in params:
        middle = float(p.value(p.levels // 2)) if p.default is None else p.default
        levels.append(p.nearest_step(float(values.get(p.name, middle)), fine))
    if not levels:
        return 0, ()
    reach = offset_reach(fine)
    ways = codebook.offsets_to(gen, torch.tensor([levels]), fine)[0]
    beyond = (ways.abs() - reach).clamp_(min=0).sum(dim=1)
    entry = int((beyond * (1 << 32) + ways.abs().sum(dim=1)).argmin())
    return entry, tuple(ways[entry].clamp(-reach, reach).tolist())


class _Fields:
    """Fields of a JSON object that are taken one by one; what is left at the end is not known."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, Mapping):
            raise ConfigError(f"{where} is {shown(content)}, not an object")
        self.where, self._left, self._names = where, dict(content), list[str]()

    def take(self, name: str, kind: type, *default: Any) -> Any:
        """A field of a kind; with a default, it may be missing or null."""
        self._names.append(name)
        value = self._left.pop(name, None)
        if value is None and default:
            return default[0]
        if value is None:
            raise ConfigError(f"{self.where} has no {name}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            expected = {int: "a whole number", str: "a text", list: "a list", dict: "an object"}[kind]
            raise ConfigError(f"{self.where}: {name} is {shown(value)}, not {expected}")
        return value

    def one_of(self, name: str, known: Mapping[str, int]) -> int:
        """Value that a name stands for."""
        value = self.take(name, str)
        if value not in known:
            near = did_you_mean(value, known) or f"; give one of {', '.join(list(known)[:8])}"
            raise ConfigError(f"{self.where}: no {name} {shown(value)}{near}")
        return known[value]

    def done(self) -> None:
        """Refuse fields that were not taken."""
        if self._left:
            name = str(next(iter(self._left)))
            raise ConfigError(f"{self.where} has a field {name!r} that is not known{did_you_mean(name, self._names)}")
