"""Learnt from the sweep's table: how likely is each choice's answer right? Of those in time the likeliest. No torch."""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.inputs import early_sizes, late_sizes, network_input
from laptime.control.policies.network import Network
from laptime.control.policies.policy import Needs, allowed, best
from laptime.control.seen import Budget, Seen


class SupervisedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """early, late: networks with one output a choice, the logit of P(right | choice, what is seen).

    hidden: the width of the hidden states that `late` takes, 0 for none.
    """

    space: ChoiceSpace
    needs: Needs
    early: Network
    late: Network
    hidden: int = 0
    name: str = "supervised"

    def decide(self, seen: Seen, budget: Budget) -> int:
        if seen.tier is None:
            sizes, network = early_sizes(self.space, self.needs, budget=False), self.early
        else:
            sizes, network = late_sizes(self.space, self.needs, self.hidden, budget=False), self.late
        right = network.forward(network_input(sizes, self.space, seen, budget))
        return best(right, np.array(allowed(self.space, budget, seen.tier)), budget.bound_ms)
