"""Visits: recognised, their noise estimated, and held by the knobs' intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.data.stats import factor_interval
from laptime.data.visits import visit_codes
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.calls import usable_calls
from laptime.sweeps.summary.result import KnobEffect, SweepSummary, VisitNoise
from laptime.sweeps.summary.visit_noise import robust_variance
from laptime.sweeps.summary.visits import shared_visits
from tests.sweeps.summary.sweeps import PARTS, visited_sweep

GRID = {"top_k": [2, 4, 8], "blocks": [8, 12, 16], "tier": ["low", "high"]}
SMALL = {"top_k": [2, 4], "blocks": [8, 16]}


def effect(summary: SweepSummary, knob: str) -> KnobEffect:
    (effect_,) = [e for e in summary.effects if (e.knob, e.stage) == (knob, "total")]
    return effect_


def noise_of(summary: SweepSummary) -> VisitNoise:
    (noise,) = [one for one in summary.visit_noise if one.stage == "total"]
    return noise


def spread(level: Any) -> float:
    assert level.ratio.low is not None
    assert level.ratio.high is not None
    return float(np.log(level.ratio.high / level.ratio.low))


# which calls are one visit


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(1, 9), st.booleans()), max_size=30))
def test_visits_are_what_a_worker_measured_in_a_row(rows: list[tuple[int, int, int, bool]]) -> None:
    config, worker, started, warm = (
        np.array(column, dtype=np.int64) for column in (zip(*rows, strict=True) if rows else [[]] * 4)
    )
    codes = visit_codes(config, worker, started.astype(np.float64), warm.astype(bool))
    number, expected = -1, {}
    for each in (0, 1):
        own = sorted((i for i in range(len(rows)) if rows[i][1] == each), key=lambda i: rows[i][2])
        for before, i in zip([None, *own], own, strict=False):
            began = before is None or rows[before][0] != rows[i][0] or (rows[i][3] and not rows[before][3])
            number += began
            expected[i] = number
    assert codes.tolist() == [expected[i] for i in range(len(rows))]


def test_visits_of_a_frame() -> None:
    frame = visited_sweep(SMALL, rounds=3, repeats=3, inputs=4)
    assert [row.visits for row in summarise_sweep(frame).rows] == [3] * 4
    assert [row.visits for row in summarise_sweep(frame.drop("started_unix_ms")).rows] == [3] * 4
    mixed = summarise_sweep(frame.sample(fraction=1, shuffle=True, seed=1))
    assert [row.visits for row in mixed.rows] == [3] * 4
    (one,) = summarise_sweep(visited_sweep({"batch": [1]}, rounds=3, repeats=3)).rows
    assert one.visits == 3  # nothing came between, but each warmed up
    warm = pl.col("repeat") < 0
    halves = [frame.filter(warm | (pl.col("sample_id") < "0002")), frame.filter(warm | (pl.col("sample_id") >= "0002"))]
    twice = pl.concat([half.with_columns(worker=pl.lit(name)) for name, half in zip("ab", halves, strict=True)])
    assert [row.visits for row in summarise_sweep(twice).rows] == [6] * 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=14))
def test_what_stays_of_a_visit_is_counted_exactly(calls: list[tuple[int, int]]) -> None:
    """Against the plain sum over pairs of different inputs, of their shares of each visit."""
    rows = [
        {"config_id": "a" if k % 2 == 0 else "b", "sample_id": str(unit), "total_ms": 1.0, "started_unix_ms": 10.0 + k}
        for k, unit in sorted((visit, unit) for unit, visit in calls)
    ]
    for step, row in enumerate(rows):
        row["started_unix_ms"] = 10.0 + step
    calls = usable_calls(pl.DataFrame(rows))
    shared = shared_visits(calls, by_repeat=False)
    table = calls.frame
    for config in range(len(calls.config_ids)):
        own = table.filter(pl.col("config") == config)
        units, visits = own["input"].unique().to_list(), own["visit"].unique().to_list()
        share = {
            (u, v): own.filter((pl.col("input") == u) & (pl.col("visit") == v)).height
            / own.filter(pl.col("input") == u).height
            for u, v in itertools.product(units, visits)
        }
        pairs = sum(share[i, v] * share[j, v] for v in visits for i, j in itertools.permutations(units, 2))
        n = len(units)
        expected = pairs / (n * (n - 1)) if n > 1 else 0.0
        assert shared.covariance[config] == pytest.approx(expected if expected * n >= 0.05 else 0.0)


# how large their noise is


@pytest.mark.parametrize(("rounds", "repeats"), [(2, 1), (4, 1), (3, 3), (4, 2), (3, 2)])
def test_the_noise_of_visits_is_found(rounds: int, repeats: int) -> None:
    frames = [visited_sweep(GRID, rounds=rounds, repeats=repeats, visit_noise=0.02, seed=s) for s in range(6)]
    noises = [noise_of(summarise_sweep(frame)) for frame in frames]
    assert {one.known for one in noises} == {"estimated"}
    sds = [one.sd for one in noises if one.sd is not None]
    assert np.sqrt(np.mean(np.square(sds))) == pytest.approx(0.02, rel=0.2)
    still = noise_of(summarise_sweep(visited_sweep(GRID, rounds=rounds, repeats=repeats, seed=9)))
    assert still.sd is not None
    assert still.sd < 0.003


def test_inputs_that_react_to_a_knob_are_no_noise_of_visits() -> None:
    frame = visited_sweep(GRID, rounds=2)
    reacts = (pl.col("sample_id") >= "0004") & (pl.col("config.top_k") == 8)
    frame = frame.with_columns(total_ms=pl.col("total_ms") * pl.when(reacts).then(1.3).otherwise(1.0))
    sd = noise_of(summarise_sweep(frame)).sd
    assert sd is not None
    assert sd < 0.003


def test_what_moves_from_round_to_round_for_all_is_no_noise_of_visits() -> None:
    frame = visited_sweep(GRID, rounds=2, repeats=2)
    later = pl.col("repeat") == 1
    sd = noise_of(
        summarise_sweep(frame.with_columns(total_ms=pl.when(later).then(1.1).otherwise(1.0) * pl.col("total_ms")))
    ).sd
    assert sd is not None
    assert sd < 0.003


def test_one_bad_visit_neither_rules_nor_hides() -> None:
    frame = visited_sweep(GRID, rounds=2, repeats=2, visit_noise=0.004, seed=2)
    spoilt = (pl.col("config.top_k") == 8) & (pl.col("config.blocks") == 8) & (pl.col("config.tier") == "low")
    bad = frame.with_columns(
        total_ms=pl.col("total_ms") * pl.when(spoilt & (pl.col("repeat") == 1)).then(1.5).otherwise(1)
    )
    before, after = summarise_sweep(frame), summarise_sweep(bad)
    (name,) = frame.filter(spoilt)["config_id"].unique()
    assert (noise_of(before).outlying, noise_of(after).outlying) == ([], [name])
    old, new = noise_of(before).sd, noise_of(after).sd
    assert old is not None
    assert new is not None
    assert new < 1.6 * old  # without the bound it would be 8 %
    for summary in (before, after):
        _, eight = effect(summary, "top_k").levels
        assert eight.ratio.low is not None
        assert eight.ratio.high is not None
        assert eight.ratio.low < 1 < eight.ratio.high
    assert spread(effect(after, "top_k").levels[1]) > 4 * spread(effect(before, "top_k").levels[1])
    assert spread(effect(after, "top_k").levels[0]) < 2 * spread(effect(before, "top_k").levels[0])


def test_a_robust_variance_is_that_of_normal_values() -> None:
    draw = np.random.default_rng(0)
    apart = draw.normal(0, np.sqrt(2 * 0.03**2 + 0.01**2), 20_000)
    assert robust_variance(apart, np.full(20_000, 0.01**2)) == pytest.approx(0.03**2, rel=0.05)
    assert robust_variance(draw.normal(0, 0.005, 100), np.full(100, 0.01**2)) == 0


# what the intervals make of it


@pytest.mark.parametrize(
    ("rounds", "repeats", "known"), [(2, 2, "estimated"), (2, 1, "estimated"), (1, 1, "bounded by settings")]
)
def test_the_intervals_hold_when_visits_have_noise(rounds: int, repeats: int, known: str) -> None:
    held = []
    for seed in range(40):
        frame = visited_sweep(GRID, rounds=rounds, repeats=repeats, visit_noise=0.03, noise=0.01, seed=seed)
        for one in summarise_sweep(frame).effects:
            assert one.visit_noise == known
            for level in one.levels:
                assert level.ratio.low is not None
                assert level.ratio.high is not None
                held.append(level.ratio.low <= 1 <= level.ratio.high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_more_rounds_make_narrower_intervals() -> None:
    widths = []
    for rounds in (2, 4, 8):
        frames = [visited_sweep(GRID, rounds=rounds, repeats=rounds, visit_noise=0.03, seed=s) for s in range(3)]
        widths.append(np.mean([spread(effect(summarise_sweep(frame), "tier").levels[0]) for frame in frames]))
    assert widths[0] > 1.2 * widths[1] > 1.3 * widths[2]


def test_one_round_of_one_knob_says_that_it_does_not_know() -> None:
    summary = summarise_sweep(visited_sweep({"top_k": [2, 4, 8]}, rounds=1, visit_noise=0.03))
    assert effect(summary, "top_k").visit_noise == "unknown"
    assert (noise_of(summary).known, noise_of(summary).sd) == ("unknown", None)


def grows(config: Mapping[str, Any], stage: str) -> float:
    return PARTS[stage] * (2.0 if (config["top_k"], config["blocks"]) == (8, 16) else 1.0)


def test_an_interaction_is_not_bounded_by_itself() -> None:
    """Two knobs, one round: what they do together is all that could bound the noise of visits. So none is reported."""
    grid = {"top_k": [2, 4, 8], "blocks": [8, 12, 16]}
    summary = summarise_sweep(visited_sweep(grid, grows, rounds=1))
    assert effect(summary, "top_k").visit_noise == "bounded by settings"
    assert summary.interactions == []
    again = summarise_sweep(visited_sweep(GRID | grid, grows, rounds=1))
    sd = noise_of(again).sd
    assert sd is not None
    assert sd < 0.01  # with a third knob it can be separated
    assert again.interactions[0].visit_noise == "bounded by settings"


def test_noise_of_visits_is_no_interaction() -> None:
    frames = [visited_sweep(GRID, rounds=2, repeats=2, visit_noise=0.15, seed=seed) for seed in range(12)]
    reported = [summarise_sweep(frame).interactions for frame in frames]
    assert sum(map(len, reported)) <= 5


def test_repeats_as_units_share_visits_too() -> None:
    frame = visited_sweep({"top_k": [2, 4, 8], "blocks": [8, 16]}, rounds=3, repeats=9, inputs=2, visit_noise=0.03)
    of_top_k = effect(summarise_sweep(frame), "top_k")
    assert (of_top_k.over, of_top_k.visit_noise) == ("repeats", "estimated")
    assert spread(of_top_k.levels[0]) > 0.05


@given(st.floats(1e-6, 1e-2), st.floats(2, 100))
def test_what_is_shared_widens_a_factor(shared: float, freedom: float) -> None:
    logs = np.array([0.01, -0.02, 0.03, 0.0])
    alone, together = factor_interval(logs), factor_interval(logs, shared=shared, freedom=freedom)
    assert together.value == alone.value
    assert alone.low is not None
    assert together.low is not None
    least = together.value * np.exp(-1.95996 * np.sqrt(logs.var(ddof=1) / 4 + shared))
    assert together.low < least
