"""Rules about how figures came to be recorded: their clock, what a cache saved, when and where they were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent
from laptime.data.columns import STAGE_COLUMNS
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FEWEST = 20
"""Fewer values are all multiples of some step by chance."""
COARSE = 0.005
"""A clock's step below this share of the median total doesn't matter to any median."""
COARSE_STAGE = 0.05
"""A stage's own step from which its median and its share are mostly rounding."""
STEP_FIT = 1e-6
"""How near to a multiple of the step, as a share of the value, times of a coarse clock lie after being written."""
DIGITS = 1e-5
"""Times with less digits than this, as a share, are equal by rounding."""
SAVED = 0.7
"""A prefill that takes less than this share of the first one of its input found the prompt in a cache."""
INPUTS = 6
"""From six inputs on, all of them in one direction is no chance (1 of 64)."""
WITHOUT_END = 0.05
"""A share of answers that ended before their limit from which totals hold the lengths, too."""
HOUR_MS = 3_600_000.0
"""Workers whose measuring lies further apart than an hour met other machines: other load, other temperature."""
APART_MS, TIMES_AS_LONG = 600_000.0, 2.0
"""So are those ten minutes apart, if that is so many times as long as what they measured."""
ZONE_MS, NEAR_ZONE = 1_800_000.0, 0.02
"""Clocks of two time zones differ by whole half hours; workers begin within so much of an hour of one another."""
LOW_CLOCK = 0.85
"""Of the clock that the device reached in this run."""


def coarse_timer(measurements: Measurements) -> RuleOutcome:
    """All times are multiples of one step that is large beside them."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS).filter(col("total_ms") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"{counted(rows.height, 'sample')}, and fewer than {FEWEST} are multiples of a step by chance")
    totals = rows["total_ms"].to_numpy().astype(np.float64)
    step, middle = decimal_step(totals), float(np.median(totals))
    if step is None or step < COARSE * middle:
        return Judged(rows.height, _coarse_stages(rows))
    return Judged(
        rows.height,
        AuditFinding(
            code="coarse-timer",
            severity="warning",
            count=rows.height,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:.6g} ms" for row in rows.head(3).to_dicts()],
            reason=f"All totals are multiples of {step:.4g} ms, {percent(step / middle)} of the median. The clock has "
            "that step, or times were rounded to it: smaller differences can't be seen, and stages of a few steps are "
            "mostly rounding.",
            mend="Use a clock of nanoseconds (time.perf_counter_ns), and round nothing before it is judged",
        ),
    )


def _coarse_stages(rows: polars.DataFrame) -> AuditFinding | None:
    """Stages that are multiples of a step which is large beside them, where the totals aren't."""
    from polars import col

    coarse = {}
    for name in ("vision_ms", "audio_ms", "prefill_ms", "decode_ms"):
        values = rows.filter(col(name) > 0)[name].drop_nulls().to_numpy().astype(np.float64)
        if len(np.unique(values)) < 3:
            continue
        step, middle = decimal_step(values), float(np.median(values))
        if step is not None and step >= COARSE_STAGE * middle:
            coarse[name.removesuffix("_ms")] = (step, middle)
    if not coarse:
        return None
    parts = [
        f"{name} {step:.4g} ms ({percent(step / middle)} of its median)" for name, (step, middle) in coarse.items()
    ]
    shown = next(iter(coarse))
    return AuditFinding(
        code="coarse-timer",
        severity="warning",
        count=rows.height,
        of=rows.height,
        examples=[f"{key_of(row)}: {shown} {row[f'{shown}_ms']:.6g} ms" for row in rows.head(3).to_dicts()],
        reason=f"Stages are multiples of a step that is large beside them: {', '.join(parts)}. They were rounded, or "
        "their clock has that step: smaller differences in them can't be seen.",
        mend="Use a clock of nanoseconds (time.perf_counter_ns), and round nothing before it is judged",
    )


def decimal_step(values: Floats) -> float | None:
    """The largest step that all values are multiples of, or None: the smallest difference of neighbours, if it is."""
    distinct = np.unique(values)
    if len(distinct) < 2:
        return float(distinct[0])
    gaps = np.diff(distinct)
    step = float(gaps[gaps > DIGITS * distinct[-1]].min(initial=np.inf))
    if not np.isfinite(step):
        return None
    parts = values / step
    return step if bool((np.abs(parts - np.round(parts)) <= max(STEP_FIT * parts.max(), 1e-4)).all()) else None


def prefix_cache(measurements: Measurements) -> RuleOutcome:
    """Later calls of an input whose prefill, or encoder, is much shorter than in its first one, while decode stays."""
    asked = [_saved(measurements, stage) for stage in ("prefill", "vision", "audio") if measurements.has(f"{stage}_ms")]
    judged = [one for one in asked if isinstance(one, Judged)]
    return next((one for one in judged if one.finding is not None), judged[0] if judged else asked[0])


def _saved(measurements: Measurements, stage: str) -> RuleOutcome:
    """Whether this stage takes much less when an input comes again."""
    from polars import col

    took = f"{stage}_ms"
    rows = measurements.of(took, "decode_ms", "started_unix_ms")
    rows = rows.filter(col(took) > 0, col("sample_id").is_not_null())
    order = "started_unix_ms" if measurements.timed else "row"
    pairs = (
        rows.sort(order, "row")
        .group_by("config_id", "sample_id", maintain_order=True)
        .agg(
            n=col("row").len(),
            row=col("row").first(),
            repeat=col("repeat").first(),
            first=col(took).first(),
            later=col(took).slice(1).median(),
            decode=col("decode_ms").slice(1).median() / col("decode_ms").first(),
        )
        .filter(col("n") >= 2, col("later").is_not_null())
        .with_columns(ratio=col("later") / col("first"))
    )
    if pairs.height < INPUTS:
        return NotJudged(f"{counted(pairs.height, 'input')} measured twice under a configuration; {INPUTS} are needed")
    saved = pairs.filter(col("ratio") < SAVED)
    steady = saved.filter((col("decode") > SAVED) | col("decode").is_null())
    if steady.height < max(INPUTS, 0.5 * pairs.height):
        return Judged(pairs.height)
    middle = float(steady["ratio"].median() or 0.0)  # type: ignore[arg-type]
    return Judged(
        pairs.height,
        AuditFinding(
            code="prefix-cache-hits",
            severity="warning",
            count=steady.height,
            of=pairs.height,
            unit="input",
            examples=[
                f"{key_of(row)}: {stage} {row['first']:.2f} ms at first, {row['later']:.2f} ms later"
                for row in steady.head(5).to_dicts()
            ],
            reason=f"In {counted(steady.height, 'input')} of {pairs.height:,} {stage} takes less time when the input "
            f"comes again ({percent(middle)} of the first at the median), and decode does not: a cache of "
            f"{'prompts' if stage == 'prefill' else 'encoded inputs'} may hold it. Medians over such calls mix two "
            "kinds of work. Where the first prompt of each length "
            "allocates or picks kernels it would look so, too; what compiles also slows decode.",
            mend="Use unique prompts, or switch the cache off; else compare first calls and repeats apart",
        ),
    )


def ended_early(measurements: Measurements) -> RuleOutcome:
    """Answers that ended before their limit beside others that reached it, where the totals are compared."""
    from polars import col

    rows = measurements.measured
    limit = "config.new_tokens"
    if limit not in rows.columns or not rows[limit].dtype.is_numeric():
        return NotJudged("no column config.new_tokens: the limit on new tokens is unknown")
    rows = measurements.of("output_tokens", limit)
    rows = rows.filter(col("output_tokens").is_not_null(), col(limit).is_not_null())
    short = rows.filter(col("output_tokens") < col(limit))
    if rows.is_empty() or short.height < WITHOUT_END * rows.height or short.height == rows.height:
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="ended-early",
            severity="info",
            count=short.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['output_tokens']} of {row[limit]} tokens" for row in short.head(5).to_dicts()
            ],
            reason=f"{counted(short.height, 'answer')} ({percent(short.height / rows.height)}) ended before the limit, "
            "the others at it: totals and decode hold the lengths of the answers, too.",
            mend="Compare the time per token, or let every answer have the same length (ignore EOS)",
        ),
    )


def shards_apart(measurements: Measurements) -> RuleOutcome:
    """Workers that measured hours apart, as if it had been one run."""
    from polars import col

    rows = measurements.of("worker", "started_unix_ms").filter(col("started_unix_ms") > 0)
    spans = (
        rows.group_by("worker")
        .agg(begin=col("started_unix_ms").min(), end=col("started_unix_ms").max(), n=col("row").len())
        .sort("begin")
    )
    if spans.height < 2:
        return NotJudged("one worker")
    spans = spans.with_columns(gap=col("begin") - col("end").cum_max().shift(1), off=col("begin") - col("begin").min())
    longest = float((spans["end"] - spans["begin"]).max() or 0.0)
    long = (col("gap") > HOUR_MS) | ((col("gap") > APART_MS) & (col("gap") > TIMES_AS_LONG * longest))
    gaps = spans.filter(long)
    if gaps.is_empty():
        return Judged(spans.height)
    halves = gaps["off"].to_numpy() / ZONE_MS
    zones = bool((np.abs(halves - np.round(halves)) <= 2 * NEAR_ZONE).all())
    zone = (
        " They begin a whole number of half hours apart, so a clock in another time zone would look so."
        if zones
        else ""
    )
    return Judged(
        spans.height,
        AuditFinding(
            code="shards-apart",
            severity="warning",
            count=gaps.height,
            of=spans.height,
            unit="worker",
            examples=[
                f"worker {row['worker']} begins {row['gap'] / 3.6e6:.2f} hours after all before it had ended"
                for row in gaps.head(5).to_dicts()
            ],
            reason=f"{counted(gaps.height, 'worker')} measured long after the others had ended, by the start times. "
            f"Load, temperature and software may have changed meanwhile, and a difference between workers may be that."
            f"{zone}",
            mend="Measure all parts at one time, or every configuration on every worker",
        ),
    )


def low_clocks(measurements: Measurements) -> RuleOutcome:
    """A device clock far below the one that it reached in this run, without a reason for it."""
    from polars import col

    rows = measurements.of("gpu_sm_mhz", "gpu_throttle").filter(col("gpu_sm_mhz") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"the clock of fewer than {FEWEST} samples is known")
    reached = float(rows["gpu_sm_mhz"].quantile(0.95) or 0.0)
    low = rows.filter(col("gpu_sm_mhz") < LOW_CLOCK * reached)
    low = low.filter(col("gpu_throttle").fill_null("") == "")
    if low.height < max(3, 0.01 * rows.height):
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="low-clocks",
            severity="warning",
            count=low.height,
            of=rows.height,
            examples=[f"{key_of(row)}: {row['gpu_sm_mhz']} MHz of {reached:.0f}" for row in low.head(5).to_dicts()],
            reason=f"{counted(low.height, 'sample')} ran at a clock below {percent(LOW_CLOCK)} of the one that the "
            "device reached in this run, and no reason was recorded. Idle clocks before a short call, a power limit "
            "that was set, or another card under the same name would each look so.",
            mend="Warm the device up before each call, lock its clocks, or leave these samples out",
        ),
    )


RULES = (
    Rule("coarse-timer", "a clock finer than what it measures", ("total_ms",), coarse_timer),
    Rule("prefix-cache-hits", "the same work when an input comes again", ("prefill_ms", "sample_id"), prefix_cache),
    Rule("ended-early", "answers of one length, or known ends", ("output_tokens",), ended_early),
    Rule("shards-apart", "workers that measure at one time", ("started_unix_ms", "worker"), shards_apart),
    Rule("low-clocks", "the device at the clock that it can reach", ("gpu_sm_mhz",), low_clocks),
)
