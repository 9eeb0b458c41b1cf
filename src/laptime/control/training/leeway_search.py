"""The leeway of a policy, proven on the training questions' own times. No torch.

Each question is decided as the policy decides it, under each budget ("learn then test", Angelopoulos, Bates, Candes,
Jordan and Lei 2021, arXiv 2110.01052). Leeways are tried in ascending order. The search ends at the first one whose
count of late answers a policy that breaks the promise could have had, too (laptime.control.bounds.coverage). Because
they are tested in one order, the number of tries needs no correction. With the certainty of that test, under each
budget by itself, the promised share of answers is in time. Too few questions (below 59 for 95 %) prove nothing.
"""

from __future__ import annotations

import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.coverage import most_late
from laptime.control.bounds.leeway import STEPS, Leeway
from laptime.control.policies.one_pass import deciders
from laptime.control.policies.policy import Policy
from laptime.control.seen import Budget, Room
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable

BUDGETS = 128
"""The number of budgets at which leeway is searched, in equal ratios."""


def find_leeway(policy: Policy, table: DecisionTable, features: FeatureTable, bounds: Bounds) -> Leeway | None:
    """The leeway of a policy, from the timed questions of a table.

    None if they are too few to prove anything, or nothing is promised. Raises LaptimeError when the features of one of
    the questions are missing.
    """
    aligned = features.of(table.sample_ids, table.space)
    timed = [int(row) for row in np.flatnonzero(np.isfinite(table.total_ms).all(axis=1))]
    most = most_late(len(timed), bounds.confidence)
    shares = {row: bounds.share_of(aligned.language[row]) for row in timed}
    plain = [bounds.bound_of(share) for share in shares.values()]
    finite = np.array([bound for bounds_ms in plain for bound in bounds_ms if np.isfinite(bound)])
    if most < 0 or not len(finite) or not finite.min() < finite.max():
        return None
    medians = {row: bounds.median_of(share) for row, share in shares.items()}
    loose = {times: {row: bounds.bound_of(share, Room(times, 1.0)) for row, share in shares.items()} for times in STEPS}

    decider = deciders(policy, aligned)
    decide = {row: decider(row) for row in timed}

    def late(budget_ms: float, times: float) -> int:
        """How many questions are late, counted up to one more than is allowed."""
        count = 0
        for row in timed:
            budget = Budget(ms=budget_ms, bound_ms=loose[times][row], median_ms=medians[row])
            count += bool(table.total_ms[row, decide[row](budget)] > budget_ms)
            if count > most:
                break
        return count

    budgets = np.geomspace(finite.min(), finite.max(), BUDGETS).tolist()
    proven = []
    for budget_ms in budgets:
        times = 1.0
        for step in STEPS:
            if late(budget_ms, step) > most:
                break
            times = step
        proven.append(times)
    return Leeway(budgets_ms=budgets, times=proven)
