"""Codecs that are measured: 8-bit gray planes to whole files and back, each codec with a ladder of settings.

The conventional codecs are Pillow's, one thread each: progressive JPEG with optimised tables, WebP at its slowest
method (it has no gray, and is given the plane as it is), gray AVIF at speed 6 as Pillow tunes it, and the bare
codestream of JPEG 2000 with its irreversible wavelet, whose settings are target bpp.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from pc15.bench import Anchor
from pc15.bench.plugins import plugin_codec
from pc15.bitstream.container import Stream, read_container, write_container
from pc15.bitstream.header import residual_spans
from pc15.config import CodecConfig
from pc15.decoder import decode
from pc15.encoder import encode
from pc15.errors import ImageError, UnknownNameError, did_you_mean
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
}
_PILLOW_FEATURE = {"webp": "webp", "avif": "avif", "jpeg2000": "jpg_2000", "jpeg": "jpg"}
_WARM_UP_SIDE = 64

Coder = tuple[Callable[[Tensor], bytes], Callable[[bytes], Tensor]]
"""uint8 [H,W] -> the file's bytes, and back."""


@dataclass(frozen=True)
class Codec:
    """A name in the CSV, and its settings from small files to large ones.

    cfg: PC15's options but for lambda; None for a conventional codec.
    parts: of a study: the picture is a residual alone, made with these fields of `ResidualParams`; None as usual.
    """

    name: str
    settings: tuple[float, ...]
    cfg: CodecConfig | None = None
    parts: Mapping[str, Any] | None = field(default=None, compare=False)


def own(preset: str, lambdas: Sequence[float], **options: Any) -> Codec:
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
    return Codec("-".join([f"pc15-{preset}", *shown]), settings, cfg)


def conventional(names: Sequence[str]) -> list[Codec]:
    """Codecs by name; one that this Pillow lacks is left out with a notice.

    Raises:
        UnknownNameError: no such codec.
    """
    known = get_args(Anchor)
    offered = plugin_names("pc15.codecs")
    codecs = []
    for name in dict.fromkeys(names):
        if name in offered and name not in known:
            codecs.append(Codec(name, tuple(plugin_codec(name).settings)))
            continue
        if name not in known:
            raise UnknownNameError(f"no codec {name!r} to compare with{did_you_mean(name, [*known, *offered])} "
                                   f"(there are {', '.join([*known, *offered])})")  # fmt: skip
        if features.check(_PILLOW_FEATURE[name]):
            codecs.append(Codec(name, _LADDERS[name]))
        else:
            _LOG.warning("this Pillow was built without %s, so it is left out; a full build of Pillow has it", name)
    return codecs


def coders(codec: Codec, setting: float) -> Coder:
    """Encoder and decoder at one setting; neither reads a file or a clock."""
    if codec.cfg is None:
        return _pillow(codec.name, setting) if codec.name in _LADDERS else _plugin(codec.name, setting)
    cfg, parts = codec.cfg.but(lambda_rd=setting), codec.parts

    def encoded(u8: Tensor) -> bytes:
        if parts is not None:
            return _residual_alone(u8, cfg, parts)
        data: bytes = encode(u8[None], cfg)["bitstream"]
        return data

    contexts = (parts or {}).get("contexts", "mixed")

    def decoded(data: bytes) -> Tensor:
        return decode(data, device=cfg.device)[0] if contexts == "mixed" else _decoded_with(contexts, data)

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
    stream = read_container(data)
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
        encoded, decoded = coders(codec, codec.settings[0])
        decoded(encoded((ramp[:, None] + ramp).remainder(256).to(torch.uint8)))


def _pillow(name: str, setting: float) -> Coder:
    quality = {"quality": int(setting)}
    every: dict[str, dict[str, Any]] = {
        "jpeg": {**quality, "optimize": True, "progressive": True},
        "webp": {**quality, "method": 6},
        "avif": {**quality, "speed": 6, "subsampling": "4:0:0", "max_threads": 1},
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
            Image.fromarray(u8.numpy()).save(buffer, name.upper(), **every[name])
        except (OSError, ValueError) as error:
            height, width = u8.shape
            raise ImageError(f"{name} at {setting:g} does not take {width}x{height} pixels: {error}") from error
        return buffer.getvalue()

    def decoded(data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as image:
            return torch.from_numpy(np.array(image.convert("L")))

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
    return f"{value:g}" if isinstance(value, float) else str(value)
