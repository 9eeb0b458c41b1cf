"""The upper bound: knows of each question which choices were right and how long they took. Offline only. No torch."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, Policy, allowed, best
from laptime.control.seen import Budget, Seen
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.errors import LaptimeError


class OneOracle(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle of one question, with a policy's interface."""

    table: DecisionTable
    row: int
    name: str = "oracle"
    bounded: bool = False

    @property
    def space(self) -> ChoiceSpace:
        return self.table.space

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        """The highest score among what was measured within the budget, of equals the fastest; else the fastest.

        bounded: among what keeps the budget by its bound, as any policy has to.
        """
        if self.bounded:
            kept = np.array(allowed(self.space, budget, seen.tier))
            return best(self.table.score[self.row], kept, budget.bound_ms)
        took = self.table.total_ms[self.row]
        mine = np.ones(len(took), dtype=np.bool_)
        if seen.tier is not None:
            mine = np.arange(len(took)) // self.space.late == seen.tier
        kept = mine & (took <= budget.ms)
        if kept.any():
            return best(self.table.score[self.row], kept, took)
        return int(np.where(mine & ~np.isnan(took), took, np.inf).argmin()) if mine.any() else 0


class Oracle(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle of a table: `of` gives the policy of one question.

    bounded: it knows what is right, but not how long it will take: how far any policy could get under these bounds.
    """

    table: DecisionTable
    name: str = "oracle"
    bounded: bool = False

    @property
    def space(self) -> ChoiceSpace:
        return self.table.space

    def of(self, sample_id: str) -> OneOracle:
        """Raises LaptimeError for a question that is not in the table."""
        return OneOracle(table=self.table, row=self.table.row(sample_id), name=self.name, bounded=self.bounded)


Judged = Policy | Oracle


def decided(policy: Judged, features: FeatureTable, row: int, budget: Budget) -> int:
    """Both decisions of one question as they are made while it runs: the tier, then the rest."""
    one: Policy = policy.of(features.sample_ids[row]) if isinstance(policy, Oracle) else policy
    tier = one.decide(features.seen(row), budget) // one.space.late
    number = one.decide(features.seen(row, tier), budget)
    if number // one.space.late != tier:
        raise LaptimeError(f"policy {one.name} chose another tier after the vision tower than before it")
    return number


class MeanBudgets(msgspec.Struct, frozen=True):
    """Relies on the median instead of the bound: late about half of the time where it matters."""

    policy: Policy

    @property
    def name(self) -> str:
        return f"{self.policy.name}, mean budgets"

    @property
    def needs(self) -> Needs:
        return self.policy.needs

    @property
    def space(self) -> ChoiceSpace:
        return self.policy.space

    def decide(self, seen: Seen, budget: Budget) -> int:
        return self.policy.decide(seen, msgspec.structs.replace(budget, bound_ms=budget.median_ms, factor=1.0))


class AnalyticBudgets(msgspec.Struct, frozen=True):
    """Relies on times by arithmetic (laptime.control.judge.replay), (choices,), the same for every question."""

    policy: Policy
    analytic_ms: npt.NDArray[np.float64]

    @property
    def name(self) -> str:
        return f"{self.policy.name}, analytic budgets"

    @property
    def needs(self) -> Needs:
        return self.policy.needs

    @property
    def space(self) -> ChoiceSpace:
        return self.policy.space

    def decide(self, seen: Seen, budget: Budget) -> int:
        own = Budget(ms=budget.ms, bound_ms=self.analytic_ms, median_ms=self.analytic_ms)
        return self.policy.decide(seen, own)
