"""Trained by reinforcement: first the tier from budget (words, pixels), then the rest from what an early block gave.

Choices that don't fit are masked, so no weight can make an answer late that could have been in time. No torch.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.inputs import Network, early_sizes, late_sizes, network_input
from laptime.control.policies.policy import Needs, allowed, best, likeliest
from laptime.control.seen import Budget, Seen


class GrpoPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """early: logits of the tiers, (first,). late: logits of the late choices, (late,), the tier among its inputs.

    hidden: the width of the hidden states that `late` takes, 0 for none.
    """

    space: ChoiceSpace
    needs: Needs
    early: Network
    late: Network
    hidden: int = 0
    name: str = "grpo"

    def decide(self, seen: Seen, budget: Budget) -> int:
        kept, late = allowed(self.space, budget, seen.tier), self.space.late
        tier = seen.tier
        if tier is None:
            sizes = early_sizes(self.space, self.needs, budget=True)
            logits = self.early.forward(network_input(sizes, self.space, seen, budget))
            tier = likeliest(logits, [True in kept[first : first + late] for first in range(0, len(kept), late)])
            return kept.index(True, tier * late)
        sizes = late_sizes(self.space, self.needs, self.hidden, budget=True)
        logits = self.late.forward(network_input(sizes, self.space, seen, budget))
        return tier * late + likeliest(logits, kept[tier * late : (tier + 1) * late])


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
