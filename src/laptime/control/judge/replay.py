"""Policies judged on a table's held-out half: the score and the time that each decision would have had. No torch.

Nothing is run: times are those that were measured under the chosen configuration. A measured evaluation makes the same
records (laptime.control.judge.outcomes) from calls.
"""

from __future__ import annotations

import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.judge.outcomes import Outcome
from laptime.control.policies.one_pass import deciders
from laptime.control.policies.oracle import Judged, Oracle, policy_for
from laptime.control.policies.policy import can_keep, decide_twice
from laptime.control.policies.simple import PerTypePolicy
from laptime.control.policies.static import StaticPolicy
from laptime.control.seen import NO_ROOM, Floats32, Room
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.errors import LaptimeError

INNER = (0.05, 0.95)
"""The part of the way between the lowest and the highest budget over which budgets are spread."""
ALIKE = 0.01
"""Settings whose accuracies differ by no more than this count as equally good when budgets are spread."""


def replay(
    policy: Judged, table: DecisionTable, features: FeatureTable, bounds: Bounds, budget_ms: float, room: Room = NO_ROOM
) -> list[Outcome]:
    """One outcome a question.

    features: those of the table's questions, in its order (FeatureTable.of). room: the policy's leeway at this budget.

    Raises LaptimeError for features of other questions, and for a choice whose time was not measured.
    """
    if features.sample_ids != table.sample_ids:
        raise LaptimeError("features and table hold other questions; take features.of(table.sample_ids, table.space)")
    one = None if isinstance(policy, Oracle | PerTypePolicy) else deciders(policy, features)
    outcomes = []
    for row, sample_id in enumerate(table.sample_ids):
        budget = bounds.budget(budget_ms, features.language[row], room=room)
        keeps = bool(budget.fits.any())
        if one is not None:
            number = one(row)(budget)
        else:
            asked = policy_for(policy, sample_id)
            number, keeps = decide_twice(asked, features, row, budget), can_keep(asked, budget)
        total = float(table.total_ms[row, number])
        if not total > 0:
            raise LaptimeError(f"question {sample_id} was not timed under choice ({table.space.choice(number)})")
        outcomes.append(
            Outcome(
                policy=policy.name,
                budget_ms=budget_ms,
                sample_id=sample_id,
                question_type=table.question_types[row],
                choice=number,
                score=float(table.score[row, number]),
                total_ms=total,
                bound_ms=float(budget.bound_ms[number]),
                unfit=not keeps,
            )
        )
    return outcomes


def spread_budgets(
    table: DecisionTable, bounds: Bounds, language: Floats32, fixed: StaticPolicy, count: int = 5
) -> list[float]:
    """Budgets (ms) under which choosing can gain something.

    The lowest is where every question has a choice that fits. The highest is where the best fixed setting (`fixed`) is
    as accurate as under any budget, to one point: above it nobody gains by choosing. Between them the budgets are even
    steps in the share of choices, over all questions, whose bound keeps the budget. Both ends are left out.

    Raises LaptimeError when nothing is promised for any choice.
    """
    bound, _ = bounds.for_questions(language)
    lowest = 1.02 * float(np.quantile(bound.min(axis=1), 0.95))
    finite = np.sort(bound[np.isfinite(bound)])
    if not (np.isfinite(lowest) and len(finite) and finite[-1] > lowest > 0):
        raise LaptimeError(f"no budget tells the {len(table.space)} choices apart: the estimator promises too little")
    enough = float(fixed.bound_ms[fixed.accuracy >= fixed.accuracy.max() - ALIKE].min())
    highest = enough if lowest < enough < finite[-1] else float(finite[-1])
    ends = [float((finite <= ms).mean()) for ms in (lowest, highest)]
    shares = ends[0] + (ends[1] - ends[0]) * np.linspace(*INNER, count)
    return [round(float(ms), 3) for ms in np.quantile(finite, shares)]
