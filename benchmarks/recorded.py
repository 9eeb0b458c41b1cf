"""Write a benchmark's figures with the environment and the command that they came from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec


def record(name: str, figures: Any, environment: Any) -> Path:
    """Write benchmarks/results/NAME.json (or $OUT/NAME.json on a machine that returns files from there)."""
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    value = {"benchmark": name, "command": command, "environment": environment, "figures": figures}
    target = folder / f"{name}.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    return target
