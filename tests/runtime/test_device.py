"""Devices by name, the summary of a machine, and threads that sleep while they wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from pc15.errors import ConfigError
from pc15.runtime.device import env_summary, resolve_device

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("imports", "given", "expected"),
    [
        ("pc15, torch", {}, {"GOMP_SPINCOUNT": "1000"}),
        ("pc15.cli, torch", {}, {"GOMP_SPINCOUNT": "1000"}),
        ("pc15learn.cli, torch", {}, {"GOMP_SPINCOUNT": "1000"}),
        ("pc15", {"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ("pc15", {"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ("torch, pc15", {}, {}),
    ],
)
def test_threads_are_calmed_before_torch_is_there_unless_somebody_has_said_how_they_wait(
    imports: str, given: dict[str, str], expected: dict[str, str]
) -> None:
    code = f"import json, os, {imports}; print(json.dumps({{k: os.environ[k] for k in {WAITING} if k in os.environ}}))"
    env = {key: value for key, value in os.environ.items() if key not in WAITING} | given
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout) == expected


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == resolve_device(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        resolve_device("cuda:2")


def test_cuda_without_a_gpu_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="use 'cpu' or 'auto'"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["", "CPU", "cuba", "cuda:", "cuda:-1", "meta"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_device(name)


@pytest.mark.gpu
def test_the_device_fixture_works(device: torch.device) -> None:
    assert (torch.ones(2, device=device) + 1).sum().item() == 4


def test_the_summary_is_plain_json_and_lists_the_set_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC15_MODELS_DIR", "somewhere")
    summary = json.loads(json.dumps(env_summary()))
    assert summary["env"]["PC15_MODELS_DIR"] == "somewhere"
    assert summary["torch"] == torch.__version__
    assert summary["threads"] == torch.get_num_threads()
    assert {"pc15", "python", "platform", "numpy", "pillow", "cuda_available", "cpu_capability"} <= set(summary)
