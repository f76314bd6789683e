"""Machine code of this processor from LLVM's intermediate representation, and calls of it, by llvmlite alone.

What is done to the representation is what numba does, so that loops are as fast as if it had compiled them.
Source: numba/core/codegen.py, JITCPUCodegen.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["callable_of", "host", "object_code"]

_RESULTS: dict[str, Any] = {"none": None, "int64": ctypes.c_int64, "float64": ctypes.c_double}
"""Types that a loop may return, by numba's names."""
_ENGINES: list[Any] = []
"""Owner of the machine code, as long as the process lives."""


@functools.cache
def host() -> dict[str, str]:
    """Processor and llvmlite that machine code is made for and by."""
    import llvmlite
    import llvmlite.binding as llvm

    return {
        "llvmlite": str(llvmlite.__version__),
        "triple": llvm.get_process_triple(),
        "processor": llvm.get_host_cpu_name(),
        "features": llvm.get_host_cpu_features().flatten(),
    }


def object_code(representation: str) -> bytes:
    """Optimise a module and assemble it: an object file.

    Args:
        representation: LLVM's assembly language, of no machine in particular.
    Raises:
        RuntimeError: this LLVM cannot read it.
    """
    import llvmlite.binding as llvm

    module, machine = llvm.parse_assembly(representation), _machine()
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    inlining = _pass_builder(machine, 0, vectorize=False)
    first = inlining.getModulePassManager()
    first.add_loop_rotate_pass()  # early, so that more loops are vectorised
    first.add_instruction_combine_pass()
    first.add_jump_threading_pass()
    first.run(module, inlining)
    full = _pass_builder(machine, 3, vectorize=True)
    full.getModulePassManager().run(module, full)
    module.verify()
    data: bytes = machine.emit_object(module)
    return data


def callable_of(code: bytes, function: str, returns: str, key: tuple[str, ...]) -> Callable[..., Any]:
    """A function of machine words, which runs without the GIL.

    Args:
        code: an object file.   function: its name there.   returns: "none", "int64" or "float64".
        key: kinds of its arguments, as `kept` names them.
    """
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target().create_target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _ENGINES.append(engine)
    result = _RESULTS[returns] or ctypes.c_void_p
    words: list[Any] = []
    for kind in key:
        if kind == "float":
            words.append(ctypes.c_double)
        elif kind in ("int", "bool"):
            words.append(ctypes.c_int64)
        elif " of " not in kind:
            words += [ctypes.c_int64] * (5 + 2 * int(kind.split()[1]))
    shape = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *words)
    run = shape(engine.get_function_address(function))

    def call(*arguments: Any) -> Any:
        value, why = result(), ctypes.c_void_p()
        if status := run(ctypes.addressof(value), ctypes.addressof(why), *arguments):
            raise RuntimeError(f"{function} ended with status {status}, though nothing in it raises")
        return None if returns == "none" else value.value

    return call


@functools.cache
def _target() -> Any:
    """LLVM for this process's machine."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple())


@functools.cache
def _machine() -> Any:
    """The machine that code is made for, all that it can do included."""
    target, here = _target(), host()
    return target.create_target_machine(
        cpu=here["processor"],
        features=here["features"],
        opt=3,
        reloc="static" if here["triple"].startswith(("x86", "i386", "i686")) else "default",
        codemodel="jitdefault",
        jit=True,
    )


def _pass_builder(machine: Any, level: int, *, vectorize: bool) -> Any:
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options()
    options.speed_level, options.loop_vectorization, options.slp_vectorization = level, vectorize, False
    return llvm.create_pass_builder(machine, options)
