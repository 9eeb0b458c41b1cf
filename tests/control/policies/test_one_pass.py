"""Both decisions in one pass are those of `decide`, asked twice, and only policies that see words alone have it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.known_texts import POLICIES, KnownTexts
from laptime.control.policies.one_pass import deciders, one_pass
from laptime.control.policies.policy import Needs, Policy, decide_twice
from laptime.control.policies.simple import logistic_policy
from laptime.control.policies.static import static_policy
from laptime.control.seen import Budget, Seen
from laptime.control.tables.features import language_features
from tests.control.policies.test_policies import (
    BUDGETS,
    COUNT,
    FEATURES,
    WORLD,
    random_grpo,
    random_grpo_of_choices,
    random_supervised,
)
from tests.control.worlds import SPACE, WORDS

WORDS_ALONE = Needs(language=True)
REGRESSION = logistic_policy(WORLD.train, FEATURES.language)


def asked_twice(policy: Policy, text: str, budget: Budget) -> int:
    seen = Seen(language=language_features(text))
    tier = policy.decide(seen, budget) // SPACE.late
    return policy.decide(msgspec.structs.replace(seen, tier=tier), budget)


@given(
    st.lists(BUDGETS, min_size=1, max_size=3),
    st.sampled_from([*WORDS.values(), "other words", ""]),
    st.integers(0, 1000),
    st.sampled_from([random_grpo, random_grpo_of_choices, random_supervised]),
    st.booleans(),
)
def test_it_decides_as_when_asked_twice(budgets: list[Budget], text: str, seed: int, make: Any, words: bool) -> None:
    policy = make(seed, WORDS_ALONE if words else Needs())
    prepared = one_pass(policy)
    assert prepared is not None
    decisions = prepared.of_words(language_features(text))
    for budget in [*budgets, *budgets]:  # the second time it may remember
        assert decisions.decide(budget) == asked_twice(policy, text, budget)


def test_equally_good_choices_are_told_apart_by_their_cost() -> None:
    policy = random_supervised(0, WORDS_ALONE)
    flat = [
        msgspec.structs.replace(one, weights=tuple(0 * w for w in one.weights), biases=tuple(0 * b for b in one.biases))
        for one in (policy.early, policy.late)
    ]
    policy = msgspec.structs.replace(policy, early=flat[0], late=flat[1])
    prepared = one_pass(policy)
    assert prepared is not None
    decisions = prepared.of_words(language_features("words"))
    for costs in (np.arange(1.0, COUNT + 1), np.arange(COUNT, 0.0, -1)):
        budget = Budget(ms=50, bound_ms=costs, median_ms=costs)
        assert decisions.decide(budget) == asked_twice(policy, "words", budget) == int(costs.argmin())


@given(st.lists(BUDGETS, min_size=1, max_size=3), st.sampled_from([*WORDS.values(), ""]))
def test_a_regression_decides_as_when_asked_twice(budgets: list[Budget], text: str) -> None:
    prepared = one_pass(REGRESSION)
    assert prepared is not None
    decisions = prepared.of_words(language_features(text))
    for budget in [*budgets, *budgets]:
        assert decisions.decide(budget) == asked_twice(REGRESSION, text, budget)


@pytest.mark.parametrize("policy", [random_grpo(), random_grpo_of_choices(1, WORDS_ALONE), REGRESSION])
def test_a_tables_questions_are_decided_as_in_a_call(policy: Policy) -> None:
    decider = deciders(policy, FEATURES)
    for row in range(20):
        decide = decider(row)
        for ms in (3.0, 12.0, 20.0, 40.0):
            budget = WORLD.bounds.budget(ms, FEATURES.language[row])
            assert decide(budget) == decide_twice(policy, FEATURES, row, budget)


@pytest.mark.parametrize("needs", [Needs(hidden=True), Needs(language=True, pixels=True)])
def test_a_policy_that_sees_more_is_asked_twice(needs: Needs) -> None:
    assert one_pass(random_grpo(0, needs)) is None
    assert one_pass(random_supervised(0, needs)) is None


def test_other_policies_are_asked_twice() -> None:
    assert one_pass(static_policy(WORLD.train, WORLD.bounds)) is None


def test_a_text_never_takes_one_policy_for_another() -> None:
    """Policies come and go, and ids of objects are used again."""
    texts = KnownTexts(WORLD.bounds)
    known = texts.of("read the small code")
    budget = Budget(ms=50, bound_ms=known.bound_ms, median_ms=known.median_ms)
    for seed in range(3 * POLICIES):
        policy = random_grpo(seed, WORDS_ALONE)
        decisions = texts.decisions(policy, known)
        assert decisions is not None
        assert decisions.decide(budget) == asked_twice(policy, "read the small code", budget)
        assert texts.decisions(policy, known) is decisions
