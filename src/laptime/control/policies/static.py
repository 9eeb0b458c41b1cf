"""Policies that don't look at the question: for one budget they always choose the same knobs. No torch."""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.coverage import level_rank, proven_limit
from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Mask, Needs, best, fastest, of_tier
from laptime.control.seen import Budget, Seen
from laptime.control.tables.decision_table import DecisionTable
from laptime.data.stats import Floats


class StaticPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The most accurate choice in training, of those whose own bound keeps the budget.

    accuracy (choices,): means over the training questions. bound_ms (choices,): the lower one of two limits. One is the
    bound of an answer as long as the training questions' answers under that choice. The other is what their own times
    prove; it stands for the leeway of other policies. The question isn't looked at. An online correction counts only
    above 1: below, it says that bounds that do look at the question are wide.
    """

    space: ChoiceSpace
    accuracy: Floats
    bound_ms: Floats
    name: str = "static"

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        fits = self.bound_ms * max(1.0, budget.factor) <= budget.ms
        if not fits.any():
            return fastest(self.space, budget, seen.tier)
        number = best(self.accuracy, fits, self.bound_ms)
        if seen.tier in (None, number // self.space.late):
            return number
        return self._within(fits & of_tier(self.space, seen.tier), seen, budget)

    def _within(self, fits: Mask, seen: Seen, budget: Budget) -> int:
        """The best choice of a tier that this policy would not have chosen itself."""
        if fits.any():
            return best(self.accuracy, fits, self.bound_ms)
        return fastest(self.space, budget, seen.tier)


def static_policy(table: DecisionTable, bounds: Bounds) -> StaticPolicy:
    """The static policy of a training half."""
    lengths = bounds.lengths
    seen = table.output_tokens[:, :, None] == lengths.counts
    share = bounds.share_within(seen.mean(axis=0, dtype=np.float32))
    level = np.maximum(bounds.level, min(1.0, level_rank(bounds.confidence, len(table))))
    proven = np.array([proven_limit(times[np.isfinite(times)], bounds.confidence) for times in table.total_ms.T])
    return StaticPolicy(
        space=table.space,
        accuracy=table.score.mean(axis=0, dtype=np.float64),
        bound_ms=np.minimum(bounds.bound_of(share, level=level), proven),
    )


TOLERANCE = 1.05


class LookupPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The most accurate choice whose mean time is at most `tolerance` times the budget. It has no bound.

    accuracy, mean_ms (choices,): means over the training questions.
    """

    space: ChoiceSpace
    accuracy: Floats
    mean_ms: Floats
    tolerance: float = TOLERANCE
    name: str = "lookup"

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        tier = of_tier(self.space, seen.tier)
        fits = (self.mean_ms <= budget.ms * self.tolerance) & tier
        if fits.any():
            return best(self.accuracy, fits, self.mean_ms)
        return int(np.where(tier, self.mean_ms, np.inf).argmin())


def lookup_policy(table: DecisionTable) -> LookupPolicy:
    """The lookup table of a training half. Means are over the timed questions."""
    return LookupPolicy(
        space=table.space,
        accuracy=table.score.mean(axis=0, dtype=np.float64),
        mean_ms=np.nanmean(table.total_ms, axis=0),
    )
