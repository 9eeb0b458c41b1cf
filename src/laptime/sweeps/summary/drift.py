"""How times moved over the run: heat and clocks, once what configurations and inputs differ by is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp

import numpy as np

from laptime.data.intervals import CONFIDENCE, column_medians
from laptime.data.record import Interval
from laptime.sweeps.summary.additive import left_over
from laptime.sweeps.summary.calls import Calls, Codes, Reals
from laptime.sweeps.summary.result import Drift, DriftPoint

MOST_POINTS = 40
FEWEST_CALLS = 8
"""In one point."""
FEWEST_POINTS = 5
"""For a line."""


def drift(calls: Calls) -> Drift | None:
    """Total, less what its configuration and its input make of it, over time, in stretches of equally many calls.

    Logarithms: what is left of them by laptime.sweeps.summary.additive. The trend is Theil and Sen's line through the
    points' logarithms (the median of all slopes between two), as the factor from the first point's middle to the last
    one's. Its interval is Sen's (1968), from Kendall's statistic. It takes the points as independent of each other but
    for the line. Where rounds measured inputs of their own, what lies between such rounds is the inputs' and the
    drift's alike; then only slopes within a group of rounds count (Hirsch, Slack and Smith 1982), and the points of the
    groups are shown along the line. None without start times, or with too few calls.

    It can see drift only where each configuration was measured throughout the run, as in an interleaved sweep: what
    is measured one configuration after the other has its drift in their medians.
    """
    import polars as pl

    table = (
        calls.frame.filter((pl.col("started_unix_ms") > 0) & (pl.col("total_ms") > 0))
        .select("config", "input", "visit", "started_unix_ms", pl.col("total_ms").log().alias("log"))
        .filter(pl.col("log").is_finite())
        .sort("started_unix_ms")
    )
    count = min(MOST_POINTS, table.height // FEWEST_CALLS)
    if count < 2:
        return None
    seconds = table["started_unix_ms"].to_numpy()
    seconds = (seconds - seconds[0]) / 1e3
    edges = np.linspace(0, len(seconds), count + 1).astype(int)
    stretch = np.repeat(np.arange(count), np.diff(edges))
    logs, group = left_over(table, stretch)
    stretches = [Stretch.of(seconds, logs, group, start, end) for start, end in pairwise(edges.tolist())]
    trend = _trend(stretches)
    shifts = _shifts(stretches, trend)
    points = [
        DriftPoint(start_s=one.start_s, end_s=one.end_s, ratio=_as_factor(one.log, shifts[one.group]))
        for one in stretches
    ]
    return Drift(points=points, trend=None if trend is None else _as_factor(trend), span_s=float(seconds[-1]))


@dataclass(frozen=True)
class Stretch:
    """Some calls in a row. `log`: the median of what is left of those of `group`, the one with most calls in it."""

    start_s: float
    end_s: float
    middle_s: float
    group: int
    log: Interval

    @classmethod
    def of(cls, seconds: Reals, logs: Reals, group: Codes, start: int, end: int) -> Stretch:
        mostly = int(np.bincount(group[start:end]).argmax())
        mine = group[start:end] == mostly
        (found,) = column_medians(logs[start:end][mine][:, None])
        assert found is not None
        middle = float(np.median(seconds[start:end][mine]))
        return cls(float(seconds[start]), float(seconds[end - 1]), middle, mostly, found)


def _trend(stretches: list[Stretch]) -> Interval | None:
    """Theil and Sen's slope within groups with Sen's interval, as the logarithm over the whole span."""
    x, y, group = (np.array(v) for v in zip(*((s.middle_s, s.log.value, s.group) for s in stretches), strict=True))
    n = len(x)
    _, sizes = np.unique(group, return_counts=True)
    if sizes.max() < FEWEST_POINTS or np.ptp(x) == 0:
        return None
    i, j = np.triu_indices(n, 1)
    same = group[i] == group[j]
    i, j = i[same], j[same]
    apart = x[j] - x[i]
    kept = apart > 0
    slopes = np.sort((y[j] - y[i])[kept] / apart[kept]) * np.ptp(x)
    depth = _kendall_depth(tuple(sizes.tolist())) - int((~kept).sum())
    middle = float(np.median(slopes))
    if depth < 1:
        return Interval(middle, None, None, n)
    return Interval(middle, float(slopes[depth - 1]), float(slopes[-depth]), n)


def _shifts(stretches: list[Stretch], trend: Interval | None) -> dict[int, float]:
    """What to add to each group's points so that they lie along the trend; 0 for one group."""
    groups = {one.group for one in stretches}
    if len(groups) < 2:
        return dict.fromkeys(groups, 0.0)
    middles = np.array([one.middle_s for one in stretches])
    slope = 0.0 if trend is None else trend.value / np.ptp(middles)
    shifts = {}
    for group in groups:
        mine = [one for one in stretches if one.group == group]
        above = np.median([one.log.value - slope * (one.middle_s - middles.mean()) for one in mine])
        shifts[group] = -float(above)
    return shifts


def _kendall_depth(sizes: tuple[int, ...]) -> int:
    """Largest k with P(D <= k - 1) <= 2.5 %, D the discordant pairs within groups of values in random order.

    Mahonian numbers; of several groups their convolution.
    """
    ways = np.ones(1)
    for n in sizes:
        for size in range(2, n + 1):
            ways = np.convolve(ways, np.ones(size)) / size
    return int(np.searchsorted(np.cumsum(ways), (1 - CONFIDENCE) / 2, side="right"))


def _as_factor(log: Interval, shift: float = 0.0) -> Interval:
    low, high = (None if end is None else exp(end + shift) for end in (log.low, log.high))
    return Interval(exp(log.value + shift), low, high, log.n)
