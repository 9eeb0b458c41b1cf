"""What every policy is: a pure function from what is seen and a budget to the number of a choice. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.seen import Budget, Seen


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy looks at besides the budget; what isn't needed need not be made."""

    language: bool = False
    pixels: bool = False
    hidden: bool = False


class Policy(Protocol):
    """Decides twice for each input, by the same function.

    Before the vision tower (seen.tier is None) only the tier of the choice returned binds. After the early block the
    choice returned has that tier. Where nothing fits the budget it is the fastest choice that is left; the caller sees
    that from the budget and says so.
    """

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...
    @property
    def space(self) -> ChoiceSpace: ...
    def decide(self, seen: Seen, budget: Budget) -> int: ...


def allowed(space: ChoiceSpace, budget: Budget, tier: int | None) -> list[bool]:
    """Which choices may be made: of the tier if one is set, within the budget; else the fastest alone.

    In plain numbers: they are few, and in a call numpy's own code isn't in any cache.
    """
    ms, bounds = budget.ms, budget.bound_ms.tolist()
    if tier is None:
        fits = [bound <= ms for bound in bounds]
    else:
        first, end = tier * space.late, (tier + 1) * space.late
        fits = [first <= number < end and bound <= ms for number, bound in enumerate(bounds)]
    if True not in fits:
        fits[fastest(space, budget, tier)] = True
    return fits


def likeliest(logits: npt.NDArray[np.floating], kept: Sequence[bool]) -> int:
    """The place of the highest logit among those kept, the first of equals. One must be kept."""
    return max((place for place, one in enumerate(kept) if one), key=logits.tolist().__getitem__)


def fastest(space: ChoiceSpace, budget: Budget, tier: int | None) -> int:
    """The choice of the lowest bound, of equals the lowest median; within the tier if it is set."""
    if tier is None:
        return budget.fastest
    first = tier * space.late
    mine = slice(first, first + space.late)
    return first + int(np.lexsort((budget.median_ms[mine], budget.bound_ms[mine]))[0])


def best(values: npt.NDArray[np.floating], kept: npt.NDArray[np.bool_], cost_ms: npt.NDArray[np.float64]) -> int:
    """The choice of the highest value among those kept, of equals the cheapest. At least one must be kept."""
    masked = np.where(kept, values, -np.inf)
    top = masked.max()
    equals = np.flatnonzero(kept & (masked == top)) if top > -np.inf else np.flatnonzero(kept)
    return int(equals[0]) if len(equals) == 1 else int(equals[np.argmin(cost_ms[equals])])
