"""Faults of how measurements were recorded: each is found and called what it is; what harms nothing is silent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from laptime.audits import audit_measurements, measurements_of

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import one another by name

from crafted_faults import run_of
from crafted_records import RECORDS


@pytest.mark.parametrize("fault", RECORDS, ids=[fault.name for fault in RECORDS])
def test_a_fault_of_recording_is_found_and_called_what_it_is(fault):
    report = audit_measurements(measurements_of(fault.change(run_of(0))))
    warned = {finding.code for finding in report.findings if finding.severity != "info"}
    if not fault.codes:
        assert not warned
        return
    assert set(fault.codes) & {finding.code for finding in report.findings}
    beside = {"forwards-mismatch", "gaps-not-decode", "stage-sum-exceeds-total"}  # the same contradiction, other words
    assert warned <= set(fault.codes) | beside


def test_what_explains_the_likely_cause_is_said():
    texts = {}
    for fault in RECORDS:
        if fault.name in ("TTFT in seconds", "the end stored as the start", "one worker an hour off"):
            texts[fault.name] = audit_measurements(measurements_of(fault.change(run_of(0)))).findings[0].reason
    assert "seconds" in texts["TTFT in seconds"]
    assert "ends were probably written" in texts["the end stored as the start"]
    assert "time zone" in texts["one worker an hour off"]
