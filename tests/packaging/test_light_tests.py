"""The tests of the lowest and the newest versions import nothing that their environment lacks."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
tomllib = pytest.importorskip("tomllib")
NAMES = {"pyyaml": "yaml", "pytest-xdist": "xdist"}
"""What a package is imported as, where that is not its name."""


def imported(path: Path) -> set[str]:
    """The packages that a module imports when it is imported."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    found = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in found}


def test_what_they_import_is_in_the_light_environment():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = [*project["dependencies"], *extras["light"], *extras["serve"]]
    packages = {re.split(r"[>=\[]", bound)[0] for bound in bounds}
    there = (
        {NAMES.get(name, name) for name in packages} | set(sys.stdlib_module_names) | {"laptime", "tests", "benchmarks"}
    )
    listed = re.search(r"WITHOUT_TORCH := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text())[1].replace("\\", " ")
    files = [
        file
        for one in listed.split()
        for file in ([ROOT / one] if one[-3:] == ".py" else (ROOT / one).rglob("test_*.py"))
    ]
    assert len(files) > 50
    missing = {f"{file.relative_to(ROOT)}: {name}" for file in files for name in imported(file) - there}
    assert not {one for one in missing if "importorskip" not in (ROOT / one.partition(":")[0]).read_text()}


def test_the_docs_name_the_declared_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = dict(bound.split(">=") for bound in [*project["dependencies"], *extras["serve"]])
    table = re.findall(r"^\| ([a-z][^|]*) \| ([\d., ]+) \|", (ROOT / "docs/faq.md").read_text(), re.MULTILINE)
    rows = [zip(re.findall(r"[a-z]\w+", names.partition("(")[0]), low.split(", "), strict=True) for names, low in table]
    assert {name: low.strip() for row in rows for name, low in row} == declared
    for name, low in (bound.split(">=") for bound in [*extras["torch"][:2], *extras["ray"]]):
        assert f"{name} {low}" in (ROOT / "docs/faq.md").read_text()
