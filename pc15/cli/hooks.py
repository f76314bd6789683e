"""The option --hooks: a name, a folder of weights, hf:org/name, or package.module:Class -> hooks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pc15.config_files import baseline_weights
from pc15.errors import ConfigError, did_you_mean
from pc15.plugins import load_plugin, plugin_names

if TYPE_CHECKING:
    from pc15.hooks.protocol import EncoderHooks

__all__ = ["hooks_of"]


def hooks_of(spec: str) -> EncoderHooks | None:
    """Make the hooks that --hooks names; None for a folder of weights that cannot be used, which warns.

    Raises:
        ConfigError: neither a name, a folder of weights nor a class that answers the encoder's questions.
    """
    if spec == "heuristic":
        from pc15.hooks.heuristic import HeuristicHooks

        return HeuristicHooks()
    if spec == "baseline":
        from pc15.hooks.learned import AiHooks

        return AiHooks.from_folder(baseline_weights())
    folder = Path(spec)
    if folder.is_dir():
        from pc15.hooks.hub import local_hooks
        from pc15.hooks.learned import AiHooks

        return AiHooks.from_folder(local_hooks(folder))
    if spec.startswith("hf:"):
        from pc15.hooks.hub import fetch_hooks
        from pc15.hooks.learned import AiHooks

        return AiHooks.from_folder(fetch_hooks(spec))
    offered = plugin_names("pc15.hooks")
    if spec in offered:
        found = load_plugin("pc15.hooks", spec)
        if not isinstance(found, type):
            raise ConfigError(f"--hooks {spec}: the plugin is {type(found).__name__}, not a class")
        return _made(found, spec)
    module, colon, name = spec.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")) and name.isidentifier():
        return _made(_class(_imported(module, spec), name, spec), spec)
    near = did_you_mean(spec, ["none", "heuristic", "baseline", *offered])
    names = "".join(f"{name}, " for name in ("none", "heuristic", "baseline", *offered))
    raise ConfigError(
        f"--hooks {spec} is no folder{near}; give {names}a folder of .safetensors files, hf:org/name, or "
        "package.module:Class"
    )


def _imported(name: str, spec: str) -> ModuleType:
    """The module, from the current folder too, as `python -m` would find it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"--hooks {spec}: {name} needs a module that is missing: {error}") from error
        known = _modules_beside(error.name)
        raise ConfigError(
            f"--hooks {spec}: there is no module {error.name!r}{did_you_mean(error.name, known)}; install it, or run "
            "pc15 in the folder that holds it"
        ) from error
    except ImportError as error:
        raise ConfigError(f"--hooks {spec}: {name} cannot be imported: {error}") from error


def _modules_beside(name: str) -> list[str]:
    """Modules of the package that a missing one would be in, or of the current folder."""
    package, dot, _ = name.rpartition(".")
    places = getattr(sys.modules.get(package), "__path__", []) if dot else [str(Path.cwd())]
    return [f"{package}{dot}{found.name}" for found in pkgutil.iter_modules(places)]


def _class(module: ModuleType, name: str, spec: str) -> type:
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    if found is not None:
        raise ConfigError(f"--hooks {spec}: {name} is {type(found).__name__}, not a class")
    known = [other for other, value in vars(module).items() if isinstance(value, type)]
    raise ConfigError(f"--hooks {spec}: {module.__name__} has no class {name!r}{did_you_mean(name, known)}")


def _made(kind: type, spec: str) -> EncoderHooks:
    """An object of the class, if it has all that hooks need."""
    from pc15.hooks.base import HOOK_METHODS

    if missing := [method for method in HOOK_METHODS if not callable(getattr(kind, method, None))]:
        near = "".join(did_you_mean(method, [own for own in dir(kind) if own[0] != "_"]) for method in missing[:1])
        raise ConfigError(
            f"--hooks {spec}: {kind.__name__} has no method {', '.join(missing)}{near}; hooks have "
            f"{', '.join(HOOK_METHODS)}, see pc15.hooks.protocol.EncoderHooks"
        )
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise ConfigError(
            f"--hooks {spec}: {kind.__name__} cannot be made without arguments ({error}); give them defaults"
        ) from error
    hooks: EncoderHooks = kind()
    return hooks
