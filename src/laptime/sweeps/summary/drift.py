"""How times moved during the run (heat, clocks), without the differences between configurations and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from laptime.data.measuring_time import frame_time
from laptime.data.record import Interval
from laptime.data.stats import CONFIDENCE, Floats, column_medians
from laptime.data.usable import warm_up_rows
from laptime.sweeps.summary.calls import Calls, Codes
from laptime.sweeps.summary.result import Drift, DriftPoint

if TYPE_CHECKING:
    import polars
    import polars as pl


MOST_POINTS = 40
FEWEST_CALLS = 8
"""The fewest calls of one point."""
FEWEST_POINTS = 5
"""The fewest points of a line."""


def drift(calls: Calls) -> Drift | None:
    """How the total moved over time; None without start times or with too few calls.

    A point is a stretch of equally many calls: the median of the total's logarithm, without the parts of configuration
    and input (`left_over`). The trend is Theil and Sen's line through the points (the median of the slopes between any
    two), as the factor from the middle of the first point to that of the last. Its interval is Sen's (1968), from
    Kendall's statistic; it assumes that the points are independent but for the line. If rounds measured inputs of their
    own, a difference between such rounds may be the inputs' or the drift's. Then only slopes within a group of rounds
    count (Hirsch, Slack and Smith 1982), and each group's points are moved onto the line.

    Time is measuring time: pauses between sessions are cut down (laptime.data.measuring_time), so a night between two
    halves of a sweep stretches no line and hides no drift.

    Drift can be seen only if each configuration was measured throughout the run, as in interleaved rounds. Otherwise
    the drift is in the medians of the configurations.
    """
    import polars as pl

    table = (
        calls.frame.filter(pl.col("at_ms").is_not_null() & (pl.col("total_ms") > 0))
        .select("config", "input", "visit", "at_ms", "session", pl.col("total_ms").log().alias("log"))
        .filter(pl.col("log").is_finite())
        .sort("at_ms")
    )
    count = min(MOST_POINTS, table.height // FEWEST_CALLS)
    if count < 2:
        return None
    seconds = table["at_ms"].to_numpy()
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
    return Drift(
        points=points,
        trend=None if trend is None else _as_factor(trend),
        span_s=float(seconds[-1]),
        sessions=table["session"].n_unique(),
    )


@dataclass(frozen=True)
class Stretch:
    """Some calls in a row. `log`: the median of `left_over` over the calls of `group`, which has most of the calls."""

    start_s: float
    end_s: float
    middle_s: float
    group: int
    log: Interval

    @classmethod
    def of(cls, seconds: Floats, logs: Floats, group: Codes, start: int, end: int) -> Stretch:
        mostly = int(np.bincount(group[start:end]).argmax())
        chosen = group[start:end] == mostly
        (log,) = column_medians(logs[start:end][chosen][:, None])
        assert log is not None
        middle = float(np.median(seconds[start:end][chosen]))
        return cls(float(seconds[start]), float(seconds[end - 1]), middle, mostly, log)


def _trend(stretches: list[Stretch]) -> Interval | None:
    """Theil and Sen's slope within groups, with Sen's interval: the change of the logarithm over the whole span."""
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
    """What to add to the points of each group so that they lie along the trend; 0 if there is one group."""
    groups = {one.group for one in stretches}
    if len(groups) < 2:
        return dict.fromkeys(groups, 0.0)
    middles = np.array([one.middle_s for one in stretches])
    slope = 0.0 if trend is None else trend.value / np.ptp(middles)
    shifts = {}
    for group in groups:
        own = [one for one in stretches if one.group == group]
        above = np.median([one.log.value - slope * (one.middle_s - middles.mean()) for one in own])
        shifts[group] = -float(above)
    return shifts


def _kendall_depth(sizes: tuple[int, ...]) -> int:
    """The largest k with P(D <= k - 1) <= 2.5 %, where D counts discordant pairs within groups in random order.

    D has Mahonian numbers as its distribution, and for several groups their convolution.
    """
    ways = np.ones(1)
    for n in sizes:
        for size in range(2, n + 1):
            ways = np.convolve(ways, np.ones(size)) / size
    return int(np.searchsorted(np.cumsum(ways), (1 - CONFIDENCE) / 2, side="right"))


def _as_factor(log: Interval, shift: float = 0.0) -> Interval:
    low, high = (None if end is None else _exp(end + shift) for end in (log.low, log.high))
    return Interval(_exp(log.value + shift), low, high, log.n)


def _exp(log: float) -> float:
    """e^log, but at most 1e30: times that grow further say nothing that a larger number would say better."""
    return exp(max(-69.0, min(69.0, log)))


FEWEST_CALLS_AN_INPUT = 6
"""With fewer calls an input's median is nearly the calls themselves, and nothing would be left of them."""
CONFOUNDED = 0.1
"""If inputs explain more than this share of the variance of time, rounds count as having inputs of their own."""
PASSES = 8


def left_over(table: pl.DataFrame, stretch: Codes) -> tuple[Floats, Codes]:
    """`log` without the parts of its configuration and its input, and the group of each call.

    table: config, input, visit (codes) and log, in order of time. stretch: the stretch of the run that a row is in.
    The medians of configurations, inputs and stretches are taken out in turns (Tukey's polish), so that none takes
    another's part. If rounds have inputs of their own that takes more turns. Inputs that share no visit are then
    separate groups, since calls don't show how two such groups compare. Inputs with few calls keep their part.
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
    """The group of each row: inputs that share a visit are in one group, and so are all that these share one with."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    visits, units = int(visit.max()) + 1, int(unit.max()) + 1
    edges = coo_array((np.ones(len(visit)), (visit, visits + unit)), shape=(visits + units, visits + units))
    _, labels = connected_components(edges, directed=False)
    return np.asarray(np.unique(labels[visits + unit], return_inverse=True)[1], dtype=np.int64)


class GpuOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """The GPU in each stretch of the drift: medians of what it reported, and the share of throttled calls."""

    sm_mhz: list[float | None]
    temperature_c: list[float | None]
    power_w: list[float | None]
    throttled: list[float | None]


def gpu_over_time(frame: polars.DataFrame, drift: Drift | None) -> GpuOverTime | None:
    """The GPU's state in each stretch of the drift; None when the frame has none.

    frame: one row for each sample, with `started_unix_ms` and `gpu_*` columns. Stretches count from the first call that
    is no warm-up.
    """
    import polars as pl

    columns = {"gpu_sm_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_throttle"} & set(frame.columns)
    if drift is None or not drift.points or not columns or "started_unix_ms" not in frame.columns:
        return None
    frame = frame.filter(~warm_up_rows(frame))
    starts = pl.Series([point.start_s for point in drift.points], dtype=pl.Float64)
    if not (frame["started_unix_ms"] > 0).fill_null(value=False).all():
        return None
    at_ms = frame_time(frame).at_ms
    seconds = pl.Series(at_ms - at_ms.min(initial=0.0)) / 1e3
    stretch = starts.search_sorted(seconds, side="right").cast(pl.Int64) - 1
    asked: dict[str, pl.Expr] = {
        "gpu_sm_mhz": pl.col("gpu_sm_mhz").median(),
        "gpu_temperature_c": pl.col("gpu_temperature_c").median(),
        "gpu_power_w": pl.col("gpu_power_w").median(),
        "gpu_throttle": (pl.col("gpu_throttle").fill_null("") != "").mean(),
    }
    table = (
        frame.select(sorted(columns))
        .with_columns(stretch.alias("stretch"))
        .group_by("stretch")
        .agg([asked[name] for name in sorted(columns)])
    )
    at: Mapping[int, dict[str, float | None]] = {row["stretch"]: row for row in table.iter_rows(named=True)}

    def column(name: str) -> list[float | None]:
        return [at.get(i, {}).get(name) for i in range(len(drift.points))]

    state = GpuOverTime(
        sm_mhz=column("gpu_sm_mhz"),
        temperature_c=column("gpu_temperature_c"),
        power_w=column("gpu_power_w"),
        throttled=column("gpu_throttle"),
    )
    values = [*state.sm_mhz, *state.temperature_c, *state.power_w]
    return state if any(value is not None for value in values) else None
