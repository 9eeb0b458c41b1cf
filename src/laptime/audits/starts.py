"""Rules about start times as they were written: of one kind of clock, and fine enough for what is read from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FIRST_DATE_MS, LAST_DATE_MS = 946_684_800_000.0, 4_102_444_800_000.0
"""The years 2000 to 2100, in milliseconds since 1970. Other values are no dates in this unit."""

UNITS = {"seconds": 1e3, "microseconds": 1e-3, "nanoseconds": 1e-6}
"""Other units of a date, and by what they become milliseconds."""

FEWEST = 20
"""Fewer start times are all multiples of some step by chance."""

COARSE = 0.1
"""Of the median total: with a larger step of the start times the order of calls, and overlaps, aren't known."""

FINE_MS = 10.0
"""A smaller step is that of a clock, and no call that matters is as short."""

EVEN = 0.9
"""Of the calls, so many follow the one before by the same time: then it is a rate, and says nothing of the clock."""

FIT = 1e-3
"""How near to a multiple of the step, as a share of it, start times lie."""


def mixed_start_times(measurements: Measurements) -> RuleOutcome:
    """Workers whose start times aren't of one kind: dates in milliseconds, dates in another unit, another clock."""
    from polars import String, col

    rows = measurements.of("worker", "started_unix_ms").filter(col("started_unix_ms") > 0)
    spans = (
        rows.group_by("worker", maintain_order=True)
        .agg(start=col("started_unix_ms").median(), n=col("row").len(), first=col("started_unix_ms").first())
        .with_columns(kind=col("start").map_elements(kind_of, return_dtype=String))
    )
    if spans.height < 2:
        return NotJudged("one worker")
    kinds = spans["kind"].unique().sort().to_list()
    if len(kinds) == 1:
        return Judged(spans.height)
    usual = spans.group_by("kind").agg(n=col("n").sum()).sort("n", "kind", descending=[True, False])["kind"][0]
    other = spans.filter(col("kind") != usual)
    return Judged(
        spans.height,
        AuditFinding(
            code="mixed-start-times",
            severity="warning",
            count=other.height,
            of=spans.height,
            unit="worker",
            examples=[
                f"worker {row['worker']}: begins at {row['first']:,.0f}, {row['kind']}" for row in spans.to_dicts()[:5]
            ],
            reason=f"Start times of {counted(other.height, 'worker')} are not of the same kind as the others': "
            f"{', '.join(kinds)}. Seconds among milliseconds, or a clock that counts from when the machine or the "
            "program began, would each look so. The order of the workers' calls isn't known.",
            mend="Write every start as milliseconds since 1970 (time.time() * 1e3), by all workers alike",
        ),
    )


def kind_of(start: float) -> str:
    """What a start time looks like: a date in milliseconds, in another unit, or no date."""
    if FIRST_DATE_MS <= start < LAST_DATE_MS:
        return "a date in milliseconds"
    for unit, factor in UNITS.items():
        if FIRST_DATE_MS <= start * factor < LAST_DATE_MS:
            return f"as large as a date in {unit}"
    return "no date"


def coarse_starts(measurements: Measurements) -> RuleOutcome:
    """Start times that are known to a step that is large beside the calls."""
    from polars import col

    rows = measurements.of("started_unix_ms", "total_ms")
    rows = rows.filter(col("started_unix_ms") > 0, col("total_ms") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"{counted(rows.height, 'sample')} with a start time; {FEWEST} are needed")
    step, middle = start_step_ms(rows), float(np.median(rows["total_ms"].to_numpy()))
    if step < COARSE * middle:
        return Judged(rows.height)
    how = "equal" if rows["started_unix_ms"].n_unique() == 1 else f"multiples of {_step_words(step)}"
    return Judged(
        rows.height,
        AuditFinding(
            code="coarse-starts",
            severity="info",
            count=rows.height,
            of=rows.height,
            examples=[f"{key_of(row)}: begins at {row['started_unix_ms']:,.0f}" for row in rows.head(3).to_dicts()],
            reason=f"All start times are {how}, and a call takes {middle:.4g} ms at the "
            "median: whole seconds, or a number of too few digits (a 32-bit float). Overlaps of calls shorter than "
            "this step aren't judged; calls of one step are taken in the order of the file.",
            mend="Write start times in milliseconds as 64-bit numbers",
        ),
    )


def start_step_ms(rows: polars.DataFrame) -> float:
    """The step that all start times above 0 are multiples of; 0 where there is none of FINE_MS or more.

    rows: with the columns started_unix_ms and total_ms.
    """
    starts = rows.filter(rows["started_unix_ms"] > 0)["started_unix_ms"].to_numpy().astype(np.float64)
    if len(starts) < FEWEST:
        return 0.0
    if len(np.unique(starts)) == 1:  # all within one step, which is longer than all of them
        return float(rows["total_ms"].sum())
    return _step(starts)


def _step(starts: Floats) -> float:
    distinct = np.unique(starts)
    step = float(np.diff(distinct).min(initial=np.inf))
    if not FINE_MS <= step < np.inf:
        return 0.0
    even = float((np.diff(distinct) <= (1 + FIT) * step).mean())
    if len(distinct) == len(starts) and even >= EVEN:
        return 0.0  # calls at a steady rate
    for divisor in (1, 2, 3, 5):  # neighbours that are never one step apart
        parts = distinct / (step / divisor)  # counted from 0: calls at a steady rate have a step, too
        if bool((np.abs(parts - np.round(parts)) <= FIT).all()):
            return step / divisor
    return 0.0


def ends_as_starts(rows: polars.DataFrame, overlapping: int) -> bool:
    """Whether the start times are rather ends: taken so, (nearly) no call overlaps.

    rows: by worker and start, with `worker`, `started_unix_ms`, `total_ms`. overlapping: how many calls overlap now.
    """
    from polars import col

    begins = col("started_unix_ms") - col("total_ms")
    before = col("started_unix_ms").shift(1).over("worker")
    late: Any = rows.select((before - begins > 0.02 * col("total_ms") + 2.0).fill_null(value=False).sum()).item()
    return bool(late <= 0.1 * overlapping)


def _step_words(step: float) -> str:
    return f"{step / 1e3:.4g} s" if step >= 1e3 else f"{step:.4g} ms"


RULES = (
    Rule("mixed-start-times", "start times of one clock", ("started_unix_ms", "worker"), mixed_start_times),
    Rule("coarse-starts", "start times finer than calls", ("started_unix_ms", "total_ms"), coarse_starts),
)
