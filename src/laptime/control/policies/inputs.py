"""What a policy's network is given, in one order for training and running: budget, tier, words, pixels, hidden states.

No torch.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs
from laptime.control.seen import Budget, Floats, Seen
from laptime.control.tables.features import LANGUAGE, PIXELS, budget_size, one_budget_features
from laptime.errors import LaptimeError


class InputSizes(msgspec.Struct, frozen=True, kw_only=True):
    """The width of each part, 0 where the policy doesn't look at it, in the order in which they are joined."""

    budget: int = 0
    tier: int = 0
    language: int = 0
    pixels: int = 0
    hidden: int = 0

    @property
    def total(self) -> int:
        return self.budget + self.tier + self.language + self.pixels + self.hidden


def early_sizes(space: ChoiceSpace, needs: Needs, *, budget: bool) -> InputSizes:
    """Before the vision tower."""
    return InputSizes(
        budget=budget_size(space) if budget else 0,
        language=LANGUAGE if needs.language else 0,
        pixels=PIXELS if needs.pixels else 0,
    )


def late_sizes(space: ChoiceSpace, needs: Needs, hidden: int, *, budget: bool) -> InputSizes:
    """After the early block: the tier that was chosen, and the hidden states instead of the pixels."""
    return InputSizes(
        budget=budget_size(space) if budget else 0,
        tier=space.first,
        language=LANGUAGE if needs.language else 0,
        hidden=hidden if needs.hidden else 0,
    )


def network_input(sizes: InputSizes, space: ChoiceSpace, seen: Seen, budget: Budget) -> Floats:
    """One input as (total,) float32. Raises LaptimeError when something that the policy looks at was not made."""
    parts: list[Any] = []
    if sizes.budget:
        parts.append(one_budget_features(budget.ms, budget.bound_ms.tolist(), space))
    if sizes.tier:
        parts.append([float(tier == (seen.tier or 0)) for tier in range(sizes.tier)])
    for name in ("language", "pixels", "hidden"):
        size = getattr(sizes, name)
        if size:
            value = getattr(seen, name)
            if value is None or len(value) != size:
                told = "none" if value is None else len(value)
                raise LaptimeError(
                    f"this policy looks at {size} {name} features, given are {told}; it is another model's"
                )
            parts.append(value)
    return np.concatenate(parts, dtype=np.float32) if parts else np.zeros(0, dtype=np.float32)
