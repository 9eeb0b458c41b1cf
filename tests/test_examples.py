"""Every example runs as its first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "fast_decoder": "closes to the nanosecond: True",
    "time_my_model": "its stages sum to its total, to the nanosecond: True",
    "sweep_from_python": "findings: [",
    "fit_and_ask_a_budget": "one request of 200 tokens takes at most",
    "load_a_run_into_polars": "Closure: ",
    "read_a_trace": "of idle time",
}
"""A part of what each example prints."""


def test_every_example_is_tested():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert PRINTED[name] in done.stdout
