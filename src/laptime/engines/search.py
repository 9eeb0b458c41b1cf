"""The largest arrival rate within an SLO: a search that stops where the requests no longer decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from laptime.data.record import Interval
from laptime.engines.result import LargestLoad, Slo

Verdict = Literal["keeps", "misses", "undecided"]

MOST_VISITS = 16
CLOSE = 1.1
"""The search stops when the two ends of the answer are within this factor."""


def verdict(share: Interval, slo: Slo) -> Verdict:
    """Whether a rate surely keeps the SLO, surely misses it, or its requests don't decide."""
    if share.low is not None and share.low >= slo.share:
        return "keeps"
    if share.high is not None and share.high < slo.share:
        return "misses"
    return "undecided"


def largest_load(visit: Callable[[float], tuple[Interval, bool]], first_per_s: float, slo: Slo) -> LargestLoad:
    """Double (or halve) the rate until one keeps the SLO and one misses it, then halve the distance between them.

    visit: sends requests at a rate; returns the share of good ones, and whether the client held them up. A rate whose
    requests don't decide stays between the two ends, and the answer is a range.
    """
    keeps: float | None = None
    misses: float | None = None
    open_: list[float] = []
    visits: list[tuple[float, Interval, Verdict]] = []
    rate = first_per_s
    stopped = f"{MOST_VISITS} rates were tried"
    while len(visits) < MOST_VISITS:
        share, held_up = visit(rate)
        answer = "undecided" if held_up and verdict(share, slo) == "misses" else verdict(share, slo)
        visits.append((rate, share, answer))
        if answer == "keeps":
            keeps = rate if keeps is None else max(keeps, rate)
        elif answer == "misses":
            misses = rate if misses is None else min(misses, rate)
        else:
            open_.append(rate)
        if held_up:
            stopped = f"at {rate:g}/s the client itself was the bottleneck; send from several clients"
            break
        if keeps is not None and misses is not None and keeps >= misses:
            stopped = "a higher rate kept the SLO where a lower one missed it: the server's speed changed meanwhile"
            break
        following = _next(keeps, misses, open_, rate)
        if following is None:
            stopped = "more requests at each rate would be needed to tell closer" if open_ else "the range is close"
            break
        rate = following
    return LargestLoad(keeps_per_s=keeps, misses_per_s=misses, visits=visits, stopped=stopped)


def _next(keeps: float | None, misses: float | None, open_: list[float], rate: float) -> float | None:
    if misses is None:
        return max([rate, *open_]) * 2
    if keeps is None:
        return min([misses, rate, *open_]) / 2
    between = [value for value in open_ if keeps < value < misses]
    low_gap = (keeps, min(between, default=misses))
    high_gap = (max(between, default=keeps), misses)
    for low, high in (low_gap, high_gap):
        if high / low > CLOSE:
            return float((low * high) ** 0.5)
    return None
