"""`laptime report`: a sweep becomes a page of its configurations, a run of one configuration a page of its samples."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from laptime.cli.main import main
from tests.report.sample_runs import run_of, samples
from tests.report.sweep.sample_sweeps import sweep_run, sweep_samples, write_run

KNOBS = {"tier": ["low", "high"], "top_k": [2, 8]}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", sweep_run(*sweep_samples(KNOBS)))


def test_a_sweep_becomes_a_page_of_its_configurations(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", str(sweep)) == 0
    assert capsys.readouterr().out.strip() == str(sweep / "report.html")
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert "Every configuration" in page
    assert "the total most" in page


def test_one_configuration_becomes_a_page_of_its_samples(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one", run_of(samples(8)))
    assert run("report", str(folder), "--html", str(tmp_path / "page.html")) == 0
    assert "Every sample" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_configurations_that_all_failed_count(tmp_path: Path) -> None:
    measured, failures = sweep_samples({"tier": ["low", "high"], "top_k": [8], "prompt_tokens": [1024]})
    folder = write_run(tmp_path / "run", sweep_run(measured, failures))
    assert len({one.config_id for one in measured}) == 1
    assert run("report", str(folder)) == 0
    assert "CUDA out of memory" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_table_of_samples_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "samples.parquet"
    sweep_run(*sweep_samples(KNOBS)).frame().drop("itl_ms").write_parquet(table)
    assert run("report", str(table)) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "samples.html")
    assert "without their environment" in (tmp_path / "samples.html").read_text(encoding="utf-8")


def test_json_has_summary_audit_and_failures(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", str(sweep), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "laptime.sweep/1"
    assert list(printed["summary"]["knobs"]) == ["tier", "top_k"]
    assert len(printed["summary"]["rows"]) == 4
    assert {rule["code"] for rule in printed["audit"]["rules"]} >= {"zero-decode", "missing-samples"}
    assert not (sweep / "report.html").exists()


def test_planned_configurations_have_a_row_before_their_first_sample(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [{"config_id": "later", "config": {"tier": "medium", "top_k": 2}}]
    plan = {"schema": "laptime.plan/1", "configs": configs, "samples": ["val-00000"], "repeats": 1}
    (sweep / "plan.json").write_bytes(msgspec.json.encode(plan))
    assert run("report", str(sweep), "--json") == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert [row["samples"] for row in summary["rows"] if row["config_id"] == "later"] == [0]
    assert summary["knobs"]["tier"] == ["low", "medium", "high"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("plan.json", "{", "plan.json"),
        ("failures-0.jsonl", "{}\n", "failures-0.jsonl, line 1"),
        ("samples-1.jsonl", "[]\n", "samples-1.jsonl, line 1"),
    ],
)
def test_damaged_files_end_with_one_line(
    file: str, content: str, words: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / file).write_text(content)
    assert run("report", str(sweep)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (sweep / "report.html").exists()


def test_a_place_that_can_not_be_written_is_named(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", str(sweep), "--html", "/proc/no/page.html") == 2
    assert "--html /proc/no/page.html: " in capsys.readouterr().err


def test_a_page_of_laptime_is_replaced_and_anything_else_is_not(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = sweep / "report.html"
    assert run("report", str(sweep)) == 0
    first = own.read_bytes()
    assert run("report", str(sweep)) == 0
    own.write_bytes(b"<html>my notes</html>")
    capsys.readouterr()
    assert run("report", str(sweep)) == 2
    assert "already there" in capsys.readouterr().err
    assert own.read_bytes() == b"<html>my notes</html>"
    assert run("report", str(sweep), "--force") == 2
    assert "is no page of laptime, and is never replaced" in capsys.readouterr().err
    own.write_bytes(first.replace(b"</body>", b"<p>older</p></body>"))
    assert run("report", str(sweep), "--force") == 0
    assert own.read_bytes()[:200] == first[:200]


def test_a_named_page_is_replaced_only_with_force(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = sweep.parent / "page.html"
    assert run("report", str(sweep), "--html", str(page)) == 0
    capsys.readouterr()
    assert run("report", str(sweep), "--html", str(page)) == 2
    assert "--force" in capsys.readouterr().err
    assert run("report", str(sweep), "--html", str(page), "--force", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["schema"] == "laptime.sweep/1"
    assert captured.err.strip() == str(page)


def test_help_on_a_place_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", str(tmp_path / "nowhere")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (tmp_path / "nowhere.html").exists()
