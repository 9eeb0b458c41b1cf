"""A rule about a stretch of a run: calls in a row that are all slower than the others, from one call to the next."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, exp, log
from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, signed_percent
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FEWEST = 20
"""A worker with fewer calls has no stretch that could be told from its noise."""

SHORTEST = 5
"""A stretch has so many calls at least: fewer are single slow calls."""

LONGEST = 0.5
"""More than half of a worker's calls are the usual ones, and the others fast."""

SLOWER = 0.06
"""From here on a call can be a slow one; noise of a few per cent is none."""

DEVIATIONS = 3
"""And it lies so many robust standard deviations above the worker's median."""

INSIDE, OUTSIDE = 0.8, 0.1
"""The shares of slow calls within a stretch, at least, and beside it, at most."""

HALF = 0.5
"""The share that a first look asks for, before the calls are compared with those outside the stretch."""

ABRUPT = 0.75
"""The share of the slowness that comes between two neighbours: noise that wanders climbs, a throttled clock falls."""

EDGE = 6
"""The ends of a stretch are looked for within a sixth of its length."""

CHANCE = 1e-4
"""How likely slow calls may be to lie together by chance."""

SHOWN_POINTS = 80


@dataclass(frozen=True)
class Stretch:
    """Places from `begin` up to before `end` of the calls of one worker, or of all, and how much (log) slower they are.

    calls: how many calls of this worker lie there, also those whose work nobody else shows.
    level: they last until the end of the run, or from its beginning.
    """

    rows: polars.DataFrame
    begin: int
    end: int
    excess: float
    calls: int
    level: bool = False


def slow_stretch(measurements: Measurements) -> RuleOutcome:
    """Calls of a worker, or of all, that are slower together, with an abrupt begin and end, and without a flag."""
    if measurements.order_unknown is not None:
        return NotJudged(measurements.order_unknown)
    used = measurements.used
    workers = [part for part in used.partition_by("worker", maintain_order=True) if part.height >= FEWEST]
    if not workers:
        return NotJudged(f"no worker has {FEWEST} usable samples")
    found = []
    for part in workers:
        one = _stretch(_compared_with_others(part, used)) or _level(part, used)
        found += [one] if one is not None else []
    if not found and len(workers) > 1:  # what slows all workers for a while shows in few calls of each
        together = _stretch(_compared_with_others(used, used))
        found = [together] if together is not None else []
    if not found:
        return Judged(used.height)
    slowest = max(found, key=lambda one: one.excess)
    count = sum(one.calls for one in found)
    dearer = "" if measurements.repeated else ", and so would dearer inputs that came one after the other"
    inside = slowest.rows[slowest.begin : slowest.end]
    return Judged(
        used.height,
        AuditFinding(
            code="slow-stretch",
            severity="severe" if any(one.level for one in found) else "warning",
            count=count,
            of=used.height,
            examples=[
                f"{key_of(row)}: {row['total_ms']:.2f} ms, {signed_percent(exp(row['deviation']) - 1)} of its like"
                for row in inside.head(5).to_dicts()
            ],
            reason=f"{counted(count, 'call')} {'in a row ' if len(found) == 1 else ''}are slower together, by "
            f"{percent(exp(slowest.excess) - 1)} at the median{_of_workers(found)}, and none is flagged; "
            f"{_how(slowest)}{_clock(slowest)}. A throttled device, another process, or another device under the same "
            f"name would look so{dearer}.",
            mend="Record clocks and their reasons (laptime does), and measure the configurations of that stretch again",
            picture=_picture(slowest),
        ),
    )


def _compared_with_others(rows: polars.DataFrame, used: polars.DataFrame) -> polars.DataFrame:
    """One worker's calls, their deviation anew: from the same work outside the stretch that looks slow at first.

    Where two of three repeats were slow, the median is theirs.
    """
    from polars import col

    for _ in range(4):
        begin, end = _densest(_slow(rows["deviation"].to_numpy()), HALF)
        if end - begin < SHORTEST or end - begin > LONGEST * rows.height:
            return rows
        since, until = rows["at"][begin], rows["at"][end - 1]
        others = used.filter(~col("at").is_between(since, until))
        usual = others.group_by("work").agg(usual=col("equal_ms").log().median())
        rows = rows.drop("usual", strict=False).join(usual, on="work", how="left", maintain_order="left")
        rows = rows.with_columns(deviation=(col("equal_ms").log() - col("usual")).fill_null(col("deviation")))
    return rows


def _slow(values: Floats) -> np.ndarray:
    """Which calls are slow beside the median of all."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.asarray(values > middle + max(log(1 + SLOWER), DEVIATIONS * spread))


def _stretch(rows: polars.DataFrame) -> Stretch | None:
    """The longest stretch of these calls, in their order, that chance explains badly; None if there is none."""
    values = rows["deviation"].to_numpy()
    slow = _slow(values)
    begin, end = _densest(slow, INSIDE)
    n, length, hits = len(values), end - begin, int(slow[begin:end].sum())
    if length < SHORTEST or length > LONGEST * n or hits < INSIDE * length:
        return None
    beside = (int(slow.sum()) - hits) / max(1, n - length)
    if beside > OUTSIDE:
        return None
    often = max(float(slow.mean()), 1 / n)
    chance = n * sum(comb(length, k) * often**k * (1 - often) ** (length - k) for k in range(hits, length + 1))
    excess = float(np.median(values[begin:end])) - float(np.median(np.concatenate([values[:begin], values[end:]])))
    begin, end = _edge(values, begin, length, 1), _edge(values, end, length, -1)
    if begin == 0 and end < LEVEL:  # slow first calls are cold-start's
        return None
    steps = _known([_step(values, begin), -_step(values, end)], begin, end, n)
    if chance > CHANCE or any(step < ABRUPT * excess for step in steps):
        return None
    return Stretch(rows, begin, end, excess, calls=end - begin)


LEVEL, OTHER_LEVEL, LARGEST_STEP = 10, 0.1, 1.5
"""Calls before and after a change of level, at least; how much slower the slow ones are; and how much larger the step
between them is than any other in the run: noise that wanders has levels, and climbs to them.
"""


def _level(rows: polars.DataFrame, used: polars.DataFrame) -> Stretch | None:
    """The calls of one worker since (or until) a place in the run, if they are all slower than the others."""
    place, slow_after = _split(rows["deviation"].to_numpy())
    for _ in range(4):  # where most repeats of an input were slow, the median is theirs: it is taken from the others
        compared = _without(rows, used, place, slow_after=slow_after)
        if compared.height < 2 * LEVEL:
            return None
        again, after = _split(compared["deviation"].to_numpy())
        kept, rows_at = rows["row"].to_list(), compared["row"].to_list()
        last, place = place, kept.index(rows_at[again])
        if after != slow_after or place == last:
            break
    values = compared["deviation"].to_numpy()
    cut, slow_after = _split(values)
    begin, end = (cut, len(values)) if slow_after else (0, cut)
    slow, fast = values[begin:end], np.concatenate([values[:begin], values[end:]])
    if min(len(slow), len(fast)) < LEVEL:
        return None
    excess = float(np.median(slow) - np.median(fast))
    middle = float(np.median(fast)) + excess / 2
    spread = 1.4826 * float(np.median(np.abs(fast - np.median(fast))))
    step = abs(_step(values, cut))
    alike = float((slow > middle).mean()) >= INSIDE and float((fast > middle).mean()) <= OUTSIDE
    if not alike or excess < max(log(1 + OTHER_LEVEL), DEVIATIONS * spread) or step < ABRUPT * excess:
        return None
    elsewhere = [abs(_step(values, place)) for place in range(3, len(values) - 2) if abs(place - cut) > 3]
    if step < LARGEST_STEP * max(elsewhere, default=0.0):
        return None
    at = compared["at"][cut]
    later = rows.filter(rows["at"] >= at).height
    return Stretch(compared, begin, end, excess, calls=later if slow_after else rows.height - later, level=True)


def _split(values: Floats) -> tuple[int, bool]:
    """Where two levels explain most of the variance, and whether the later one is the slower."""
    n = len(values)
    sums, sizes = np.cumsum(values), np.arange(1, n)
    apart = (sums[-1] - sums[:-1]) / (n - sizes) - sums[:-1] / sizes
    place = int(np.argmax(sizes * (n - sizes) * apart**2)) + 1
    return place, bool(apart[place - 1] > 0)


def _without(rows: polars.DataFrame, used: polars.DataFrame, place: int, *, slow_after: bool) -> polars.DataFrame:
    """One worker's calls, compared with the same work of all workers in the fast part of the run."""
    from polars import col

    at = rows["at"][place]
    others = used.filter(col("at") < at) if slow_after else used.filter(col("at") >= at)
    usual = others.group_by("work").agg(usual=col("equal_ms").log().median())
    rows = rows.drop("usual", strict=False).join(usual, on="work", how="inner", maintain_order="left")
    return rows.with_columns(deviation=col("equal_ms").log() - col("usual"))


def _how(one: Stretch) -> str:
    """How a stretch begins and ends."""
    if one.end == one.rows.height:
        return "it begins from one call to the next and lasts until the end of the run"
    if one.begin == 0:
        return "it lasts from the beginning of the run and ends from one call to the next"
    return "it begins and ends from one call to the next"


def _densest(slow: np.ndarray, inside: float) -> tuple[int, int]:
    """The stretch with the most slow calls, each other call in it counting against inside / (1 - inside) of them."""
    score = np.where(slow, 1.0, -inside / (1 - inside))
    sums = np.concatenate([[0.0], np.cumsum(score)])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums - lowest))
    begin = int(np.flatnonzero(sums[: end + 1] == lowest[end])[-1])
    return begin, end


def _edge(values: Floats, place: int, length: int, sign: int) -> int:
    """Where, near this place, the values change most from one call to the next; ends of the run stay.

    The first calls of a stretch may not look slow: the median of their work can be that of slow repeats.
    """
    if not 0 < place < len(values):
        return place
    near = range(max(1, place - length // EDGE), min(len(values) - 1, place + length // EDGE) + 1)
    return max(near, key=lambda at: sign * _step(values, at))


def _step(values: Floats, place: int) -> float:
    """By how much the three calls from a place on are slower than the three before it (medians)."""
    if not 0 < place < len(values):
        return 0.0
    return float(np.median(values[place : place + 3]) - np.median(values[max(0, place - 3) : place]))


def _known(steps: list[float], begin: int, end: int, n: int) -> list[float]:
    """The steps at those ends of a stretch that lie within the run."""
    return [step for step, place in zip(steps, (begin, end), strict=True) if 0 < place < n]


def _of_workers(found: list[Stretch]) -> str:
    names = sorted({str(name) for one in found for name in one.rows["worker"].drop_nulls().unique()})
    return f" (worker{'s' if len(names) > 1 else ''} {', '.join(names[:5])})" if names else ""


def _clock(one: Stretch) -> str:
    """What the device's clock did there, where it was recorded."""
    clocks = one.rows["gpu_sm_mhz"]
    if clocks.null_count():
        return ""
    inside = float(clocks[one.begin : one.end].median() or 0.0)  # type: ignore[arg-type]
    beside = float(clocks.median() or 0.0)  # type: ignore[arg-type]
    if inside < 0.97 * beside:
        return f"; the device's clock was {inside:,.0f} MHz there, {beside:,.0f} at the median of the run"
    return "; the recorded clock is as high there as elsewhere"


def _picture(one: Stretch) -> AuditPicture:
    values = one.rows["deviation"].to_numpy()
    step = max(1, len(values) // SHOWN_POINTS)
    return AuditPicture(
        kind="points",
        title="Each call's total against the median of the same work",
        x="calls of this worker, in their order" if one.rows["worker"].n_unique() == 1 else "calls, in their order",
        y="% of the median",
        points=[AuditPoint(i, round((exp(float(values[i])) - 1) * 100, 3)) for i in range(0, len(values), step)],
    )


RULES = (Rule("slow-stretch", "no stretch of slower calls", ("total_ms",), slow_stretch),)
