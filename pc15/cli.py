"""The command `pc15`: encode, decode, info, generators, metrics, bench, env.

A command's function is its documentation (the docstring is its --help), calls public functions, and prints.  Nothing
heavy is imported before a command runs, so --help answers at once.
Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from pc15 import __version__
from pc15.bench import INCLASS, INCLASS_LAMBDAS, INCLASS_SSIM, LAMBDAS, MAX_BPP, Anchor
from pc15.config import PRESETS, PROGRAMS, CodecConfig, PayloadFormat, Preset, Search, WindowName
from pc15.errors import BitstreamError, ConfigError, HooksError, Pc15Error, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from pc15.bitstream.header import Header
    from pc15.bitstream.records import Programs
    from pc15.hooks.heuristic import EncoderHooks

__all__ = ["main"]

STREAM_SUFFIX = ".pc15"
DEFAULT_PRESET: Preset = "balanced"
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_WEIGHT_ROLES = {"selector": "selector", "params": "param_predictor", "rd": "rd_predictor"}


# ---------------------------------------------------------------------------------------------- encode, decode


def encode(args: argparse.Namespace) -> int:
    """Describe pictures as programs of procedural patterns, one .pc15 stream each.

    Colour is coded as YCbCr 4:2:0, a picture without colour as luma alone.  A folder stands for the pictures in it.
    The same picture and options give the same bytes, on every device.
    """
    cfg = _codec_config(args)
    from pc15.bitstream import write_bitstream
    from pc15.encode import encode as encode_picture
    from pc15.images import IMAGE_SUFFIXES, load_luma, load_rgb
    from pc15.paths import resolve_device

    resolve_device(cfg.device)
    targets = _targets(_sources(args.images, tuple(IMAGE_SUFFIXES)), args.out, STREAM_SUFFIX)
    for _, target in targets:
        if target.suffix.lower() in IMAGE_SUFFIXES:
            right = target.with_suffix(STREAM_SUFFIX)
            raise ConfigError(f"-o {target} has a picture's suffix, but it will be a stream; call it {right}")

    def one(source: Path, target: Path) -> None:
        began = time.perf_counter()
        picture = load_luma(source) if args.gray else load_rgb(source)
        if picture.shape[0] == 3 and bool((picture == picture[:1]).all()):
            picture = picture[:1]
        coded = encode_picture(picture, cfg)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bitstream(target, coded["bitstream"])
        size = f"{picture.shape[2]}x{picture.shape[1]}"
        print(
            f"{target}: {size} in {len(coded['bitstream'])} bytes, {coded['bpp']:.4f} bpp, "
            f"{coded['stats']['layers']} layers, {time.perf_counter() - began:.1f} s",
            flush=True,
        )

    return _each(targets, one)


def decode(args: argparse.Namespace) -> int:
    """Redraw pictures from .pc15 streams; the pixels are the same on every machine and device.

    A stream that is damaged is refused.  With --lenient its sound sections are drawn and the lost ones concealed.
    """
    from pc15.bitstream import read_bitstream
    from pc15.decode import decode as decode_picture
    from pc15.images import IMAGE_SUFFIXES, save_image
    from pc15.paths import resolve_device

    resolve_device(args.device)
    targets = _targets(_sources(args.streams, (STREAM_SUFFIX,)), args.out, ".png")
    for _, target in targets:
        if target.suffix.lower() not in IMAGE_SUFFIXES:
            near = did_you_mean(target.suffix, IMAGE_SUFFIXES)
            raise ConfigError(
                f"-o {target} has no picture's suffix{near}; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )

    def one(source: Path, target: Path) -> None:
        began = time.perf_counter()
        data = read_bitstream(source, strict=not args.lenient)
        picture = decode_picture(data, device=args.device, strict=not args.lenient)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_image(target, picture)
        size = f"{picture.shape[2]}x{picture.shape[1]}"
        print(f"{target}: {size} from {len(data)} bytes, {time.perf_counter() - began:.1f} s", flush=True)

    return _each(targets, one)


def _sources(given: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Files as they are named, folders as the files in and below them that have one of the suffixes."""
    found: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise ConfigError(f"no file in {path} ends in {', '.join(suffixes)}")
        found += [p for p in inside if p not in found]
    return found


def _targets(sources: Sequence[Path], given: str, suffix: str) -> list[tuple[Path, Path]]:
    """Where each source's result goes: `given` itself for a single one, or a file in the folder of that name."""
    out = Path(given)
    folder = len(sources) > 1 or out.is_dir() or given.endswith(("/", os.sep))
    if folder and out.exists() and not out.is_dir():
        raise ConfigError(f"-o {out} is a file, but there are {len(sources)} inputs; give a folder")
    targets = [(source, out / f"{source.stem}{suffix}" if folder else out) for source in sources]
    seen: dict[Path, Path] = {}
    for source, target in targets:
        if target in seen:
            raise ConfigError(f"{seen[target]} and {source} would both become {target}; give them one by one")
        seen[target] = source
        if target.resolve() == source.resolve():
            raise ConfigError(f"-o {target} is the input itself; give another name")
    return targets


def _each(targets: Sequence[tuple[Path, Path]], one: Callable[[Path, Path], None]) -> int:
    """Do one after the other; a bad one is reported and the others are still done."""
    failed = 0
    for source, target in targets:
        try:
            one(source, target)
        except BrokenPipeError:
            raise
        except (Pc15Error, OSError) as error:
            named = str(source) in str(error) or str(target) in str(error)
            _complain(str(error) if named else f"{source}: {error}")
            failed += 1
    if failed and len(targets) > 1:
        _complain(f"{failed} of {len(targets)} failed, the others are done")
    return FAILED if failed else DONE


def _on_or_off(text: str) -> bool:
    """The argument of a switch."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def _codec_config(args: argparse.Namespace) -> CodecConfig:
    """Options: the preset's, then the config file's, then the command line's."""
    changes = _config_file(args.config) if args.config else {}
    preset = args.preset or changes.pop("preset", DEFAULT_PRESET)
    changes.pop("preset", None)
    for name, flag in _FLAGS.items():
        value = getattr(args, name)
        if value is not None:
            changes[flag.option] = value
    if args.hooks != "none":
        changes = {**PROGRAMS, **changes, "ai": _hooks(args.hooks)}  # hooks steer the search of tile programs
    return CodecConfig.preset(preset, **changes)


def _config_file(path: Path) -> dict[str, Any]:
    """Options of a YAML file; a name that is not one is refused with a guess by `CodecConfig.preset`."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} holds {type(content).__name__}, not lines of `option: value`")
    if "ai" in content:
        raise ConfigError(f"{path} sets ai; hooks are given by --hooks")
    return content


def _hooks(spec: str) -> EncoderHooks:
    """Hooks by name, or all weights of a folder by the role in their cards."""
    if spec == "heuristic":
        from pc15.hooks.heuristic import HeuristicHooks

        return HeuristicHooks()
    folder = Path(spec)
    if not folder.is_dir():
        near = did_you_mean(spec, ["none", "heuristic"])
        raise ConfigError(f"--hooks {spec} is no folder{near}; give none, heuristic, or a folder of .safetensors files")
    import yaml

    from pc15.hooks.ai import AiHooks, card_path

    roles: dict[str, Path] = {}
    for weights in sorted(folder.glob("*.safetensors")):
        card = card_path(weights)
        try:
            content = yaml.safe_load(card.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise HooksError(f"{weights} has no readable card {card.name}: {error}; export it again") from error
        role = content.get("role") if isinstance(content, dict) else None
        if role not in _WEIGHT_ROLES:
            raise HooksError(f"{card} has role {role!r}; it must be one of {', '.join(_WEIGHT_ROLES)}")
        if role in roles:
            raise ConfigError(f"{roles[role]} and {weights} are both {role} weights; keep one of them in {folder}")
        roles[role] = weights
    if not roles:
        raise ConfigError(f"no .safetensors file in {folder}; write some with pc15learn export")
    return AiHooks(**{_WEIGHT_ROLES[role]: path for role, path in roles.items()})  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- info


def info(args: argparse.Namespace) -> int:
    """Say what a stream holds: its header, where its bytes and bits go, and which patterns it is made of.

    Nothing is drawn.  A damaged stream is described as far as it can be read.
    """
    from pc15.bitstream import read_bitstream
    from pc15.decode import read_programs

    data = read_bitstream(args.stream, strict=False)
    header, programs, metadata, damage = read_programs(data, strict=False)
    content = _described(data, header, programs, metadata)
    content["metadata"] = metadata
    content["damage"] = damage
    if args.tiles:
        content["tile_map"] = _tile_map(header, programs)
    if args.json:
        print(json.dumps({"stream": str(args.stream), **content}, indent=2))
    else:
        _print_info(args.stream, content)
    return FAILED if damage else DONE


def _described(
    data: bytes, header: Header, programs: Sequence[Programs], metadata: dict[str, Any] | None
) -> dict[str, Any]:
    """A stream's header, sizes and statistics as plain JSON values."""
    from pc15.bitstream import read_container, section_spans, unpack_v15
    from pc15.bitstream.header import CRC_BYTES, PAYLOAD_RAW, VERSION, WINDOWS, plane_size, tile_counts
    from pc15.bitstream.records import Writer, code_section
    from pc15.decode import section_syntax
    from pc15.entropy.tables import load_table
    from pc15.proc.codebook import load_codebook
    from pc15.proc.generators import NAMES
    from pc15.quant import step_q15

    tables, codebook = load_table(header.table_id), load_codebook(header.codebook_id)
    stream = read_container(data, strict=False)
    sections = stream.sections
    payload = [None if section is None else len(section) for section in (*sections, *stream.residuals)]
    bits: dict[str, float] = {}
    for span, section in zip(section_spans(header), sections, strict=True):
        if section is None:
            continue
        writer, nx = Writer(tables), tile_counts(header, span.plane)[1]
        part = programs[span.plane].rows(span.row_start * nx, span.row_stop * nx)
        code_section(writer, section_syntax(header, span, codebook), part)
        for kind, cost in writer.bits_by_kind().items():
            bits[kind] = bits.get(kind, 0.0) + cost
    if stream.residuals:
        bits["residual"] = 8.0 * sum(len(part) for part in stream.residuals if part is not None)
    planes = []
    for index, spec in enumerate(header.planes):
        height, width = plane_size(header, index)
        most = int(programs[index].count.max(initial=-1))
        counts = [int((programs[index].count == layers).sum()) for layers in range(most + 1)]
        planes.append(
            {
                "name": ("Y", "Cb", "Cr")[index],
                "width": width,
                "height": height,
                "tile": spec.tile,
                "overlap": spec.overlap,
                "window": WINDOWS[spec.window],
                "window_param": float(next(iter(params.values()))) if (params := spec.window_params()) else None,
                "tiles": list(tile_counts(header, index)),
                "amp_step": step_q15(spec.amp_step) / 32768,
                "dc_step": step_q15(spec.dc_step) / 32768,
                "tiles_by_layers": counts,
                "residual_step": 2.0 ** (-(spec.residual - 1) / 8) if spec.residual else None,
            }
        )
    used: dict[str, int] = {}
    merged = sum(int((plane.source > 0).sum()) for plane in programs)
    for plane in programs:
        for n in range(plane.tiles):
            for gen in plane.gen[n, : plane.count[n]].tolist():
                used[NAMES[gen]] = used.get(NAMES[gen], 0) + 1
    parts = {
        "header": unpack_v15(data)[1],
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
        "layers_by_generator": dict(sorted(used.items(), key=lambda item: (-item[1], item[0]))),
    }


def _canonical(metadata: dict[str, Any]) -> bytes:
    """Metadata as it lies in the stream."""
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _tile_map(header: Header, programs: Sequence[Programs]) -> list[dict[str, Any]]:
    """Every tile's place and program."""
    from pc15.bitstream.records import SIDES
    from pc15.decode import plane_grid
    from pc15.proc.generators import NAMES

    tiles = []
    for index, plane in enumerate(programs):
        if not plane.tiles:
            continue
        grid = plane_grid(header, index)
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
            place = {"plane": index, "row": n // grid.nx, "col": n % grid.nx, "y": y, "x": x}
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
        window = plane["window"] + (f" {plane['window_param']:g}" if plane["window_param"] is not None else "")
        rows.append(
            (
                plane["name"],
                f"{plane['width']}x{plane['height']}",
                str(plane["tile"]),
                str(plane["overlap"]),
                window,
                f"{plane['tiles'][1]}x{plane['tiles'][0]}",
                f"{plane['amp_step']:.5f}",
                f"{plane['dc_step']:.5f}",
                "none" if plane["residual_step"] is None else f"{plane['residual_step']:.5f}",
                " ".join(map(str, plane["tiles_by_layers"])),
            )
        )
    print(_columns(rows))
    print("\nbytes: " + ", ".join(f"{name} {size}" for name, size in content["bytes_of"].items() if size))
    if len(content["section_bytes"]) > 1:
        print("sections: " + " ".join("lost" if size is None else str(size) for size in content["section_bytes"]))
    total = sum(content["bits_by_kind"].values()) or 1.0
    print(
        "\n"
        + _columns(
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
            + _columns(
                [("generator", "layers", "share"), *((g, str(n), f"{n / layers:.1%}") for g, n in used.items())],
                right=(1, 2),
            )
        )
    else:
        print("\nno layers")
    if content["metadata"] is not None:
        print("\nmetadata: " + json.dumps(content["metadata"], sort_keys=True))
    for tile in content.get("tile_map", []):
        place = f"plane {tile['plane']} row {tile['row']} col {tile['col']} at y={tile['y']} x={tile['x']}"
        print(f"{place}: dc {tile['dc']}" + "".join(f"; {_layer_text(layer)}" for layer in tile["layers"]))
    for sentence in content["damage"]:
        _complain(sentence)


def _layer_text(layer: dict[str, Any]) -> str:
    offsets = " offsets " + ",".join(f"{o:+d}" for o in layer["offsets"]) if any(layer["offsets"]) else ""
    seed = f" seed {layer['seed_index']}" if layer["seed_index"] else ""
    return f"{layer['amp']:+d} {layer['generator']} {layer['qv_id']}{offsets}{seed}"


# ---------------------------------------------------------------------------- generators, metrics, env


def generators(args: argparse.Namespace) -> int:
    """List the patterns that pictures are made of, with their parameters, or describe one of them.

    Entries are the codebook's parameter vectors, seeds the variants of a random pattern; the encoder's bank holds
    every combination of both.
    """
    from pc15.images import save_image
    from pc15.proc.codebook import GRID_ID, load_codebook
    from pc15.proc.generators import NAMES, load
    from pc15.proc.registry import gen_id

    codebook = load_codebook(GRID_ID)
    rows: list[tuple[str, ...]]
    if args.name is not None:
        name = args.name.upper()
        gen = gen_id(name)
        generator = load(gen)
        print(f"{name}, generator {gen}: {generator.summary}")
        print(f"{codebook.size(gen)} entries in {GRID_ID}, {_count(generator.seeds, 'seed')}")
        rows = [("parameter", "from", "to", "levels", "in the codebook", "unit", "")]
        for p in generator.params:
            notes = ", ".join(note for note, on in (("logarithmic", p.log), ("periodic", p.periodic)) if on)
            rows.append((p.name, f"{p.lo:g}", f"{p.hi:g}", str(p.levels), str(p.coarse), p.unit or p.kind, notes))
        print(_columns(rows, right=(1, 2, 3, 4)))
    else:
        rows = [("id", "name", "entries", "seeds", "parameters")]
        for gen, name in enumerate(NAMES):
            generator = load(gen)
            params = ", ".join(f"{p.name} {p.lo:g}..{p.hi:g} {p.unit or p.kind}" for p in generator.params)
            rows.append((str(gen), name, str(codebook.size(gen)), str(generator.seeds), params))
        print(_columns(rows, right=(0, 2, 3)))
    if args.preview is not None:
        save_image(args.preview, _preview(args.name.upper() if args.name is not None else None))
        print(f"drawn on {args.preview}")
    return DONE


def _preview(name: str | None) -> Tensor:
    """All generators at their defaults, or one with each parameter low, in the middle and high; uint8 planes."""
    from pc15.images import to_u8
    from pc15.proc.registry import get, render
    from pc15.viz import generator_sheet, montage

    if name is None:
        return generator_sheet()
    pictures, labels = [], []
    for p in get(name).params:
        for level in (0, p.levels // 2, p.levels - 1):
            value = float(p.value(level))
            pictures.append(to_u8(render(name, 96, 96, {p.name: value})[0, 0] * 0.5 + 0.5))
            labels.append(f"{p.name} {value:g}")
    if not pictures:
        pictures, labels = [to_u8(render(name, 96, 96)[0, 0] * 0.5 + 0.5)], [name]
    return montage(pictures, labels, columns=3)


def metrics(args: argparse.Namespace) -> int:
    """Compare the luma of two pictures of the same size; either may be a .pc15 stream.

    PSNR has peak 1.0; SSIM is the 11x11 Gaussian one, sigma 1.5, from 11x11 pixels on, MS-SSIM from 161x161 on.
    """
    from pc15.metrics import MS_SSIM_WEIGHTS, SSIM_WINDOW, ms_ssim, psnr, ssim

    (a, bpp_a), (b, bpp_b) = (_luma(path, args.device) for path in (args.a, args.b))
    found = {"psnr_y": psnr(a, b)}
    side = min(a.shape[-2:])
    if side >= SSIM_WINDOW:
        found["ssim_y"] = ssim(a, b)
    if side > (SSIM_WINDOW - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1):
        found["ms_ssim_y"] = ms_ssim(a, b)
    for key, bpp in (("bpp_a", bpp_a), ("bpp_b", bpp_b)):
        if bpp is not None:
            found["bpp" if (bpp_a is None) != (bpp_b is None) else key] = bpp
    if args.json:
        infinite = {key: None if value == float("inf") else value for key, value in found.items()}
        print(json.dumps({"a": str(args.a), "b": str(args.b), **infinite}, indent=2))
        return DONE
    names = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "ms_ssim_y": "MS-SSIM-Y"}
    text = {"psnr_y": "{:.4f} dB", "bpp": "{:.5f}", "bpp_a": "{:.5f}", "bpp_b": "{:.5f}"}
    print(_columns([(names.get(key, key), text.get(key, "{:.6f}").format(value)) for key, value in found.items()]))
    return DONE


def _luma(path: Path, device: str) -> tuple[Tensor, float | None]:
    """Luma [1,1,H,W] in [0,1] of a picture or of a stream, and the stream's bits per pixel."""
    from pc15.bitstream import read_bitstream
    from pc15.bitstream.header import MAGIC
    from pc15.decode import decode_y
    from pc15.images import load_luma, luma_tensor

    try:
        with path.open("rb") as file:
            stream = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise BitstreamError(f"cannot read {path}: {error.strerror or error}") from error
    if not stream:
        return luma_tensor(load_luma(path)), None
    data = read_bitstream(path)
    y = decode_y(data, device=device)
    return y, 8 * len(data) / (y.shape[-1] * y.shape[-2])


def env(args: argparse.Namespace) -> int:
    """Say what this machine is, for a bug report or a benchmark."""
    from pc15.paths import ENV_VARIABLES, env_summary

    summary = env_summary()
    if args.json:
        print(json.dumps(summary, indent=2))
        return DONE
    chosen = summary.pop("env")
    print(_columns([(key, "-" if value is None else str(value)) for key, value in summary.items()]))
    given = chosen if isinstance(chosen, dict) else {}
    print("\n" + _columns([(name, str(given.get(name, "not set")), what) for name, what in ENV_VARIABLES.items()]))
    return DONE


def bench_speed(args: argparse.Namespace) -> int:
    """Time the search, stage by stage, and encoding and decoding as wholes.

    Shares are of the integer product's speed, measured in the same run; times are the shortest of --repeats.  Encoding
    is timed with tile programs alone, as the stages are, and as the preset stands.
    """
    from pc15.bench.speed import run_speed, write_csv, write_json

    timings = run_speed(
        args.images, presets=args.presets, device=args.device, repeats=args.repeats, limit=args.limit
    )  # fmt: skip
    table = [("stage", "seconds", "rate", "unit", "of ceiling", "peak MiB", "")]
    for t in timings:
        share = "" if t.share is None else f"{100 * t.share:.0f} %"
        table.append((t.stage, f"{t.seconds:.4f}", f"{t.rate:.4g}", t.unit, share, f"{t.peak_mib:.0f}", t.note))
    print(_columns(table, right=(1, 2, 4, 5)))
    if args.out is not None:
        write_csv(timings, args.out)
    if args.json is not None:
        write_json(timings, args.json)
    return DONE


def bench_sheet(args: argparse.Namespace) -> int:
    """Draw a picture beside itself as several codecs leave it at the same number of bytes.

    Luma only.  A codec that cannot make a file that small shows its smallest.
    """
    from pc15.bench.sheet import compare
    from pc15.images import save_image

    sheet, rows = compare(args.image, args.rates, preset=args.preset, against=args.against, crop=args.crop)
    save_image(args.out, sheet[None])
    header = ["codec", "bytes", "bpp", "PSNR-Y dB", "SSIM"]
    print(_columns([header, *rows], right=range(1, len(header))))
    print(f"{args.out}: the pictures")
    return DONE


def bench_rd(args: argparse.Namespace) -> int:
    """Measure rate and distortion of PC15, and of conventional codecs beside it, on luma.

    Each picture is coded as one 8-bit gray plane, at setting after setting; whole-file bytes, PSNR and Gaussian SSIM
    go to a CSV as they come, and a run that was cut off goes on where it stopped.  Printed are means per setting and
    at fixed rates (read per picture between its points), and BD-rates (per picture; refused where the curves share
    less than half of their quality range).
    """
    from pc15.bench.rd import run_rd
    from pc15.bench.summary import choose_reference, report, tables, write_compressai

    outputs = [path.resolve() for path in (args.out, args.anchors, args.json, args.html) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ConfigError("--out, --anchors, --json and --html name one file twice; give each its own")
    options = {"alpha_mix": args.alpha, "device": args.device, "tile": args.tile, "overlap": args.overlap}
    options |= {"residual": args.residual, "max_layers": args.max_layers}
    points = run_rd(
        args.images,
        args.out,
        presets=[] if args.presets == ["none"] else args.presets,
        against=args.against,
        anchors=args.anchors,
        reference=args.reference,
        lambdas=args.lambdas,
        max_bpp=args.max_bpp,
        workers=args.workers,
        force=args.force,
        **{name: value for name, value in options.items() if value is not None},
    )
    reference = choose_reference(points, args.reference, args.against)
    for table in tables(points, reference):
        print(table.title)
        print(_columns([table.header, *table.rows], right=range(1, len(table.header))))
        print("\n".join([*table.notes, ""]))
    if args.html is not None:
        print(f"{report(points, reference).write(args.html)}: tables and plots")
    for path in write_compressai(points, args.json) if args.json is not None else []:
        print(f"{path}: means per setting, in CompressAI's layout")
    pictures = len({point.picture for point in points})
    print(f"{_count(len(points), 'point')} of {_count(pictures, 'picture')}; what was measured is in {args.out}")
    return DONE


def bench_inclass(args: argparse.Namespace) -> int:
    """Measure what a picture costs that is one pattern: drawn in floating point, coded as one tile.

    Each class has pictures of random parameters.  Of a picture's files, one per lambda, the smallest that reaches the
    wanted SSIM (Gaussian, 8-bit luma) counts, or else the best.  Whole-file bytes, PSNR and SSIM go to a CSV as they
    come, and a run that was cut off goes on where it stopped.
    """
    from pc15.bench.inclass import run_inclass, summarise

    points = run_inclass(
        args.out,
        classes=args.classes,
        count=args.count,
        size=args.size,
        seed=args.seed,
        lambdas=args.lambdas,
        preset=args.preset,
        device=args.device,
        force=args.force,
    )
    header = ["class", "pictures", "bytes", "most", "SSIM", "least", f"share from {INCLASS_SSIM:g}", "s per file"]
    rows = [
        [
            r.name, str(r.pictures), f"{r.bytes_median:g}", str(r.bytes_max), f"{r.ssim_median:.4f}",
            f"{r.ssim_min:.4f}", f"{r.reached:.0%}", f"{r.seconds:.1f}",
        ]
        for r in summarise(points)
    ]  # fmt: skip
    print(_columns([header, *rows], right=range(1, len(header))))
    print(f"bytes, SSIM and seconds are medians; what was measured is in {args.out}")
    return DONE


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; give names with single commas, such as A,B")
    return names


def _rectangle(text: str) -> tuple[int, int, int, int]:
    """The argument of --crop."""
    parts = [int(part) if part.isdigit() else -1 for part in text.split(",")]
    if len(parts) != 4 or min(parts) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers Y,X,H,W")
    return parts[0], parts[1], parts[2], parts[3]


def _numbers(text: str) -> list[float]:
    numbers = []
    for name in text.split(","):
        try:
            numbers.append(float(name))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{name.strip()!r} in {text!r} is not a number; give numbers with commas, such as 4,1,0.25"
            ) from None
    return numbers


# ---------------------------------------------------------------------------------------------- the parser


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A flag of `encode` that sets one option of CodecConfig."""

    flag: str
    option: str
    help: str
    type: Callable[[str], Any] = str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None


_SWITCHED = {"True": "on", "False": "off"}
_UNSET = {"window_param": "the window's own", "quality": "lambda's"}

_FLAGS = {
    flag.flag[2:].replace("-", "_"): flag
    for flag in (
        _Flag("--tile", "tile", "tile side, 4..1024; 0: the encoder's choice; overlap follows unless given", int, "PX"),
        _Flag("--overlap", "overlap", "pixels shared by neighbouring tiles, below the tile's side", int, "PX"),
        _Flag("--lambda", "lambda_rd", "price of a bit per pixel: smaller is better and larger", float, "X"),
        _Flag("--quality", "quality", "0 (smallest) to 100 (best), in place of --lambda", float, "Q"),
        _Flag("--alpha", "alpha_mix", "share of 1 - SSIM in what counts as error, 0..1; the rest is MSE", float, "X"),
        _Flag("--seed", "seed", "the stream's seed, 0..2^32-1, for noise patterns", int, "N"),
        _Flag("--window", "window", "how overlapping tiles are cross-faded", choices=get_args(WindowName)),
        _Flag("--window-param", "window_param", "Tukey's alpha or Kaiser's beta", float, "X"),
        _Flag("--search", "search", "score all candidates in full, or screen them first", choices=get_args(Search)),
        _Flag("--merge", "merge", "let tiles continue patterns of their neighbours", _on_or_off, "on|off"),
        _Flag("--residual", "residual", "code what tiles leave as transform coefficients", _on_or_off, "on|off"),
        _Flag("--tries", "tries", "predictions that the residual tries in full per square, 1..8", int, "N"),
        _Flag("--max-layers", "max_layers", "most patterns per tile, 0..16", int, "N"),
        _Flag("--payload-format", "payload_fmt", "raw is for debugging", choices=get_args(PayloadFormat)),
        _Flag("--section-rows", "section_rows", "tile rows per section that decodes on its own; 0 chooses", int, "N"),
        _Flag("--device", "device", "cpu, cuda, cuda:N, or auto: CUDA where there is one", metavar="NAME"),
    )
}


class _Parser(argparse.ArgumentParser):
    """Errors are one line, with a guess."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
        if wrong:
            message += did_you_mean(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        _complain(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help")
        sys.exit(USAGE)

    def options(self) -> list[str]:
        return list(self._option_string_actions)


def _parser() -> _Parser:
    parser = _Parser(
        prog="pc15",
        description="PC15 codes a picture as a program of procedural patterns; it redraws to the same pixels anywhere.",
        epilog="first steps:\n"
        "  pc15 encode photo.png -o photo.pc15 --lambda 0.25\n"
        "  pc15 info photo.pc15\n"
        "  pc15 decode photo.pc15 -o back.png\n"
        "  pc15 metrics photo.png photo.pc15\n\n"
        "exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"pc15 {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], int], *examples: str, within: Any = commands) -> _Parser:
        text = " ".join((run.__doc__ or "").split("\n\n")[0].split())
        added: _Parser = within.add_parser(
            run.__name__.rpartition("_")[2],
            help=text[0].lower() + text[1:].rstrip("."),
            description=_dedented(run.__doc__ or ""),
            epilog="examples:\n" + "\n".join(f"  pc15 {example}" for example in examples),
        )
        added.set_defaults(run=run, parser=added)
        return added

    add = command(
        encode,
        "encode photo.png -o photo.pc15",
        "encode photo.png -o small.pc15 --lambda 1 --preset oracle",
        "encode photos/ more.jpg -o streams/ --gray --hooks heuristic",
        "encode photo.png -o photo.pc15 --config options.yaml --tile 64",
    )
    add.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files, or folders of them")
    add.add_argument("-o", "--out", required=True, help="the stream; a folder for several pictures")
    presets = get_args(Preset)
    add.add_argument("--preset", choices=presets, help=f"options to start from (default: {DEFAULT_PRESET})")
    add.add_argument("--config", type=Path, metavar="FILE", help="YAML of CodecConfig options; flags win over it")
    add.add_argument("--gray", action="store_true", help="code luma alone (default: colour where there is any)")
    add.add_argument(
        "--hooks",
        default="none",
        help="what narrows the search of tile programs: none, heuristic, or a folder of weights; with hooks the "
        "picture is programs alone, of 32 px, unless flags say otherwise (default: none)",
    )
    defaults = {field.name: field.default for field in dataclasses.fields(CodecConfig)}
    for name, flag in _FLAGS.items():
        per_preset = [PRESETS[preset].get(flag.option, defaults.get(flag.option)) for preset in presets]
        shown = " ".join(map(str, dict.fromkeys(per_preset)))
        if len(set(per_preset)) > 1:
            shown = ", ".join(f"{value} in {preset}" for preset, value in zip(presets, per_preset, strict=True))
        default = _UNSET[flag.option] if shown == "None" else shown
        add.add_argument(
            flag.flag, dest=name, type=flag.type, choices=flag.choices, metavar=flag.metavar,
            help=f"{flag.help} (default: {_SWITCHED.get(default, default)})",
        )  # fmt: skip

    add = command(
        decode,
        "decode photo.pc15 -o photo.png",
        "decode streams/ -o pictures/",
        "decode damaged.pc15 -o rest.png --lenient",
    )
    add.add_argument("streams", nargs="+", type=Path, metavar="STREAM", help="streams, or folders of them")
    add.add_argument("-o", "--out", required=True, help="the picture; a folder of PNG for several streams")
    add.add_argument(
        "--lenient", action="store_true", help="draw what is sound in a damaged stream (default: refuse it)"
    )
    add.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: %(default)s)"
    )

    add = command(info, "info photo.pc15", "info photo.pc15 --tiles", "info photo.pc15 --json")
    add.add_argument("stream", type=Path, metavar="STREAM", help="a stream")
    add.add_argument("--tiles", action="store_true", help="also list every tile's program")
    add.add_argument("--json", action="store_true", help="print one JSON object")

    add = command(generators, "generators", "generators STRIPES", "generators --preview sheet.png")
    add.add_argument("name", nargs="?", metavar="NAME", help="describe this one (default: a table of all)")
    add.add_argument(
        "--preview", type=Path, metavar="FILE", help="also draw them, or the one's parameters, as a picture"
    )

    add = command(metrics, "metrics photo.png back.png", "metrics photo.png photo.pc15 --json")
    add.add_argument("a", type=Path, metavar="A", help="a picture or a stream")
    add.add_argument("b", type=Path, metavar="B", help="another one of the same size")
    add.add_argument(
        "--device", default="auto", metavar="NAME", help="where streams are decoded (default: %(default)s)"
    )
    add.add_argument("--json", action="store_true", help="print one JSON object; an infinite PSNR is null")

    group = commands.add_parser(
        "bench",
        help="measure the codec, by one protocol for all",
        description="Measure the codec, by one protocol for all.",
        epilog="examples:\n  pc15 bench rd --images photos/ --against jpeg --out rd.csv\n\n"
        "`pc15 bench rd --help` has its options",
    )
    group.set_defaults(parser=group)
    benchmarks = group.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)

    add = command(
        bench_speed,
        "bench speed --images photos/ --limit 3",
        "bench speed --images photo.png --presets oracle --device cuda --out speed.csv",
        within=benchmarks,
    )
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add.add_argument(
        "--presets", type=_names, default=list(presets), metavar="A,B", help=f"of {', '.join(presets)} (default: all)"
    )
    add.add_argument("--limit", type=int, metavar="N", help="so many pictures (default: all)")
    add.add_argument("--repeats", type=int, default=3, metavar="N", help="how often each is timed (default: 3)")
    add.add_argument("--out", type=Path, metavar="FILE", help="also a CSV")
    add.add_argument("--json", type=Path, metavar="FILE", help="also JSON")
    add.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: auto)")

    add = command(
        bench_inclass,
        "bench inclass --out inclass.csv",
        "bench inclass --classes stripes,rings --count 4 --size 256 --lambdas 16 --out some.csv",
        within=benchmarks,
    )
    add.add_argument(
        "--classes", type=_names, default=list(INCLASS), metavar="A,B", help=f"of {', '.join(INCLASS)} (default: all)"
    )
    add.add_argument("--count", type=int, default=20, metavar="N", help="pictures of each (default: 20)")
    add.add_argument("--size", type=int, default=512, metavar="PX", help="their side, 11..1024 (default: 512)")
    add.add_argument("--seed", type=int, default=0, metavar="N", help="of their parameters (default: 0)")
    add.add_argument(
        "--lambdas", type=_numbers, default=list(INCLASS_LAMBDAS), metavar="X,Y",
        help=f"the ladder (default: {','.join(f'{lam:g}' for lam in INCLASS_LAMBDAS)})",
    )  # fmt: skip
    add.add_argument("--preset", choices=presets, default=DEFAULT_PRESET, help=f"(default: {DEFAULT_PRESET})")
    add.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the CSV; what it holds already is not measured again"
    )
    add.add_argument("--force", action="store_true", help="measure again what the CSV holds (default: go on)")
    add.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: auto)")

    add = command(
        bench_sheet,
        "bench sheet photo.png --out sheet.png",
        "bench sheet photo.png --rates 0.05,0.15,0.5 --crop 64,0,256,256 --out sheet.png",
        within=benchmarks,
    )
    add.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    add.add_argument("--out", type=Path, required=True, metavar="FILE", help="the sheet, a picture too")
    add.add_argument(
        "--rates", type=_numbers, default=[0.05, 0.15, 0.5], metavar="X,Y", help="bpp (default: 0.05,0.15,0.5)"
    )
    add.add_argument(
        "--against", type=_names, default=["jpeg", "jpeg2000"], metavar="A,B",
        help=f"columns beside PC15, of {', '.join(get_args(Anchor))} (default: jpeg,jpeg2000)",
    )  # fmt: skip
    add.add_argument("--preset", choices=presets, default=DEFAULT_PRESET, help="PC15's (default: %(default)s)")
    add.add_argument("--crop", type=_rectangle, metavar="Y,X,H,W", help="the part that is shown (default: all of it)")

    add = command(
        bench_rd,
        "bench rd --images photos/ --out rd.csv",
        "bench rd --images photos/ --presets fast,balanced --against jpeg,jpeg2000 --out rd.csv --html rd.html",
        "bench rd --images photos/ --presets oracle --alpha 0 --lambdas 8,4,2,1 --out psnr.csv",
        "bench rd --images photos/ --presets none --anchors other.csv --reference jpeg --out rd.csv",
        within=benchmarks,
    )
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the CSV; what it holds already is not measured again"
    )
    add.add_argument(
        "--force",
        action="store_true",
        help="measure again what the CSV holds, as after a change of the codec (default: go on)",
    )
    add.add_argument(
        "--presets", type=_names, default=[DEFAULT_PRESET], metavar="A,B",
        help=f"{', '.join(presets)}; none: only the other codecs (default: {DEFAULT_PRESET})",
    )  # fmt: skip
    add.add_argument(
        "--against", type=_names, default=[], metavar="A,B",
        help=f"also measure {', '.join(get_args(Anchor))} (default: none)",
    )  # fmt: skip
    add.add_argument(
        "--anchors", type=Path, metavar="CSV", help="also show the points of another such CSV (default: none)"
    )
    add.add_argument(
        "--reference", metavar="CODEC",
        help="what BD-rates are against (default: the first of --against, else jpeg, else the first other codec)",
    )  # fmt: skip
    add.add_argument(
        "--lambdas", type=_numbers, default=list(LAMBDAS), metavar="X,Y",
        help=f"PC15's ladder (default: {','.join(f'{lam:g}' for lam in LAMBDAS)})",
    )  # fmt: skip
    add.add_argument(
        "--alpha", type=float, metavar="X", help=f"share of 1 - SSIM in D (default: {defaults['alpha_mix']})"
    )
    add.add_argument("--tile", type=int, metavar="PX", help="tile side (default: the preset's)")
    add.add_argument("--overlap", type=int, metavar="PX", help="overlap (default: the preset's)")
    add.add_argument("--residual", type=_on_or_off, metavar="on|off", help="residual (default: the preset's)")
    add.add_argument("--max-layers", type=int, metavar="N", help="most patterns per tile (default: the preset's)")
    add.add_argument(
        "--max-bpp", type=float, default=MAX_BPP, metavar="X",
        help="a ladder is left after its first point above (default: %(default)s)",
    )  # fmt: skip
    add.add_argument("--workers", type=int, default=1, metavar="N", help="processes; one for fair times (default: 1)")
    add.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: auto)")
    add.add_argument(
        "--html", "--plots", type=Path, metavar="FILE", help="also write the tables and RD plots as a page"
    )
    add.add_argument(
        "--json", type=Path, metavar="FILE",
        help="also write CompressAI's results; with several codecs one file each, FILE-codec.json",
    )  # fmt: skip

    add = command(env, "env", "env --json")
    add.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _dedented(doc: str) -> str:
    return "\n".join(line[4:] if line.startswith("    ") else line for line in doc.strip().splitlines())


def _columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Cells as aligned columns; those of the indices `right` flush right, the last one ragged."""
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _complain(message: str, level: str = "error") -> None:
    print(f"pc15: {level}: {' '.join(message.split())}", file=sys.stderr, flush=True)


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage(), record.levelname.lower())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.  Wrong usage and --help leave by SystemExit, as argparse does."""
    log, handler = logging.getLogger("pc15"), _OneLine(logging.WARNING)
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _complain(str(message), "warning")
            parser = _parser()
            args, unknown = parser.parse_known_args(argv)
            if unknown:
                own: _Parser = args.parser
                own.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0].split('=')[0], own.options())}")
            code: int = args.run(args)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        _complain("interrupted; what was finished stays")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has enough; what Python flushes at exit must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ConfigError, UnknownNameError) as error:
        _complain(str(error))
        return USAGE
    except (Pc15Error, OSError) as error:
        _complain(str(error))
        return FAILED
    finally:
        log.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
