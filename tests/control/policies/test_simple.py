"""Simple policies: within the bounds, by the question's type or its words, and by one knob alone."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from laptime.control.judge.replay import replay
from laptime.control.policies.oracle import Oracle, policy_for
from laptime.control.policies.policy import allowed
from laptime.control.policies.simple import (
    logistic_policy,
    only,
    per_type_policy,
    single_knob_policies,
)
from laptime.control.policies.static import static_policy
from laptime.errors import LaptimeError
from tests.control.worlds import SPACE, world

WORLD = world(400)
TRAIN, HELD_OUT = WORLD.train, WORLD.held_out
TRAIN_FEATURES = WORLD.features.of(TRAIN.sample_ids, SPACE)
FEATURES = WORLD.features.of(HELD_OUT.sample_ids, SPACE)
BUDGET_MS = float(np.median(HELD_OUT.total_ms))


def right(policy: object) -> float:
    outcomes = replay(policy, HELD_OUT, FEATURES, WORLD.bounds, BUDGET_MS)  # type: ignore[arg-type]
    return float(np.mean([one.score for one in outcomes]))


def test_both_are_better_than_a_fixed_setting_where_the_type_decides_and_below_the_oracle() -> None:
    typed, logistic = per_type_policy(TRAIN), logistic_policy(TRAIN, TRAIN_FEATURES.language)
    fixed = static_policy(TRAIN, WORLD.bounds)
    most = right(Oracle(table=HELD_OUT, bounded=True))
    assert right(fixed) + 0.03 < right(typed) <= most
    assert right(fixed) + 0.03 < right(logistic) <= most


def test_no_choice_breaks_its_bound() -> None:
    for policy in (per_type_policy(TRAIN), logistic_policy(TRAIN, TRAIN_FEATURES.language)):
        for row, name in enumerate(HELD_OUT.sample_ids):
            budget = WORLD.bounds.budget(BUDGET_MS, FEATURES.language[row])
            one = policy_for(policy, name)
            number = one.decide(FEATURES.seen(row), budget)
            assert allowed(SPACE, budget, None)[number]


def test_one_knob_alone_leaves_the_others_at_their_most() -> None:
    policies = single_knob_policies(TRAIN)
    assert [one.name for one in policies] == ["per type, tier only", "per type, top-k only", "per type, blocks only"]
    assert int(only(SPACE, "tier").sum()) == 3
    assert int(only(SPACE, "blocks").sum()) == 3
    assert int(only(SPACE, None).sum()) == len(SPACE)
    for policy in policies:
        for row, name in enumerate(HELD_OUT.sample_ids[:40]):
            budget = WORLD.bounds.budget(1e6, FEATURES.language[row])  # everything fits
            assert policy.choosable[policy_for(policy, name).decide(FEATURES.seen(row), budget)]
    one_knob = msgspec.structs.replace(SPACE, tiers=SPACE.tiers[:1], top_ks=())
    assert single_knob_policies(msgspec.structs.replace(TRAIN, space=one_knob)) == []


def test_a_type_that_was_never_seen_gets_what_is_best_for_all() -> None:
    policy = per_type_policy(TRAIN)
    assert np.array_equal(policy.of("unheard-000001").accuracy, TRAIN.score.mean(axis=0, dtype=np.float64))


def test_features_of_other_questions_are_refused() -> None:
    with pytest.raises(LaptimeError, match="one for each is needed"):
        logistic_policy(TRAIN, FEATURES.language[:3])
