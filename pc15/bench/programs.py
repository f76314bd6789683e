"""Video coders that are measured through their programs: one intra picture, raw planes in files, whole bitstreams.

x265 comes as a program of its own or inside ffmpeg, VVenC as vvencFFapp, vvencapp or inside ffmpeg.  Pictures are coded
at a fixed QP, tuned for PSNR, without perceptual adaptation.  Programs that write what a decoder would see are taken at
their word; streams of the others are decoded by vvdecapp or ffmpeg.  x265 has gray pictures (4:0:0); VVenC's programs
take 4:2:0 alone, so gray ones come with flat chroma, for which it pays some 50 bytes.  Sides are rounded up to even
ones.  Times include what a process takes to start.
"""

from __future__ import annotations

import functools
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.color import rgb_to_ycbcr420, ycbcr420_to_rgb
from pc15.errors import ConfigError, ImageError

__all__ = ["PRESETS", "Program", "VideoCoder", "find_program"]

_LOG = logging.getLogger(__name__)

Planes = list[npt.NDArray[np.uint8]]

PRESETS = {
    "x265": ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
    "vvenc": ("faster", "fast", "medium", "slow", "slower"),
}
"""Values of the option `preset`."""
_TIMEOUT_S = 1800
_GREY = 128


@dataclass(frozen=True)
class Program:
    """A program that codes pictures.

    form: whose command line it takes: x265, vvencFFapp, vvencapp, or ffmpeg.   decoder: the program that decodes its
    streams, vvdecapp or ffmpeg; None if it writes the decoded picture itself.
    """

    path: str
    form: str
    decoder: str | None = None


def find_program(name: str, asked: str | Path | None = None) -> Program | None:
    """The program for "x265" or "vvenc", on the PATH or as asked for; None, with a notice, if there is none.

    Args:
        asked: a path of vvencFFapp or vvencapp.
    Raises:
        ConfigError: there is no such program as asked for.
    """
    if asked is not None:
        found = shutil.which(str(asked))
        if found is None:
            raise ConfigError(f"there is no program {asked}; give the path of vvencFFapp or vvencapp")
        return _vvenc(found) if "ffapp" in Path(found).name.lower() else _with_decoder(found, "vvencapp")
    for own in ("x265",) if name == "x265" else ("vvencFFapp", "vvencapp"):
        found = shutil.which(own)
        program = None if found is None else Program(found, own) if own != "vvencapp" else _with_decoder(found, own)
        if program is not None:
            return program
    library, ffmpeg = f"lib{name}", shutil.which("ffmpeg")
    if ffmpeg is not None and library in _encoders(ffmpeg):
        return Program(ffmpeg, "ffmpeg", ffmpeg)
    wanted = "x265" if name == "x265" else "vvencFFapp, vvencapp with vvdecapp,"
    _LOG.warning("%s is left out: there is neither %s nor ffmpeg with %s on the PATH", name, wanted, library)
    return None


def _vvenc(path: str) -> Program:
    return Program(path, "vvencFFapp")


def _with_decoder(path: str, form: str) -> Program | None:
    """A program whose streams another one has to decode; None, with a notice, if there is none."""
    beside = shutil.which("vvdecapp", path=str(Path(path).parent))
    decoder = beside or shutil.which("vvdecapp") or shutil.which("ffmpeg")
    if decoder is None:
        _LOG.warning("%s is not used: it writes no decoded picture, and there is neither vvdecapp nor ffmpeg", path)
        return None
    return Program(path, form, decoder)


@functools.cache
def _encoders(ffmpeg: str) -> frozenset[str]:
    """Names of the encoders that an ffmpeg was built with."""
    ran = subprocess.run(
        [ffmpeg, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    return frozenset(words[1] for words in map(str.split, ran.stdout.splitlines()) if len(words) > 1)


class VideoCoder:
    """Codes one picture after another by a program, at one QP; `encoded` and `decoded` are as `codecs.Coder`.

    Args:
        name: "x265" or "vvenc".   preset: one of PRESETS.
    """

    def __init__(self, name: str, program: Program, preset: str, qp: int) -> None:
        self.name, self.program, self.preset, self.qp = name, program, preset, qp
        self._size = (0, 0)
        self._color = False
        self._shown: Planes | None = None

    def encoded(self, u8: Tensor) -> bytes:
        """The stream of a picture, uint8 [h,w] luma or [3,h,w] RGB.

        Raises:
            ImageError: the program does not take it; the message has its own last line.
        """
        self._color, self._size = u8.dim() == 3, (int(u8.shape[-2]), int(u8.shape[-1]))
        planes = [p.numpy() for p in (rgb_to_ycbcr420(u8) if self._color else (u8,))]
        h, w = planes[0].shape
        planes = [np.pad(planes[0], ((0, h % 2), (0, w % 2)), mode="edge"), *planes[1:]]
        if self.name == "vvenc" and not self._color:
            planes += [np.full(((h + 1) // 2, (w + 1) // 2), _GREY, np.uint8)] * 2
        with tempfile.TemporaryDirectory(prefix="pc15-bench-") as folder:
            source, stream, shown = (Path(folder) / name for name in ("in.yuv", "out.bin", "shown.yuv"))
            source.write_bytes(b"".join(p.tobytes() for p in planes))
            _run(self._command(source, stream, shown, planes), folder, f"{self.name} at {self.qp}")
            data = stream.read_bytes() if stream.exists() else b""
            if not data:
                raise ImageError(f"{self.program.path} wrote no stream at QP {self.qp} for {w}x{h} pixels")
            self._shown = None if self.program.decoder else self._read(shown, planes, 8)
        return data

    def decoded(self, data: bytes) -> Tensor:
        """The picture of a stream that `encoded` returned last, uint8 like the one that it was given."""
        planes = self._shown if self.program.decoder is None else self._decode(data, self.program.decoder)
        assert planes is not None, "encoded comes first"
        h, w = self._size
        y, *chroma = (torch.from_numpy(np.ascontiguousarray(plane)) for plane in planes)
        y = y[:h, :w].contiguous()
        return ycbcr420_to_rgb(y, *chroma) if self._color else y

    def _command(self, source: Path, stream: Path, shown: Path, planes: Planes) -> list[str]:
        (h, w), gray = planes[0].shape, len(planes) == 1
        size, qp, path = f"{w}x{h}", str(self.qp), self.program.path
        if self.program.form == "x265":
            return [
                path, "--input", str(source), "--input-res", size, "--input-csp", "i400" if gray else "i420",
                "--input-depth", "8", "--fps", "1", "--frames", "1", "--keyint", "1", "--preset", self.preset,
                "--tune", "psnr", "--qp", qp, "--ipratio", "1", "--no-info", "--pools", "none", "--frame-threads", "1",
                "--output", str(stream), "--recon", str(shown), "--recon-depth", "8",
            ]  # fmt: skip
        if self.program.form == "vvencFFapp":
            return [
                path, "-i", str(source), "-s", size, "--InputBitDepth", "8", "-fr", "1", "-f", "1", "-ip", "1",
                "--preset", self.preset, "-q", qp, "--PerceptQPA", "0", "-t", "1",
                "-b", str(stream), "-o", str(shown), "--OutputBitDepth", "8",
            ]  # fmt: skip
        if self.program.form == "vvencapp":
            return [
                path, "-i", str(source), "-s", size, "-c", "yuv420", "-r", "1", "-f", "1", "-ip", "1",
                "--preset", self.preset, "-q", qp, "--qpa", "0", "-t", "1", "-o", str(stream),
            ]  # fmt: skip
        head = [path, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "gray" if gray else "yuv420p"]
        head += ["-s", size, "-r", "1", "-i", str(source), "-frames:v", "1", "-threads", "1"]
        if self.name == "x265":
            params = f"qp={qp}:ipratio=1:keyint=1:info=0:pools=none:frame-threads=1:log-level=none"
            coder = ["-c:v", "libx265", "-preset", self.preset, "-tune", "psnr", "-x265-params", params, "-f", "hevc"]
        else:
            coder = ["-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-preset", self.preset, "-qp", qp, "-qpa", "0"]
            coder += ["-f", "vvc"]
        return [*head, *coder, str(stream)]

    def _decode(self, data: bytes, decoder: str) -> Planes:
        h, w = (side + side % 2 for side in self._size)
        sizes = [(h, w)] + [(h // 2, w // 2)] * (2 if self._color or self.name == "vvenc" else 0)
        with tempfile.TemporaryDirectory(prefix="pc15-bench-") as folder:
            stream, shown = Path(folder) / ("in.hevc" if self.name == "x265" else "in.vvc"), Path(folder) / "shown.yuv"
            stream.write_bytes(data)
            if "ffmpeg" in Path(decoder).name.lower():
                form = "yuv420p10le" if self.name == "vvenc" else "yuv420p" if self._color else "gray"
                command = [decoder, "-y", "-loglevel", "error", "-threads", "1", "-i", str(stream)]
                command += ["-f", "rawvideo", "-pix_fmt", form, str(shown)]
            else:
                command = [decoder, "-b", str(stream), "-o", str(shown), "-t", "1"]
            _run(command, folder, f"decoding {self.name} at {self.qp}")
            like = [np.empty(size, np.uint8) for size in sizes]
            return self._read(shown, like, 10 if self.name == "vvenc" else 8)

    def _read(self, path: Path, like: Sequence[npt.NDArray[np.uint8]], bits: int) -> Planes:
        """Planes of a raw picture of these sizes, as 8-bit samples."""
        data = path.read_bytes() if path.exists() else b""
        samples = np.frombuffer(data[: len(data) // 2 * 2], "<u2") if bits > 8 else np.frombuffer(data, np.uint8)
        wanted = sum(plane.size for plane in like)
        if samples.size != wanted:
            raise ImageError(f"{self.program.path} left {samples.size} samples of a picture, not {wanted}")
        if bits > 8:
            samples = np.minimum((samples + (1 << bits - 9)) >> (bits - 8), 255).astype(np.uint8)
        ends = np.cumsum([plane.size for plane in like])[:-1]
        parts = np.split(samples, ends)
        return [part.reshape(plane.shape).copy() for part, plane in zip(parts, like, strict=True)]


def _run(command: Sequence[str], folder: str, what: str) -> None:
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{what}: {command[0]} did not run: {error}") from error
    if ran.returncode:
        said = [line for line in (ran.stderr + "\n" + ran.stdout).splitlines() if line.strip()]
        raise ImageError(f"{what}: {command[0]} failed ({ran.returncode}): {said[-1].strip() if said else 'no word'}")
