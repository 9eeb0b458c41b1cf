"""Leeway: how often one choice may be late, so that over all questions no more are late than promised. No torch.

A bound without leeway keeps each choice's own share of late answers at the promised one. Most calls then end long
before the budget: a cheap choice was right, or the next dearer one didn't fit. Over all questions more answers are in
time than was promised, and this cost accuracy. With leeway each choice may be late `times` as often by itself.
laptime.control.training.kinds proves how often, for one policy.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf

import msgspec

from laptime.control.seen import NO_ROOM, Room

STEPS = tuple(1.25**step for step in range(11))
"""The leeways that are tried, up to 9.3 times. With 95 % promised, the bound is then near the median."""


class Leeway(msgspec.Struct, frozen=True, kw_only=True):
    """How many times the promised share of late answers a choice may have, at each of budgets_ms (ascending).

    Between two budgets the lower one's value holds, and only the choices that fit there are allowed: a proof holds for
    the budgets that were tried, and between them further choices begin to fit.

    Raises ValueError for values that are out of order or out of range.
    """

    budgets_ms: list[float]
    times: list[float]

    def __post_init__(self) -> None:
        rises = all(low < high for low, high in zip([0.0, *self.budgets_ms], [*self.budgets_ms, inf], strict=True))
        if len(self.times) != len(self.budgets_ms) or not rises or not all(1 <= one <= STEPS[-1] for one in self.times):
            raise ValueError(f"leeway: ascending budgets above 0, and at each a number from 1 to {STEPS[-1]:.3g}")

    def at(self, budget_ms: float) -> Room:
        """The room at the next lower budget that was tried. Below the lowest there is none."""
        place = bisect_right(self.budgets_ms, budget_ms) - 1
        if place < 0 or self.times[place] == 1:
            return NO_ROOM
        return Room(self.times[place], budget_ms / self.budgets_ms[place])


def room_at(leeway: Leeway | None, budget_ms: float) -> Room:
    """The room of a policy under a budget. A policy without leeway has none."""
    return NO_ROOM if leeway is None else leeway.at(budget_ms)
