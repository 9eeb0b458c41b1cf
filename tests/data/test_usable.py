"""One rule says which samples count, and whoever makes statistics asks it: summary, audit, comparison, sweep, fit."""

from __future__ import annotations

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars import col

from laptime.audits import audit_measurements, measurements_of
from laptime.comparisons import compare_samples
from laptime.data.columns import SampleColumns
from laptime.data.frame import complete
from laptime.data.record import FLAG_REASONS, LEFT_OUT
from laptime.data.summary import summarise, summarise_frame
from laptime.data.usable import Grade, grade, row_grades, usable, usable_rows
from laptime.errors import LaptimeError
from laptime.estimate.table.reading import clean, read_table
from laptime.sweeps.summary import summarise_sweep
from tests.samples import sample

flag_lists = st.lists(st.sampled_from(sorted(FLAG_REASONS)), max_size=3, unique=True)
kept_flags = st.lists(st.sampled_from(sorted(LEFT_OUT)), max_size=3, unique=True)


def frame_of(samples):
    columns = SampleColumns(bulky=False)
    columns.add(samples)
    return columns.frame()


def with_warm_ups():
    """Two warm-up calls without any flag, ten times slower than the twelve samples after them."""
    warm_ups = [sample(900, repeat=-2), sample(900, repeat=-1)]
    return [*warm_ups, *(sample(0, repeat=repeat, started_unix_ms=1e12 + repeat) for repeat in range(12))]


def warm_ups_only():
    return [sample(900, repeat=-2), sample(901, repeat=-1, flags=["cold"])]


def test_the_rule():
    assert grade(0, []) == Grade.CLEAN
    assert grade(0, ["no-choice-fits"]) == Grade.CLEAN  # a finding about the policy, not about the measurement
    assert grade(0, ["gc-pause"]) == Grade.DISTURBED
    assert grade(3, "gc-pause,cold") == Grade.COLD
    assert grade(-1, []) == Grade.WARM_UP
    assert grade(0, ["gc-pause"], keep=["gc-pause"]) == Grade.CLEAN
    assert grade(0, ["cold", "gc-pause"], keep=["cold"]) == Grade.DISTURBED


@given(st.lists(st.tuples(st.integers(-2, 3), flag_lists), max_size=8), kept_flags)
def test_samples_and_rows_are_judged_alike(kinds, keep):
    samples = [sample(n, repeat=repeat, flags=flags) for n, (repeat, flags) in enumerate(kinds)]
    frame = frame_of(samples)
    assert row_grades(frame, keep).to_list() == [grade(repeat, flags, keep) for repeat, flags in kinds]
    used, flagged = usable(samples, keep)
    mask, rows_flagged = usable_rows(frame, keep)
    assert frame.filter(mask)["sample_id"].to_list() == [s.sample_id for s in used]
    assert flagged == rows_flagged
    assert all(s.repeat >= 0 for s in used)
    assert bool(used) == any(repeat >= 0 and "repeated-key" not in flags for repeat, flags in kinds)
    assert summarise(samples) == summarise_frame(frame)


def test_warm_up_calls_without_a_flag_are_samples_for_nobody(tmp_path):
    samples = with_warm_ups()
    frame = frame_of(samples)
    frame.write_parquet(tmp_path / "table.parquet")

    summary = summarise(samples)
    assert (summary.used, summary.stages["total"].median.value) == (12, 100.0)
    assert summary.left_out == {"warm-up": 2}
    assert not summary.all_flagged
    assert summarise_frame(frame) == summary

    audited = measurements_of(frame)
    assert audited.measured.height == audited.used.height == 12
    assert "negative-stage" in {rule.code for rule in audit_measurements(audited).rules if rule.of == 12}

    compared = compare_samples(samples, samples)
    assert (compared.a.used, compared.a.left_out) == (12, {"warm-up": 2})

    (row,) = summarise_sweep(frame).rows
    assert (row.samples, row.left_out, row.stages["total"].value) == (12, 2, 100.0)

    assert read_table(tmp_path / "table.parquet").height == 12


def test_a_table_of_warm_up_calls_only_is_said_and_not_judged(tmp_path):
    samples = warm_ups_only()
    frame = frame_of(samples)
    frame.write_parquet(tmp_path / "table.parquet")

    summary = summarise(samples)
    assert (summary.samples, summary.used, summary.stages, summary.ttft_ms) == (2, 0, {}, None)
    assert summary.left_out == {"cold": 1, "warm-up": 1}
    assert not summary.all_flagged
    assert summarise_frame(frame) == summary

    report = audit_measurements(measurements_of(frame))
    assert report.findings == []
    reasons = {rule.could_not_judge for rule in report.rules if rule.code not in ("failed-requests", "client-lag")}
    assert reasons == {"only warm-up calls (repeat below 0)"}  # those two judge requests, and there are none either
    assert all(rule.could_not_judge for rule in report.rules)

    with pytest.raises(LaptimeError, match="only warm-up calls were measured"):
        compare_samples(samples, samples)

    (row,) = summarise_sweep(frame).rows
    assert (row.samples, row.left_out, row.stages) == (0, 2, {})

    with pytest.raises(LaptimeError, match="holds only warm-up calls"):
        read_table(tmp_path / "table.parquet")


def test_when_nothing_is_clean_the_warm_ones_are_used_then_the_cold_ones():
    disturbed, cold = sample(0, flags=["throttled"]), sample(1, flags=["cold"])
    warm_up = sample(2, repeat=-1, flags=["throttled"])
    assert usable([warm_up, cold, disturbed]) == ([disturbed], True)
    assert usable([warm_up, cold]) == ([cold], True)
    assert usable([warm_up]) == ([], False)
    frame = frame_of([warm_up, cold, disturbed])
    assert summarise_sweep(frame).rows[0].all_flagged
    assert clean(frame).is_empty()  # an estimator must not learn from flagged samples unasked
    assert clean(frame, ["throttled"]).height == 1


def test_a_frame_that_lacks_repeats_and_flags_is_clean():
    frame = polars.DataFrame({"total_ms": [1.0, 2.0]})
    assert row_grades(frame).to_list() == [Grade.CLEAN] * 2
    assert row_grades(complete(frame, "t")).to_list() == [Grade.CLEAN] * 2
    assert row_grades(frame.filter(col("total_ms") > 5)).to_list() == []
