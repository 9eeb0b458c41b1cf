"""The files that a release uploads: what is in them, and what a package index shows of them."""

from __future__ import annotations

import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

DIST = Path(__file__).parents[2] / "dist"
WHEELS, SDISTS = sorted(DIST.glob("*.whl")), sorted(DIST.glob("*.tar.gz"))

pytestmark = pytest.mark.skipif(not (WHEELS and SDISTS), reason="make dist builds what is tested here")


def test_a_wheel_holds_the_package_and_nothing_else():
    names = zipfile.ZipFile(WHEELS[-1]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"laptime"}
    assert {"laptime/py.typed", "laptime/report/kit/page.css", "laptime/report/kit/dom.js"} <= set(names)
    assert {Path(name).suffix for name in names if "dist-info" not in name} <= {".py", ".js", ".css", ".typed"}


def test_a_source_archive_builds_and_tests_without_the_large_files():
    with tarfile.open(SDISTS[-1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert {"tests/conftest.py", "src/laptime/__init__.py", "examples/time_my_model.py"} <= names
    assert not [name for name in names if name.endswith((".safetensors", ".sqlite")) and name.startswith("examples")]
    assert SDISTS[-1].stat().st_size < 5e6


def test_the_metadata_says_what_an_index_shows():
    archive = zipfile.ZipFile(WHEELS[-1])
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"torch", "all", "serve", "ray"} <= set(metadata.get_all("Provides-Extra"))
    assert "laptime" in metadata.get_payload()
