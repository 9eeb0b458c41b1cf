"""How times moved over the run: heat and clocks, once what the configurations differ by is taken out."""

from __future__ import annotations

from itertools import pairwise
from math import exp

import numpy as np

from laptime.record import Interval
from laptime.sweep_summary.calls import Calls, Reals
from laptime.sweep_summary.intervals import CONFIDENCE, column_medians
from laptime.sweep_summary.result import Drift, DriftPoint

MOST_POINTS = 40
FEWEST_CALLS = 8
"""In one point."""
FEWEST_POINTS = 5
"""For a line."""


def drift(calls: Calls) -> Drift | None:
    """Total / its configuration's median, over time, in stretches of equally many calls.

    The trend is Theil and Sen's line through the points' logarithms (the median of all slopes between two), as the
    factor from the first point's middle to the last's; its interval is Sen's (1968), from Kendall's statistic. It
    takes the points as independent of each other but for the line. None without start times, or with too few calls.

    It can see drift only where each configuration was measured throughout the run, as in an interleaved sweep: what
    is measured one configuration after the other has its drift in their medians.
    """
    import polars as pl

    table = (
        calls.frame.filter((pl.col("started_unix_ms") > 0) & (pl.col("total_ms") > 0))
        .select("started_unix_ms", (pl.col("total_ms") / pl.col("total_ms").median().over("config")).log().alias("log"))
        .filter(pl.col("log").is_finite())
        .sort("started_unix_ms")
    )
    count = min(MOST_POINTS, table.height // FEWEST_CALLS)
    if count < 2:
        return None
    seconds, logs = ((table[name]).to_numpy() for name in table.columns)
    seconds = (seconds - seconds[0]) / 1e3
    edges = np.linspace(0, len(logs), count + 1).astype(int)
    points, middles = [], []
    for start, end in pairwise(edges.tolist()):
        (found,) = column_medians(logs[start:end, None])
        assert found is not None
        points.append(DriftPoint(start_s=float(seconds[start]), end_s=float(seconds[end - 1]), ratio=_as_factor(found)))
        middles.append((float(np.median(seconds[start:end])), found.value))
    return Drift(points=points, trend=_trend(np.array(middles)), span_s=float(seconds[-1]))


def _trend(points: Reals) -> Interval | None:
    """Theil and Sen's slope of (time, log) points with Sen's interval, as the factor over their whole span."""
    n = len(points)
    if n < FEWEST_POINTS or np.ptp(points[:, 0]) == 0:
        return None
    i, j = np.triu_indices(n, 1)
    apart = points[j, 0] - points[i, 0]
    kept = apart > 0
    slopes = np.sort((points[j, 1] - points[i, 1])[kept] / apart[kept]) * np.ptp(points[:, 0])
    depth = _kendall_depth(n) - int((~kept).sum())
    middle = exp(float(np.median(slopes)))
    if depth < 1:
        return Interval(middle, None, None, n)
    return Interval(middle, exp(slopes[depth - 1]), exp(slopes[-depth]), n)


def _kendall_depth(n: int) -> int:
    """Largest k with P(D <= k - 1) <= 2.5 %, D the discordant pairs of n values in random order (Mahonian numbers)."""
    ways = np.ones(1)
    for size in range(2, n + 1):
        ways = np.convolve(ways, np.ones(size)) / size
    return int(np.searchsorted(np.cumsum(ways), (1 - CONFIDENCE) / 2, side="right"))


def _as_factor(log: Interval) -> Interval:
    low, high = (None if end is None else exp(end) for end in (log.low, log.high))
    return Interval(exp(log.value), low, high, log.n)
