"""Conformal bounds: exact coverage, the two directions agree, and other libraries compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.learn.conformal import bound, check_level, share_below

RESIDUALS = st.lists(st.floats(-5, 5), min_size=1, max_size=60).map(lambda values: np.sort(np.array(values)))
LEVELS = st.floats(0.001, 0.999)


@given(RESIDUALS, LEVELS)
def test_the_bound_at_a_level_has_at_least_that_probability(ordered: np.ndarray, q: float) -> None:
    reach = bound(ordered, np.array([q]))
    if np.isfinite(reach[0]):
        assert share_below(ordered, reach)[0] >= q - 1e-9
        smaller = np.array([np.nextafter(reach[0], -np.inf)])
        assert share_below(ordered, smaller)[0] < q
    else:
        assert q > len(ordered) / (len(ordered) + 1) - 1e-9


@given(RESIDUALS, LEVELS, LEVELS)
def test_a_higher_level_never_has_a_lower_bound(ordered: np.ndarray, one: float, other: float) -> None:
    low, high = bound(ordered, np.array(sorted([one, other])))
    assert low <= high


@given(RESIDUALS, st.floats(-6, 6), st.floats(-6, 6))
def test_a_larger_budget_never_has_a_lower_probability(ordered: np.ndarray, one: float, other: float) -> None:
    low, high = share_below(ordered, np.array(sorted([one, other])))
    assert 0 <= low <= high < 1


def test_ranks_at_round_numbers() -> None:
    """0.95 * 20 = 19 of 19 residuals is the largest; of 18 it can't be promised."""
    ordered = np.arange(1.0, 20.0)
    assert bound(ordered, np.array([0.95]))[0] == 19
    assert bound(ordered[:18], np.array([0.95]))[0] == np.inf
    assert bound(ordered, np.array([0.5]))[0] == 10
    assert bound(np.empty(0), np.array([0.5]))[0] == np.inf
    assert share_below(np.empty(0), np.array([1.0]))[0] == 0


def test_coverage_is_what_it_says_over_many_draws() -> None:
    """n = 39, q = 0.9: k = 36, so the coverage is exactly 36/40 = 0.9."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((20_000, 40))
    reach = np.array([bound(np.sort(row[:39]), np.array([0.9]))[0] for row in draws])
    assert np.mean(draws[:, 39] <= reach) == pytest.approx(0.9, abs=0.008)  # 3.8 standard errors


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_crepes_computes_the_same_bound(q: float) -> None:
    """Its one-sided predictive percentiles, from the same residuals and predictions."""
    from crepes import ConformalPredictiveSystem

    rng = np.random.default_rng(1)
    residuals, predicted = rng.standard_normal(199), rng.uniform(1, 9, 50)
    system = ConformalPredictiveSystem().fit(residuals)
    theirs = system.predict_percentiles(predicted, higher_percentiles=[100 * q])
    ours = predicted + bound(np.sort(residuals), np.array([q]))[0]
    np.testing.assert_allclose(np.ravel(theirs), ours, rtol=1e-12)


def test_mapie_computes_the_same_bound() -> None:
    """Split conformal with signed residuals: its upper end at confidence 1 - 2a is the one-sided bound at 1 - a."""
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import SplitConformalRegressor
    from sklearn.base import BaseEstimator, RegressorMixin

    class Given(RegressorMixin, BaseEstimator):
        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            self.is_fitted_ = True
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x[:, 0]

    rng = np.random.default_rng(2)
    x, residuals = rng.uniform(1, 9, (199, 1)), rng.standard_normal(199)
    model = Given().fit(x, x[:, 0])
    for level in (0.9, 0.95):
        score = AbsoluteConformityScore(sym=True)
        judge = SplitConformalRegressor(model, confidence_level=level, conformity_score=score, prefit=True)
        judge.conformalize(x, x[:, 0] + residuals)
        _, interval = judge.predict_interval(x)
        ours = x[:, 0] + bound(np.sort(np.abs(residuals)), np.array([level]))[0]
        np.testing.assert_allclose(interval[:, 1, 0], ours, rtol=1e-12)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_level_is_strictly_between_0_and_1(q: float) -> None:
    with pytest.raises(LaptimeError, match="above 0 and below 1"):
        check_level(np.array([0.5, q]))
