"""Peers: the same policy, relying on other times than calibrated bounds. No torch."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs, Policy
from laptime.control.seen import Budget, Seen


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
    """Relies on times by arithmetic (laptime.control.judge.analytic), (choices,), the same for every question."""

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
