"""The environment of a run: what must be equal for two measurements to be compared."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import Any

import msgspec
import torch
import transformers

from laptime.data.record import Environment
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.host import describe_host

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCHDYNAMO_DISABLE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TOKENIZERS_PARALLELISM",
)
"""The variables that change speed. No other variable is copied, because an environment can hold secrets."""


def describe(device: torch.device) -> Environment:
    """The environment as seen from this process, for work on `device`."""
    return msgspec.structs.replace(
        describe_host(),
        torch=str(torch.__version__),
        torch_threads=torch.get_num_threads(),
        transformers=transformers.__version__,
        device=str(device),
        gpu_count=torch.cuda.device_count(),
        cuda=torch.version.cuda,
        tf32_matmul=_tf32() if device.type == "cuda" else None,
        matmul_precision=torch.get_float32_matmul_precision(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        **_gpu_facts(device),
        **_git_facts(),
    )


def _gpu_facts(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    monitor = GpuMonitor.open(device)
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cudnn": str(torch.backends.cudnn.version()),
        **(monitor.facts() if monitor else {}),
    }


def _tf32() -> bool:
    return bool(torch.backends.cuda.matmul.allow_tf32)


def _git_facts() -> dict[str, Any]:
    """Commit and state of the git checkout that the command runs in; empty outside one."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603

    with suppress(OSError, subprocess.SubprocessError):
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "--porcelain", "-uno"))}
    return {}
