"""A policy that sees more than words decides step by step as `decide` does."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.policies.network import Network
from laptime.control.policies.policy import Needs
from laptime.control.policies.static import static_policy
from laptime.control.policies.two_steps import two_steps
from laptime.control.seen import Budget
from laptime.errors import LaptimeError
from tests.control.policies.test_policies import (
    ALL,
    BUDGETS,
    FEATURES,
    NETWORKS,
    WORLD,
    random_grpo,
    random_grpo_of_choices,
)
from tests.control.worlds import HIDDEN, SPACE

SEES = st.sampled_from([ALL, Needs(hidden=True), Needs(language=True, hidden=True), Needs(pixels=True), Needs()])


def off_centre(network: Network, seed: int) -> Network:
    """As training leaves it: inputs are first taken off their means."""
    drawn = np.random.default_rng(seed).normal(size=len(network.centre)).astype(np.float32)
    return Network(drawn, network.weights, network.biases)


@given(BUDGETS, st.integers(0, 1000), NETWORKS, SEES)
def test_each_step_decides_as_when_asked(budget: Budget, seed: int, make: Any, needs: Needs) -> None:
    policy = make(seed, needs)
    policy = msgspec.structs.replace(
        policy, early=off_centre(policy.early, seed), late=off_centre(policy.late, seed + 1)
    )
    prepared = two_steps(policy)
    assert prepared is not None
    row = seed % len(FEATURES)
    seen = FEATURES.seen(row)
    steps = prepared.of_words(seen.language)
    number = steps.before(budget, seen.pixels)
    assert number // SPACE.late == policy.decide(seen, budget) // SPACE.late
    for tier in range(SPACE.first):
        later = FEATURES.seen(row, tier)
        assert steps.after(budget, tier, later.hidden) == policy.decide(later, budget)


def test_states_that_overflowed_still_give_a_choice_that_fits() -> None:
    policy = random_grpo_of_choices()
    prepared = two_steps(policy)
    assert prepared is not None
    budget = Budget(ms=50, bound_ms=np.linspace(1, 100, len(SPACE)), median_ms=np.linspace(1, 100, len(SPACE)))
    number = prepared.of_words(FEATURES.language[0]).after(budget, 0, np.full(HIDDEN, np.nan, np.float32))
    assert budget.fits[number]


@pytest.mark.parametrize("hidden", [None, np.zeros(HIDDEN + 1, np.float32)])
def test_another_models_states_are_one_line(hidden: Any) -> None:
    prepared = two_steps(random_grpo())
    assert prepared is not None
    steps = prepared.of_words(FEATURES.language[0])
    budget = Budget(ms=50, bound_ms=np.ones(len(SPACE)), median_ms=np.ones(len(SPACE)))
    with pytest.raises(LaptimeError, match="it is another model's"):
        steps.after(budget, 0, hidden)


def test_other_policies_have_no_steps() -> None:
    assert two_steps(static_policy(WORLD.train, WORLD.bounds)) is None
