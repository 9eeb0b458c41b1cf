"""Bounds where nothing like the row was held out: a direction of growth, a further group, and where none is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.estimate.learn.conformal import (
    CalibratedRegressor,
    bound,
    calibrate,
    over_groups,
    widest_fold,
)
from laptime.estimate.learn.growth import Growth
from laptime.estimate.learn.regressors import Candidate, Regressor

BARE = Regressor(candidate=Candidate(power=None, residual="none"))
LEVEL = np.array([0.95])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0.5, 0.98))
def test_no_direction_has_a_narrower_bound_than_it_needs(seed: int, directions: int, q: float) -> None:
    rng = np.random.default_rng(seed)
    folds = np.repeat(np.arange(directions), rng.integers(30, 80, directions))
    residuals = rng.normal(size=len(folds)) * (1 + folds) + folds / 2
    reach = bound(widest_fold(residuals, folds), np.array([q]))[0]
    for fold in range(directions):
        own = residuals[folds == fold]
        assert (own <= reach).mean() >= q - 1 / len(own)
    assert reach >= bound(np.sort(residuals), np.array([q]))[0]


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_a_further_group_stays_below_its_bound(groups: int) -> None:
    """Groups differ by 20 %, rows within them by 2 %: leaving one of a few out and pooling covers far less."""
    rng = np.random.default_rng(groups)
    covered, pooled = [], []
    for _ in range(300):
        middles = 0.2 * rng.normal(size=groups + 1)
        rows = middles[:, None] + 0.02 * rng.normal(size=(groups + 1, 60))
        held, folds = rows[:-1].ravel(), np.repeat(np.arange(groups), 60)
        covered.append((rows[-1] <= bound(over_groups(held, folds), LEVEL)[0]).mean())
        pooled.append((rows[-1] <= bound(np.sort(held), LEVEL)[0]).mean())
    assert np.mean(covered) > 0.93
    assert np.mean(pooled) < 0.92 < np.mean(covered)


def test_two_groups_promise_nothing() -> None:
    residuals, folds = np.linspace(-0.1, 0.1, 80), np.repeat([0, 1], 40)
    made = calibrate(BARE, residuals, np.zeros(80), [], folds, "groups")
    assert np.isinf(made.log_bounds(np.zeros(1), np.zeros(1), np.array([0.5])))
    assert made.within(np.zeros(1), np.zeros(1), np.full(1, 50.0)) == [0.0]


@given(st.floats(0, 6), st.floats(0.05, 0.99), st.floats(-1, 3))
def test_a_bound_that_is_too_wide_is_none_and_never_sure(distance: float, q: float, budget: float) -> None:
    made = CalibratedRegressor(BARE, np.linspace(-0.1, 0.3, 99), 0.5, most=0.7)
    reach = made.log_bounds(np.zeros(1), np.array([distance]), np.array([q]))[0, 0]
    assert reach <= 0.7 or np.isinf(reach)
    share = made.within(np.zeros(1), np.array([distance]), np.array([budget]))[0]
    assert (reach <= budget) == (share >= q - 1e-9) or abs(reach - budget) < 1e-9


@given(st.floats(0.3, 4), st.floats(0.05, 0.99), st.floats(0.3, 2))
def test_further_than_what_was_held_out_a_margin_grows_and_never_shrinks(far: float, q: float, checked: float) -> None:
    flat = Growth([1.0])
    made = CalibratedRegressor(BARE, np.linspace(-0.1, 0.3, 99), 0.5, growth=flat, checked=checked)
    near, away = made.log_bounds(np.zeros(2), np.array([checked, far * checked]), np.array([q]))[:, 0]
    assert away == pytest.approx(near * (max(far, 1.0) if near > 0 else 1.0))
    share = made.within(np.zeros(1), np.array([far * checked]), np.array([away]))[0]
    assert share >= q - 1e-9


@pytest.mark.parametrize(("distance", "given"), [(0.0, True), (0.5, True), (0.7, True), (0.8, False)])
def test_what_is_new_and_further_out_than_held_out_groups_has_no_bound(distance: float, given: bool) -> None:
    made = CalibratedRegressor(BARE, np.linspace(-0.1, 0.3, 99), 0.5, checked=0.5)
    assert np.isfinite(made.log_bounds(np.zeros(1), np.array([distance]), LEVEL)[0, 0]) == given
    assert (made.within(np.zeros(1), np.array([distance]), np.array([5.0]))[0] > 0) == given
