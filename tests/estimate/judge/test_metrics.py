"""Errors and bounds, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from laptime.errors import LaptimeError
from laptime.estimate.judge.evaluation_result import bound_scores, pinball, point_scores

times = st.lists(st.floats(0.01, 1e4), min_size=3, max_size=40)


@settings(deadline=None)
@given(times, st.integers(0, 2**32 - 1))
def test_errors_agree_with_scikit_learn(actual, seed):
    truth = np.array(actual)
    guess = truth * np.exp(np.random.default_rng(seed).normal(0, 0.5, len(truth)))
    found = point_scores(truth, guess)
    assert found.mae_ms == pytest.approx(oracle.mean_absolute_error(truth, guess))
    assert found.rmse_ms == pytest.approx(oracle.root_mean_squared_error(truth, guess))
    assert found.mape == pytest.approx(oracle.mean_absolute_percentage_error(truth, guess))
    if np.ptp(truth) > 1e-6 * truth.mean():
        assert found.r2 == pytest.approx(oracle.r2_score(truth, guess), rel=1e-6, abs=1e-6)
    for q in (0.5, 0.95):
        assert pinball(truth, guess, q) == pytest.approx(oracle.mean_pinball_loss(truth, guess, alpha=q))


def test_relative_error_is_the_mean_error_over_the_mean_time():
    """Seed 003's own measure: 6.51 ms at a mean of 31.2 ms are 20.9 %."""
    found = point_scores(np.array([31.20 - 6.51, 31.20 + 6.51]), np.array([31.20, 31.20]))
    assert found.relative_error == pytest.approx(0.2087, abs=1e-4)


def test_an_abstention_is_neither_covered_nor_missed():
    found = bound_scores(np.array([1.0, 2.0, 4.0, 8.0]), np.array([2.0, 1.0, np.inf, 16.0]), 0.95)
    assert (found.coverage, found.abstained, found.rows) == (pytest.approx(2 / 3), 1, 4)
    assert found.width == pytest.approx((2 + 0.5 + 2) / 3)
    nothing = bound_scores(np.array([1.0]), np.array([np.inf]), 0.95)
    assert (nothing.coverage, nothing.width, nothing.pinball_ms, nothing.abstained) == (None, None, None, 1)


def test_what_can_not_be_said_is_none():
    flat = point_scores(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert (flat.r2, flat.mape) == (None, pytest.approx(0.5))
    zero = point_scores(np.array([0.0, 2.0]), np.array([1.0, 3.0]))
    assert (zero.mape, zero.bias) == (None, None)


@pytest.mark.parametrize(
    ("actual", "predicted", "words"),
    [([1.0], [1.0, 2.0], "one for each row"), ([], [], "no row"), ([1.0, 2.0], [1.0, np.nan], "1 of 2 predictions")],
)
def test_bad_input_is_one_line(actual, predicted, words):
    with pytest.raises(LaptimeError, match=words):
        point_scores(np.array(actual, dtype=float), np.array(predicted, dtype=float))
