"""The front, the ranges by tier, the drift over the run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from laptime.data.record import Interval
from laptime.data.stats import quantile
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.config_rows import pareto_front
from laptime.sweeps.summary.result import ConfigRow
from tests.sweeps.summary.sweeps import PARTS, sweep, visited_sweep


def point(name: str, right: Interval | float | None, ms: Interval | float) -> ConfigRow:
    as_interval = (v if isinstance(v, Interval) or v is None else Interval(v, v, v, 9) for v in (right, ms))
    accuracy, total = as_interval
    assert total is not None
    return ConfigRow(
        config_id=name,
        config={},
        samples=9,
        left_out=0,
        failures=0,
        stages={"total": total},
        p95_ms={},
        ttft_ms=None,
        tpot_ms=None,
        decode_per_token_ms=None,
        output_tokens_mean=None,
        crops_mean=None,
        image_tokens_mean=None,
        memory_peak_bytes=None,
        energy_j=None,
        accuracy=accuracy,
    )


# the front


def test_the_front_by_hand() -> None:
    rows = [
        point("slow and right", 0.9, 100),
        point("quick and poor", 0.3, 10),
        point("between", 0.6, 50),
        point("worse than between", 0.5, 60),
        point("as right as between, slower", 0.6, 55),
        point("as quick as between, poorer", 0.4, 50),
        point("between's twin", 0.6, 50),
        point("never scored", None, 1),
    ]
    front, near = pareto_front(rows)
    assert front == ["quick and poor", "between", "between's twin", "slow and right"]
    assert near == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=15))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    rows = [point(str(n), right / 5, ms) for n, (right, ms) in enumerate(points)]
    front, near = pareto_front(rows)
    for n, (right, ms) in enumerate(points):
        beaten = any(r >= right and m <= ms and (r, m) != (right, ms) for r, m in points)
        assert (str(n) in front) == (not beaten)
    assert near == []  # intervals without any width leave no doubt


def test_near_the_front_is_what_the_intervals_cannot_tell_from_it() -> None:
    rows = [
        point("best", Interval(0.8, 0.7, 0.9, 50), Interval(50, 48, 52, 50)),
        point("perhaps more right", Interval(0.7, 0.6, 0.8, 50), Interval(60, 58, 62, 50)),
        point("perhaps quicker", Interval(0.5, 0.4, 0.6, 50), Interval(52, 49, 55, 50)),
        point("surely beaten", Interval(0.5, 0.4, 0.6, 50), Interval(60, 58, 62, 50)),
        point("the same answers, surely slower", Interval(0.8, 0.7, 0.9, 50), Interval(60, 58, 62, 50)),
        point("unknown ends", Interval(0.1, None, None, 2), Interval(900, None, None, 2)),
    ]
    front, near = pareto_front(rows)
    assert front == ["best"]
    assert near == ["perhaps quicker", "perhaps more right", "unknown ends"]


def test_a_sweep_without_accuracies_has_no_front() -> None:
    summary = summarise_sweep(sweep({"batch": [1, 2]}))
    assert (summary.pareto, summary.near_pareto) == ([], [])


# ranges


def test_ranges_by_tier_are_over_all_configurations_calls() -> None:
    grid = {"tier": ["high", "low"], "top_k": [1, 2]}
    frame = sweep(grid, lambda c, s: PARTS[s] * c["top_k"], noise=0.2, repeats=3)
    summary = summarise_sweep(frame)
    assert [r.tier for r in summary.ranges] == ["low"] * 5 + ["high"] * 5
    (range_,) = [r for r in summary.ranges if (r.tier, r.stage) == ("high", "prefill")]
    values = frame.filter(pl.col("config.tier") == "high")["prefill_ms"].to_list()
    assert range_.n == len(values) == 2 * 8 * 3
    expected = [quantile(values, q) for q in (0.05, 0.5, 0.95, 0, 1)]
    assert [range_.low_ms, range_.median_ms, range_.high_ms, range_.min_ms, range_.max_ms] == pytest.approx(expected)


def test_without_a_tier_the_crops_tell_it() -> None:
    frame = sweep({"batch": [1]}, inputs=6).with_columns(crops=pl.Series([1, 3, 4, 9, 15, 16]))
    summary = summarise_sweep(frame)
    totals = [(r.tier, r.n) for r in summary.ranges if r.stage == "total"]
    assert totals == [("low", 2), ("medium", 1), ("high", 2)]
    by_crops = [(r.tier, r.n) for r in summary.crop_ranges if r.stage == "total"]
    assert by_crops == [("1", 1), ("3", 1), ("4", 1), ("9", 1), ("15", 1), ("16", 1)]


def test_without_images_there_are_no_ranges() -> None:
    summary = summarise_sweep(sweep({"batch": [1]}).with_columns(crops=pl.lit(0)))
    assert (summary.ranges, summary.crop_ranges) == ([], [])


# drift


def heated(rise: float, *, noise: float = 0.02, seed: int = 0) -> pl.DataFrame:
    """A sweep in random order whose times rise by `rise` from the first call to the last."""
    frame = sweep(
        {"batch": [1, 2, 4]}, lambda c, s: PARTS[s] * c["batch"], inputs=20, repeats=4, noise=noise, seed=seed
    )
    share = (pl.col("started_unix_ms") - pl.col("started_unix_ms").min()) / (
        pl.col("started_unix_ms").max() - pl.col("started_unix_ms").min()
    )
    return frame.with_columns(total_ms=pl.col("total_ms") * (1 + rise * share))


def test_a_steady_rise_is_found() -> None:
    drift = summarise_sweep(heated(0.2)).drift
    assert drift is not None
    assert drift.trend is not None
    assert drift.trend.low is not None
    assert drift.trend.high is not None
    assert drift.trend.low > 1.1
    assert drift.trend.low < 1.2 < drift.trend.high * 1.03  # first to last middle: a little less than the whole
    assert drift.points[0].ratio.value < 1 < drift.points[-1].ratio.value
    assert sum(point.ratio.n for point in drift.points) == 240
    assert (drift.points[0].start_s, drift.points[-1].end_s, drift.span_s) == (0, 239, 239)
    assert all(a.end_s < b.start_s for a, b in pairwise(drift.points))


def test_a_line_is_theil_and_sens() -> None:
    drift = summarise_sweep(heated(0.1)).drift
    assert drift is not None
    assert drift.trend is not None
    edges = np.linspace(0, 240, len(drift.points) + 1).astype(int)
    x = [float(np.median(np.arange(240)[a:b])) for a, b in pairwise(edges)]
    slope, _, low, high = theilslopes([np.log(p.ratio.value) for p in drift.points], x)
    span = x[-1] - x[0]
    assert np.log(drift.trend.value) == pytest.approx(slope * span)
    assert np.log([drift.trend.low, drift.trend.high]) == pytest.approx([low * span, high * span], abs=0.003)


@pytest.mark.parametrize(("rounds", "repeats"), [(3, 3), (2, 1), (3, 2)])
def test_a_small_rise_is_found_though_inputs_differ_in_size(rounds: int, repeats: int) -> None:
    """1.5 % from the first call to the last, beside inputs that differ by 50 %; also where rounds have their own."""
    grid = {"top_k": [2, 4, 8], "blocks": [8, 12, 16], "tier": ["low", "medium", "high"]}
    frame = visited_sweep(grid, rounds=rounds, repeats=repeats, inputs=22, between_inputs=0.5, noise=0.004)
    time = pl.col("started_unix_ms")
    share = (time - time.min()) / (time.max() - time.min())
    still, rising = (
        summarise_sweep(frame.with_columns(pl.col("total_ms") * (1 + r * share))).drift for r in (0, 0.015)
    )
    assert still is not None
    assert still.trend is not None
    assert rising is not None
    assert rising.trend is not None
    assert still.trend.low is not None
    assert still.trend.high is not None
    assert still.trend.low < 1 < still.trend.high
    assert rising.trend.low is not None
    assert rising.trend.low > 1.005
    assert rising.trend.value == pytest.approx(1.0146, abs=0.004)
    assert all(abs(point.ratio.value - 1) < 0.02 for point in rising.points)  # what inputs differ by is out


def test_no_drift_no_trend() -> None:
    drift = summarise_sweep(heated(0.0)).drift
    assert drift is not None
    assert drift.trend is not None
    assert drift.trend.low is not None
    assert drift.trend.high is not None
    assert drift.trend.low < 1 < drift.trend.high
    assert all(abs(point.ratio.value - 1) < 0.03 for point in drift.points)  # what configurations differ by is out


def test_without_times_or_with_few_calls_nothing_is_said_of_drift() -> None:
    assert summarise_sweep(sweep({"batch": [1]}, inputs=8)).drift is None
    assert summarise_sweep(sweep({"batch": [1]}, inputs=80).drop("started_unix_ms")).drift is None
    short = summarise_sweep(sweep({"batch": [1]}, inputs=20)).drift
    assert short is not None
    assert (len(short.points), short.trend) == (2, None)
