"""What a learnt policy falls back to: a logistic regression of the words, unless kept-aside questions say otherwise.

A network that learnt from a hundred questions may be worse than the simplest policy that looks at words. So each half
of the training questions is decided by policies that learnt from the other half (cross-fitting): unless the supervised
network surely earns more there, the regression stands for the learnt policy; and unless that one is surely better on
the questions that its own training kept aside.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.one_pass import deciders
from laptime.control.policies.policy import Policy
from laptime.control.policies.simple import LogisticPolicy, logistic_policy
from laptime.control.seen import Budget
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.grpo import CHECK_BUDGETS, surely_above
from laptime.control.training.lessons import Lessons, Rows, budget_range, make_lessons
from laptime.control.training.supervised import SupervisedSettings, train_supervised
from laptime.data.stats import Floats
from laptime.estimate.reward import rewards

LEAST = 40
"""Fewer questions than this can't be halved: each half has to train a policy."""
MOST = 400
"""Questions that are decided, at most: more take long and say little more."""


def regression_instead(
    learnt: GrpoPolicy, table: DecisionTable, features: FeatureTable, bounds: Bounds, seed: int = 0
) -> LogisticPolicy | None:
    """The regression of all training questions where it stands for the learnt policy; else None.

    None too where the learnt policy doesn't look at words, and with fewer than LEAST questions.
    """
    if not learnt.needs.language or len(table) < LEAST:
        return None
    lessons = make_lessons(table, features, bounds, learnt.needs, budget=True)
    aligned = features.of(table.sample_ids, table.space)
    gains = []
    for own, others in _halves(table.sample_ids):
        half = table.take(others)
        simple = logistic_policy(half, aligned.language[others])
        network, _ = train_supervised(
            half, features, bounds, needs=learnt.needs, settings=SupervisedSettings(seed=seed)
        )
        rows = own[: MOST // 2]
        gains.append(_earned(network, aligned, lessons, rows) - _earned(simple, aligned, lessons, rows))
    if surely_above(np.concatenate(gains)):
        return None
    rows = lessons.checked[:MOST]
    simple = logistic_policy(table.take(lessons.fitted), aligned.language[lessons.fitted])
    if surely_above(_earned(learnt, aligned, lessons, rows) - _earned(simple, aligned, lessons, rows)):
        return None
    return logistic_policy(table, aligned.language)


def _halves(names: tuple[str, ...]) -> list[tuple[Rows, Rows]]:
    """Two halves of the questions, by their names: each with the other one."""
    keys = [blake2b(f"half:{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=keys.__getitem__), dtype=np.intp)
    first, second = np.sort(order[::2]), np.sort(order[1::2])
    return [(first, second), (second, first)]


def _earned(policy: Policy, aligned: FeatureTable, lessons: Lessons, rows: Rows) -> Floats:
    """The mean reward over budgets of each of these questions, (rows,)."""
    budgets = np.geomspace(*budget_range(lessons), CHECK_BUDGETS)
    chosen = np.empty((len(rows), CHECK_BUDGETS), dtype=np.intp)
    decider = deciders(policy, aligned)
    for place, row in enumerate(rows.tolist()):
        decide = decider(row)
        for column, ms in enumerate(budgets.tolist()):
            budget = Budget(ms=ms, bound_ms=lessons.bound_ms[row], median_ms=lessons.median_ms[row])
            chosen[place, column] = decide(budget)
    each = rows[:, None]
    earned: Floats = rewards(lessons.score[each, chosen], lessons.own_bound_ms[each, chosen], budgets).mean(axis=1)
    return earned
