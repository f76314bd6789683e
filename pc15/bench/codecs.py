"""Codecs that are measured: 8-bit gray planes, or RGB, to whole files and back, each codec with a ladder of settings.

Most conventional codecs are Pillow's, one thread each: progressive JPEG with optimised tables, WebP at its slowest
method (it has no gray, and is given the plane as it is), AVIF at speed 6 as Pillow tunes it, and the bare codestream of
JPEG 2000 with its irreversible wavelet, whose settings are target bpp.  JPEG XL is imagecodecs' (extra `bench`), its
settings are distances; x265 and VVenC are programs, see `programs`, their settings are QPs.  A name may have options:
`avif:speed=3,tune=ssim`.  Colour is 4:2:0 where a codec has it.
"""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from pc15.bench import Anchor
from pc15.bench.plugins import plugin_codec
from pc15.bench.programs import PRESETS, Program, VideoCoder, find_program
from pc15.bitstream.container import Stream, read_container, write_container
from pc15.bitstream.header import MAX_PIXELS, residual_spans
from pc15.config import CodecConfig
from pc15.decoder import decode
from pc15.encoder import encode
from pc15.errors import ConfigError, ImageError, UnknownNameError, did_you_mean
from pc15.luma import MIDDLE, as_q12, to_pixels
from pc15.plan.plan import plan_header, residual_lambda
from pc15.plugins import plugin_names
from pc15.residual.decode import decode_residual
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.initial_models import Contexts

__all__ = ["Codec", "coders", "conventional", "own", "warm_up"]

_LOG = logging.getLogger(__name__)

_LADDERS: dict[str, tuple[float, ...]] = {
    "jpeg": (1, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 38, 48, 58, 68, 76, 83, 90),
    "webp": (0, 1, 2, 3, 5, 8, 12, 17, 23, 30, 38, 47, 57, 67, 75, 80, 85, 90),
    "avif": (0, 4, 8, 12, 16, 21, 26, 31, 36, 41, 46, 51, 56, 62, 68, 75, 82, 90),
    "jpeg2000": (0.02, 0.028, 0.04, 0.055, 0.075, 0.105, 0.15, 0.21, 0.3, 0.42, 0.6, 0.85, 1.15, 1.6),
    "jxl": (19.9, 17, 14.5, 12, 10, 8, 6.5, 5.2, 4.2, 3.4, 2.7, 2.1, 1.6, 1.2, 0.9, 0.7, 0.5),
    "x265": (51, 48, 44, 40, 36, 32, 28, 24, 20),
    "vvenc": (59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19),
}
_OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "avif": {"speed": tuple(map(str, range(11))), "tune": ("psnr", "ssim", "iq")},
    "webp": {"method": tuple(map(str, range(7)))},
    "jxl": {"effort": tuple(map(str, range(1, 10)))},
    "x265": {"preset": PRESETS["x265"]},
    "vvenc": {"preset": PRESETS["vvenc"]},
}
"""Options that may follow a name, `name:option=value`, and their values."""
_USUAL_PRESET = {"x265": "placebo", "vvenc": "medium"}
_PILLOW_FEATURE = {"webp": "webp", "avif": "avif", "jpeg2000": "jpg_2000", "jpeg": "jpg"}
_WARM_UP_SIDE = 64
_PLUGIN = "plugin"
"""`Codec.kind` of those of other packages."""

Coder = tuple[Callable[[Tensor], bytes], Callable[[bytes], Tensor]]
"""uint8 [H,W], or RGB [3,H,W] -> the file's bytes, and back."""


@dataclass(frozen=True)
class Codec:
    """A name in the CSV, and its settings from small files to large ones.

    cfg: PC15's options but for lambda; None for a conventional codec.
    kind, options, program: of a conventional codec: which one, its options, and the program that it is, if it is one.
    color: pictures are RGB.
    parts: of a study: the picture is a residual alone, made with these fields of `ResidualParams`; None as usual.
    """

    name: str
    settings: tuple[float, ...]
    cfg: CodecConfig | None = None
    parts: Mapping[str, Any] | None = field(default=None, compare=False)
    kind: str = ""
    options: tuple[tuple[str, str], ...] = ()
    program: Program | None = None
    color: bool = False


def own(preset: str, lambdas: Sequence[float], color: bool = False, **options: Any) -> Codec:
    """PC15 by preset; options that differ from the preset's become part of the name, `pc15-fast-tile16`.

    Raises:
        ConfigError: an option, or a lambda, out of range.
        UnknownNameError: no such preset; the message has a guess.
    """
    plain, cfg = CodecConfig.preset(preset), CodecConfig.preset(preset, **options)
    changed = [name for name in options if name != "device" and getattr(cfg, name) != getattr(plain, name)]
    shown = [f"{name.removesuffix('_mix')}{_short(getattr(cfg, name))}" for name in sorted(changed)]
    settings = tuple(sorted(set(lambdas), reverse=True))
    for lam in settings:
        cfg.but(lambda_rd=lam)
    return Codec("-".join([f"pc15-{preset}", *shown]), settings, cfg, color=color)


def conventional(names: Sequence[str], color: bool = False, vvenc: str | Path | None = None) -> list[Codec]:
    """Codecs by name and options, `avif:speed=3,tune=ssim`, or by the name that a plugin offers.

    One that is not there is left out with a notice.

    Args:
        color: pictures are RGB.   vvenc: path of VVenC's program, if it is not the one on the PATH.
    Raises:
        ConfigError, UnknownNameError: no such codec, option, value or program, or a plugin's codec for colour.
    """
    codecs = []
    for text in dict.fromkeys(names):
        if text in plugin_names("pc15.codecs") and text not in get_args(Anchor):
            if color:
                raise ConfigError(f"codec {text!r} of a plugin codes gray planes; leave --color, or the codec, out")
            codecs.append(Codec(text, tuple(plugin_codec(text).settings), kind=_PLUGIN))
            continue
        name, options = _parsed(text)
        program = find_program(name, vvenc if name == "vvenc" else None) if name in PRESETS else None
        if program is not None or _available(name):
            shown = "-".join([name, *(key + value for key, value in options)])
            codecs.append(Codec(shown, _LADDERS[name], kind=name, options=options, program=program, color=color))
    return codecs


def _parsed(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Name and options, in the order of their names."""
    known, (name, _, rest) = [*get_args(Anchor), *plugin_names("pc15.codecs")], text.partition(":")
    if name not in get_args(Anchor):
        raise UnknownNameError(f"no codec {name!r} to compare with{did_you_mean(name, known)} "
                               f"(there are {', '.join(known)})")  # fmt: skip
    options, allowed = {}, _OPTIONS.get(name, {})
    for part in rest.split(",") if rest else []:
        key, _, value = part.partition("=")
        if key not in allowed:
            raise UnknownNameError(f"{name} has no option {key!r}{did_you_mean(key, allowed)} "
                                   f"(there are {', '.join(allowed) or 'none'})")  # fmt: skip
        if value not in allowed[key]:
            raise ConfigError(f"{key} of {name} is {value!r}; choose one of {', '.join(allowed[key])}")
        options[key] = value
    return name, tuple(sorted(options.items()))


def _available(name: str) -> bool:
    """Tell if a codec that is a library is there; says so if it is not."""
    if name in _PILLOW_FEATURE:
        if features.check(_PILLOW_FEATURE[name]):
            return True
        _LOG.warning("this Pillow was built without %s, so it is left out; a full build of Pillow has it", name)
    elif name == "jxl":
        if importlib.util.find_spec("imagecodecs") is not None:
            return True
        _LOG.warning("jxl is left out: it needs imagecodecs, which pip install 'pc15[bench]' brings")
    return False


def coders(codec: Codec, setting: float) -> Coder:
    """Encoder and decoder at one setting; neither reads a file or a clock."""
    if codec.cfg is None:
        if codec.kind == _PLUGIN:
            return _plugin(codec.name, setting)
        options = dict(codec.options)
        if codec.program is not None:
            preset = options.get("preset", _USUAL_PRESET[codec.kind])
            video = VideoCoder(codec.kind, codec.program, preset, int(setting))
            return video.encoded, video.decoded
        return _jxl(setting, options) if codec.kind == "jxl" else _pillow(codec.kind, setting, options, codec.color)
    cfg, parts = codec.cfg.but(lambda_rd=setting), codec.parts

    def encoded(u8: Tensor) -> bytes:
        if parts is not None:
            return _residual_alone(u8, cfg, parts)
        data: bytes = encode(u8 if codec.color else u8[None], cfg)["bitstream"]
        return data

    contexts = (parts or {}).get("contexts", "mixed")

    def decoded(data: bytes) -> Tensor:
        if contexts != "mixed":
            return _decoded_with(contexts, data)
        shown = decode(data, device=cfg.device, max_pixels=MAX_PIXELS)
        return shown if codec.color else shown[0]

    return encoded, decoded


def _residual_alone(u8: Tensor, cfg: CodecConfig, parts: Mapping[str, Any]) -> bytes:
    """The whole file of a gray plane that is nothing but a residual, made as `parts` says.

    Any decoder reads it, unless `parts` changes the contexts: then `_decoded_with` does.
    """
    cfg = cfg.but(tile=32, overlap=0, max_layers=0, residual=True)
    header = plan_header(u8.shape[1], u8.shape[0], cfg)
    target = as_q12(u8, torch.device("cpu")).numpy() - MIDDLE
    grey = np.full_like(target, MIDDLE)
    options = {"lam": residual_lambda(cfg.lambda_rd), "tries": cfg.tries, "tools": header.planes[0].tools, **parts}
    params = ResidualParams(header.planes[0].residual - 1, **options)
    bands = [slice(span.row_start, span.row_stop) for span in residual_spans(header)]
    residuals: list[bytes | None] = [encode_residual(target[rows], grey[rows], params).payload for rows in bands]
    return write_container(Stream(header, [], residuals=residuals))


def _decoded_with(contexts: Contexts, data: bytes) -> Tensor:
    """Decode a file of `_residual_alone` that was made with contexts of a study; uint8 [h,w]."""
    stream = read_container(data, max_pixels=MAX_PIXELS)
    header = stream.header
    spec = header.planes[0]
    shown = []
    for span, payload in zip(residual_spans(header), stream.residuals, strict=True):
        grey = np.full((span.row_stop - span.row_start, header.width), MIDDLE, np.int32)
        shown.append(decode_residual(payload or b"", grey, spec.residual - 1, spec.tools, contexts))
    return to_pixels(torch.from_numpy(np.concatenate(shown)))


def warm_up(codec: Codec) -> None:
    """Load tables and draw the bank, so that the first measured picture does not pay for it."""
    if codec.cfg is not None:
        ramp = torch.arange(_WARM_UP_SIDE) * 3
        u8 = (ramp[:, None] + ramp).remainder(256).to(torch.uint8)
        encoded, decoded = coders(codec, codec.settings[0])
        decoded(encoded(torch.stack((u8, u8 // 2, 255 - u8)) if codec.color else u8))


def _jxl(setting: float, options: Mapping[str, str]) -> Coder:
    import imagecodecs  # an extra of its own

    effort = int(options.get("effort", 7))

    def encoded(u8: Tensor) -> bytes:
        pixels = np.ascontiguousarray(u8.numpy() if u8.dim() == 2 else u8.permute(1, 2, 0).numpy())
        return bytes(
            imagecodecs.jpegxl_encode(
                pixels, distance=setting, effort=effort, lossless=False, usecontainer=False, numthreads=1
            )
        )

    def decoded(data: bytes) -> Tensor:
        pixels = torch.from_numpy(np.array(imagecodecs.jpegxl_decode(data, numthreads=1)))
        return pixels if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()

    return encoded, decoded


def _pillow(name: str, setting: float, options: Mapping[str, str], color: bool) -> Coder:
    quality = {"quality": int(setting)}
    every: dict[str, dict[str, Any]] = {
        "jpeg": {**quality, "optimize": True, "progressive": True},
        "webp": {**quality, "method": int(options.get("method", 6))},
        "avif": {
            **quality,
            "speed": int(options.get("speed", 6)),
            "subsampling": "4:2:0" if color else "4:0:0",
            "max_threads": 1,
            **({"advanced": {"tune": options["tune"]}} if "tune" in options else {}),
        },
        "jpeg2000": {
            "quality_mode": "rates",
            "quality_layers": [8.0 / setting if setting else 0.0],
            "irreversible": True,
            "no_jp2": True,
        },
    }

    def encoded(u8: Tensor) -> bytes:
        buffer = io.BytesIO()
        try:
            pixels = u8.permute(1, 2, 0).contiguous() if color else u8
            Image.fromarray(pixels.numpy()).save(buffer, name.upper(), **every[name])
        except (OSError, ValueError) as error:
            height, width = u8.shape[-2:]
            raise ImageError(f"{name} at {setting:g} does not take {width}x{height} pixels: {error}") from error
        return buffer.getvalue()

    def decoded(data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB" if color else "L")))
            return pixels.permute(2, 0, 1).contiguous() if color else pixels

    return encoded, decoded


def _plugin(name: str, setting: float) -> Coder:
    codec = plugin_codec(name)

    def decoded(data: bytes) -> Tensor:
        plane = np.asarray(codec.decode(data))
        if plane.dtype != np.uint8 or plane.ndim != 2:
            raise ImageError(f"codec {name} gives {plane.dtype} of shape {list(plane.shape)}, not uint8 [h,w]")
        return torch.from_numpy(plane.copy())

    return lambda u8: bytes(codec.encode(u8.numpy(), setting)), decoded


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
