"""Every policy: the mask is never broken, the tier is kept, and each is what its name says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from laptime.control.bounds.coverage import most_late
from laptime.control.policies.learned import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.network import Network, early_sizes, late_sizes
from laptime.control.policies.oracle import AnalyticBudgets, MeanBudgets, Oracle
from laptime.control.policies.policy import Needs, Policy, allowed
from laptime.control.policies.static import LookupPolicy, StaticPolicy, lookup_policy, static_policy
from laptime.control.seen import Budget, Seen
from laptime.errors import LaptimeError
from tests.control.worlds import HIDDEN, SPACE, world

WORLD = world(160)
FEATURES = WORLD.features.of(WORLD.train.sample_ids, SPACE)
ALL = Needs(language=True, pixels=True, hidden=True)
COUNT = len(SPACE)


def network(inputs: int, outputs: int, seed: int) -> Network:
    """Random weights."""
    rng = np.random.default_rng(seed)
    sizes = [inputs, 16, outputs]
    return Network(
        np.zeros(inputs, dtype=np.float32),
        tuple(rng.normal(size=pair).astype(np.float32) for pair in pairwise(sizes)),
        tuple(rng.normal(size=size).astype(np.float32) for size in sizes[1:]),
    )


def random_grpo(seed: int = 0, needs: Needs = ALL) -> GrpoPolicy:
    early, late = early_sizes(SPACE, needs, budget=True).total, late_sizes(SPACE, needs, HIDDEN, budget=True).total
    return GrpoPolicy(
        space=SPACE,
        needs=needs,
        early=network(early, SPACE.first, seed),
        late=network(late, SPACE.late, seed + 1),
        hidden=HIDDEN if needs.hidden else 0,
    )


def random_grpo_of_choices(seed: int = 0, needs: Needs = ALL) -> GrpoPolicy:
    """As training makes it: a logit for each choice. The other one is as training made it before."""
    early, late = early_sizes(SPACE, needs, budget=True).total, late_sizes(SPACE, needs, HIDDEN, budget=True).total
    return msgspec.structs.replace(
        random_grpo(seed, needs), early=network(early, COUNT, seed), late=network(late, COUNT, seed + 1)
    )


def random_supervised(seed: int = 0, needs: Needs = ALL) -> SupervisedPolicy:
    early, late = early_sizes(SPACE, needs, budget=False).total, late_sizes(SPACE, needs, HIDDEN, budget=False).total
    return SupervisedPolicy(
        space=SPACE,
        needs=needs,
        early=network(early, COUNT, seed),
        late=network(late, COUNT, seed + 1),
        hidden=HIDDEN if needs.hidden else 0,
    )


TIMES = arrays.arrays(np.float64, COUNT, elements=st.floats(1, 100) | st.just(float("inf")))
BUDGETS = st.builds(
    lambda ms, bound, share: Budget(ms=ms, bound_ms=bound, median_ms=np.where(np.isfinite(bound), bound, 500) * share),
    st.floats(0.5, 150),
    TIMES,
    st.floats(0.5, 1),
)


NETWORKS = st.sampled_from([random_grpo, random_grpo_of_choices, random_supervised])


@given(BUDGETS, st.integers(0, 1000), NETWORKS, st.booleans())
def test_a_learnt_policy_never_breaks_the_mask(budget: Budget, seed: int, make: Any, broken: bool) -> None:
    policy: Policy = make(seed)
    row = seed % len(FEATURES)
    number = policy.decide(FEATURES.seen(row), budget)
    tier = number // SPACE.late
    fits = budget.bound_ms <= budget.ms
    assert fits[number] or (not fits.any() and number == budget.fastest)
    seen = FEATURES.seen(row, tier)
    if broken:  # hidden states that overflowed
        seen = Seen(language=seen.language, pixels=seen.pixels, tier=tier, hidden=np.full(HIDDEN, np.nan, np.float32))
    after = policy.decide(seen, budget)
    assert after // SPACE.late == tier
    assert fits[after] or (not fits.any() and after == budget.fastest)


@given(BUDGETS, st.integers(0, SPACE.first - 1))
def test_every_policy_keeps_a_tier_that_was_set(budget: Budget, tier: int) -> None:
    policies: list[Policy] = [
        random_grpo(),
        random_grpo_of_choices(),
        random_supervised(),
        static_policy(WORLD.train, WORLD.bounds),
        lookup_policy(WORLD.train),
        Oracle(table=WORLD.train).of(WORLD.train.sample_ids[0]),
        MeanBudgets(random_grpo()),
        AnalyticBudgets(random_grpo(), np.linspace(1, 50, COUNT)),
    ]
    for policy in policies:
        assert policy.decide(FEATURES.seen(0, tier), budget) // SPACE.late == tier, policy.name


@given(BUDGETS, st.none() | st.integers(0, SPACE.first - 1))
def test_something_is_always_allowed(budget: Budget, tier: int | None) -> None:
    kept = allowed(SPACE, budget, tier)
    of_that_tier = np.ones(COUNT, bool) if tier is None else np.arange(COUNT) // SPACE.late == tier
    fits = (budget.bound_ms <= budget.ms) & of_that_tier
    assert (kept == fits).all() if fits.any() else (kept.sum() == 1 and (kept <= of_that_tier).all())


@given(st.floats(0.5, 60))
def test_static_is_the_most_accurate_of_what_keeps_the_budget(ms: float) -> None:
    policy = static_policy(WORLD.train, WORLD.bounds)
    budget = WORLD.bounds.budget(ms, FEATURES.language[0])
    number = policy.decide(FEATURES.seen(0), budget)
    kept = policy.bound_ms <= ms
    if kept.any():
        assert kept[number]
        assert policy.accuracy[number] == policy.accuracy[kept].max()
        assert number == policy.decide(FEATURES.seen(0, number // SPACE.late), budget)
    else:
        assert number == budget.fastest


def test_a_static_choice_keeps_its_bound_whatever_is_asked() -> None:
    policy = static_policy(WORLD.train, WORLD.bounds)
    assert ((WORLD.held_out.total_ms <= policy.bound_ms).mean(axis=0) >= 0.93).all()


def test_a_static_choice_needs_no_more_time_than_its_own_calls_prove() -> None:
    """Bounds of a careful estimator don't keep it from a choice that the training half shows in time."""
    careful = msgspec.structs.replace(
        WORLD.bounds, grid_ms=3 * WORLD.bounds.grid_ms, known_ms=3 * WORLD.bounds.known_ms
    )
    policy = static_policy(WORLD.train, careful)
    late = (WORLD.train.total_ms > policy.bound_ms).sum(axis=0)
    assert (late == most_late(len(WORLD.train), 0.95)).all()
    few = WORLD.train.take(np.arange(50))  # they prove nothing
    assert (static_policy(few, careful).bound_ms > 1.7 * policy.bound_ms).all()


def test_online_correction_makes_static_choose_less() -> None:
    policy = StaticPolicy(space=SPACE, accuracy=np.linspace(0, 1, COUNT), bound_ms=np.linspace(10, 27, COUNT))
    budget = Budget(ms=20, bound_ms=policy.bound_ms, median_ms=policy.bound_ms)
    slower = Budget(ms=20, bound_ms=policy.bound_ms * 1.5, median_ms=policy.bound_ms, factor=1.5)
    assert policy.decide(FEATURES.seen(0), budget) == 10
    assert policy.decide(FEATURES.seen(0), slower) == 3


def test_lookup_takes_means_and_five_per_cent_more() -> None:
    mean = np.full(COUNT, 1000.0)
    mean[:3] = [10.0, 20.9, 21.1]
    policy = LookupPolicy(space=SPACE, accuracy=np.linspace(0, 1, COUNT), mean_ms=mean)
    budget = Budget(ms=20, bound_ms=mean * 2, median_ms=mean)
    assert policy.decide(FEATURES.seen(0), budget) == 1
    built = lookup_policy(WORLD.train)
    assert np.allclose(built.mean_ms, WORLD.train.total_ms.mean(axis=0))


@given(st.integers(0, 30), st.floats(1, 60))
def test_nobody_is_right_more_often_than_the_oracle(row: int, ms: float) -> None:
    table = WORLD.train
    number = (
        Oracle(table=table)
        .of(table.sample_ids[row])
        .decide(FEATURES.seen(row), WORLD.bounds.budget(ms, FEATURES.language[row]))
    )
    took, score = table.total_ms[row], table.score[row]
    in_time = took <= ms
    if in_time.any():
        assert in_time[number]
        assert score[number] == score[in_time].max()
        assert took[number] == took[in_time & (score == score[number])].min()
    else:
        assert took[number] == took.min()


def test_mean_budgets_rely_on_the_median_and_analytic_ones_on_arithmetic() -> None:
    budgets: list[Budget] = []

    class Listening:
        name, needs, space = "listening", Needs(), SPACE

        def decide(self, seen: Seen, budget: Budget) -> int:
            budgets.append(budget)
            return 0

    budget = WORLD.bounds.budget(20, FEATURES.language[0], 1.3)
    MeanBudgets(Listening()).decide(FEATURES.seen(0), budget)
    own = np.linspace(1, 5, COUNT)
    AnalyticBudgets(Listening(), own).decide(FEATURES.seen(0), budget)
    assert (budgets[0].bound_ms == budget.median_ms).all()
    assert (budgets[1].bound_ms == own).all()
    assert MeanBudgets(Listening()).name == "listening, mean budgets"


def test_what_is_needed_but_was_not_made_is_one_line() -> None:
    bare = Seen(language=FEATURES.language[0])
    with pytest.raises(LaptimeError, match="looks at 192 pixels features, given are none"):
        random_grpo().decide(bare, WORLD.bounds.budget(20, bare.language))


def test_a_network_of_one_row_is_one_of_many() -> None:
    built = network(9, 4, 3)
    rows = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    assert np.allclose(built.forward(rows), [built.forward(row) for row in rows], atol=1e-5)


@given(BUDGETS, st.integers(0, 19), st.none() | st.integers(0, SPACE.first - 1))
def test_an_oracle_within_bounds_knows_what_is_right_but_not_how_long_it_takes(
    budget: Budget, row: int, tier: int | None
) -> None:
    one = Oracle(table=WORLD.train, bounded=True).of(WORLD.train.sample_ids[row])
    number = one.decide(FEATURES.seen(row, tier), budget)
    kept = allowed(SPACE, budget, tier)
    assert kept[number]
    assert WORLD.train.score[row, number] == WORLD.train.score[row, kept].max()
    slower = msgspec.structs.replace(WORLD.train, total_ms=WORLD.train.total_ms[:, ::-1] * 7)
    again = Oracle(table=slower, bounded=True).of(WORLD.train.sample_ids[row])
    assert again.decide(FEATURES.seen(row, tier), budget) == number
