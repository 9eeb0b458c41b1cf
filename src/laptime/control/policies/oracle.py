"""The upper limit: it knows of each question which choices were right, and how long they took. No torch.

It decides on a table only, offline: no policy could know that.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, Policy, allowed, best, of_tier
from laptime.control.policies.simple import PerTypePolicy
from laptime.control.seen import Budget, Seen
from laptime.control.tables.decision_table import DecisionTable
from laptime.data.stats import Floats


class OneOracle(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle of one question, as a policy."""

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

        bounded: the highest score among what keeps the budget by its bound, as for every policy.
        """
        if self.bounded:
            return best(self.table.score[self.row], allowed(self.space, budget, seen.tier), budget.bound_ms)
        took = self.table.total_ms[self.row]
        tier = of_tier(self.space, seen.tier)
        in_time = tier & (took <= budget.ms)
        if in_time.any():
            return best(self.table.score[self.row], in_time, took)
        return int(np.where(tier & ~np.isnan(took), took, np.inf).argmin()) if tier.any() else 0


class Oracle(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle of a table: `of` gives the policy of one question.

    bounded: it knows what is right, but not how long it will take. No policy under the same bounds can be better.
    """

    table: DecisionTable
    name: str = "oracle"
    bounded: bool = False

    @property
    def space(self) -> ChoiceSpace:
        return self.table.space

    def of(self, sample_id: str) -> OneOracle:
        """The oracle of one question. Raises LaptimeError for a question that is not in the table."""
        return OneOracle(table=self.table, row=self.table.row(sample_id), name=self.name, bounded=self.bounded)


Judged = Policy | Oracle | PerTypePolicy
"""Whatever takes part in an evaluation."""


def policy_for(judged: Judged, sample_id: str) -> Policy:
    """The policy that decides one question. The oracle and the per-type lookup have another one for each."""
    return judged.of(sample_id) if isinstance(judged, Oracle | PerTypePolicy) else judged


class _OtherBudgets(msgspec.Struct, frozen=True):
    """The policy with another time to rely on than its bound."""

    policy: Policy

    @property
    def needs(self) -> Needs:
        return self.policy.needs

    @property
    def space(self) -> ChoiceSpace:
        return self.policy.space


class MeanBudgets(_OtherBudgets, frozen=True):
    """The policy relies on the median instead of the bound. About half of such answers are late where it matters."""

    @property
    def name(self) -> str:
        return f"{self.policy.name}, mean budgets"

    def decide(self, seen: Seen, budget: Budget) -> int:
        return self.policy.decide(seen, msgspec.structs.replace(budget, bound_ms=budget.median_ms, factor=1.0))


class AnalyticBudgets(_OtherBudgets, frozen=True):
    """The policy relies on times by arithmetic, (choices,), that are the same for every question.

    Source: laptime.control.judge.lineup.
    """

    analytic_ms: Floats

    @property
    def name(self) -> str:
        return f"{self.policy.name}, analytic budgets"

    def decide(self, seen: Seen, budget: Budget) -> int:
        analytic = Budget(ms=budget.ms, bound_ms=self.analytic_ms, median_ms=self.analytic_ms)
        return self.policy.decide(seen, analytic)
