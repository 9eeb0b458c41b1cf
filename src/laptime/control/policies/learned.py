"""Policies of two small networks, learned from a table. No torch.

The first network decides before the vision tower, the second one after the early block. Choices that don't fit the
budget are masked, so no weight can make an answer late that could have been in time.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.network import Network, early_sizes, late_sizes, network_input
from laptime.control.policies.policy import Needs, allowed, best, highest
from laptime.control.seen import Budget, Seen


class GrpoPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Trained by reinforcement (laptime.control.training.grpo): the best choice names the tier, then the late choice.

    early: logits of the choices, (choices,). late: the same, with the tier among its inputs; those of other tiers don't
    count. Policies of before have logits of the tiers, (first,), and of the late choices, (late,). hidden: the width of
    the hidden states that `late` takes, 0 for none. moved: False where training kept its start, the supervised policy.
    """

    space: ChoiceSpace
    needs: Needs
    early: Network
    late: Network
    hidden: int = 0
    name: str = "grpo"
    moved: bool = True

    def decide(self, seen: Seen, budget: Budget) -> int:
        mask = allowed(self.space, budget, seen.tier)
        if seen.tier is None:
            sizes = early_sizes(self.space, self.needs, budget=True)
            logits = self.early.forward(network_input(sizes, self.space, seen, budget))
            if len(logits) == len(self.space):
                return highest(logits, mask)
            by_tier = mask.reshape(self.space.first, self.space.late)
            tier = highest(logits, np.asarray(by_tier.any(axis=1)))
            return tier * self.space.late + int(by_tier[tier].argmax())
        sizes = late_sizes(self.space, self.needs, self.hidden, budget=True)
        logits = self.late.forward(network_input(sizes, self.space, seen, budget))
        first = seen.tier * self.space.late
        own = slice(first, first + self.space.late)
        return first + highest(logits[own] if len(logits) == len(self.space) else logits, mask[own])


class SupervisedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Trained on right and wrong (laptime.control.training.supervised): how likely is each choice's answer right?

    It takes the likeliest choice of those that fit the budget. early, late: networks with one output for each choice,
    the logit of P(right | choice, what is seen). hidden: the width of the hidden states that `late` takes, 0 for none.
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
        return best(right, allowed(self.space, budget, seen.tier), budget.bound_ms)
