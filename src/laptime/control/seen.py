"""What a policy sees when it decides, and the budget that it decides under. No torch."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.estimate.online import Correction

Floats32 = npt.NDArray[np.float32]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one input so far.

    language: features of the question's text, (L,). pixels: the image made small, (P,), 0 without an image; None when
    no policy looks at it. Before the vision tower `tier` and `hidden` are None. After the early block `tier` is the
    number of the chosen tier, and `hidden`, (H,), is that block's output: its last position, then its mean over all
    positions.
    """

    language: Floats32
    pixels: Floats32 | None = None
    tier: int | None = None
    hidden: Floats32 | None = None


class Room(NamedTuple):
    """How often a choice may be late under one budget, as far as the promise over all questions allows it.

    times: the promised share of late answers is multiplied by this. stretch: this budget over the budget at which
    `times` was proven. See laptime.control.bounds.leeway.
    """

    times: float
    stretch: float


NO_ROOM = Room(1.0, 1.0)
"""Each choice keeps the promise by itself."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The time that one answer may take, and the time that each choice is known to take for this input.

    bound_ms (choices,): the total stays below it with the promised confidence, for as many tokens as the answer to such
    a question needs, corrected by recent calls; infinite where nothing is promised. median_ms (choices,): the median of
    the same distribution. Every policy may rely on both. factor: what bound_ms was multiplied by for recent calls. A
    policy that has times of its own divides the budget by it.
    """

    ms: float
    bound_ms: Floats
    median_ms: Floats
    factor: float = 1.0

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Which choices keep the budget by their bound, (choices,)."""
        within: npt.NDArray[np.bool_] = self.bound_ms <= self.ms
        return within

    @property
    def fastest(self) -> int:
        """The choice of the lowest bound. Among equal bounds (all infinite, say) it is the one of the lowest median."""
        return int(np.lexsort((self.median_ms, self.bound_ms))[0])


def correction_factors(correction: Correction, *, leeway: bool = False) -> tuple[float, float]:
    """The factors on bounds and on medians for what was measured in recent calls.

    leeway: the policy has leeway, so its bounds have no reserve left. They are then multiplied by the whole slow-down
    of the machine. Without leeway they grow only as far as recent calls broke them.

    Bounds never become lower than they were calibrated: a series of fast calls is no reason to promise more.
    """
    return max(1.0, correction.bound_factor, correction.slower if leeway else 1.0), correction.median_factor
