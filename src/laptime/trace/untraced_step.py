"""A step without the profiler: its host's times, scaled until the replay lasts as long as was measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from msgspec.structs import replace

from laptime.trace.remedied import Replayed
from laptime.trace.replay import replay_ns

STRETCHED = (1.2, 1.4, 1.9)
"""How much longer launching takes under the profiler: seldom less, usually, seldom more. All of the host's work is
longer or shorter than traced by one factor besides: a host is now faster and now slower."""

LONGER = 3.0
"""How much longer than traced the host's work is taken to be at most."""

HIDDEN = 1.01
"""A step that launching makes longer by less than this is one whose launches the device hides."""

HALVINGS = 9
"""How often the interval is halved in which the profiler's stretching is looked for."""


def untraced(step: Replayed, base_ns: int) -> Replayed:
    """The step without the profiler: host time is scaled until the replay lasts as long as was measured.

    The profiler stretches what the host does to launch. Where the host does other work, too, a usual stretch of
    launching is taken, and what remains is a host that was faster or slower: it scales both.

    Args:
        step: the step as it was traced.
        base_ns: its time without the profiler.
    """
    wanted = base_ns * step.replayed_ns / max(step.base_ns, 1)
    if (scales := _scales(step, wanted)) is not None:
        (launching, away), *others = scales
        return _timed(replace(step, launching_scale=launching, away_scale=away, other_scales=tuple(others)), base_ns)
    usual, least = replace(step, launching_scale=1 / STRETCHED[1]), replace(step, launching_scale=0.0)
    if replay_ns(usual.as_it_is()) <= replay_ns(least.as_it_is()) * HIDDEN:  # nothing says what launching takes
        return _timed(usual, base_ns)
    share = _share(partial(_launching, step), wanted)
    return _timed(replace(step, launching_scale=share if share < 0.99 * LONGER else 1.0), base_ns)


def _scales(step: Replayed, wanted_ns: float) -> list[tuple[float, float]] | None:
    """What launching and other work are scaled by: likely, where the profiler stretched launching less, and more.

    None where the host does no other work, or no speed of it explains the step.
    """
    if not any(part.any() for part in step.graph.away_ns):
        return None
    speeds = [_share(partial(_at_speed, step, one), wanted_ns) for one in STRETCHED]
    slow, usual, fast = speeds
    if not 0.01 * LONGER < usual < 0.99 * LONGER:
        return None
    likely = (usual + min(max(1.0, slow), fast)) / 2  # rather the host's speed in the trace than another
    launching = [speed / one for speed, one in zip(speeds, STRETCHED, strict=True)]
    chosen = (likely, (slow + likely) / 2, (likely + fast) / 2)
    return [(float(np.interp(speed, speeds, launching)), speed) for speed in chosen]


def _at_speed(step: Replayed, stretched: float, speed: float) -> Replayed:
    return replace(step, launching_scale=speed / stretched, away_scale=speed)


def _launching(step: Replayed, share: float) -> Replayed:
    return replace(step, launching_scale=share)


def _timed(step: Replayed, base_ns: int) -> Replayed:
    return replace(step, base_ns=base_ns, replayed_ns=replay_ns(step.as_it_is()))


def _share(scaled: Callable[[float], Replayed], wanted_ns: float) -> float:
    """Which share makes the step as long as wanted; the least where none is short enough."""
    low, high = 0.0, LONGER
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if replay_ns(scaled(middle).as_it_is()) > wanted_ns else (middle, high)
    return (low + high) / 2
