"""The README's links on a package index, and the bounds that a job tests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling")
tomllib = pytest.importorskip("tomllib")


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_relative_link_of_the_readme_becomes_absolute(hook):
    text = hook.absolute((ROOT / "README.md").read_text(), "https://host/o/laptime", "v1.0.0")
    left = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("http", "#"))]
    assert left == []
    for target in re.findall(r"https://host/o/laptime/(?:raw|blob)/v1\.0\.0/([^)#\s]+)", text):
        assert (ROOT / target).exists(), target


def test_a_picture_in_a_link_keeps_both_targets(hook):
    text = hook.absolute("[![A (b)](docs/a.png)](docs/a.md) [x](#here) [y](http://z)", "https://h/o", "v1")
    assert text == "[![A (b)](https://h/o/raw/v1/docs/a.png)](https://h/o/blob/v1/docs/a.md) [x](#here) [y](http://z)"


def test_without_an_address_nothing_is_invented(hook, monkeypatch):
    monkeypatch.delenv("LAPTIME_PROJECT_URL", raising=False)
    metadata = {}
    hook.CustomMetadataHook(str(ROOT), {}).update(metadata)
    assert metadata["urls"] == {}
    assert metadata["readme"]["text"] == (ROOT / "README.md").read_text()


def test_every_extra_is_in_all_and_every_bound_is_a_lowest_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = " ".join(project["optional-dependencies"]["all"])
    for extra in set(project["optional-dependencies"]) - {"all", "dev", "docs", "light", "vllm"}:
        assert extra in everything
    assert all(re.fullmatch(r"[a-z]+>=[0-9.]+", bound) for bound in project["dependencies"])
