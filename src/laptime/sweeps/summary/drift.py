"""How times moved over the run: heat and clocks, once what configurations and inputs differ by is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from laptime.data.record import Interval
from laptime.data.stats import CONFIDENCE, Floats, column_medians
from laptime.sweeps.summary.calls import Calls, Codes
from laptime.sweeps.summary.result import Drift, DriftPoint

if TYPE_CHECKING:
    import polars as pl


MOST_POINTS = 40
FEWEST_CALLS = 8
"""In one point."""
FEWEST_POINTS = 5
"""For a line."""


def drift(calls: Calls) -> Drift | None:
    """Total, less what its configuration and its input make of it, over time, in stretches of equally many calls.

    Logarithms: what is left of them by laptime.sweeps.summary.drift. The trend is Theil and Sen's line through the
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
    def of(cls, seconds: Floats, logs: Floats, group: Codes, start: int, end: int) -> Stretch:
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


FEWEST_CALLS_AN_INPUT = 6
"""With fewer an input's median would be its calls themselves, and nothing would be left."""
CONFOUNDED = 0.1
"""Share of the variance of time that the inputs explain from which on rounds have inputs of their own."""
PASSES = 8


def left_over(table: pl.DataFrame, stretch: Codes) -> tuple[Floats, Codes]:
    """What is left of `log` without its configuration's and its input's part, and each call's group.

    table: config, input, visit (codes) and log, in time. stretch: each row's stretch of the run. Medians of
    configurations, inputs and stretches, in turns (Tukey's polish), so that none takes another's part. Where rounds
    have inputs of their own that takes more turns, and inputs that no visit has in common are groups of their own: how
    two groups lie to each other can't be told from their calls. Inputs with few calls keep their part.
    """
    import polars as pl

    log = pl.col("log")
    table = table.select("config", "input", "visit", "log").with_columns(pl.Series("stretch", stretch))
    one = np.zeros(table.height, dtype=np.int64)
    if table.height < FEWEST_CALLS_AN_INPUT * table["input"].n_unique():
        return (table.select(log - log.median().over("config"))["log"].to_numpy(), one)
    place = np.arange(table.height)
    means = table.with_columns(pl.Series("place", place)).select(pl.col("place").mean().over("input"))["place"]
    apart = float(means.to_numpy().var()) > CONFOUNDED * place.var()
    group = _groups(table["visit"].to_numpy(), table["input"].to_numpy()) if apart else one
    table = table.with_columns(pl.Series("group", group), pl.lit(0.0).alias("moved"))
    for _ in range(PASSES if apart else 2):
        for by in ("config", "input"):
            table = table.with_columns(log - log.median().over(by))
        parts = log.median().over("stretch", "group")
        table = table.with_columns(log - parts, pl.col("moved") + parts)
    return table.select(log + pl.col("moved"))["log"].to_numpy(), group


def _groups(visit: Codes, unit: Codes) -> Codes:
    """Each row's group: inputs that are together in a visit, and all that they are together with, are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    visits, units = int(visit.max()) + 1, int(unit.max()) + 1
    edges = coo_array((np.ones(len(visit)), (visit, visits + unit)), shape=(visits + units, visits + units))
    _, labels = connected_components(edges, directed=False)
    return np.asarray(np.unique(labels[visits + unit], return_inverse=True)[1], dtype=np.int64)
