"""Faster ways through numba, by its private names: only for the versions that `jit.TESTED` spans.

Three things are not as numba does them.  It stamps an entry of its cache with the date of one file: here the stamp has
the digest of a whole package, too.  It trusts the files of its cache: here each begins with a digest of the rest, so
that what a full disk or a power loss has cut or zeroed is compiled anew.  And it optimises and assembles each function
by itself and again within each of its callers: `inner` leaves that to the callers, which halves the time of a first
call.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

from pc15.runtime.lowered import Lowered
from pc15.runtime.notices import say_compiling, say_damaged, say_unkept


class _Locator:
    """Another locator, with a digest in the stamp that cached code must match."""

    def __init__(self, locator: Any, digest: str) -> None:
        self._locator, self._digest = locator, digest

    def get_source_stamp(self) -> tuple[Any, str]:
        return self._locator.get_source_stamp(), self._digest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._locator, name)


class _Sealed(IndexDataCacheFile):  # type: ignore[misc, unused-ignore]
    """Files of a function's cache, each with its digest before it: machine code is run, so it has to be whole."""

    def _load_index(self) -> dict[Any, str]:
        try:
            version, stamp, overloads = self._unsealed(Path(self._index_path))
        except OSError:
            return {}
        fresh = version == self._version and stamp == self._source_stamp
        return dict(overloads) if fresh else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._seal(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._unsealed(Path(self._data_path(name)))

    def _save_data(self, name: str, data: Any) -> None:
        self._seal(self._data_path(name), data)

    def _seal(self, path: str, content: Any) -> None:
        data = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(data).digest() + data)

    @staticmethod
    def _unsealed(path: Path) -> Any:
        """Content of a file.

        Raises:
            OSError: it cannot be read, or is not what was written: numba compiles anew then.
        """
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            say_damaged(path.parent)
            raise OSError(f"{path} is damaged")
        return pickle.loads(data[32:])


def _cache(function: Callable[..., Any], digest: str) -> FunctionCache:
    """numba's cache of a function, stamped with a digest."""

    class Stamped(CompileResultCacheImpl):  # type: ignore[misc, unused-ignore]
        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            self._locator = _Locator(self._locator, digest)

    class Cache(FunctionCache):  # type: ignore[misc, unused-ignore]
        _impl_class = Stamped

        def __init__(self, py_func: Callable[..., Any]) -> None:
            super().__init__(py_func)
            name = f"{self._impl.filename_base}.sealed"  # apart from files of numba's own form
            self._cache_file = _Sealed(self._cache_path, name, self._impl.locator.get_source_stamp())

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            found = super().load_overload(sig, target_context)
            if found is None:
                say_compiling(f"{function.__module__}.{function.__qualname__}")
            return found

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except OSError as error:  # a full disk is no reason not to run what is compiled
                say_unkept(error)
                self.disable()

    return Cache(function)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc, unused-ignore]
    """Leaves a function as it is written down, for its callers to optimise: it never runs by itself."""

    _name = "pc15_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        super().run_pass(state)
        library = state.library
        for other in dict.fromkeys(library._linking_libraries):
            library._final_module.link_in(other._get_module_for_linking(), preserve=True)
        library._finalize_dynamic_globals()
        library._finalized = True
        code: Any = [].append  # stands for machine code: of the type that numba wants, and equal to nothing else
        state.targetctx.insert_user_function(code, state.cr.fndesc, [library])
        state.reload_init.extend(library._reload_init)
        state.cr = state.cr._replace(cfunc=code)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PrivateLowering(NativeLowering):  # type: ignore[misc, unused-ignore]
    """Keeps all that a function calls to itself: what has one caller becomes part of it, whatever its size.

    A call hands over every array's seven words; of records of arrays, that would be hundreds of them.  What is still
    called may be called in another way then, so it has another name: no module loaded later may find it.
    """

    _name = "pc15_private_lowering"

    def run_pass(self, state: Any) -> bool:
        library = state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library.enable_object_caching()
        optimize = library._optimize_final_module

        def optimize_privately() -> None:
            _keep_private(library._final_module)
            optimize()

        library._optimize_final_module = optimize_privately
        return bool(super().run_pass(state))


def _keep_private(module: Any) -> None:
    for function in module.functions:
        if not function.is_declaration and function.linkage.name == "linkonce_odr":
            function.linkage = "internal"
            function.name = f"private.{function.name}"


def _pipeline(lowering: type[NativeLowering]) -> type[CompilerBase]:
    """numba's usual compiler, but for one step."""

    class Compiler(CompilerBase):  # type: ignore[misc, unused-ignore]
        def define_pipelines(self) -> list[Any]:
            manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
            manager.passes = [(lowering if step is NativeLowering else step, why) for step, why in manager.passes]
            manager.finalize()
            return [manager]

    return Compiler


_INNER, _ENTRY = _pipeline(_Lowering), _pipeline(_PrivateLowering)


def _options(allocates: bool, options: dict[str, Any]) -> dict[str, Any]:
    return options if allocates else {"_nrt": False, **options}


def entry(function: Callable[..., Any], digest: str, allocates: bool, options: dict[str, Any]) -> Any:
    """The dispatcher of a loop that Python calls; `digest` says which cached code still fits."""
    dispatcher: Any = njit(nogil=True, pipeline_class=_ENTRY, **_options(allocates, options))(function)
    try:
        dispatcher._cache = _cache(function, digest)
    except (OSError, RuntimeError) as error:  # nowhere to write, or no sources: slower to start, but right
        say_unkept(error)
    return dispatcher


@register_pass(mutates_CFG=True, analysis_only=False)
class _WrittenLowering(_Lowering):
    """Ends with a module that is written down, of a function that only machine code may call; the rest is private."""

    _name = "pc15_written_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        super().run_pass(state)
        _keep_private(state.library._final_module)
        return True


_WRITTEN = _pipeline(_WrittenLowering)
_KNOWN = re.compile(r"llvm\..*|mem(cpy|move|set)|sqrtf?")
"""Functions that any process has, or LLVM itself makes; of C's mathematics only what is rounded rightly everywhere."""
_OF_A_MACHINE = re.compile(r"^target (datalayout|triple) = .*\n", re.MULTILINE)


def lowered(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Lowered:
    """Lower a loop for arguments of these types, without what is of this machine; no text if it calls what a process
    without numba does not have."""
    alone: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False, **options}
    dispatcher: Any = njit(nogil=True, pipeline_class=_WRITTEN, **alone)(function)
    dispatcher.compile(tuple(dispatcher.typeof_pyval(value) for value in arguments))
    (result,) = dispatcher.overloads.values()
    module, description = result.library._final_module, result.fndesc
    called = {f.name for f in module.functions if f.is_declaration}
    returns = str(description.restype)
    if returns not in ("none", "int64", "float64") or not all(map(_KNOWN.fullmatch, called)):
        return Lowered("", "", "none")
    return Lowered(_OF_A_MACHINE.sub("", str(module)), description.llvm_func_name, returns)


def inner(function: Callable[..., Any], allocates: bool, options: dict[str, Any]) -> Any:
    """The dispatcher of a loop that only compiled loops call."""
    private: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_options(allocates, options)}
    dispatcher: Any = njit(nogil=True, pipeline_class=_INNER, **private)(function)
    usual = dispatcher.get_call_template

    def get_call_template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        # numba would compile a copy for every constant that is passed, even for the first value of a sum
        return usual(tuple(map(types.unliteral, args)), kws)

    dispatcher.get_call_template = get_call_template
    return dispatcher
