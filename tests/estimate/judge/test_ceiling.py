"""The ceiling: an example in numbers, known variances, unbalanced groups, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.judge.ceiling import ceiling, ceiling_from_cv, noise_variance, reachable_r2


def simulated(rng, groups, repeats, *, between=1.0, within=1.0, unbalanced=False):
    sizes = rng.integers(2, 2 * repeats, groups) if unbalanced else np.full(groups, repeats)
    labels = np.repeat(np.arange(groups), sizes)
    values = 30 + between * rng.normal(size=groups)[labels] + within * rng.normal(size=len(labels))
    return values, labels


def test_a_spread_of_195_within_299_allows_an_r2_of_057():
    assert ceiling_from_cv(0.299, 0.195) == pytest.approx(0.575, abs=0.001)
    for overall, within in ((0.1, 0.2), (0.0, 0.0), (0.3, -0.1)):
        with pytest.raises(LaptimeError, match="between 0 and the second"):
            ceiling_from_cv(overall, within)


@pytest.mark.parametrize("unbalanced", [False, True])
@pytest.mark.parametrize(("between", "within", "truth"), [(1, 1, 0.5), (3, 1, 0.9), (0, 1, 0.0)])
def test_it_finds_the_share_that_was_simulated(between, within, truth, unbalanced):
    rng = np.random.default_rng(0)
    many = [ceiling(*simulated(rng, 300, 6, between=between, within=within, unbalanced=unbalanced)) for _ in range(5)]
    assert np.mean([one.value for one in many]) == pytest.approx(truth, abs=0.03)
    for one in many:
        assert one.value == pytest.approx(1 - (one.cv_within / one.cv_overall) ** 2)
        assert one.low <= one.value <= one.high


@pytest.mark.parametrize(("groups", "unbalanced"), [(8, False), (27, True)])
def test_the_interval_covers(groups, unbalanced):
    rng = np.random.default_rng(1)
    found = [ceiling(*simulated(rng, groups, 6, unbalanced=unbalanced)) for _ in range(120)]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= 0.9
    assert np.mean([one.high - one.low for one in found]) < 0.75


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 100.0), st.floats(-50, 50))
def test_neither_the_unit_nor_the_order_of_rows_matters(seed, unit, shift):
    rng = np.random.default_rng(seed)
    values, labels = simulated(rng, 6, 3)
    order = rng.permutation(len(values))
    one, other = ceiling(values, labels), ceiling(unit * values[order] + shift, labels[order])
    assert one.value == pytest.approx(other.value, abs=1e-9)


def test_nobody_can_pass_the_ceiling_by_much_and_the_true_means_reach_it():
    """R2 of the true means on fresh rows is the ceiling; `reachable_r2` says what it is on exactly those rows."""
    rng = np.random.default_rng(2)
    means = 30 + rng.normal(size=200)
    labels = np.repeat(np.arange(200), 5)
    values = means[labels] + 0.8 * rng.normal(size=1000)
    error = ((values - means[labels]) ** 2).sum()
    r2 = 1 - error / ((values - values.mean()) ** 2).sum()
    assert ceiling(values, labels).value == pytest.approx(r2, abs=0.04)
    assert reachable_r2(values, labels, noise_variance(values, labels)) == pytest.approx(r2, abs=0.03)


def test_without_repeats_there_is_none():
    assert ceiling(np.arange(5.0), np.arange(5)) is None
    assert ceiling(np.arange(5.0), np.zeros(5)) is None
    assert ceiling(np.ones(6), np.repeat([0, 1, 2], 2)) is None
    assert noise_variance(np.arange(3.0), np.arange(3)) is None
    two = ceiling(np.array([1.0, 1.1, 2.0, 2.1]), np.array(["a", "a", "b", "b"]))
    assert (two.low, two.high, two.groups, two.repeated) == (None, None, 2, 2)
    with pytest.raises(LaptimeError, match="one for each row"):
        ceiling(np.arange(3.0), np.arange(2))


def test_repeats_that_agree_exactly_make_it_one():
    found = ceiling(np.repeat([1.0, 2.0, 5.0], 3), np.repeat([0, 1, 2], 3))
    assert (found.value, found.low, found.high, found.cv_within) == pytest.approx((1.0, 1.0, 1.0, 0.0))


def visited(rounds, calls, *, configs=60, sd, seed):
    """(values, groups, visits): configurations with `rounds` visits of `calls` calls; sd of groups, visits, calls."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(np.arange(configs), rounds * calls)
    visits = np.repeat(np.arange(configs * rounds), calls)
    values = 100 + draw.normal(0, sd[0], configs)[groups] + draw.normal(0, sd[1], configs * rounds)[visits]
    return values + draw.normal(0, sd[2], len(groups)), groups, visits


def test_what_calls_of_a_visit_share_is_noise_too() -> None:
    """Groups 6, visits 3, calls 2: a predictor of new calls reaches 36 / (36 + 9 + 4)."""
    truth = 36 / 49
    tops = []
    for seed in range(40):
        values, groups, visits = visited(3, 4, sd=(6, 3, 2), seed=seed)
        tops.append(ceiling(values, groups, visits=visits))
    found = [top.value for top in tops if top is not None]
    assert np.mean(found) == pytest.approx(truth, abs=0.03)
    held = [top.low <= truth <= top.high for top in tops if top and top.low is not None and top.high is not None]
    assert np.mean(held) >= 0.85
    one, groups, visits = visited(3, 4, sd=(6, 3, 2), seed=0)
    top = ceiling(one, groups, visits=visits)
    assert top is not None
    assert top.cv_visits == pytest.approx(0.03, abs=0.01)
    assert not top.at_most
    noise = noise_variance(one, groups, visits)
    assert noise == pytest.approx(13, rel=0.35)


def test_one_visit_each_is_said_to_be_at_most() -> None:
    values, groups, visits = visited(1, 6, sd=(6, 3, 2), seed=1)
    top = ceiling(values, groups, visits=visits)
    assert top is not None
    assert top.at_most
    assert top.value > 36 / 49
    assert top.cv_visits is None


def test_visits_of_one_call_are_plain_repeats() -> None:
    values, groups, visits = visited(5, 1, sd=(6, 3, 2), seed=2)
    plain, with_visits = ceiling(values, groups), ceiling(values, groups, visits=visits)
    assert plain is not None
    assert with_visits is not None
    assert with_visits.value == pytest.approx(plain.value)
    assert (with_visits.low, with_visits.high) == (plain.low, plain.high)
