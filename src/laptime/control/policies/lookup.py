"""The older baseline: a table by budget. Mean latency within 5 % above the budget, then the best accuracy. No torch.

It promises nothing: a mean is exceeded about half of the time, and 5 % more than the budget is already late.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, best
from laptime.control.seen import Budget, Seen
from laptime.control.tables.decision_table import DecisionTable

TOLERANCE = 1.05


class LookupPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """accuracy, mean_ms (choices,): means over the training questions."""

    space: ChoiceSpace
    accuracy: npt.NDArray[np.float64]
    mean_ms: npt.NDArray[np.float64]
    tolerance: float = TOLERANCE
    name: str = "lookup"

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        kept = self.mean_ms <= budget.ms * self.tolerance
        if seen.tier is not None:
            kept = kept & (np.arange(len(kept)) // self.space.late == seen.tier)
        if kept.any():
            return best(self.accuracy, kept, self.mean_ms)
        mine = (
            slice(0, None)
            if seen.tier is None
            else slice(seen.tier * self.space.late, (seen.tier + 1) * self.space.late)
        )
        return int(np.argmin(self.mean_ms[mine])) + (mine.start or 0)


def lookup_policy(table: DecisionTable) -> LookupPolicy:
    """From the training half; means are of what was timed."""
    return LookupPolicy(
        space=table.space,
        accuracy=table.score.mean(axis=0, dtype=np.float64),
        mean_ms=np.nanmean(table.total_ms, axis=0),
    )
