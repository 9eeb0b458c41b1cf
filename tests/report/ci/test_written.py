"""What a CI job reads of an audit and of a comparison: it agrees with the exit code, and nothing in a name acts."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import polars
import pytest

import laptime
from laptime.cli.main import run as command
from laptime.report.ci.checks import checks_of
from laptime.report.ci.written import annotation_lines, junit, markdown
from tests.report.hostile import HOSTILE


@pytest.fixture
def bad():
    rows = {"sample_id": [f"s{i}" for i in range(8)], "total_ms": [5.0] * 7 + [-1.0], "decode_ms": [4.0] * 8}
    return laptime.audit(polars.DataFrame(rows))


def test_every_rule_is_a_case_and_a_severe_finding_a_failure(bad):
    suite = ElementTree.fromstring(junit(checks_of(bad))).find("testsuite")
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests")) >= len(bad.rules)
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == {finding.code for finding in bad.findings if finding.severity == "severe"} != set()
    assert int(suite.get("skipped")) == sum(case.find("skipped") is not None for case in cases)


def test_the_summary_has_the_headline_and_a_row_for_each_finding(bad):
    text = markdown(checks_of(bad))
    assert text.startswith("### ❌ laptime audit: These measurements can't be used as they are")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(bad.findings)
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.parametrize("name", [*HOSTILE, "::error::x", "a\n::error::x", "|a|b|", "@everyone [x](http://y)"])
def test_nothing_in_a_name_acts(bad, name):
    finding = msgspec.structs.replace(bad.findings[0], examples=[name], reason=name, mend=name, unit=name)
    checks = checks_of(msgspec.structs.replace(bad, findings=[finding], source=name))
    ElementTree.fromstring(junit(checks))
    text = markdown(checks)
    assert "<script" not in text and "<img" not in text and "@e" not in text and "[x](" not in text
    for line in annotation_lines(checks):
        assert "\n" not in line and "\r" not in line and line.startswith(("::error title=", "::warning title="))


def test_the_verb_writes_both_and_its_exit_code_agrees(tmp_path, monkeypatch, capsys):
    table = tmp_path / "t.csv"
    table.write_text("sample_id,total_ms\n" + "\n".join(f"s{i},{-1 if i == 3 else 5 + i}" for i in range(9)))
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert command(["audit", str(table), "--github-summary", "--junit", str(tmp_path / "j.xml"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("{") and "::error title=laptime audit" in err
    assert summary.read_text().startswith("### ❌")
    assert int(ElementTree.parse(tmp_path / "j.xml").getroot().get("failures")) >= 1


def test_outside_a_job_the_summary_is_refused_before_anything_runs(monkeypatch, capsys):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert command(["audit", "nowhere", "--github-summary"]) == 2
    assert "GITHUB_STEP_SUMMARY names no file" in capsys.readouterr().err
