"""Numbers of as many bytes as they need: LEB128, below 2**35."""

from __future__ import annotations

from pc15.errors import BitstreamError

__all__ = ["read_varint", "varint"]

_VARINT_BYTES = 5  # enough for 32 bits


def varint(value: int) -> bytes:
    """LEB128: seven bits per byte, lowest first; bit 7 says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, pos: int, what: str) -> tuple[int, int]:
    """The number at `pos`, below 2**35, and the position after it; only its shortest form is read."""
    value = 0
    for index, byte in enumerate(data[pos : pos + _VARINT_BYTES]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if byte == 0 and index > 0:
                raise BitstreamError(f"{what} at byte {pos} is a number in more bytes than it needs: damaged")
            return value, pos + index + 1
    if len(data) - pos < _VARINT_BYTES:
        raise BitstreamError(f"stream of {len(data)} bytes ends inside {what}: it is cut")
    raise BitstreamError(f"{what} at byte {pos} is a number of more than {_VARINT_BYTES} bytes: damaged")
