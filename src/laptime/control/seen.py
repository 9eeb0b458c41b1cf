"""What a policy sees when it decides, and the budget it decides under. No torch."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.estimate.online import Correction

Floats32 = npt.NDArray[np.float32]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one input so far.

    language: features of the question's text, (L,). pixels: the image made small, (P,); None without an image, or when
    no policy asks for it. Before the vision tower `tier` and `hidden` are None. After the early block `tier` is the
    number of the tier that was chosen, and `hidden`, (H,), what that block gave: the last position, then the mean over
    all positions.
    """

    language: Floats32
    pixels: Floats32 | None = None
    tier: int | None = None
    hidden: Floats32 | None = None


class Room(NamedTuple):
    """How much of what is promised over all questions a choice may use up under a budget
    (laptime.control.bounds.leeway).

    times: so many times the promised share of misses. stretch: the budget over the one that this was proven at.
    """

    times: float
    stretch: float


NO_ROOM = Room(1.0, 1.0)
"""Each choice keeps the promise by itself."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The time one answer may take, and what each choice of the space is known to take for this input.

    bound_ms, (choices,): what the total stays below with the promised confidence, for as many tokens as such a
    question's answer needs, corrected by what was measured lately; infinite where nothing is promised.
    median_ms, (choices,): the middle of the same. Both are what the policy may rely on, whichever policy it is.
    factor: what bound_ms was multiplied by for what was measured lately; policies that keep times of their own divide
    the budget by it.
    """

    ms: float
    bound_ms: npt.NDArray[np.float64]
    median_ms: npt.NDArray[np.float64]
    factor: float = 1.0

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Which choices keep the budget by their bound, (choices,)."""
        kept: npt.NDArray[np.bool_] = self.bound_ms <= self.ms
        return kept

    @property
    def fastest(self) -> int:
        """The choice of the lowest bound; of equals (all infinite, say) the lowest median."""
        return int(np.lexsort((self.median_ms, self.bound_ms))[0])


def corrected(now: Correction, leeway: bool = False) -> tuple[float, float]:
    """What bounds and medians are multiplied by for what was measured lately.

    leeway: what bounds had to spare when they were calibrated has been given away; then all that the machine has become
    slower by counts, not only what bounds no longer hold.

    Bounds are never lowered: they were made to hold with the promised confidence on this machine as it was, and a
    stretch of good luck is no reason to promise more.
    """
    return max(1.0, now.bound_factor, now.slower if leeway else 1.0), now.median_factor
