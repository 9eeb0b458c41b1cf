"""A policy that relies on other times than calibrated bounds: on the median, or on arithmetic. No torch.

Nothing is promised by either. They take part in an evaluation to show what a bound is worth.
"""

from __future__ import annotations

import msgspec

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, Policy
from laptime.control.seen import Budget, Seen
from laptime.data.stats import Floats


class MeanBudgets(msgspec.Struct, frozen=True):
    """The policy relies on the median instead of the bound. About half of such answers are late where it matters."""

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
    """The policy relies on times by arithmetic, (choices,), that are the same for every question.

    Source: laptime.control.judge.analytic.
    """

    policy: Policy
    analytic_ms: Floats

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
        analytic = Budget(ms=budget.ms, bound_ms=self.analytic_ms, median_ms=self.analytic_ms)
        return self.policy.decide(seen, analytic)
