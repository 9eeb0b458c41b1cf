"""examples/ci/gate.sh between two commits of a project that is installed by `pip install -e` from a src folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATE = ROOT / "examples" / "ci" / "gate.sh"
BENCH = """
import sys
from pathlib import Path
from random import Random

from shop import FACTOR
from laptime.data.record import StageTimes
from laptime.data.run_folder import RunFolder, new_info
from tests.samples import environment, sample

coin = Random(Path(sys.argv[1]).name)
with RunFolder(sys.argv[1], new_info(["test"], {"model": "m"}, environment())) as folder:
    folder.begin()
    for number in range(5):
        decode = round(60e6 * FACTOR * coin.uniform(0.99, 1.01))
        times = StageTimes.from_ns(vision=0, prefill=20_000_000, decode=decode, total=30_000_000 + decode)
        folder.append(sample(number, stages=times, host_stages=times))
"""


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """Two commits, the second with half the speed; a Python whose site-packages lead to the folder as it is now."""
    if shutil.which("git") is None or shutil.which("bash") is None:
        pytest.skip("the gate needs git and bash")
    project = tmp_path / "my project"
    package = project / "src" / "shop" / "__init__.py"
    package.parent.mkdir(parents=True)
    (project / "bench.py").write_text(BENCH)
    git(project, "init", "-q")
    for factor in (1, 2):
        package.write_text(f"FACTOR = {factor}\n")
        git(project, "add", ".")
        git(project, "commit", "-q", "-m", f"factor {factor}")
    python = tmp_path / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(python)], check=True)
    (packages,) = python.glob("lib/python3*/site-packages")
    laptimes = [str(ROOT), str(ROOT / "src"), *(folder for folder in sys.path if folder.endswith("-packages"))]
    (packages / "laptime.pth").write_text("\n".join(laptimes))
    (packages / "editable.pth").write_text(str(project / "src"))
    command = python / "bin" / "laptime"
    command.write_text(f'#!/bin/sh\nexec "{python}/bin/python" -m laptime "$@"\n')
    command.chmod(0o755)
    return project, packages


def gate(project: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    variables = {name: os.environ[name] for name in os.environ if name not in ("GITHUB_STEP_SUMMARY", "PYTHONPATH")}
    path = f"{packages.parents[2] / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(GATE)], cwd=project, check=False, capture_output=True, text=True,
        env={**variables, "PATH": path, "BASE": "HEAD~1", "OUT": "out"},
    )  # fmt: skip


def test_each_side_of_the_gate_runs_its_own_commit(project):
    done = gate(*project)
    assert done.returncode == 1, done.stderr
    assert "B is slower than A" in done.stdout
    listed = subprocess.run(["git", "worktree", "list"], cwd=project[0], check=True, capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 1  # main's is gone again


def test_an_installation_that_hides_mains_code_is_refused(project):
    folder, packages = project
    (packages / "finder.py").write_text(
        "import sys\nfrom importlib.machinery import PathFinder\n"
        f"class Finder:\n    def find_spec(name, path=None, target=None):\n"
        f"        return PathFinder.find_spec(name, [{str(folder / 'src')!r}]) if name == 'shop' else None\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    (packages / "finder.pth").write_text("import finder\n")
    done = gate(folder, packages)
    assert done.returncode == 2
    assert "import shop gives" in done.stderr and "install your package without -e" in done.stderr
    assert not (folder / "out").exists()
