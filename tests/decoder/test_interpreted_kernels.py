"""The Triton kernels on a CPU, in Triton's interpreter, against the plain step: what they compute, not how fast.

A process of its own for each: the interpreter is chosen when triton is imported.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("interpreted_step.py")
OLD_NUMPY = tuple(int(part) for part in numpy.__version__.split(".")[:2]) < (2, 4)

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or not OLD_NUMPY,
    reason="needs triton and, for its interpreter, numpy before 2.4: pip install triton 'numpy<2.4'",
)


@pytest.mark.parametrize(
    ("family", "rows", "kernels"),
    [
        ("qwen3", 1, 17),  # three blocks of five, head, choice
        ("qwen3", 3, 24),  # three blocks of seven, first norm, head, choice
        ("llama", 20, 24),
        ("olmoe", 1, 20),
        ("olmoe", 3, 27),
    ],
)
def test_they_compute_what_the_plain_step_computes(family, rows, kernels):
    command = [sys.executable, str(PROGRAM), family, str(rows)]
    process = subprocess.run(command, cwd=ROOT, env=_here(), capture_output=True, text=True, check=True)
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["apart"] < 0.005
    assert result["chosen"] is True
    assert result["kernels"] == kernels


@pytest.mark.parametrize(("family", "rows"), [("qwen3", 1), ("olmoe", 2), ("qwen2_5_vl", 2), ("qwen3_vl", 2)])
def test_they_prefill_as_the_plain_prefill_does(family, rows):
    command = [sys.executable, str(PROGRAM.with_name("interpreted_prompt.py")), family, str(rows)]
    process = subprocess.run(command, cwd=ROOT, env=_here(), capture_output=True, text=True, check=True)
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["logits"] < 0.005
    assert result["caches"] < 0.005


def _here():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
