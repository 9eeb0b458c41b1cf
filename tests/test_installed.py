"""What is installed is what pyproject.toml declares, and it starts."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata, requires, version

import pytest

import laptime


def test_the_version_is_the_packages():
    assert laptime.__version__ == metadata("laptime")["Version"]


def test_declared_bounds_hold_for_what_is_installed():
    for line in requires("laptime") or []:
        name, _, lowest = re.match(r"([A-Za-z0-9_.-]+)(>=)?([0-9.]*)", line).groups()
        if "extra" in line or not lowest:
            continue
        try:
            numbers = [[int(n) for n in re.findall(r"\d+", text)[:3]] for text in (version(name), lowest)]
        except PackageNotFoundError:
            pytest.fail(f"{name} is declared and not installed")
        assert numbers[0] >= numbers[1], line


@pytest.mark.parametrize("verb", ["profile", "audit", "compare", "trace", "export", "fit", "budget", "serve-bench"])
def test_every_verb_shows_its_help(verb):
    program = f"from laptime.cli.main import main; main([{verb!r}, '--help'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout
