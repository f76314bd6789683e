"""Exact products of rows of bytes for compiled loops, by the instruction that some CPUs have for it.

x86 CPUs since 2019 or 2021 add up products of unsigned with signed bytes in 32 bits, 32 of them at once (VPDPBUSD),
which neither Python nor a compiler's own wits reach; a byte's sign is turned round before and what that adds is taken
off after.  Elsewhere a plain loop does the same, whose sums are the same.
Source: Intel, "Architecture Instruction Set Extensions Programming Reference", AVX512_VNNI, AVX-VNNI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numpy import int32
from numpy.typing import NDArray

from pc15.runtime import jit

_BYTES = 32  # multiplied by one instruction
_SUMS = 4  # each instruction takes that long, so as many are on their way
_SIGN = 128


def _has_instruction() -> bool:
    """True if numba compiles for a CPU that has the instruction."""
    config: Any = numba.config  # made from the environment, where types do not see it
    if config.CPU_FEATURES is not None:
        on = set(config.CPU_FEATURES.split(","))
        return bool(config.ENABLE_AVX) and ("+avxvnni" in on or {"+avx512vnni", "+avx512vl"} <= on)
    if config.CPU_NAME is not None or not config.ENABLE_AVX:
        return False
    here = binding.get_host_cpu_features()
    return bool(here.get("avxvnni")) or bool(here.get("avx512vnni") and here.get("avx512vl"))


def _summed(
    builder: Any, begin: Any, end: Any, step: int, sums: list[Any], add: Callable[[Any, int, Any], Any]
) -> list[Any]:
    """Sums once a loop from begin to end is through, whose every round makes add(place, number, sum) of each sum."""
    before, loop = builder.block, builder.append_basic_block("sum")
    after = builder.append_basic_block("summed")
    builder.cbranch(builder.icmp_signed("<", begin, end), loop, after)
    builder.position_at_end(loop)
    at = builder.phi(begin.type)
    at.add_incoming(begin, before)
    own = [builder.phi(one.type) for one in sums]
    for phi, one in zip(own, sums, strict=True):
        phi.add_incoming(one, before)
    new = [add(at, number, phi) for number, phi in enumerate(own)]
    follows = builder.add(at, begin.type(step))
    at.add_incoming(follows, loop)
    for phi, one in zip(own, new, strict=True):
        phi.add_incoming(one, loop)
    builder.cbranch(builder.icmp_signed("<", follows, end), loop, after)
    builder.position_at_end(after)
    out = [builder.phi(one.type) for one in sums]
    for phi, one, other in zip(out, sums, new, strict=True):
        phi.add_incoming(one, before)
        phi.add_incoming(other, loop)
    return out


def _wide_sums(_typing: Any, a: Any, b: Any) -> Any:
    """Sum of (a + 128) * b of rows of int8 whose length is a multiple of _BYTES, int32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, two = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        byte, word, size = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        of_bytes, of_words = ir.VectorType(byte, _BYTES), ir.VectorType(word, _BYTES // 4)
        kind = ir.FunctionType(of_words, [of_words] * 3)
        multiply = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.256", (), kind)
        add_up = builder.module.declare_intrinsic(
            f"llvm.vector.reduce.add.v{_BYTES // 4}i32", (), ir.FunctionType(word, [of_words])
        )
        turned, nothing = ir.Constant(of_bytes, [-_SIGN] * _BYTES), ir.Constant(of_words, [0] * (_BYTES // 4))

        def add(at: Any, number: int, own: Any) -> Any:
            place = builder.add(at, size(_BYTES * number))
            x, y = (
                builder.load(builder.bitcast(builder.gep(part.data, [place]), of_bytes.as_pointer()), align=1)
                for part in (one, two)
            )
            turned_x = builder.bitcast(builder.xor(x, turned), of_words)
            return builder.call(multiply, [own, turned_x, builder.bitcast(y, of_words)])

        length = builder.extract_value(one.shape, 0)
        most = builder.and_(length, size(-_BYTES * _SUMS))
        first, *others = _summed(builder, size(0), most, _BYTES * _SUMS, [nothing] * _SUMS, add)
        (total,) = _summed(builder, most, length, _BYTES, [first], add)
        for other in others:
            total = builder.add(total, other)
        return builder.call(add_up, [total])

    return types.int32(a, b), code


_sums: Any = intrinsic(_wide_sums)

Row = NDArray[Any]


def _plain(a: Row, b: Row, total: int) -> Any:
    """`dot` everywhere."""
    out = int32(0)
    for k in range(len(a)):
        out = int32(out + int32(int32(a[k]) * int32(b[k])))
    return out


def _by_instruction(a: Row, b: Row, total: int) -> Any:
    """`dot` where the CPU has the instruction."""
    if a.itemsize != 1 or b.itemsize != 1 or len(a) & (_BYTES - 1):
        return _by_loop(a, b, total)
    return int32(_sums(a, b) - int32(_SIGN) * total)


_by_loop = jit.jit_inner(allocates=False)(_plain)
dot: Any = jit.jit_inner(allocates=False)(_by_instruction) if _has_instruction() else _by_loop
"""dot(a, b, total): sum of a * b of contiguous rows [P] of whole numbers, in 32 bits; total: `total_of` b."""


@jit.jit_inner(allocates=False)
def total_of(row: Row) -> Any:
    """Sum of a row [P] of whole numbers, int32."""
    out = int32(0)
    for k in range(len(row)):
        out = int32(out + int32(row[k]))
    return out
