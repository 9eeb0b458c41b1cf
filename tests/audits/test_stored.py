"""Faults of how times were stored are named, and what only looks so isn't."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars
import pytest
from polars import col, lit, when

from laptime.audits import audit, audit_measurements, measurements_of

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import one another by name

from crafted_faults import CHANCE, Fault, run_of
from crafted_records import bare
from crafted_stored import STAGES, STORED


def warned(frame: polars.DataFrame) -> set[str]:
    return {f.code for f in audit_measurements(measurements_of(frame)).findings if f.severity != "info"}


@pytest.mark.parametrize("fault", STORED, ids=lambda fault: fault.name)
def test_a_crafted_fault_is_named(fault: Fault):
    assert warned(fault.change(run_of(2))) & set(fault.codes)


def test_a_table_in_each_format_is_judged_alike(tmp_path):
    """Failed calls that stand as calls of 1 ms, as Parquet, as CSV of two kinds, and as a frame."""
    (fault,) = [f for f in STORED if f.name == "failed calls as calls of 1 ms, totals alone"]
    frame = fault.change(run_of(2))
    wanted = warned(frame)
    flat = frame.select(name for name, type_ in frame.schema.items() if not type_.is_nested())
    flat.write_parquet(tmp_path / "t.parquet")
    flat.write_csv(tmp_path / "t.csv")
    flat.write_csv(tmp_path / "t.tsv", separator=";", decimal_comma=True)
    for file in tmp_path.iterdir():
        assert {f.code for f in audit(file).findings if f.severity != "info"} == wanted == {"ended-at-once"}


def test_seconds_among_milliseconds_are_no_failed_calls():
    seconds = when(CHANCE < 0.1).then(1e-3).otherwise(1.0)
    frame = bare(run_of(2)).drop(*STAGES).with_columns(total_ms=col("total_ms") * seconds)
    assert warned(frame) & {"mixed-units", "ended-at-once"} == {"mixed-units"}


def test_answers_in_one_chunk_now_and_then_are_streamed():
    first = when(CHANCE < 0.3).then(col("total_ms")).otherwise(col("ttft_ms"))
    assert "not-streamed" not in warned(run_of(2).with_columns(ttft_ms=first))


def test_whole_milliseconds_keep_their_digits():
    frame = bare(run_of(2)).drop(*STAGES).with_columns(total_ms=(col("total_ms") / 3).round().clip(1, 256))
    assert "half-precision" not in warned(frame)


def test_a_machine_that_wanders_smooths_nothing():
    """Noise of which .95 remains in the next call, of 10 %, on answers that differ in length."""
    rng, frame = np.random.default_rng(4), bare(run_of(2))
    steps, last, noise = rng.normal(0, 0.1 * np.sqrt(1 - 0.95**2), frame.height), 0.0, []
    for step in steps:
        last = 0.95 * last + step
        noise.append(last)
    factor = polars.Series(np.exp(noise))
    frame = frame.with_columns(*(col(name) * factor for name in (*STAGES, "total_ms")), started_unix_ms=lit(None))
    assert "smoothed-times" not in warned(frame)
