"""The best single configuration for a budget: whatever the question, the same knobs. No torch."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import Bounds, level_rank, most_late
from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, best, fastest
from laptime.control.seen import Budget, Seen
from laptime.control.tables.decision_table import DecisionTable


class StaticPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Of the choices whose own bound keeps the budget the one that was most accurate in training.

    accuracy (choices,): means over the training questions. bound_ms (choices,): of an answer as long as the training
    questions' answers under that choice are with the same confidence as elsewhere, or what their own times prove,
    whichever is lower (as other policies have leeway where it is proven); the question isn't looked at. An
    online correction counts where it is above 1: below, it says that bounds which look at the question are wide.
    """

    space: ChoiceSpace
    accuracy: npt.NDArray[np.float64]
    bound_ms: npt.NDArray[np.float64]
    name: str = "static"

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        kept = self.bound_ms * max(1.0, budget.factor) <= budget.ms
        if not kept.any():
            return fastest(self.space, budget, seen.tier)
        found = best(self.accuracy, kept, self.bound_ms)
        return found if seen.tier in (None, found // self.space.late) else _within(self, seen.tier, kept, budget)


def _within(policy: StaticPolicy, tier: int | None, kept: npt.NDArray[np.bool_], budget: Budget) -> int:
    """Another tier was set than this policy would have chosen: the best of it."""
    mine = kept & (np.arange(len(kept)) // policy.space.late == tier)
    return best(policy.accuracy, mine, policy.bound_ms) if mine.any() else fastest(policy.space, budget, tier)


def static_policy(table: DecisionTable, bounds: Bounds) -> StaticPolicy:
    """From the training half."""
    lengths = bounds.lengths
    seen = table.output_tokens[:, :, None] == lengths.counts
    share = bounds.share_within(seen.mean(axis=0, dtype=np.float32))
    level = np.maximum(bounds.level, min(1.0, level_rank(bounds.confidence, len(table))))
    bound_ms = np.minimum(bounds.bound_of(share, level=level), _proven_ms(table, bounds.confidence))
    return StaticPolicy(space=table.space, accuracy=table.score.mean(axis=0, dtype=np.float64), bound_ms=bound_ms)


def _proven_ms(table: DecisionTable, confidence: float) -> npt.NDArray[np.float64]:
    """(choices,): the time that so few measured ones exceed that the share is proven; infinite for too few of them.

    The one-sided tolerance limit of Wilks 1941, an order statistic: nothing is assumed of the times.
    """
    found = np.full(len(table.space), np.inf)
    for choice, column in enumerate(table.total_ms.T):
        times = np.sort(column[np.isfinite(column)])
        most = most_late(len(times), confidence)
        if most >= 0:
            found[choice] = times[len(times) - 1 - most]
    return found


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
