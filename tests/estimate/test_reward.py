"""The reward: monotone, bounded, and nothing to exploit where the estimator knows nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.reward import DEFAULT, RewardSettings, estimator_rewards, rewards
from tests.estimate.log_linear import LogLinear, step_table

shares = st.floats(0, 1)
times = st.floats(0.1, 1e5)


@settings(deadline=None)
@given(shares, shares, times, times, times)
def test_it_never_rises_with_the_bound_nor_falls_with_budget_or_accuracy(good, better, bound, longer, budget):
    good, better = sorted((good, better))
    bound, longer = sorted((bound, longer))
    assert rewards(good, longer, budget) <= rewards(good, bound, budget) + 1e-12
    assert rewards(better, bound, budget) >= rewards(good, bound, budget)
    assert rewards(good, bound, longer) >= rewards(good, bound, min(budget, longer)) - 1e-12


@settings(deadline=None)
@given(shares, times, times, st.floats(0.1, 3), st.floats(0.1, 3), st.floats(1.5, 10))
def test_it_is_bounded_and_unsupported_is_the_worst_there_is(good, bound, budget, weight, late, most):
    how = RewardSettings(accuracy_weight=weight, late_weight=late, most_late=most)
    worst = -late * np.log(most)
    given = rewards(good, bound, budget, True, how)
    assert worst - 1e-9 <= given <= weight + 1e-9
    assert rewards(good, bound, budget, False, how) == pytest.approx(worst)
    assert rewards(good, np.inf, budget, True, how) == pytest.approx(worst)
    assert rewards(good, np.nan, budget, True, how) == pytest.approx(worst)


def test_any_answer_in_time_is_worth_more_than_any_late_one():
    assert rewards(0.0, 100.0, 100.0) == 0.0
    assert rewards(1.0, 100.1, 100.0) < 0.0
    assert list(rewards([0.3, 0.9], [50.0, 200.0], 100.0)) == [0.3, pytest.approx(-np.log(2))]


def test_a_batch_is_broadcast_and_equals_its_rows():
    rng = np.random.default_rng(0)
    good, bound, known = rng.random((50, 1)), rng.lognormal(4, 1, (1, 40)), rng.random((50, 40)) > 0.3
    batch = rewards(good, bound, 80.0, known)
    assert batch.shape == (50, 40)
    one = rewards(good[7], bound[0, 11], 80.0, known[7, 11])
    assert batch[7, 11] == one[0]


def test_a_policy_finds_nothing_outside_the_training_domain():
    """A fit that falls with size promises short times far outside: the best reward still lies inside."""
    table = step_table().with_columns((1000 / pl.col("step_ms")).alias("step_ms"))
    made = LogLinear("step_ms", ["batch", "prompt"], ["model"]).fit(table)
    asked = pl.DataFrame({"batch": [16, 4096], "prompt": [512, 512], "model": ["a", "a"]})
    budget = float(made.quantile(asked, 0.95)[0]) * 1.01
    assert made.predict(asked)[1] < made.predict(asked)[0]
    inside, outside = estimator_rewards(made, asked, [0.5, 0.9], budget)
    assert inside == 0.5
    assert outside == pytest.approx(-DEFAULT.late_weight * np.log(DEFAULT.most_late))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.2, 10.0, 10.0), "between 0 and 1"),
        ((np.nan, 10.0, 10.0), "between 0 and 1"),
        ((0.5, 10.0, 0.0), "budget is above 0"),
        ((0.5, -1.0, 10.0), "bound is above 0"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    with pytest.raises(LaptimeError, match=words):
        rewards(*arguments)
    with pytest.raises(LaptimeError, match="most_late 1 "):
        RewardSettings(most_late=1.0)
