"""Rules about the order in which samples were measured: a cold beginning, and a drift from beginning to end."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.ranks import ERROR, Trend, poisson_tail, trend, wandering_p
from laptime.audits.result import EXAMPLES, AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, signed_percent
from laptime.data.columns import has_flag
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

COLD_GROUP = 5
"""Samples of one configuration on one worker below which its first can't be set against the rest."""

COLD_EXCESS = 0.05
"""A first call that is slower by less than this changes no median that matters."""

COLD_DEVIATIONS = 6
"""A worker's first call is cold by itself when it is this many robust standard deviations above the rest."""

DRIFT = 0.02
"""From here on a drift is as large as the effects that a comparison looks for (its --min-effect)."""

SEVERE_DRIFT = 0.1

CALLS_IN_A_PIECE, PIECES = 4, 100
"""The run is cut into pieces of so many calls, and into no more pieces than this."""

POLISHED = 8
"""Rounds of the median polish; its effects hardly change after five."""

SHOWN_POINTS = 60


def cold_start(measurements: Measurements) -> RuleOutcome:
    """First calls slower than the rest: of a worker, of each configuration, or by their own flag."""
    from polars import col

    if measurements.order_unknown is not None:
        return NotJudged(measurements.order_unknown)
    rows = measurements.measured
    flagged = rows.filter(has_flag("cold").fill_null(value=False))
    used = measurements.used.filter(~has_flag("cold").fill_null(value=False))
    groups = (
        used.group_by("config_id", "worker", maintain_order=True)
        .agg(
            n=col("row").len(),
            row=col("row").first(),
            at=col("at").first(),
            sample_id=col("sample_id").first(),
            repeat=col("repeat").first(),
            excess=col("deviation").first() - col("deviation").slice(1).median(),
            highest=col("deviation").slice(1).max(),
            first=col("deviation").first(),
            spread=1.4826 * (col("deviation").slice(1) - col("deviation").slice(1).median()).abs().median(),
        )
        .filter(col("n") >= COLD_GROUP)
    )
    groups = groups.with_columns(after=_highest_after(used, groups))
    if groups.is_empty() and flagged.is_empty():
        return NotJudged(f"no configuration has {COLD_GROUP} samples on one worker")
    cold = _cold_groups(groups, used)
    count = flagged.height + cold.height
    if not count:
        return Judged(rows.height)
    examples = [
        f"{key_of(row)}: {percent(exp(row['excess']) - 1)} above the other {row['n'] - 1:,} of its configuration"
        for row in cold.sort("excess", descending=True).head(EXAMPLES).to_dicts()
    ]
    examples += [f"{key_of(row)}: flagged cold, total {row['total_ms']:.2f} ms" for row in flagged.head(5).to_dicts()]
    parts = []
    if cold.height:
        middle = float(cold["excess"].median() or 0.0)  # type: ignore[arg-type]
        parts.append(
            f"The first call of {cold.height:,} of {counted(groups.height, 'group')} (configuration and worker) is "
            f"slower than the rest, by {percent(exp(middle) - 1)} at the median"
        )
    if flagged.height:
        parts.append(f"{counted(flagged.height, 'sample')} carry the flag cold: the warm-up had not become steady")
    return Judged(
        rows.height,
        AuditFinding(
            code="cold-start",
            severity="warning",
            count=count,
            of=rows.height,
            examples=examples,
            reason=f"{'. '.join(parts)}. Such calls hold compilation, autotuning or cache misses. An "
            "input that costs more and came first looks so too.",
            mend="Warm up with the same shapes before timing, and again after each change of configuration",
        ),
    )


COLD_NEIGHBOURS = 3
"""A first call is compared with this many calls of its worker that follow it and are no first calls."""


def _highest_after(used: polars.DataFrame, groups: polars.DataFrame) -> polars.Series:
    """The largest deviation among the next COLD_NEIGHBOURS calls of the worker that begin no configuration."""
    import polars
    from polars import col

    found: dict[int, float] = {}
    for _, rows in used.select("worker", "row", "deviation").group_by("worker", maintain_order=True):
        first = rows["row"].is_in(groups["row"].implode()).to_numpy()
        deviations, numbers = rows["deviation"].to_numpy(), rows["row"].to_numpy()
        others = np.flatnonzero(~first)
        for place in np.flatnonzero(first):
            begin = int(np.searchsorted(others, place))
            after = others[begin : begin + COLD_NEIGHBOURS]
            found[int(numbers[place])] = float(deviations[after].max()) if len(after) else float("inf")
    return groups.select(
        col("row").map_elements(lambda row: found.get(row, float("inf")), return_dtype=polars.Float64)
    ).to_series()


def _cold_groups(groups: polars.DataFrame, used: polars.DataFrame) -> polars.DataFrame:
    """The groups whose first call is cold, when there are more of them than chance gives.

    Among n samples of the same work the first is the slowest with a chance of 1/n. The sum of these chances is the
    expected number of such groups; significantly more are a finding. The very first call of a worker counts alone when
    it is that worker's slowest relative to the same work, and stands out by COLD_DEVIATIONS.
    """
    from polars import col

    expected = float((1 / groups["n"]).sum())
    # A machine that is slow for a while slows the calls after a first call as well; a cold call stands out from them.
    groups = groups.filter(col("first") - col("after") > COLD_EXCESS)
    slow = groups.filter(col("first") > col("highest"), col("excess") > COLD_EXCESS)
    if slow.height > 1 and poisson_tail(slow.height, expected) <= ERROR / 2:
        return slow
    slowest = used.group_by("worker").agg(slowest=col("deviation").max(), begins=col("row").first())
    beginnings = groups.join(slowest, on="worker", nulls_equal=True).filter(
        col("row") == col("begins"), col("first") == col("slowest")
    )
    return beginnings.filter(
        col("first") > col("highest"),
        col("excess") > COLD_EXCESS,
        col("excess") > COLD_DEVIATIONS * col("spread"),
        col("excess") > 2 * (col("highest") - (col("first") - col("excess"))),
    )


def clock_drift(measurements: Measurements) -> RuleOutcome:
    """A trend over the run: of totals relative to samples of the same work, and of the GPU's clock."""
    used = measurements.used
    if measurements.order_unknown is not None:
        return NotJudged(measurements.order_unknown)
    if used.height < 8:
        return NotJudged("fewer than 8 usable samples")
    span = float(np.ptp(used["at"].to_numpy()))
    # A total is known relative to the same work only, so a drift shows over the time which that spans.
    smooth = _by_time(used)
    trends = {"total": _judged(used["within"].to_numpy(), used["deviation"].to_numpy(), span, smooth)}
    if measurements.has("gpu_sm_mhz"):
        clocked = used.filter(used["gpu_sm_mhz"] > 0)
        clock = clocked.select(_centred("gpu_sm_mhz")).to_series().to_numpy()
        trends["SM clock"] = _judged(clocked["within"].to_numpy(), clock, span)
    drifting = {name: t for name, t in trends.items() if t is not None}
    if not drifting:
        return Judged(used.height)
    return Judged(used.height, _drift_finding(measurements, used, drifting, span))


def clock_set_back(measurements: Measurements) -> RuleOutcome:
    """The wall clock that stamps each sample's start only goes forward."""
    if not measurements.timed:
        return NotJudged("no start times")
    time, rows = measurements.time, measurements.frame
    if not len(time.steps_back):
        return Judged(rows.height)
    first = rows[time.steps_back[:EXAMPLES].tolist()].to_dicts()
    return Judged(
        rows.height,
        AuditFinding(
            code="clock-set-back",
            severity="warning",
            count=len(time.steps_back),
            of=rows.height,
            examples=[f"{key_of(row)}: begins before the sample that was measured before it" for row in first],
            reason=f"The machine's clock was set back {counted(len(time.steps_back), 'time')} during the run, by up to "
            f"{_span_words(time.how_far_ms)}: samples begin before those that their worker had measured already. Times "
            "of calls are not made from this clock. Drift is judged in the order of the file.",
            mend="Let one time service run, and step its clock before measuring; then the order of samples is certain",
        ),
    )


def _centred(column: str) -> polars.Expr:
    from polars import col

    return col(column).log() - col(column).log().median().over("work")


def _by_time(used: polars.DataFrame) -> tuple[Floats, Floats]:
    """How slow the machine was over the run: the middle of each piece of time, and its effect on the same work (logs).

    Total = work + time, by medians in turn (Tukey's median polish). The deviation from a median of few repeats is no
    such effect: the median wanders with the machine, so that deviations wander less than it does.
    """
    import polars
    from polars import col

    pieces = int(np.clip(used.height // CALLS_IN_A_PIECE, 1, PIECES))
    piece = polars.Series("piece", np.arange(used.height) * pieces // used.height)
    rows = used.select("work", "at", left=col("equal_ms").log()).with_columns(piece, effect=polars.lit(0.0))
    for _ in range(POLISHED):
        of_work = col("left").median().over("work")
        rows = rows.with_columns(left=col("left") - of_work)
        of_time = col("left").median().over("piece")
        rows = rows.with_columns(left=col("left") - of_time, effect=col("effect") + of_time)
    by_piece = rows.group_by("piece").agg(at=col("at").median(), effect=col("effect").first()).sort("piece")
    return by_piece["at"].to_numpy(), by_piece["effect"].to_numpy()


def _judged(at: Floats, logs: Floats, span: float, smooth: tuple[Floats, Floats] | None = None) -> Trend | None:
    """The trend, if chance alone would seldom show as much and it amounts to DRIFT over the run.

    smooth: how slow the machine was over time, where that is known better: a trend must stand out from its wandering.
    """
    if span <= 0:
        return None
    seen = trend(at, logs, 1 - ERROR)
    if seen is None or seen.p > ERROR / 2 or abs(seen.slope * span) < log(1 + DRIFT):
        return None
    over_time = trend(*smooth, 1 - ERROR) if smooth is not None else None
    if wandering_p(over_time or seen) > ERROR:
        return None
    return seen if seen.low * seen.high > 0 else None


def _drift_finding(
    measurements: Measurements, used: polars.DataFrame, drifting: dict[str, Trend], span: float
) -> AuditFinding:
    words = []
    for name, t in drifting.items():
        change, ends = exp(t.slope * span) - 1, sorted((exp(t.low * span) - 1, exp(t.high * span) - 1))
        words.append(
            f"the {name} {'rose' if change > 0 else 'fell'} by {percent(abs(change))} from the first sample to the "
            f"last (99 % interval {signed_percent(ends[0], 2)} to {signed_percent(ends[1], 2)})"
        )
    largest = max(abs(t.slope * span) for t in drifting.values())
    main = next(iter(drifting.values()))
    picture_of = drifting.get("total", main)
    ends_of_run = [used.head(1).to_dicts()[0], used.tail(1).to_dicts()[0]]
    return AuditFinding(
        code="clock-drift",
        severity="severe" if largest >= log(1 + SEVERE_DRIFT) else "warning",
        count=used.height,
        of=used.height,
        examples=[f"{key_of(row)}: {_relative(row)}" for row in ends_of_run],
        reason=f"Over {_duration(measurements, span)}, relative to the median of the same work, {' and '.join(words)}. "
        "Configurations measured early and late differ by that alone. Inputs sorted by their cost look so too.",
        mend="Lock the clocks, let the device warm up first, and measure configurations in interleaved random order",
        picture=_drift_picture(measurements, picture_of, "total" if "total" in drifting else "SM clock"),
    )


def _relative(row: dict[str, Any]) -> str:
    clock = f", {row['gpu_sm_mhz']} MHz" if row.get("gpu_sm_mhz") is not None else ""
    return f"total {row['total_ms']:.2f} ms, {signed_percent(exp(row['deviation']) - 1, 2)} of its like{clock}"


def _duration(measurements: Measurements, span: float) -> str:
    if not measurements.timed:
        return f"{span + 1:,.0f} samples in the order of the file"
    sessions = measurements.time.sessions
    return f"{_span_words(span)} of measuring" + (f" in {sessions:,} sessions" if sessions > 1 else "")


def _span_words(ms: float) -> str:
    seconds = ms / 1e3
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"


def _drift_picture(measurements: Measurements, t: Trend, name: str) -> AuditPicture:
    unit, scale = ("s into the run", 1e3) if measurements.timed else ("samples into the run", 1.0)
    step = max(1, len(t.x) // SHOWN_POINTS)
    begin = float(t.x[0])
    middle = float(np.median(t.y - t.slope * t.x))
    base = float(np.median(t.y))
    points = [
        AuditPoint(round((float(x) - begin) / scale, 3), _change(float(y) - base))
        for x, y in zip(t.x, t.y, strict=True)
    ]
    ends = [
        AuditPoint(round((float(x) - begin) / scale, 3), _change(middle + t.slope * float(x) - base))
        for x in (t.x[0], t.x[-1])
    ]
    return AuditPicture(
        kind="points", title=f"The {name} over the run", x=unit, y="% of the median", points=points[::step], line=ends
    )


def _change(logarithm: float) -> float:
    return round((exp(logarithm) - 1) * 100, 4)


RULES = (
    Rule("cold-start", "first calls as fast as the rest", ("total_ms",), cold_start),
    Rule("clock-drift", "no trend over the run", ("total_ms",), clock_drift),
    Rule("clock-set-back", "the clock only goes forward", ("started_unix_ms",), clock_set_back),
)
