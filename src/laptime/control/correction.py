"""Online correction of an adaptive model's bounds: a stream of requests that each measured call adds to. No torch."""

from __future__ import annotations

import math

import msgspec

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.ratios import FEWEST, ratios_of
from laptime.control.seen import correction_factors
from laptime.errors import LaptimeError
from laptime.estimate import online as streams


def stream_of(bounds: Bounds) -> streams.Online | None:
    """A stream before its first request; None for bounds that promise nothing."""
    ratios = ratios_of(bounds)
    return streams.begin(ratios, q=bounds.confidence) if len(ratios) >= FEWEST else None


class OnlineCorrection:
    """What recent calls say of the bounds.

    online: True begins a stream; a state continues its own; False leaves the bounds as they are.

    Raises LaptimeError for a state of another confidence than the bounds'.
    """

    def __init__(self, bounds: Bounds, online: streams.Online | bool) -> None:
        self.asked = online is not False  # bounds that promise nothing have no stream, those learnt later may
        state = stream_of(bounds) if online is True else online or None
        if state is not None and not math.isclose(state.q, bounds.confidence):
            raise LaptimeError(
                f"online: this state is of bounds for {state.q:.4g}, and these promise {bounds.confidence:.4g}; "
                "leave it out, and a new stream begins"
            )
        # Calls that a saved state says are running were another process's. They never end here.
        self.state = None if state is None else msgspec.structs.replace(state, running=())
        self._now = None if self.state is None else streams.correction(self.state, 0.0)

    def factors(self, *, leeway: bool) -> tuple[float, float]:
        """The factors on bounds and on medians; leeway: the policy has leeway."""
        return (1.0, 1.0) if self._now is None else correction_factors(self._now, leeway=leeway)

    def learn(self, bound_ms: float, took_ms: float) -> None:
        """Add a call that has ended. bound_ms: the choice's own bound, without correction and leeway."""
        if self.state is None or not math.isfinite(bound_ms):
            return
        key, given_ms = f"call {self.state.issued}", bound_ms * self.factors(leeway=False)[0]
        state = streams.issued(self.state, key, bound_ms, given_ms, 0.0)
        self.state = streams.finished(state, key, took_ms)
        self._now = streams.correction(self.state, 0.0)
