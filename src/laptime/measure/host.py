"""What is known of this machine without torch."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import laptime
from laptime.data.record import Environment

PACKAGES = (
    "msgspec", "numpy", "polars", "scipy", "lightgbm", "typer", "rich", "pyyaml", "isal", "safetensors",
    "threadpoolctl", "torch", "transformers", "pillow", "nvidia-ml-py", "ray", "aiohttp",
)  # fmt: skip
"""What laptime can use of other projects, by the names that pip knows."""


def described_packages() -> dict[str, str]:
    """The installed versions of what laptime uses."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def describe_host() -> Environment:
    """The environment of a process that uses no device of its own, such as a client of a server."""
    return Environment(
        laptime=laptime.__version__,
        python=platform.python_version(),
        platform=platform_name(),
        cpu=cpu_name(),
        cpu_count=cpu_count(),
        memory_bytes=memory_bytes(),
    )


def platform_name() -> str:
    """System, release and machine."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def cpu_name() -> str:
    """The processor's name as the system says it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """The cores that this process may use; the machine can have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory."""
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
