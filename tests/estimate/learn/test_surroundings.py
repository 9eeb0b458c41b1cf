"""Bounds as wide as the residuals around a row are large, and none where times jump."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import laptime
from laptime.estimate.learn.conformal import CalibratedRegressor
from laptime.estimate.learn.regressors import Candidate, Regressor
from laptime.estimate.learn.surroundings import surroundings_of
from laptime.estimate.table.table import Encoded

BARE = Regressor(candidate=Candidate(power=None, residual="none"))


def encoded(x: np.ndarray) -> Encoded:
    return Encoded(x[:, None], np.empty((len(x), 0), dtype=np.int64))


def test_noisy_rows_get_wider_bounds_and_steady_ones_narrower() -> None:
    rng = np.random.default_rng(1)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.exp(rng.uniform(0, 5, count))
        return x, rng.normal(size=count) * np.where(np.log(x) < 2.5, 0.02, 0.1)

    x, residuals = draw(600)
    looked = surroundings_of(encoded(x), residuals, np.arange(600) % 10, seed=0)
    assert looked is not None
    made = CalibratedRegressor(BARE, np.sort(residuals / looked.local), 1.0, around=looked.surroundings)
    new, errors = draw(4000)
    local = looked.surroundings.at(encoded(new))
    bound = made.log_bounds(np.zeros(4000), np.zeros(4000), np.array([0.95]), local=local)[:, 0]
    steady, noisy = np.log(new) < 2.3, np.log(new) > 2.7
    one_width = np.quantile(residuals, 0.95)
    assert (errors[steady] <= bound[steady]).mean() > 0.95
    assert np.median(bound[steady]) < 0.8 * one_width
    assert (errors[noisy] <= bound[noisy]).mean() > 0.92
    assert (errors[np.log(new) > 2.7] <= one_width).mean() < 0.92


def test_one_width_stays_where_noise_is_the_same_everywhere() -> None:
    rng = np.random.default_rng(2)
    x, residuals = np.exp(rng.uniform(0, 5, 500)), rng.normal(size=500) * 0.05
    assert surroundings_of(encoded(x), residuals, np.arange(500) % 10, seed=0) is None


def test_no_columns_and_too_few_rows_have_no_surroundings() -> None:
    nothing = Encoded(np.empty((40, 0)), np.empty((40, 0), dtype=np.int64))
    assert surroundings_of(nothing, np.linspace(-1, 1, 40), np.arange(40) % 10, seed=0) is None
    assert surroundings_of(encoded(np.arange(1.0, 11)), np.linspace(-1, 1, 10), np.arange(10) % 5, seed=0) is None


@given(st.floats(0.2, 20), st.floats(0.05, 0.97), st.floats(-2, 3))
def test_the_bound_and_the_probability_say_the_same(local: float, q: float, budget: float) -> None:
    made = CalibratedRegressor(BARE, np.linspace(-0.1, 0.3, 99), 0.5)
    one, around = np.zeros(1), np.array([local])
    reach = made.log_bounds(one, one, np.array([q]), local=around)[0, 0]
    share = made.within(one, one, np.array([budget]), local=around)[0]
    assert (reach <= budget) == (share >= q - 1e-9) or abs(reach - budget) < 1e-9
    assert np.isinf(made.log_bounds(one, one, np.array([q]), local=np.array([np.inf])))
    assert made.within(one, one, np.array([budget]), local=np.array([np.inf])) == [0.0]


@pytest.fixture(scope="module")
def jumping() -> laptime.Estimator:
    """Times of a few ms, but forty times less in a corner of which two rows were measured: another kernel."""
    rng = np.random.default_rng(3)
    batch, cache = np.exp(rng.uniform(0, 5, 240)).round(), np.exp(rng.uniform(4, 10, 240)).round()
    took = (1 + 0.01 * batch + 1e-4 * cache) * np.exp(rng.normal(0, 0.02, 240))
    corner = (batch > 60) & (cache < 120)
    took = np.where(corner, took / 40, took)
    frame = pl.DataFrame({"batch": batch, "cache": cache, "took_ms": took})
    return laptime.Estimator(target="took_ms", features=["batch", "cache"]).fit(frame)


def test_next_to_a_jump_no_bound_is_given_and_elsewhere_bounds_are_narrow(jumping: laptime.Estimator) -> None:
    edge = pl.DataFrame({"batch": [62, 70, 90], "cache": [118, 125, 122]})
    usual = pl.DataFrame({"batch": [4, 20, 100], "cache": [1000, 5000, 15000]})
    assert np.isinf(jumping.quantile(edge, 0.95)).any()
    assert (jumping.quantile(usual, 0.95) / jumping.predict(usual) < 1.25).all()


def test_it_answers_the_same_after_saving_and_loading(jumping: laptime.Estimator, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = pl.DataFrame({"batch": rng.integers(1, 200, 200), "cache": rng.integers(60, 30_000, 200)})
    jumping.save(tmp_path / "est")
    loaded = laptime.Estimator.load(tmp_path / "est")
    levels = [0.5, 0.9, 0.95]
    assert np.array_equal(loaded.quantile(rows, levels), jumping.quantile(rows, levels))
    assert np.array_equal(loaded.probability_within(rows, 2.0), jumping.probability_within(rows, 2.0))
