"""Write a benchmark's figures with the environment and the command that they came from, and go on with them."""

from __future__ import annotations

import compileall
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec


def record(name: str, figures: Any, environment: Any) -> Path:
    """Write benchmarks/results/NAME.json (or $OUT/NAME.json on a machine that returns files from there)."""
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    command = re.sub(r"--tables \S+", "--tables FOLDER", command)
    value = {"benchmark": name, "command": command, "environment": environment, "figures": figures}
    target = folder / f"{name}.json"
    target.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    return target


def as_installed() -> None:
    """Write the bytecode of laptime, as pip does for what it installs.

    Else, where PYTHONDONTWRITEBYTECODE is set, each process compiles all that it imports, and its peers do not.
    """
    compileall.compile_dir(Path(__file__).parents[1] / "src" / "laptime", quiet=1)


def code_of(package: str) -> dict[str, str | None]:
    """Which code was judged: a hash of all files of a package below src/laptime, and the commit where git knows it."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted((root / "src" / "laptime" / package).rglob("*.py")):
        digest.update(file.read_bytes())
    asked = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"code": digest.hexdigest()[:16], "commit": asked.stdout.strip() or None}


def known(name: str, same: dict[str, Any]) -> Any:
    """What benchmarks/results/NAME.json holds if its environment has all these values; else None."""
    file = Path(os.environ.get("OUT") or Path(__file__).parent / "results") / f"{name}.json"
    if not file.exists():
        return None
    value = msgspec.json.decode(file.read_bytes())
    return value if same.items() <= value["environment"].items() else None
