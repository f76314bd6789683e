"""A hint to the CPU for compiled loops: what is needed soon is asked for while something else is worked on."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pc15.runtime import jit

_LINE = 64  # bytes of a cache line
_MOST = 1 << 11  # bytes of a row that are asked for: what follows them comes by itself

_READ, _KEEP, _DATA = 0, 3, 1


def _prefetch(_typing: Any, values: Any, row: Any, byte: Any) -> Any:
    """Ask for the cache line with a byte of a row of a matrix; nothing else happens, whatever the row."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer, word, flag = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        start = builder.mul(arguments[1], builder.extract_value(array.strides, 0))
        place = builder.add(builder.ptrtoint(array.data, word), builder.add(start, arguments[2]))
        builder.call(hint, [builder.inttoptr(place, pointer), flag(_READ), flag(_KEEP), flag(_DATA)])
        return context.get_dummy_value()

    return types.void(values, types.intp, types.intp), code


_prefetch_line: Any = intrinsic(_prefetch)


@jit.jit_inner(allocates=False)
def prefetch(values: NDArray[Any], row: int) -> None:
    """Ask for the beginning of a row of a matrix [R,V]; nothing else happens, whatever the row."""
    for byte in range(0, min(values.shape[1] * values.itemsize, _MOST), _LINE):
        _prefetch_line(values, row, byte)
