"""What a sweep's verbs do where torch, transformers and PIL are not installed."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.samples import sample
from tests.sweeps.test_merge import shard

WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'PIL')))\n"
"""A module that is None in sys.modules can't be imported, and counts as not installed."""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that has no torch."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def laptime(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python("from laptime.cli.main import main; main(sys.argv[1:])", *arguments)


def test_merge_needs_no_torch(tmp_path):
    a, b = shard(tmp_path / "a", sample(0)), shard(tmp_path / "b", sample(1))
    ended = laptime("merge", a, b, "--out", tmp_path / "all", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["samples"] == 2


def test_a_sweep_and_its_dry_run_are_refused_in_one_line(tmp_path):
    config = tmp_path / "sweep.yaml"
    config.write_text("model: preset:tiny-llm\n")
    for more in ([], ["--dry-run"]):
        ended = laptime("sweep", config, "--out", tmp_path / "run", *more)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == (
            "laptime: torch and transformers are not installed but needed to measure: pip install 'laptime[torch]'\n"
        )
        assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_configuration_is_said_without_torch(tmp_path):
    config = tmp_path / "sweep.yaml"
    config.write_text("model: preset:tiny-llm\nknobs: {blokcs: 2}\n")
    ended = laptime("sweep", config, "--out", tmp_path / "run")
    assert ended.returncode == 2
    assert "sweep.yaml:2: knobs.blokcs: unknown key; did you mean blocks?" in ended.stderr


def test_from_python_it_is_the_same_error():
    ended = python("""
from laptime.errors import LaptimeError
from laptime.sweeps.run import sweep
try:
    sweep({"model": "preset:tiny-llm"}, "run")
except LaptimeError as error:
    print(error)
""")
    assert "pip install 'laptime[torch]'" in ended.stdout, ended.stderr
