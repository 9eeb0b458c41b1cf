"""Comparing policies that are late more often: with a smaller budget, until they are in time as often. No torch.

Accuracy that was bought by being late isn't comparable. So such a policy decides under a smaller budget than the one
that its answers are judged by, and is compared when it attains the level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from laptime.control.bounds.bounds import Bounds
from laptime.control.judge.outcomes import Outcome, attainment, paired_difference, paired_scores_p
from laptime.control.judge.replay import replay
from laptime.control.judge.result import Difference
from laptime.control.policies.oracle import Judged
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable

SMALLEST = 0.4
"""The smallest part of a budget that is tried."""
HALVINGS = 7
"""Halvings of the search for the largest budget: exact to a hundredth of the budget."""
MARGIN = 0.6
"""A budget is searched on training questions and has to be kept on others: only this part of lateness is allowed."""

Run = Callable[[float], list[Outcome]]


def judged_by(outcomes: Sequence[Outcome], budget_ms: float) -> list[Outcome]:
    """Outcomes that were decided under a smaller budget, judged by a larger one: late is later than `budget_ms`."""
    return [
        msgspec.structs.replace(one, budget_ms=budget_ms, decided_ms=one.decided_ms or one.budget_ms)
        for one in outcomes
    ]


def at_equal_attainment(run: Run, budget_ms: float, level: float = 0.95) -> list[Outcome]:
    """The outcomes under the largest part of a budget at which a policy attains the level, judged by the whole budget.

    run: `run(ms)` answers every question under a budget of `ms`. The whole budget is used if it is attained there, and
    also if the level isn't even attained at SMALLEST. The search halves: attainment is taken to fall as budgets grow.
    """
    whole = run(budget_ms)
    if attainment(whole) >= level:
        return whole
    low, high = SMALLEST, 1.0
    attained = judged_by(run(budget_ms * low), budget_ms)
    if attainment(attained) < level:
        return whole
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = judged_by(run(budget_ms * middle), budget_ms)
        if attainment(tried) >= level:
            low, attained = middle, tried
        else:
            high = middle
    return attained


def smaller_budget(
    policy: Judged, train: DecisionTable, features: FeatureTable, bounds: Bounds, budget_ms: float
) -> float:
    """The largest budget (ms) under which a policy keeps `budget_ms` on the training questions."""
    aligned = features.of(train.sample_ids, train.space)
    wanted = 1 - (1 - bounds.confidence) * MARGIN

    def run(ms: float) -> list[Outcome]:
        return replay(policy, train, aligned, bounds, ms)

    attained = at_equal_attainment(run, budget_ms, wanted)
    return attained[0].decided_ms or budget_ms if attainment(attained) >= wanted else budget_ms


def equal_attainment_difference(
    first: Sequence[Outcome], second: Sequence[Outcome], level: float = 0.95
) -> Difference | None:
    """Accuracy of the first policy less that of the second, which decided under a smaller budget.

    None if one of the two doesn't attain the level.
    """
    if not first or not second or attainment(first) < level or attainment(second) < level:
        return None
    return Difference(
        budget_ms=first[0].budget_ms,
        policy=first[0].policy,
        than=second[0].policy,
        accuracy=paired_difference(first, second),
        at="equal attainment",
        p=paired_scores_p(first, second),
        than_budget_ms=second[0].decided_ms or second[0].budget_ms,
    )
