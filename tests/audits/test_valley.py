"""A small second heap beside the usual times: found when it is one, and not where noise has a tail or wanders."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.audit_false_alarms import NOISES, Shape, lognormal, sound
from hypothesis import given
from hypothesis import strategies as st
from polars import Series, col, when

from laptime.audits import audit_measurements, measurements_of
from laptime.audits.valley import away_from_like, valley

TIMES = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms")


def named(share: float, factor: float, shape: Shape, seed: int) -> bool:
    """Whether the audit finds two modes where this share of the calls takes `factor` times as long."""
    frame = sound(seed, shape, lognormal(0.02))
    slow = np.random.default_rng(50 + seed).random(frame.height) < share
    frame = frame.with_columns(col(name) * Series(np.where(slow, factor, 1.0)) for name in TIMES)
    return "bimodal" in {f.code for f in audit_measurements(measurements_of(frame)).findings}


@pytest.mark.parametrize("shape", [Shape(1, 10, repeats=20), Shape(1, 1, repeats=200), Shape(6, 20, repeats=3)])
def test_one_call_of_ten_that_is_slower_is_found_under_two_per_cent_of_noise(shape: Shape) -> None:
    assert sum(named(0.1, 1.2, shape, seed) for seed in range(5)) == 5
    assert not any(named(0.1, 1.0, shape, seed) for seed in range(5))


@pytest.mark.parametrize("noise", NOISES)
def test_noise_of_one_kind_has_no_valley(noise: str) -> None:
    inputs, worker = np.arange(200) % 10, np.zeros(200, dtype=np.int64)
    alarms = 0
    for seed in range(60):
        away = away_from_like(NOISES[noise](np.random.default_rng(seed), 200), inputs, worker)
        alarms += valley(away, len(away)).p < 0.0125
    assert alarms <= 3


def test_a_while_that_was_slow_is_no_second_kind_of_call() -> None:
    rng = np.random.default_rng(0)
    slow = np.zeros(200)
    slow[60:80] = 0.2
    away = rng.normal(0, 0.02, 200) + slow
    assert valley(away, 200).p == 1
    assert valley(rng.permutation(away), 200).p < 1e-4


@given(st.integers(0, 1000), st.integers(1, 6))
def test_others_of_the_same_input_are_what_a_sample_is_held_against(seed: int, repeats: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.02, 8 * repeats)
    inputs = rng.permutation(np.repeat(np.arange(8), repeats))
    away = away_from_like(values, inputs, np.zeros(len(values), dtype=np.int64))
    assert np.isnan(away).all() if repeats == 1 else np.isfinite(away).all()


def test_a_second_state_shows_whatever_the_inputs_cost_and_two_costs_are_none():
    shape = Shape(6, 20, repeats=3, workers=3)
    frame = sound(3, shape, lognormal(0.02))
    slow = Series(np.random.default_rng(3).random(frame.height) < 0.4)
    times = col(TIMES)
    two_states = frame.with_columns(times * when(slow).then(1.1).otherwise(1.0))
    dear = col("sample_id").cast(int) % 5 < 2
    two_costs = frame.with_columns(times * when(dear).then(1.1).otherwise(1.0))
    codes = [{f.code for f in audit_measurements(measurements_of(f)).findings} for f in (two_states, two_costs)]
    assert "bimodal" in codes[0]
    assert "bimodal" not in codes[1]


def test_two_workers_of_five_are_found_slow_where_no_input_came_twice():
    frame = sound(0, Shape(6, 60, workers=5, tokens=(2, 40)), lognormal(0.02))
    slow = col("worker").is_in(["0", "1"])
    times = col(TIMES)
    frame = frame.with_columns(times * when(slow).then(1.1).otherwise(1.0))
    found = {f.code for f in audit_measurements(measurements_of(frame)).findings}
    assert "rank-skew" in found
    assert not found & {"bimodal", "clock-drift", "cold-start", "slow-stretch"}
