"""Hostile files beside streams: codebooks, tables, cards and weights, configs, rows; and ways to damage sound ones."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

VALUES: tuple[Any, ...] = (
    None, True, -1, 10**400, -(10**400), 1e308, -1e308, float("nan"), float("inf"), "", "\0", "x" * 5000, [], [[]],
    ["a"], {}, {"a": 1}, [1] * 1000, "../..", "/dev/zero", 2**63, 0.5, "nan",
)  # fmt: skip
"""What stands where something else should."""

YAMLS: tuple[str, ...] = (
    "", "[", "{", "a: b: c", "- " * 3000, "[" * 20000, "{a: " * 20000, "!!python/object/apply:os.system [true]",
    "!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!!binary '*'", "0x_", "? [a]\n: b", "&a [*a]",
    "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 8)}]\n"
                                        for i in range(12)),
    "9" * 5000, "a: " + "9" * 5000, "2020-99-99", "role: [selector]\nlabels: x", "role: selector\nlabels: [x]",
    "role: selector\nlabels: 3", "role: {a: 1}\nlabels: x", "role: selector\nlabels: x\nname: [x]",
    "role: selector\nlabels: x\nname: ../x", "role: selector\nlabels: x\ntrain: 3", "role: selector\nlabels: x\nout: 7",
    "role: selector\nlabels: x\ntrain: {hidden: " + "9" * 400 + "}", "role: selector\nlabels: x\n3: 4",
    "role: selector\nlabels: x\ntrain: {hidden: .nan}", "role: selector\nlabels: x\ntrain: {? [a] : b}", "\x00",
    "\ud800", "role: selector\nlabels: x\ndevices: " + "9" * 4000, "preset: [fast]", "preset: {a: 1}", "tile: [1]",
    "table_id: [a]", "codebook_id: 3", "lambda_rd: .nan", "seed: " + "9" * 4000, "device: [x]", "window: [tukey]",
)  # fmt: skip
"""Texts that are no configs."""


def npy(array: np.ndarray) -> bytes:
    """An array as NumPy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def codebooks(params: int) -> Iterator[tuple[str, bytes]]:
    """Codebooks that are none; `params` is how many parameters STRIPES has."""

    def of(array: np.ndarray, **more: bytes) -> bytes:
        return npz({"STRIPES": npy(array), **more})

    good = np.zeros((3, params), "<i2")
    for name, array in {
        "nan": np.full((3, params), np.nan),
        "fractions": np.full((3, params), 0.5),
        "complex": np.full((3, params), 1j),
        "text": np.full((3, params), "1"),
        "objects": np.full((3, params), None, object),
        "bools": np.ones((3, params), bool),
        "dates": np.zeros((3, params), "M8[s]"),
        "records": np.zeros(3, [("a", "<i4")]),
        "flat": np.zeros(3, "<i2"),
        "deep": np.zeros((3, params, 1), "<i2"),
        "none": np.zeros((3, 0), "<i2"),
        "below": np.full((3, params), -1, "<i2"),
        "above": np.full((3, params), 9999, "<i2"),
        "far_above": np.full((3, params), 2**63, "<u8"),
    }.items():
        yield name, of(array)
    yield "unpacks_to_tens_of_megabytes", of(np.zeros((1 << 20, params), "<i8"))
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    for name, text in {
        "shape_of_2p60": "{'descr': '<i2', 'fortran_order': False, 'shape': (1152921504606846976, 3), }",
        "negative_shape": "{'descr': '<i2', 'fortran_order': False, 'shape': (-3, 3), }",
        "no_dict": "[" * 100,
        "code": "__import__('os')",
        "odd_type": "{'descr': '<q9', 'fortran_order': False, 'shape': (1, 3), }",
        "list_type": "{'descr': [['a', []]], 'fortran_order': False, 'shape': (1, 3), }",
    }.items():
        yield name, npz({"STRIPES": header + text.encode().ljust(117) + b"\n" + b"\0" * 6})
    yield "version_9", npz({"STRIPES": b"\x93NUMPY\x09\x00" + npy(good)[8:]})
    yield "header_of_4_gib", npz({"STRIPES": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99})
    yield "no_array", npz({"STRIPES": b"nothing"})
    yield "empty_array", npz({"STRIPES": b""})
    yield "cut_array", npz({"STRIPES": npy(good)[:-1]})
    yield "long_array", npz({"STRIPES": npy(good) + b"\0"})
    yield "bzip2", npz({"STRIPES": npy(good)}, zipfile.ZIP_BZIP2)
    yield "lzma", npz({"STRIPES": npy(good)}, zipfile.ZIP_LZMA)
    yield "weights_of_floats", of(good, weights=npy(np.ones(3)))
    yield "weights_rising", of(good, weights=npy(np.arange(1, 4)))
    yield "weights_zero", of(good, weights=npy(np.zeros(3, int)))
    yield "weights_too_many", of(good, weights=npy(np.ones(4, int)))
    yield "weights_huge", of(good, weights=npy(np.full(3, 2**62)))
    yield "no_archive", b"PK\x03\x04nothing"
    yield "empty", b""
    yield "text_file", b"hello" * 99
    packed = bytearray(of(good))
    at = packed.index(b"PK\x01\x02")
    for name, place, value in (
        ("method_77", 10, 77),
        ("encrypted", 8, 1),
        ("version_needed", 6, 99),
    ):
        changed = bytearray(packed)
        changed[at + place : at + place + 2] = struct.pack("<H", value)
        yield name, bytes(changed)


def tables(sound: bytes) -> Iterator[tuple[str, bytes]]:
    """Tables that are none, made of sound ones."""
    content = json.loads(sound)
    for key in content:
        for i, value in enumerate(VALUES):
            yield f"{key}_{i}", json.dumps({**content, key: value}).encode()
    name = next(iter(content["tables"]))
    for i, value in enumerate([*VALUES, [[]], ["a"], [16384.0], [-1, 16385], [16384, True], [10**400], [0] * 5000]):
        yield f"table_{i}", json.dumps({**content, "tables": {**content["tables"], name: value}}).encode()
    yield from (("deep", b"[" * 100000), ("digits", b"9" * 10000), ("empty", b""), ("bytes", b"\xff\xfe"))


def flipped(rng: np.random.Generator, data: bytes) -> bytes:
    """A file with one to four bits flipped, a run of zeros, or its end cut off."""
    out = bytearray(data)
    kind = rng.integers(6)
    if kind == 0:
        del out[int(rng.integers(len(out))) :]
    elif kind == 1:
        at = int(rng.integers(len(out)))
        out[at : at + 16] = bytes(len(out[at : at + 16]))
    else:
        for bit in rng.integers(8 * len(out), size=int(rng.integers(1, 5))).tolist():
            out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
