"""A promise over all questions instead of for each: how much of it a choice may use up. No torch.

Bounds keep every choice's own share of late answers at what is promised. Most answers then have room to spare: where a
cheap choice is right, or the next dearer one doesn't fit, the call ends long before the budget. Over all questions
more are in time than was promised, and accuracy was paid for it. Leeway gives it back: under a budget each choice may
be late so many times as often as is promised, as long as over all questions no more are.

How much is proven on the training questions, each under its own decision, by the times that were measured ("learn then
test", Angelopoulos, Bates, Candes, Jordan and Lei 2021, arXiv 2110.01052): leeways are tried in ascending order, and
the first whose count of late answers could be that of a policy that breaks the promise (laptime.control.bounds.bounds)
ends the search; tested in one order, that needs no correction for how many were tried. So as surely the promised
share of answers is in time under each of the budgets by itself. Fewer questions than can prove anything (59 for 95 %)
give none.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds, most_late
from laptime.control.policies.oracle import decided
from laptime.control.policies.policy import Policy
from laptime.control.seen import NO_ROOM, Budget, Room
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable

STEPS = tuple(1.25**step for step in range(11))
"""Leeways that are tried: up to 9.3 times, with 95 % promised nearly the median."""
BUDGETS = 128
"""At so many budgets leeway is found, in equal ratios."""


class Leeway(msgspec.Struct, frozen=True, kw_only=True):
    """budgets_ms, ascending, and at each how many times the promised share of misses a choice may have: 1 or more.

    Between two budgets what holds at the lower one is used, and with it the choices that it allows there: others come
    within a budget one by one, and what was proven is proven of the budgets that were tried.

    Raises ValueError for values that can't be.
    """

    budgets_ms: list[float]
    times: list[float]

    def __post_init__(self) -> None:
        rises = all(low < high for low, high in zip([0.0, *self.budgets_ms], [*self.budgets_ms, inf], strict=True))
        if len(self.times) != len(self.budgets_ms) or not rises or not all(1 <= one <= STEPS[-1] for one in self.times):
            raise ValueError(f"leeway: ascending budgets above 0, and at each a number from 1 to {STEPS[-1]:.3g}")

    def at(self, budget_ms: float) -> Room:
        """What holds at the next lower budget that was tried; none below the lowest."""
        place = bisect_right(self.budgets_ms, budget_ms) - 1
        if place < 0 or self.times[place] == 1:
            return NO_ROOM
        return Room(self.times[place], budget_ms / self.budgets_ms[place])


def room_at(leeway: Leeway | None, budget_ms: float) -> Room:
    """What a policy may use up under a budget; none for one without leeway."""
    return NO_ROOM if leeway is None else leeway.at(budget_ms)


def find_leeway(policy: Policy, table: DecisionTable, features: FeatureTable, bounds: Bounds) -> Leeway | None:
    """The leeway of a policy, by the timed questions of a table.

    None where they are too few to prove anything, or nothing is promised. Raises LaptimeError when the features of one
    of the questions are missing.
    """
    mine = features.of(table.sample_ids, table.space)
    timed = [int(row) for row in np.flatnonzero(np.isfinite(table.total_ms).all(axis=1))]
    most = most_late(len(timed), bounds.confidence)
    shares = {row: bounds.share_of(mine.language[row]) for row in timed}
    plain = [bounds.bound_of(share) for share in shares.values()]
    finite = np.array([bound for bounds_ms in plain for bound in bounds_ms if np.isfinite(bound)])
    if most < 0 or not len(finite) or not finite.min() < finite.max():
        return None
    medians = {row: bounds.median_of(share) for row, share in shares.items()}
    told = {times: {row: bounds.bound_of(share, Room(times, 1.0)) for row, share in shares.items()} for times in STEPS}

    def late(budget_ms: float, times: float) -> int:
        count = 0
        for row in timed:
            budget = Budget(ms=budget_ms, bound_ms=told[times][row], median_ms=medians[row])
            count += bool(table.total_ms[row, decided(policy, mine, row, budget)] > budget_ms)
            if count > most:
                break
        return count

    budgets = np.geomspace(finite.min(), finite.max(), BUDGETS).tolist()
    found = []
    for budget_ms in budgets:
        times = 1.0
        for step in STEPS:
            if late(budget_ms, step) > most:
                break
            times = step
        found.append(times)
    return Leeway(budgets_ms=budgets, times=found)
