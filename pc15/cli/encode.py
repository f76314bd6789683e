"""`pc15 encode`: pictures to streams."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pc15.cli.encode_stats import Stats
from pc15.cli.files import (
    STANDARD,
    Tally,
    each_together,
    find_sources,
    name_targets,
    opened,
    wanted_pairs,
    write_standard,
)
from pc15.cli.hooks import hooks_of
from pc15.cli.parser import (
    DEFAULT_PRESET,
    PICTURE_PIXELS,
    STREAM_SUFFIX,
    Parser,
    add_jobs,
    add_max_pixels,
    on_or_off,
)
from pc15.config import PRESETS, CodecConfig, PayloadFormat, Preset, Search, WindowName
from pc15.errors import ConfigError
from pc15.residual.tools import TOOLS

if TYPE_CHECKING:
    from pc15.images import Bytes
    from pc15.plan.write import EncodeResult


EXAMPLES = (
    "encode photo.png -o photo.pc15",
    "encode photo.png -o small.pc15 --lambda 1 --preset oracle",
    "encode photos/ -o streams/ --skip-existing --jobs 4 --stats stats.csv",
    "encode photos/ more.jpg -o streams/ --gray --hooks heuristic",
    "encode photo.png -o photo.pc15 --config options.yaml --tile 64",
    "encode - -o - < photo.png > photo.pc15",
)
PICTURES_AT_ONCE = 24
"""Pictures that a GPU is given together."""


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
_UNSET = {
    "coarse": "the encoder's choice with --tile 0 --residual off, else 0",
    "window_param": "the window's own",
    "quality": "lambda's",
}

_FLAGS = {
    flag.flag[2:].replace("-", "_"): flag
    for flag in (
        _Flag("--tile", "tile", "tile side, 4..1024; 0: the encoder's choice; overlap follows unless given", int, "PX"),
        _Flag("--coarse", "coarse", "tile side of a coarse grid under tiles of a given size; 0: none", int, "PX"),
        _Flag("--overlap", "overlap", "pixels shared by neighbouring tiles, below the tile's side", int, "PX"),
        _Flag("--lambda", "lambda_rd", "price of a bit per pixel: smaller is better and larger", float, "X"),
        _Flag("--quality", "quality", "0 (smallest) to 100 (best), in place of --lambda", float, "Q"),
        _Flag("--alpha", "alpha_mix", "share of 1 - SSIM in what counts as error, 0..1; the rest is MSE", float, "X"),
        _Flag("--seed", "seed", "the stream's seed, 0..2^32-1, for noise patterns", int, "N"),
        _Flag("--window", "window", "how overlapping tiles are cross-faded", choices=get_args(WindowName)),
        _Flag("--window-param", "window_param", "Tukey's alpha or Kaiser's beta", float, "X"),
        _Flag(
            "--search",
            "search",
            "score all candidates in full, screen them first, or cells of them",
            choices=get_args(Search),
        ),
        _Flag("--cells", "cells", "cells of like candidates that --search indexed looks into, 1..8192", int, "N"),
        _Flag("--merge", "merge", "let tiles continue patterns of their neighbours", on_or_off, "on|off"),
        _Flag("--residual", "residual", "code what tiles leave as transform coefficients", on_or_off, "on|off"),
        _Flag("--tries", "tries", "predictions that the residual tries in full per square, 1..8", int, "N"),
        _Flag("--tools", "tools", f"coding tools of the residual: some of {','.join(TOOLS)}, or none", metavar="A,B"),
        _Flag("--max-layers", "max_layers", "most patterns per tile, 0..16", int, "N"),
        _Flag(
            "--codebook",
            "codebook_id",
            "patterns that programs name: v15_grid, v15_trained, or one's own",
            metavar="ID",
        ),
        _Flag("--tables", "table_id", "frozen rANS tables; auto: those of the codebook", metavar="ID"),
        _Flag("--payload-format", "payload_fmt", "raw is for debugging", choices=get_args(PayloadFormat)),
        _Flag("--section-rows", "section_rows", "tile rows per section that decodes on its own; 0 chooses", int, "N"),
        _Flag("--device", "device", "cpu, cuda, cuda:N, or auto: CUDA where there is one", metavar="NAME"),
    )
}


def run(args: argparse.Namespace) -> int:
    """Describe pictures as programs of procedural patterns, one .pc15 stream each.

    Colour is coded as YCbCr 4:2:0, a picture without colour as luma alone.
    A folder stands for the pictures in and below it, hidden ones left out, and becomes one with the same subfolders.
    The same picture and options give the same bytes, on every device.  A GPU is given many pictures at once.
    """
    cfg = _codec_config(args)
    from pc15.bitstream.container import write_bitstream
    from pc15.encoder import encode_many, search_device
    from pc15.images import IMAGE_SUFFIXES, read_luma, read_rgb
    from pc15.paths import ready_to_write
    from pc15.runtime.parallel import thread_count

    device = search_device(cfg)
    sources = find_sources(args.images, tuple(IMAGE_SUFFIXES))
    targets = name_targets(args.images, sources, args.out, STREAM_SUFFIX)
    for _, target in targets:
        if target.suffix.lower() in IMAGE_SUFFIXES:
            right = target.with_suffix(STREAM_SUFFIX)
            raise ConfigError(f"-o {target} has a picture's suffix, but it will be a stream; call it {right}")

    tally = Tally(args.answer, "picture", len(targets), [target for _, target in targets])
    wanted = wanted_pairs(targets, tally, skip_existing=args.skip_existing)

    def load(source: Path, target: Path) -> Bytes:
        if target != STANDARD:
            ready_to_write(target)
        picture = (read_luma if args.gray else read_rgb)(opened(source), max_pixels=args.max_pixels)
        return picture[:1] if picture.shape[0] == 3 and bool((picture == picture[:1]).all()) else picture

    def work(pictures: list[Bytes]) -> list[tuple[EncodeResult, float]]:
        began = time.perf_counter()
        coded = encode_many(pictures, cfg, workers=args.workers)
        return [(one, (time.perf_counter() - began) / len(coded)) for one in coded]

    most = PICTURES_AT_ONCE if str(device).startswith("cuda") else args.workers or thread_count()
    with Stats(args.stats) as stats:

        def save(source: Path, target: Path, picture: Bytes, result: tuple[EncodeResult, float]) -> None:
            coded, seconds = result
            if target == STANDARD:
                write_standard(coded.bitstream)
            else:
                write_bitstream(target, coded.bitstream)
            width, height, size = picture.shape[2], picture.shape[1], len(coded.bitstream)
            layers = coded.stats["layers"]
            said = f"{width}x{height} in {size} bytes, {coded.bpp:.4f} bpp, {layers} layers, {seconds:.2f} s"
            more = {"width": width, "height": height, "bpp": coded.bpp, "layers": layers, "seconds": round(seconds, 4)}
            tally.done(source, target, said, {"pixels": width * height, "bytes": size}, **more)
            stats.add(source, target, picture, coded, seconds)

        return each_together(wanted, load, work, save, most, tally)


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="picture files, folders of them, or - for standard input"
    )
    add.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="PATH",
        help="the stream, or - for standard output; a folder for several pictures or a folder",
    )
    presets = get_args(Preset)
    add.add_argument("--preset", choices=presets, help=f"options to start from (default: {DEFAULT_PRESET})")
    add.add_argument(
        "--config",
        type=Path,
        metavar="NAME",
        help="YAML of CodecConfig options, or the name of a packaged one, as fast; flags win over it",
    )
    add.add_argument("--gray", action="store_true", help="code luma alone (default: colour where there is any)")
    add.add_argument(
        "--hooks",
        default="none",
        metavar="HOOKS",
        help="what narrows the search: none, heuristic, baseline (nets that come with pc15), a plugin's name, a folder "
        "of weights, hf:org/name for some of the Hugging Face Hub, or a class of your own, package.module:Class; of a "
        "photograph its squares, with --tile 32 --residual off its tiles (default: none)",
    )
    add_max_pixels(add, PICTURE_PIXELS)
    add.add_argument(
        "--stats", type=Path, metavar="CSV", help="also a row per picture: bytes, bpp, quality, seconds (default: none)"
    )
    add.add_argument("--skip-existing", action="store_true", help="leave streams that are there as they are")
    add_jobs(add, "pictures at a time on a CPU, and threads", None, "as many as cores")
    defaults = {field.name: field.default for field in dataclasses.fields(CodecConfig)}
    for name, flag in _FLAGS.items():
        per_preset = [PRESETS[preset].get(flag.option, defaults.get(flag.option)) for preset in presets]
        per_preset = [",".join(value) if isinstance(value, tuple) else value for value in per_preset]
        shown = " ".join(map(str, dict.fromkeys(per_preset)))
        if len(set(per_preset)) > 1:
            shown = ", ".join(f"{value} in {preset}" for preset, value in zip(presets, per_preset, strict=True))
        default = _UNSET[flag.option] if shown == "None" else shown
        add.add_argument(
            flag.flag, dest=name, type=flag.type, choices=flag.choices, metavar=flag.metavar,
            help=f"{flag.help} (default: {_SWITCHED.get(default, default)})",
        )  # fmt: skip


def _codec_config(args: argparse.Namespace) -> CodecConfig:
    """Options: the preset's, then the config file's, then the command line's."""
    changes = config_file(args.config) if args.config else {}
    preset = args.preset or changes.pop("preset", DEFAULT_PRESET)
    changes.pop("preset", None)
    for name, flag in _FLAGS.items():
        value = getattr(args, name)
        if value is not None:
            changes[flag.option] = value
    if args.hooks != "none":
        changes["ai"] = hooks_of(args.hooks)
    return CodecConfig.preset(preset, **changes)


def config_file(path: Path) -> dict[str, Any]:
    """Options of a YAML file or packaged config; what is no option is refused with a guess by `CodecConfig.preset`."""
    from pc15.config_files import find_config
    from pc15.yaml_files import read_yaml

    path = find_config(path, "codec")
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} holds {type(content).__name__}, not lines of `option: value`")
    if "ai" in content:
        raise ConfigError(f"{path} sets ai; hooks are given by --hooks")
    if "name" in content:  # which would be taken for the preset's
        raise ConfigError(f"{path} sets name, which is no option; a preset is named by preset")
    return content
