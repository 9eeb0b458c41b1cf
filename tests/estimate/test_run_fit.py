"""What `fit` writes is written whole or not at all, and Python has the same door as the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.estimate.run_fit import FitOptions, fit_run
from laptime.estimate.total import TotalEstimator
from tests.cli.estimates import write_table
from tests.cli.test_fit import run_table

STEPS = FitOptions(target="step_ms", features=["batch", "prompt"], group=["config"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, and an estimator of another table."""
    folder = tmp_path_factory.mktemp("run_fit")
    write_table(folder / "steps.csv")
    fit_run(write_table(folder / "old.csv", seed=1), folder / "est", STEPS)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_python_gives_what_the_command_line_writes(saved: Path, tmp_path: Path) -> None:
    fitted = fit_run(saved / "steps.csv", tmp_path / "est", STEPS)
    (one,) = fitted.targets.values()
    asked = pl.DataFrame({"batch": [4], "prompt": [256]})
    assert (one.folder, fitted.skipped) == (tmp_path / "est", {})
    assert laptime.Estimator.load(tmp_path / "est").predict(asked) == fitted.predictor().predict(asked)


def test_a_seed_below_0_is_refused(saved: Path) -> None:
    with pytest.raises(LaptimeError, match="the seed can't be negative: -1"):
        laptime.fit_run(saved / "steps.csv", target="step_ms", features=["batch", "prompt"], seed=-1)


def test_a_run_is_learnt_without_a_folder(tmp_path: Path) -> None:
    frame = pl.read_parquet(run_table(tmp_path / "run.parquet"))
    fitted = fit_run(tmp_path / "run.parquet")
    assert all(one.folder is None for one in fitted.targets.values())
    total = fitted.predictor()
    assert isinstance(total, TotalEstimator)
    asked = frame.filter(pl.col("repeat") >= 0).head(1)
    assert total.predict(asked)[0] == pytest.approx(asked["total_ms"][0], rel=0.1)


def test_too_few_samples_because_of_flags_says_how_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    run_table(path)
    frame = pl.read_parquet(path).filter(pl.col("repeat") >= 0)
    flags = pl.when(pl.int_range(pl.len()) < pl.len() - 3).then(pl.lit("foreign-process")).otherwise(pl.lit(""))
    frame.with_columns(flags=flags).write_parquet(path)
    few = f"; {frame.height - 3} of {frame.height} samples are flagged and were left out: .*`keep` foreign-process$"
    with pytest.raises(LaptimeError, match=few) as told:
        fit_run(path)
    assert "(vision_ms, prefill_ms, " in str(told.value), "one reason of several stages is said once"
    assert fit_run(path, options=FitOptions(keep=["foreign-process"])).targets


def test_an_estimator_is_replaced_only_when_that_is_asked(saved: Path, tmp_path: Path) -> None:
    estimator = laptime.Estimator.load(saved / "est")
    estimator.save(tmp_path / "est")
    before = content(tmp_path / "est")
    with pytest.raises(LaptimeError, match="is already there"):
        estimator.save(tmp_path / "est")
    with pytest.raises(LaptimeError, match="is already there"):
        fit_run(tmp_path / "nowhere.csv", tmp_path / "est", STEPS)  # refused before the table is read
    assert content(tmp_path / "est") == before
    fit_run(saved / "steps.csv", tmp_path / "est", STEPS, force=True)
    after = content(tmp_path / "est")
    assert after["estimator.json"] != before["estimator.json"]
    assert not any(file.name.startswith(".") for file in tmp_path.iterdir())


def test_what_is_no_estimator_is_never_replaced(saved: Path, tmp_path: Path) -> None:
    estimator = laptime.Estimator.load(saved / "est")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LaptimeError, match="holds something else"):
        estimator.save(tmp_path, force=True)
    estimator.save(tmp_path / "est")
    with pytest.raises(LaptimeError, match=r"holds notes\.txt too"):
        estimator.save(tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


DIES = """
import os, signal, sys

def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith("estimator.json") and "w" in str(arguments[1]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
"""
FULL = """
import resource, signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
"""


@pytest.mark.parametrize(("trouble", "code"), [(DIES, -9), (FULL, 2)], ids=["killed", "no space"])
def test_trouble_in_the_middle_of_saving_keeps_what_was_there(
    saved: Path, tmp_path: Path, trouble: str, code: int
) -> None:
    laptime.Estimator.load(saved / "est").save(tmp_path / "est")
    before = content(tmp_path / "est")
    words = ["fit", str(saved / "steps.csv"), "--target", "step_ms", "--features", "batch,prompt", "--force"]
    words += ["--out", str(tmp_path / "est")]
    program = f"{trouble}\nfrom laptime.cli.main import run\nimport sys\nsys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert content(tmp_path / "est") == before
    assert np.isfinite(laptime.Estimator.load(tmp_path / "est").predict({"batch": [4], "prompt": [256]})).all()
    if code == 2:
        assert done.stderr.count("\n") == 1
        assert "what was there before is kept" in done.stderr
        assert [file.name for file in tmp_path.iterdir()] == ["est"]
