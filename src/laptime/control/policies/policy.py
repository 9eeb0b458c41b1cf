"""What every policy is: a pure function from what is seen and a budget to the number of a choice. No torch."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.seen import Budget, Seen
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

Mask = npt.NDArray[np.bool_]


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy looks at besides the budget. The rest need not be computed."""

    language: bool = False
    pixels: bool = False
    hidden: bool = False


class Policy(Protocol):
    """Decides twice for each input, by the same function.

    Before the vision tower (seen.tier is None) only the tier of the returned choice counts. After the early block the
    returned choice has that tier. If nothing fits the budget it is the fastest choice that is left; the caller sees
    from the budget that nothing fits, and flags the sample.
    """

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...
    @property
    def space(self) -> ChoiceSpace: ...
    def decide(self, seen: Seen, budget: Budget) -> int: ...


def can_keep(policy: Policy, budget: Budget) -> bool:
    """Whether any choice that the policy may take keeps the budget by its bound.

    A policy that may not take every choice says so by `choosable`, (choices,).
    """
    choosable: Mask | None = getattr(policy, "choosable", None)
    return bool((budget.fits if choosable is None else budget.fits & choosable).any())


def decide_twice(policy: Policy, features: FeatureTable, row: int, budget: Budget) -> int:
    """Both decisions of one question of a table, in the order of a call: first the tier, then the rest."""
    tier = policy.decide(features.seen(row), budget) // policy.space.late
    number = policy.decide(features.seen(row, tier), budget)
    if number // policy.space.late != tier:
        raise LaptimeError(f"policy {policy.name} chose another tier after the vision tower than before it")
    return number


def of_tier(space: ChoiceSpace, tier: int | None) -> Mask:
    """Which choices have this tier, (choices,). All of them if no tier is chosen yet."""
    if tier is None:
        return np.ones(len(space), dtype=np.bool_)
    has: Mask = np.arange(len(space)) // space.late == tier
    return has


def allowed(space: ChoiceSpace, budget: Budget, tier: int | None) -> Mask:
    """Which choices may be taken, (choices,): those of the tier, if one is chosen, that fit the budget.

    If none fits, the fastest of the tier alone.
    """
    mask: Mask = budget.fits & of_tier(space, tier)
    if not mask.any():
        mask[fastest(space, budget, tier)] = True
    return mask


def fastest(space: ChoiceSpace, budget: Budget, tier: int | None) -> int:
    """The choice of the lowest bound, among equal bounds of the lowest median; within the tier if one is chosen."""
    if tier is None:
        return budget.fastest
    first = tier * space.late
    late = slice(first, first + space.late)
    return first + int(np.lexsort((budget.median_ms[late], budget.bound_ms[late]))[0])


def highest(values: npt.NDArray[np.floating], mask: Mask) -> int:
    """The place of the highest value in the mask, the first one among equals. The mask must not be empty.

    Values that are no numbers (hidden states that overflowed) still give a place in the mask.
    """
    places = np.flatnonzero(mask)
    return int(places[np.argmax(values[places])])


def best(values: npt.NDArray[np.floating], mask: Mask, cost_ms: Floats) -> int:
    """The choice of the highest value in the mask, among equals the cheapest. The mask must not be empty."""
    masked = np.where(mask, values, -np.inf)
    top = masked.max()
    equals = np.flatnonzero(mask & (masked == top)) if top > -np.inf else np.flatnonzero(mask)
    return int(equals[0]) if len(equals) == 1 else int(equals[np.argmin(cost_ms[equals])])
