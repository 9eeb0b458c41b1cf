"""Rules about how figures came to be recorded: their clock, rows that were copied, what a cache saved."""

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
STEP_FIT = 1e-6
"""How near to a multiple of the step, as a share of the value, times of a coarse clock lie after being written."""
DIGITS = 1e-5
"""Times with less digits than this, as a share, are equal by rounding."""
COPIED_STAGES = 3
"""Rows that agree to the last digit in so many times are copies of one measurement."""
CHANCE = 0.01
"""Below this number of pairs that are expected to be equal by rounding, equal rows are copies."""
SAVED = 0.7
"""A prefill that takes less than this share of the first one of its input found the prompt in a cache."""
INPUTS = 6
"""From six inputs on, all of them in one direction is no chance (1 of 64)."""
WITHOUT_END = 0.05
"""A share of answers that ended before their limit from which totals hold the lengths, too."""
APART_MS = 3_600_000.0
"""Workers whose measuring lies further apart than an hour met other machines: other load, other temperature."""
LOW_CLOCK = 0.85
"""Of the clock that the device reached in this run."""


def coarse_timer(measurements: Measurements) -> RuleOutcome:
    """All times are multiples of one step that is large beside them."""
    from polars import col

    rows = measurements.of("total_ms").filter(col("total_ms") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"{counted(rows.height, 'sample')}, and fewer than {FEWEST} are multiples of a step by chance")
    totals = rows["total_ms"].to_numpy().astype(np.float64)
    step, middle = _step(totals), float(np.median(totals))
    if step is None or step < COARSE * middle:
        return Judged(rows.height)
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


def _step(values: Floats) -> float | None:
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


def copied_rows(measurements: Measurements) -> RuleOutcome:
    """Different keys with the same times to the last digit."""
    from polars import col, struct

    rows = measurements.of(*STAGE_COLUMNS, "ttft_ms").filter(col("total_ms") > 0)
    names = [name for name in ("total_ms", *STAGE_COLUMNS, "ttft_ms") if measurements.has(name)]
    kept = [name for name in dict.fromkeys(names) if rows[name].n_unique() > 1]
    if len(kept) < COPIED_STAGES:
        return NotJudged(f"fewer than {COPIED_STAGES} times vary: equal rows could be chance")
    groups = (
        rows.group_by(kept)
        .agg(n=col("row").len(), row=col("row").first(), keys=struct("config_id", "sample_id", "repeat").n_unique())
        .filter(col("n") > 1, col("keys") > 1)
    )
    if groups.is_empty():
        return Judged(rows.height)
    surplus = int(groups["n"].sum()) - groups.height
    expected = _equal_by_rounding(rows)
    if expected > CHANCE and surplus <= 3 * expected + 3:
        return NotJudged("times are rounded so far that some rows are equal by chance")
    first = rows.filter(col("row").is_in(groups["row"].implode())).head(5).to_dicts()
    return Judged(
        rows.height,
        AuditFinding(
            code="copied-rows",
            severity="severe",
            count=surplus,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:.6f} ms stands under another key, too" for row in first],
            reason=f"{counted(surplus, 'sample')} under other keys have all of their {len(kept)} times equal to "
            "another sample's, to the last digit: one measurement was written several times. Replayed or imputed rows "
            "look so.",
            mend="Keep one row of each measurement; measure again what is then missing",
        ),
    )


def _equal_by_rounding(rows: polars.DataFrame) -> float:
    """How many pairs of calls of one configuration are expected to have an equal total, as far as it is rounded.

    Only the total counts: stages of a call are slow together, so they are equal together.
    """
    step = _step(rows["total_ms"].to_numpy().astype(np.float64))
    if step is None:
        return 0.0
    pairs = 0.0
    for values in rows.group_by("config_id").agg("total_ms")["total_ms"].to_list():
        low, high = np.quantile(np.array(values), [0.1, 0.9])
        pairs += len(values) ** 2 / 2 * min(1.0, step / max(float(high - low), step))
    return pairs


def prefix_cache(measurements: Measurements) -> RuleOutcome:
    """Later calls of an input whose prefill is much shorter than its first one, while decode stays."""
    from polars import col

    rows = measurements.of("prefill_ms", "decode_ms", "started_unix_ms")
    rows = rows.filter(col("prefill_ms") > 0, col("sample_id").is_not_null())
    order = "started_unix_ms" if measurements.timed else "row"
    pairs = (
        rows.sort(order, "row")
        .group_by("config_id", "sample_id", maintain_order=True)
        .agg(
            n=col("row").len(),
            row=col("row").first(),
            repeat=col("repeat").first(),
            first=col("prefill_ms").first(),
            later=col("prefill_ms").slice(1).median(),
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
                f"{key_of(row)}: prefill {row['first']:.2f} ms at first, {row['later']:.2f} ms later"
                for row in steady.head(5).to_dicts()
            ],
            reason=f"In {counted(steady.height, 'input')} of {pairs.height:,} prefill takes less time when the input "
            f"comes again ({percent(middle)} of the first at the median), and decode does not: a cache of prompts "
            "may hold it. Medians over such calls mix two kinds of work. Where the first prompt of each length "
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
    gaps = spans.with_columns(gap=col("begin") - col("end").cum_max().shift(1)).filter(col("gap") > APART_MS)
    if gaps.is_empty():
        return Judged(spans.height)
    return Judged(
        spans.height,
        AuditFinding(
            code="shards-apart",
            severity="warning",
            count=gaps.height,
            of=spans.height,
            unit="worker",
            examples=[
                f"worker {row['worker']} begins {row['gap'] / APART_MS:.1f} hours after all before it had ended"
                for row in gaps.head(5).to_dicts()
            ],
            reason=f"{counted(gaps.height, 'worker')} measured more than an hour after the others had ended. Load, "
            "temperature and software may have changed meanwhile, and a difference between workers may be that.",
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
    Rule("copied-rows", "every measurement written once", ("total_ms", "sample_id"), copied_rows),
    Rule("prefix-cache-hits", "the same work when an input comes again", ("prefill_ms", "sample_id"), prefix_cache),
    Rule("ended-early", "answers of one length, or known ends", ("output_tokens",), ended_early),
    Rule("shards-apart", "workers that measure at one time", ("started_unix_ms", "worker"), shards_apart),
    Rule("low-clocks", "the device at the clock that it can reach", ("gpu_sm_mhz",), low_clocks),
)

EXPLAINS: dict[str, tuple[str, ...]] = {
    "mixed-units": ("clock-drift", "cold-start", "bimodal", "rank-skew", "faster-than-a-launch", "slow-stretch"),
    "longer-than-their-run": ("overlapping-calls",),
    "faster-than-a-launch": ("launches-timed",),
    "coarse-timer": ("subtracted-decode", "bimodal", "cold-start", "overlapping-calls"),
    "prefix-cache-hits": ("clock-drift", "cold-start", "bimodal"),
    "copied-rows": ("bimodal",),
}
"""What a finding of these rules makes other rules see: they are not reported beside it; it is as severe as they are."""
