"""Bad input gets a typed error that says what, where and what next; nothing is lost or half-written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15 import CodecConfig, decode, decode_y, encode, encode_y, pack_v15, read_bitstream, render, write_bitstream
from pc15.bitstream import Header, PlaneSpec, Stream, read_container, write_container
from pc15.decoder import decode_stream
from pc15.errors import (
    BitstreamError,
    ConfigError,
    ImageError,
    MissingTableError,
    Pc15Error,
    UnknownNameError,
)

TINY = CodecConfig.preset("fast", tile=16, max_layers=2, lambda_rd=0.01, device="cpu")
SPEC = PlaneSpec(tile=16, overlap=4, window=0, subsample=0, amp_step=24, dc_step=24)


@pytest.fixture(scope="module")
def stream() -> bytes:
    """About a hundred bytes: 20x18 pixels, four tiles with layers."""
    ramp = torch.linspace(0.0, 1.0, 20).expand(18, 20)
    wave = 0.3 * torch.sin(torch.arange(18.0))[:, None]
    data: bytes = encode_y((0.7 * ramp + 0.15 + 0.5 * wave).clamp(0, 1)[None, None], TINY)["bitstream"]
    return data


# ---------------------------------------------------------------- the encoder's input


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (torch.zeros(1, 3, 8, 8), r"shape \[1, 3, 8, 8\]; give one plane"),
        (torch.zeros(8), r"shape \[8\]"),
        (torch.zeros(2, 1, 8, 8), r"shape \[2, 1, 8, 8\]"),
        (torch.zeros(1, 1, 0, 8), "no pixel at all"),
        (torch.full((1, 1, 8, 8), float("nan")), "luma is nan at index"),
        (torch.full((1, 1, 8, 8), float("inf")), "inf"),
        (torch.full((1, 1, 8, 8), 200.0), "divide by 255"),
        (torch.full((1, 1, 8, 8), -0.5), r"outside \[0,1\]"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int16), "luma has dtype torch.int16"),
        ([[0.0, 1.0]], "of type list, not a picture"),
    ],
)
def test_what_is_no_luma_is_refused(picture: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        encode_y(picture, TINY)


@pytest.mark.parametrize(
    "picture",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
        torch.zeros(8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
    ids=lambda p: f"{p.dtype} {list(p.shape)}",
)
def test_what_is_no_picture_is_refused(picture: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"give uint8 \[3,H,W\], \[H,W,3\], \[1,H,W\] or \[H,W\]"):
        encode(picture, TINY)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: CodecConfig(tile=32, overlap=32), ConfigError, "overlap is 32 px, not below the tile's 32"),
        (
            lambda: CodecConfig(tile=32, coarse=20),
            ConfigError,
            "coarse is 20; give 0, or a whole number above the tile's",
        ),
        (lambda: CodecConfig(tile=2), ConfigError, "tile is 2; give a whole number from 4 to 1024"),
        (lambda: CodecConfig(lambda_rd=float("nan")), ConfigError, "lambda_rd is nan"),
        (lambda: CodecConfig(seed=-1), ConfigError, "seed is -1"),
        (lambda: CodecConfig(tile=True), ConfigError, "tile is True"),
        (lambda: CodecConfig(search="exhaustiv"), ConfigError, "did you mean exhaustive?"),
        (lambda: CodecConfig.preset("balenced"), UnknownNameError, "did you mean balanced?"),
        (lambda: CodecConfig.preset("fast", lamda_rd=1.0), ConfigError, "'lamda_rd'; did you mean lambda_rd?"),
        (lambda: render("STRIPE", 8, 8), UnknownNameError, "no generator 'STRIPE'; did you mean STRIPES?"),
        (lambda: render("STRIPES", 8, 8, {"freqq": 2.0}), UnknownNameError, "did you mean freq?"),
        (lambda: encode_y(torch.zeros(1, 1, 8, 8), TINY.but(device="gpu0")), ConfigError, "unknown device 'gpu0'"),
    ],
)
def test_a_wrong_option_is_named_with_a_way_out(make: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says.replace("?", r"\?")):
        make()


@pytest.mark.parametrize("window", ["tukey", "kaiser"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0, 1e-9, 256.0, "wide", True, 1j])
def test_a_window_parameter_that_the_header_cannot_say_is_refused(window: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"window_param of {window} is"):
        TINY.but(window=window, window_param=value)


def test_windows_at_the_ends_of_their_range_are_written(stream: bytes) -> None:
    y = decode_y(stream)
    for window, value in (("tukey", 1 / 256), ("tukey", 255 / 256), ("kaiser", 0.25), ("kaiser", 63.75)):
        enc = encode_y(y, TINY.but(window=window, window_param=value))
        assert float(next(iter(read_container(enc["bitstream"]).header.planes[0].window_params().values()))) == value


def test_numbers_of_numpy_are_numbers() -> None:
    own = CodecConfig.preset(
        "fast", tile=np.int64(32), lambda_rd=np.float32(0.5), seed=np.uint32(7), coarse=np.int8(64)
    )
    assert own == CodecConfig.preset("fast", tile=32, lambda_rd=0.5, seed=7, coarse=64)
    assert type(own.tile) is int
    assert type(own.lambda_rd) is float
    assert CodecConfig.preset("fast", merge=np.True_).merge is True
    assert CodecConfig.preset("fast", quality=np.int64(75)) == CodecConfig.preset("fast", quality=np.float32(75))


# ---------------------------------------------------------------- tables


def test_a_missing_table_is_named() -> None:
    y = torch.zeros(1, 1, 8, 8)
    with pytest.raises(MissingTableError, match="no rANS tables 'photos_2': looked for"):
        encode_y(y, TINY.but(table_id="photos_2"))
    with pytest.raises(MissingTableError, match="no codebook 'photos_2': looked for"):
        encode_y(y, TINY.but(codebook_id="photos_2"))


def test_a_stream_says_which_table_it_lacks() -> None:
    for field in ("table_id", "codebook_id"):
        header = Header(16, 16, 0, (SPEC,), **{field: "elsewhere"})
        data = write_container(Stream(header, [b"\0"]))
        with pytest.raises(MissingTableError, match="'elsewhere': looked for"):
            decode_y(data)


# ---------------------------------------------------------------- the decoder's input


@pytest.mark.parametrize("data", [b"", b"P", b"PC14", b"\x89PNG\r\n\x1a\n", b"PC15", b"PC15\x09\x00"])
def test_what_is_no_stream_is_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_y(data)


def test_the_wrong_magic_is_shown(stream: bytes) -> None:
    with pytest.raises(BitstreamError, match="not a PC15 stream: it starts with b'RIFF', not b'PC15'"):
        decode_y(b"RIFF" + stream[4:])


def test_every_truncation_is_noticed(stream: bytes) -> None:
    for length in range(len(stream)):
        with pytest.raises(BitstreamError):
            decode_y(stream[:length])


def test_surplus_bytes_are_noticed(stream: bytes) -> None:
    with pytest.raises(BitstreamError, match="1 bytes after its end"):
        decode_y(stream + b"\0")


def test_every_flipped_bit_is_noticed_or_harmless(stream: bytes) -> None:
    picture = decode_y(stream)
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            y = decode_y(bytes(damaged))
        except BitstreamError:
            continue
        assert torch.equal(y, picture), f"bit {bit} changes the picture"


def test_lenient_decoding_gives_a_picture_or_a_typed_error(stream: bytes) -> None:
    header = read_container(stream).header
    drawn = 0
    for bit in range(0, 8 * len(stream), 7):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded = decode_stream(bytes(damaged), strict=False)
        except BitstreamError:
            continue
        assert decoded.planes[0].shape == (header.height, header.width)
        assert decoded.damage
        drawn += 1
    assert drawn > 10


@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=2), raw=st.booleans(), height=st.integers(1, 40))
@settings(max_examples=150)
def test_payloads_that_no_encoder_wrote_are_refused_or_drawn(payloads: list[bytes], raw: bool, height: int) -> None:
    """Past the CRC: what a writer with a bug, or with bad intent, would send, of one grid or of two."""
    spec = replace(SPEC, under=replace(SPEC, tile=24) if len(payloads) > 1 else None)
    header = Header(33, height, 0, (spec,), payload_fmt=int(raw))
    try:
        y = decode(write_container(Stream(header, [*payloads])))
    except BitstreamError:
        return
    assert y.shape == (1, height, 33)


@given(data=st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_after_the_magic_are_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_y(b"PC15" + data)
    with pytest.raises(BitstreamError):
        decode_y(b"PC15\x01\x00" + data)


@pytest.mark.parametrize(("width", "height"), [(46341, 46341), (1 << 20, 1 << 11), (1 << 20, 1 << 20)])
def test_a_header_that_claims_too_many_pixels_is_refused_at_once(width: int, height: int) -> None:
    spec = PlaneSpec(tile=1024, overlap=0, window=0, subsample=0, amp_step=24, dc_step=24)
    data = pack_v15(Header(width, height, 0, (spec,)), max_pixels=1 << 41)
    assert width * height >= 1 << 31
    for strict in (True, False):
        began = time.process_time()
        with pytest.raises(BitstreamError, match=f"{width}x{height} is {width * height} pixels, over the limit"):
            decode_y(data + b"\0" * 99, strict=strict)
        assert time.process_time() - began < 0.1


def test_a_small_stream_cannot_claim_endless_layers_or_tiles() -> None:
    spec = PlaneSpec(tile=1024, overlap=1023, window=0, subsample=0, amp_step=24, dc_step=24)
    for one in (spec, replace(spec, tile=64, overlap=0, under=spec)):
        with pytest.raises(Pc15Error, match="tiles, over the limit"):
            pack_v15(Header(8192, 8192, 0, (one,)))


# ---------------------------------------------------------------- files


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pc15").touch()
    for path, says in (
        ("none.pc15", "none.pc15: No such file"),
        ("empty.pc15", "is empty"),
        (".", "cannot read stream"),
    ):
        with pytest.raises(BitstreamError, match=says):
            read_bitstream(tmp_path / path)


@contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing then fails as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "kept.pc15"
    old = write_container(Stream(Header(1, 1, 0, (SPEC,)), [b"\0"]))
    write_bitstream(path, old)
    with full_disk_after(len(stream) // 2), pytest.raises(OSError):
        write_bitstream(path, stream)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["kept.pc15"]
    write_bitstream(path, stream)
    assert path.read_bytes() == stream


def test_damaged_bytes_are_not_written(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "kept.pc15"
    write_bitstream(path, stream)
    with pytest.raises(BitstreamError):
        write_bitstream(path, stream[:-1])
    assert path.read_bytes() == stream
