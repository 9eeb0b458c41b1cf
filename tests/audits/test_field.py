"""Faults that threads on public benchmarks tell of: each is found and called what it is."""

from __future__ import annotations

import sys
from pathlib import Path

import polars
import pytest

from laptime.audits import audit_measurements, measurements_of

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import one another by name

from crafted_faults import run_of
from crafted_field import FIELD


def found(frame: polars.DataFrame) -> dict[str, str]:
    """Code and severity of each finding."""
    return {finding.code: finding.severity for finding in audit_measurements(measurements_of(frame)).findings}


@pytest.mark.parametrize("fault", FIELD, ids=[fault.name for fault in FIELD])
def test_a_fault_of_the_field_is_found_and_called_what_it_is(fault):
    codes = found(fault.change(run_of(0)))
    assert set(fault.codes) & set(codes)
    assert {code for code, severity in codes.items() if severity != "info"} <= set(fault.codes)
