"""A learnt policy falls back to a regression of the words where it gains nothing, and only there."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from laptime.control.judge.lineup import EvaluationScope, kept_findings, replayed_evaluation
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.policy import Needs
from laptime.control.policies.simple import LogisticPolicy, logistic_policy
from laptime.control.training.fallback import regression_instead
from laptime.control.training.grpo import GrpoSettings, train_grpo
from laptime.control.training.kinds import PolicySpec, train_policy
from tests.control.worlds import SPACE, world

WORDS_ALONE = Needs(language=True)
SHORT = GrpoSettings(steps=12, draws=64, check_every=4)


def test_where_only_words_count_and_questions_are_few_a_regression_stands_for_it() -> None:
    data = world(160, noise=0.01, wrong=0.25)
    saved = train_policy(data.train, data.features, data.bounds, PolicySpec(needs=WORDS_ALONE, steps=8, overall=False))
    assert isinstance(saved.policy, LogisticPolicy)
    assert (saved.policy.name, saved.policy.fallback, saved.early_block) == ("grpo", True, 0)
    language = data.features.of(data.train.sample_ids, SPACE).language
    assert np.allclose(saved.policy.weights, logistic_policy(data.train, language).weights)
    evaluation = replayed_evaluation(
        [saved.policy], data.held_out, data.features, data.bounds, EvaluationScope(budgets_ms=[18.0])
    )
    assert "grpo decides by a logistic regression of the words" in evaluation.findings[0].message


def test_a_policy_that_sees_what_words_do_not_say_is_kept() -> None:
    data = world(320, noise=0.01)
    policy, _ = train_grpo(data.train, data.features, data.bounds, settings=SHORT)
    assert regression_instead(policy, data.train, data.features, data.bounds) is None


def test_without_words_or_with_few_questions_there_is_none() -> None:
    data = world(160, noise=0.01)
    policy, _ = train_grpo(data.train, data.features, data.bounds, needs=Needs(), settings=SHORT)
    assert regression_instead(policy, data.train, data.features, data.bounds) is None
    words = msgspec.structs.replace(policy, needs=WORDS_ALONE)
    few: Any = data.train.take(np.arange(30))
    assert regression_instead(words, few, data.features, data.bounds) is None


def test_a_policy_that_kept_its_start_says_so() -> None:
    data = world(160, noise=0.01)
    policy, _ = train_grpo(data.train, data.features, data.bounds, needs=WORDS_ALONE, settings=SHORT)
    assert isinstance(policy, GrpoPolicy)
    start = msgspec.structs.replace(policy, moved=False)
    assert "decides as the supervised policy" in kept_findings([start])[0].message
    assert kept_findings([msgspec.structs.replace(policy, moved=True)]) == []


def test_a_regression_can_be_trained_by_itself() -> None:
    data = world(160, noise=0.01)
    saved = train_policy(data.train, data.features, data.bounds, PolicySpec(kind="logistic", name="words"))
    assert isinstance(saved.policy, LogisticPolicy)
    assert (saved.policy.name, saved.policy.fallback) == ("words", False)
    assert kept_findings([saved.policy]) == []
