"""The device that a run uses, its memory, its threads, and a summary of the machine."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from pc15._version import __version__
from pc15.errors import ConfigError, did_you_mean
from pc15.paths import own_variables, set_unless_set

if TYPE_CHECKING:
    import torch

__all__ = ["calm_threads", "checked_device", "env_summary", "free_memory", "resolve_device"]


def calm_threads() -> None:
    """Let OpenMP threads that wait for work sleep soon: before torch is loaded, and unless somebody says otherwise.

    By default they spin for milliseconds: two commands on two cores then took 40 times as long as one.  `import pc15`
    does this; a program that imports torch before it keeps what torch has begun with.
    """
    if "torch" not in sys.modules:
        set_unless_set("GOMP_SPINCOUNT", "1000", nor="OMP_WAIT_POLICY")


def cache_bytes(device: torch.device) -> int:
    """Bytes that are well spent on keeping what could be made again."""
    return 1 << (31 if device.type == "cuda" else 29)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that can still be had, torch's own reserve included; on a CPU, what is worth using at once."""
    import torch  # here, as below: this module is read before torch, to calm its threads

    if device.type != "cuda":
        return 1 << 34
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def checked_device(name: str | torch.device) -> str | torch.device:
    """A device as it was given, for what may never ask it to do anything: a GPU is looked for, other names are known.

    Raises:
        ConfigError: as `resolve_device`.   MissingExtraError: a GPU is named, and torch is not installed.
    """
    text = str(name)
    if _gpu_number(text) is not None:
        return resolve_device(name)
    return name


def _gpu_number(name: str) -> int | None:
    """N of "cuda:N", 0 of "cuda"; None for the names that any machine answers to.

    Raises:
        ConfigError: no such name.
    """
    if name in ("auto", "cpu"):
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise ConfigError(
            f"unknown device {name!r}{did_you_mean(name, ['auto', 'cpu', 'cuda'])}; "
            "choose auto, cpu, cuda, or cuda:N for one of several GPUs"
        )
    return int(match[1] or 0)


def resolve_device(name: str | torch.device, what: str = "the search of tile programs") -> torch.device:
    """The device of a name: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Args:
        what: needs it, for the message where torch is missing.
    Raises:
        ConfigError: no such name, no CUDA, or no GPU of that number.
        MissingExtraError: torch is not installed.
    """
    from pc15.runtime.tensors import load_torch  # here: `import pc15` reads this module, and is to cost nothing

    text = str(name)
    index = _gpu_number(text)
    torch = load_torch(what if index is None else f"device {text!r}")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if index is None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without it)"
        raise ConfigError(
            f"device {text!r} asked for, but torch finds no CUDA{built}; use 'cpu' or 'auto', "
            "or install a CUDA build of torch and its driver. The bytes are the same on both"
        )
    if index >= torch.cuda.device_count():
        raise ConfigError(f"device {text!r} asked for, but there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return torch.device(text)


def env_summary() -> dict[str, object]:
    """Facts about this machine for a bug report or a benchmark, as plain JSON values; of torch None without it."""
    import importlib.metadata  # these two cost more time than all that `import pc15` needs
    import platform

    from pc15.runtime.parallel import thread_count
    from pc15.runtime.tensors import has_torch, load_torch

    torch = load_torch("env") if has_torch() else None
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "pc15": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__) if torch else None,
        "numpy": importlib.metadata.version("numpy"),
        "numba": importlib.metadata.version("numba"),
        "pillow": importlib.metadata.version("pillow"),
        "cuda_available": cuda,
        "cuda_device": torch.cuda.get_device_name() if torch and cuda else None,
        "cuda_version": torch.version.cuda if torch else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if torch else None,
        "threads": thread_count(),
        "env": own_variables(),
    }
