"""One row a configuration: each number against a slow, plain computation of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.data.record import Interval
from laptime.data.stats import accuracy, column_medians, median_interval, quantile, wilson
from laptime.data.usable import usable
from laptime.errors import LaptimeError
from laptime.report.sweep.words import grade_words, headline, samples_words
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.result import KnobEffect
from tests.samples import sample
from tests.sweeps.summary.sweeps import sweep


def test_a_median_is_over_one_value_an_input() -> None:
    frame = sweep({"batch": [1, 2]}, inputs=9, repeats=3, noise=0.2, between_inputs=0.3)
    summary = summarise_sweep(frame)
    assert [row.config["batch"] for row in summary.rows] == [1, 2]
    for row in summary.rows:
        of_config = frame.filter(pl.col("config_id") == row.config_id)
        values = [group["decode_ms"].median() for _, group in of_config.group_by("sample_id")]
        assert row.stages["decode"] == median_interval([float(v) for v in values if isinstance(v, float)])
        assert row.p95_ms["decode"] == pytest.approx(quantile(of_config["decode_ms"].to_list(), 0.95))
        assert (row.samples, row.inputs, row.left_out, row.over) == (27, 9, 0, "samples")
        assert row.decode_per_token_ms is not None
        assert row.decode_per_token_ms.value == pytest.approx(row.stages["decode"].value / 4)
        assert row.output_tokens_mean == 5
        assert (row.accuracy, row.accuracy_method, row.energy_j, row.crops_mean) == (None, None, None, None)


def test_of_one_input_the_repeats_are_summarised() -> None:
    frame = sweep({"batch": [1]}, inputs=1, repeats=12, noise=0.1)
    (row,) = summarise_sweep(frame).rows
    assert row.over == "repeats"
    assert row.stages["total"] == median_interval(frame["total_ms"].to_list())


@given(st.lists(st.lists(st.floats(0, 9) | st.just(math.nan), min_size=3, max_size=3), min_size=1, max_size=40))
def test_medians_by_column_are_those_of_stats(rows: list[list[float]]) -> None:
    values = np.array(rows)
    for interval, column in zip(column_medians(values), values.T, strict=True):
        known = column[~np.isnan(column)]
        assert interval == (median_interval(known) if len(known) else None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "cold", "gc-pause", "cold,throttled"]), st.integers(-1, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_the_usable_calls_are_those_of_a_runs_summary(calls: list[tuple[str, int]]) -> None:
    samples = [
        sample(number, flags=[f for f in flags.split(",") if f], repeat=repeat)
        for number, (flags, repeat) in enumerate(calls)
    ]
    kept, all_flagged = usable(samples)
    frame = pl.DataFrame(
        {
            "config_id": ["c"] * len(calls),
            "sample_id": [s.sample_id for s in samples],
            "repeat": [repeat for _, repeat in calls],
            "flags": [flags for flags, _ in calls],
            "total_ms": [s.stages.total_ms for s in samples],
        }
    )
    (row,) = summarise_sweep(frame).rows
    assert (row.samples, row.left_out, row.all_flagged) == (len(kept), len(samples) - len(kept), all_flagged)
    if kept:
        assert row.stages["total"].value == pytest.approx(np.median([s.stages.total_ms for s in kept]))
    else:
        assert row.stages == {}  # warm-up calls only


def test_failures_and_configurations_without_a_sample() -> None:
    frame = sweep({"batch": [1, 2]}, inputs=6)
    one, two = frame["config_id"].unique(maintain_order=True).sort().to_list()
    planned = {"big": {"batch": 64, "top_k": None}, one: {"batch": 1}, two: {"batch": 2}}
    summary = summarise_sweep(frame, {"big": 12, one: 3, "unheard-of": 1}, planned)
    assert summary.knobs == {"batch": [1, 2, 64]}
    *measured, big, unheard = summary.rows
    assert sorted(row.failures for row in measured) == [0, 3]
    assert (big.config_id, big.config, big.samples, big.failures, big.stages) == ("big", {"batch": 64}, 0, 12, {})
    assert (unheard.config_id, unheard.config, unheard.failures) == ("unheard-of", {}, 1)
    assert {level.value for effect in summary.effects for level in effect.levels} == {2}


def test_a_table_with_little_in_it() -> None:
    total = pl.DataFrame({"total_ms": [3.0, 5.0, None], "config.a": ["x", "x", "y"]})
    summary = summarise_sweep(total)
    assert summary.knobs == {"a": ["x", "y"]}
    x, y = summary.rows
    assert x.stages == {"total": Interval(4.0, None, None, 2)}
    assert (x.samples, y.samples, y.left_out, y.stages) == (2, 0, 1, {})
    assert summary.effects == []  # nothing says which calls had the same input
    empty = summarise_sweep(pl.DataFrame({"total_ms": []}, schema={"total_ms": pl.Float64}))
    assert (empty.rows, empty.knobs, empty.drift) == ([], {}, None)


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(LaptimeError, match="no column total_ms"):
        summarise_sweep(pl.DataFrame({"a": [1]}))
    with pytest.raises(LaptimeError, match="columns are not as expected") as raised:
        summarise_sweep(pl.DataFrame({"total_ms": ["long", "longer"]}))
    assert "\n" not in str(raised.value)


def test_what_is_not_finite_is_no_value() -> None:
    frame = pl.DataFrame({"total_ms": [1.0, math.inf, math.nan, 3.0], "energy_j": [math.nan] * 4})
    (row,) = summarise_sweep(frame).rows
    assert row.stages["total"].value == 2.0
    assert (row.samples, row.left_out, row.energy_j) == (2, 2, None)


def test_wilsons_interval() -> None:
    """Wilson's example values: 0 of 10 and 8 of 10 (Newcombe 1998, table I gives 0.4902-0.9433 for 8 of 10)."""
    none, eight = wilson(0, 10), wilson(0.8, 10)
    assert (none.low, none.high) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert (eight.low, eight.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_how_an_accuracys_interval_is_made() -> None:
    right, method = accuracy(np.array([1.0, 1.0, 0.0, np.nan]))
    assert right == wilson(2 / 3, 3)
    assert method == "wilson"
    draw = np.random.default_rng(0)
    spread = draw.choice([0.0, 0.3, 0.6, 0.9, 1.0], 200)
    right, method = accuracy(spread)
    assert method == "t"
    assert right is not None
    assert right.low == pytest.approx(spread.mean() - 1.972 * spread.std(ddof=1) / math.sqrt(200), rel=1e-4)
    assert right == accuracy(spread)[0]  # nothing is drawn
    for few in (spread[:20], np.full(200, 0.9), np.append(np.full(199, 0.9), 0.3)):
        right, method = accuracy(few)
        assert method == "wilson"
        assert right is not None
        assert right.low is not None
        assert right.low < right.value  # equal scores are no certainty
    assert accuracy(np.array([np.nan])) == (None, None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80))
def test_an_accuracys_interval_lies_within_0_and_1_and_holds_the_mean(scores: list[float]) -> None:
    right, _ = accuracy(np.array(scores))
    assert right is not None
    assert right.low is not None
    assert right.high is not None
    assert 0 <= right.low <= right.value + 1e-12
    assert right.value - 1e-12 <= right.high <= 1


def test_a_row_scores_each_input_once() -> None:
    frame = sweep({"batch": [1, 2]}, inputs=6, repeats=4)
    frame = frame.with_columns(score=pl.when(pl.col("sample_id") < "0003").then(1.0).otherwise(0.0))
    for row in summarise_sweep(frame).rows:
        assert row.accuracy == wilson(0.5, 6)


def flagged(frame: pl.DataFrame, which: pl.Expr, factor: float, flag: str = "foreign-process") -> pl.DataFrame:
    """The frame with these calls flagged, and `factor` as slow."""
    times = [name for name in frame.columns if name.endswith("_ms") and name != "started_unix_ms"]
    return frame.with_columns(
        pl.when(which).then(pl.lit(flag)).otherwise("flags").alias("flags"),
        *(pl.when(which).then(pl.col(name) * factor).otherwise(name) for name in times),
    )


def test_clean_calls_are_never_compared_with_flagged_ones() -> None:
    """One configuration of two has flagged calls only: then flagged calls count in both."""
    frame = sweep({"blocks": [26, 28]}, inputs=8, repeats=2)
    slow = flagged(frame, pl.col("config.blocks") == 26, 1.2)
    both = flagged(slow, (pl.col("config.blocks") == 28) & (pl.col("repeat") == 1), 1.2)
    (few, many) = summarise_sweep(both).rows
    assert (few.all_flagged, many.all_flagged) == (True, False)
    assert (few.compared, many.compared) == (True, True)
    assert (few.samples, many.samples) == (16, 16)
    (level,) = next(effect for effect in summarise_sweep(both).effects if effect.stage == "total").levels
    truth = next(effect for effect in summarise_sweep(frame).effects if effect.stage == "total").levels[0]
    assert (level.pairs, level.ratio.value) == (8, pytest.approx(truth.ratio.value, abs=0.01))  # flagged with flagged


def test_warm_up_calls_are_counted_apart_from_samples_that_were_left_out() -> None:
    frame = sweep({"blocks": [26, 28]}, inputs=8, repeats=3)
    first = pl.when(pl.col("repeat") == 0).then(-1).otherwise("repeat").cast(frame["repeat"].dtype).alias("repeat")
    some = flagged(frame.with_columns(first), (pl.col("config.blocks") == 26) & (pl.col("repeat") == 1), 1.2)
    (few, many) = summarise_sweep(some).rows
    assert [(row.samples, row.left_out, row.warm_ups) for row in (few, many)] == [(8, 16, 8), (16, 8, 8)]
    assert samples_words([few, many]) == "24 samples, 8 left out; 16 warm-up calls apart"
    assert sum(few.flags.values()) == 8
    assert many.flags == {}


def test_a_knob_whose_values_differ_in_what_disturbed_them_has_no_effect() -> None:
    """All calls under 28 blocks are disturbed and none under 26: that is no effect of blocks."""
    frame = sweep({"blocks": [26, 28], "top_k": [1, 2, 4]}, inputs=8, repeats=2)
    summary = summarise_sweep(flagged(frame, pl.col("config.blocks") == 28, 1.16))
    assert {effect.knob for effect in summary.effects} == {"top_k"}
    assert summary.interactions == []
    assert f"had no clean sample ({sum(row.samples for row in summary.rows if row.all_flagged)} " in str(
        grade_words(summary)
    )
    assert str(grade_words(summary)).endswith("so nothing can be said of blocks.")
    assert headline(summary).endswith("; nothing can be said of blocks")
    one = summarise_sweep(flagged(frame, (pl.col("config.blocks") == 28) & (pl.col("config.top_k") == 4), 1.16))
    for effects in (summary.effects, one.effects):
        for effect, true in matched_effects(effects, summarise_sweep(frame).effects):
            assert effect == pytest.approx(true, abs=0.01)


def matched_effects(effects: list[KnobEffect], truth: list[KnobEffect]) -> Iterator[tuple[float, float]]:
    """The ratios of both, knob by knob, stage by stage, value by value."""
    true = {(one.knob, one.stage, level.value): level.ratio.value for one in truth for level in one.levels}
    for one in effects:
        for level in one.levels:
            yield level.ratio.value, true[one.knob, one.stage, level.value]


def test_a_configuration_without_a_call_of_the_common_grade_is_shown_and_not_compared() -> None:
    frame = sweep({"batch": list(range(1, 21))}, inputs=6).with_columns(score=pl.lit(1.0))
    summary = summarise_sweep(flagged(frame, pl.col("config.batch") == 7, 0.1))
    odd = next(row for row in summary.rows if row.config["batch"] == 7)
    assert (odd.all_flagged, odd.compared, odd.samples) == (True, False, 6)
    assert odd.config_id not in [*summary.pareto, *summary.near_pareto]
    assert 7 not in {level.value for effect in summary.effects for level in effect.levels}
    assert all(row.compared for row in summary.rows if row is not odd)


def test_every_answer_counts_for_accuracy_whatever_disturbed_its_timing() -> None:
    frame = sweep({"batch": [1, 2]}, inputs=10)
    number = pl.col("sample_id").cast(pl.Int64)
    scored = frame.with_columns(score=pl.when(number < 3).then(1.0).otherwise(0.0))
    for flag in ("foreign-process", "cold"):
        rows = summarise_sweep(flagged(scored, number >= 3, 1.0, flag)).rows
        assert [row.accuracy.value for row in rows if row.accuracy] == [pytest.approx(0.3)] * 2
        assert [row.samples for row in rows] == [3, 3]
    warm_up = scored.with_columns(repeat=pl.when(number < 3).then(-1).otherwise(0))
    assert [row.accuracy.value for row in summarise_sweep(warm_up).rows if row.accuracy] == [0.0, 0.0]
