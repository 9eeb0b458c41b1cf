"""Data sets are read, scored and planned where the extra packages for models aren't installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = "torch transformers PIL tokenizers safetensors huggingface_hub"
SCRIPT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import importlib
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    "module",
    [
        "laptime.models.presets",
        "laptime.workload.example",
        "laptime.workload.image_folder",
        "laptime.workload.images",
        "laptime.workload.reading",
        "laptime.workload.scoring",
    ],
)
def test_what_reading_and_planning_need_imports_no_model_package(module: str) -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT, module], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_block_in_these_tests_works() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT, "PIL.Image"], capture_output=True, text=True, check=False)
    assert "No module named 'PIL'" in ran.stderr
