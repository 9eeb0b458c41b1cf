"""A change of speed that happened once: the forecasts' errors of it say nothing of the next requests.

When a machine becomes twice as slow, all requests that were sent before anybody could know are late together. Kept in
the window of errors they make every later bound too wide, as if the machine jumped again and again. One jump is an
accident; two within what is remembered are a habit, and then their errors stay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats

OUTER = 0.1
"""Errors in the upper (or lower) tenth of the usual ones are far off."""
SHORTEST = 8
"""So many far off on one side, with no two others in between, are no chance (1 of 10 million)."""
SETTLED = 25
"""So many requests after them must have ended before it is known that the forecasts follow again."""


def single_jump(
    errors: Floats, forecasts: Floats, usual: Floats, longest: int, *, forgotten: bool = False
) -> npt.NDArray[np.bool_]:
    """Which of the ended requests, in the order of issue, were late because of the only jump; all False without one.

    errors: log(time / bound) less its forecast. forecasts: those that they were issued with. usual: the errors of a
    machine that stays as it is. longest: how many requests one jump can take by surprise. forgotten: there were earlier
    requests, so that a jump at the very beginning may have lost what came before it.
    """
    none = np.zeros(len(errors), dtype=np.bool_)
    low, high = np.quantile(usual, [OUTER, 1 - OUTER])
    least = high - float(np.median(usual))
    ups, downs = _runs(errors > high), _runs(errors < low)
    falls = [run for run in downs if _rise(forecasts, *run) < -least]  # else they only swing about their forecasts
    if len(ups) != 1 or falls:
        return none
    begin, end = ups[0]
    if end - begin > longest or len(errors) - end < SETTLED:
        return none
    if not forgotten if begin < SETTLED else _rise(forecasts, begin, end) < least:
        return none
    none[begin:end] = True
    return none


def _rise(forecasts: Floats, begin: int, end: int) -> float:
    """By how much the forecasts after a stretch lie above those just before it; 0 where one of them isn't known."""
    before, after = forecasts[max(0, begin - SETTLED) : begin], forecasts[end:]
    return float(np.median(after) - np.median(before)) if len(before) and len(after) else 0.0


def _runs(far: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of the stretches of SHORTEST or more that are far off, with no two others in a row within.

    Stretches with fewer than SETTLED requests between them are one: its slowest requests may still run.
    """
    places = np.flatnonzero(far)
    if not len(places):
        return []
    cuts = np.flatnonzero(np.diff(places) > 2) + 1
    found: list[tuple[int, int]] = []
    for part in np.split(places, cuts):
        if len(part) < SHORTEST:
            continue
        begin, end = int(part[0]), int(part[-1]) + 1
        if found and begin - found[-1][1] < SETTLED:
            begin = found.pop()[0]
        found.append((begin, end))
    return found
