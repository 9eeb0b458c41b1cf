"""A sweep's folder that an earlier laptime wrote (commit de50371) is read, shown and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from laptime.cli.main import main
from laptime.data.run_folder import load_run
from laptime.report.sweep.view import read_sweep_view, sweep_json
from laptime.sweeps.plan import read_plan
from laptime.sweeps.run import Execution, sweep

FOLDER = Path(__file__).parent / "data" / "older-sweep"
CONFIG = Path(__file__).parent / "data" / "older-sweep.yaml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder, where it can be written to."""
    return Path(shutil.copytree(FOLDER, tmp_path / "run"))


def test_its_samples_and_its_plan_are_read():
    run, plan = load_run(FOLDER), read_plan(FOLDER)
    assert plan is not None
    assert plan.sweep_config.knobs.blocks == [2, 4]
    assert {s.key for s in run.samples if s.repeat >= 0} == plan.keys()
    assert [w.worker for w in run.workers] == ["0"]


def test_its_summary_is_what_was_written_then():
    written = json.loads((FOLDER / "summary.json").read_text())
    today = json.loads(sweep_json(read_sweep_view(FOLDER)))
    for row in today["summary"]["rows"]:
        assert row.pop("compared") is True  # added since, as are these
        assert row.pop("warm_ups") <= row["left_out"]
        assert isinstance(row.pop("flags"), dict)
    for part in ("schema", "config", "session", "summary", "failed"):
        assert today[part] == written[part], part


def test_a_page_is_made_of_it(copy, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(copy)])
    assert ended.value.code == 0, capsys.readouterr().err
    assert "2 configurations" in (copy / "report.html").read_text()


def test_it_is_gone_on_with(copy):
    samples = copy / "samples-0.jsonl"
    lines = samples.read_bytes().splitlines(keepends=True)
    samples.write_bytes(b"".join(lines[:-1]))
    lost = json.loads(lines[-1])
    outcome = sweep(CONFIG, copy, Execution(resume=True))
    assert (outcome.measured, outcome.failed, outcome.missing) == (8, 0, 0)
    assert samples.read_bytes().startswith(b"".join(lines[:-1]))
    new = [s for s in load_run(copy).samples if s.repeat >= 0][-1]
    assert (new.config_id, new.sample_id, new.repeat) == (lost["config_id"], lost["sample_id"], lost["repeat"])
