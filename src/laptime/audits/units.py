"""Rules about units: times that are a thousand times too small or too long for what happened in them."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, worst_rows
from laptime.data.columns import KEY
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

THOUSAND = (300.0, 3000.0)
"""By this much medians in seconds and in milliseconds of the same work differ."""

NEAR_THOUSAND, ALIKE = 1.6, 0.1
"""How near a thousand it is for the same work, where work differs by more than a tenth."""

BETWEEN = 30.0
"""Nothing lies between the two units: neighbours in the order of size differ at least by this factor there."""

SEVERAL, SHARE = 3, 0.05
"""So many of the larger totals there must be, and such a share: fewer are calls that were slow."""

STEP_MS = 0.05
"""No decode step is known that takes less: a model of one block needs several kernels of a few microseconds each."""

PERIODS = 20
"""From so many calls in a row on, the time between their starts is known."""

LONGER = 100.0
"""A total that is so many times the time until its worker's next call begins is in another unit."""


def mixed_units(measurements: Measurements) -> RuleOutcome:
    """Some times are a thousand times smaller than the others of the same work, with nothing in between."""
    from polars import col, concat, lit

    rows = measurements.of("total_ms", "decode_per_token_ms").filter(col("total_ms") > 0)
    if not in_seconds_too(measurements) and _slower_configs(rows) is None:
        return Judged(rows.height)
    small = [
        part.filter(col("total_ms") < border).with_columns(
            others=others, value=col("total_ms"), figure=lit("total"), of=lit("the others of its configuration")
        )
        for part in rows.partition_by("config_id")
        if (found := _in_seconds(part["total_ms"].to_numpy().astype(np.float64))) is not None
        for border, others in [found]
    ]
    bad = concat(small) if small else _slower_configs(rows)
    if bad is None:
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="mixed-units",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['figure']} {row['value']:.4g}, {row['of']} {row['others']:.4g}"
                for row in bad.head(5).to_dicts()
            ],
            reason=f"The times of {counted(bad.height, 'sample')} are about a thousand times smaller than those of "
            "others of the same work, with nothing in between: seconds among milliseconds. Calls that ended at once, "
            "with an error say, could look so.",
            mend="Write all times in milliseconds; look at these rows before anything is worked out from them",
        ),
    )


def in_seconds_too(measurements: Measurements) -> bool:
    """Whether some totals of a configuration are others of it in seconds.

    Such calls differ among each other as the others do. Calls that failed all take about as long, whatever their work.
    """
    from polars import col

    rows = measurements.of("total_ms").filter(col("total_ms") > 0)
    work = measurements.used.select("row", "deviation")
    deviations, differ, seen = [], [], False
    for part in rows.partition_by("config_id"):
        totals = part["total_ms"].to_numpy().astype(np.float64)
        if (found := _in_seconds(totals)) is None:
            continue
        seen = True
        small = part.filter(col("total_ms") < found[0]).join(work, on="row")["deviation"].to_numpy()
        deviations += small[small < -1.0].tolist()  # where most of the same work is small, the others are the odd ones
        differ.append(float(np.log(totals[totals >= found[0]]).std()))
    if not deviations or max(differ) < ALIKE:
        return seen
    return abs(float(np.median(deviations)) + log(1e3)) <= log(NEAR_THOUSAND)


def _slower_configs(rows: polars.DataFrame) -> polars.DataFrame | None:
    """The rows of whole configurations in seconds: their decode per token is a thousandth of that of the others."""
    from polars import col, lit

    steps = rows.filter(col("decode_per_token_ms") > 0)
    each = steps.group_by("config_id").agg(value=col("decode_per_token_ms").median())
    medians = each["value"].drop_nulls().to_numpy().astype(np.float64)
    found = _in_seconds(medians, least=1) if len(medians) > SEVERAL else None
    if found is None:
        return None
    border, others = found
    small = each.filter(col("value") < border)
    return steps.join(small, on="config_id", nulls_equal=True).with_columns(
        others=lit(others), figure=lit("decode per token"), of=lit("of other configurations")
    )


def _in_seconds(totals: Floats, least: int = SEVERAL) -> tuple[float, float] | None:
    """Between which totals the two units lie, and the median of the larger ones; None if there is one unit.

    A single call may take a thousand times as long as the others (it compiles). So the larger totals must be several.
    """
    ordered = np.sort(totals)
    if len(ordered) < 2:
        return None
    steps = ordered[1:] / ordered[:-1]
    place = int(steps.argmax()) + 1
    low, high = ordered[:place], ordered[place:]
    ratio = float(np.median(high) / np.median(low))
    if steps[place - 1] < BETWEEN or not THOUSAND[0] <= ratio <= THOUSAND[1]:
        return None
    if len(high) < max(least, SHARE * len(ordered)):
        return None
    return float(high[0]), float(np.median(high))


def faster_than_a_launch(measurements: Measurements) -> RuleOutcome:
    """Decode steps that end before their kernels could have been started."""
    from polars import col

    rows = measurements.of("output_tokens", "decode_ms")
    rows = rows.filter(col("output_tokens") >= 2, col("decode_ms") > 0)
    step = col("decode_ms") / (col("output_tokens") - 1)
    bad = rows.with_columns(step=step).filter(col("step") < STEP_MS)
    if bad.height < max(SEVERAL, SHARE * rows.height):
        return Judged(rows.height)
    middle = float(bad["step"].median() or 0.0)  # type: ignore[arg-type]
    return Judged(
        rows.height,
        AuditFinding(
            code="faster-than-a-launch",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['output_tokens'] - 1} decode steps in {row['decode_ms']:.4g} ms, "
                f"{row['step'] * 1e3:.3g} µs each"
                for row in worst_rows(bad, -col("step"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) a decode step takes less "
            f"than {STEP_MS * 1e3:.0f} µs, {middle * 1e3:.3g} µs at the median. No language model is known to be as "
            "fast. Seconds that stand for milliseconds, a clock that was read before the device had done its work, or "
            "tokens that came several to a step would each look so.",
            mend="Write milliseconds; wait for the device (an event, a synchronize) before the clock is read",
        ),
    )


def longer_than_their_run(measurements: Measurements) -> RuleOutcome:
    """Totals many times as long as the time until their worker's next call begins."""
    from polars import col

    if not measurements.timed:
        return NotJudged("no start times")
    if measurements.has("queue_ms"):
        return NotJudged("requests to a server are in flight together")
    rows = measurements.frame.select("row", *KEY, "worker", "started_unix_ms", "total_ms", "prefill_ms")
    rows = rows.filter(col("total_ms") > 0, col("prefill_ms").is_not_null()).sort("row")
    until = (col("started_unix_ms").shift(-1) - col("started_unix_ms")).over("worker")
    rows = rows.with_columns(until=until).filter(col("until") > 0)
    if rows.height < PERIODS:
        return NotJudged(f"fewer than {PERIODS} calls in a row on one worker")
    factor = rows["total_ms"] / rows["until"]
    middle = float(factor.median() or 0.0)  # type: ignore[arg-type]
    if middle < LONGER:
        return Judged(rows.height)
    bad = rows.filter(factor >= LONGER)
    return Judged(
        rows.height,
        AuditFinding(
            code="longer-than-their-run",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: total {row['total_ms']:,.4g} ms, the next call begins after {row['until']:,.4g} ms"
                for row in bad.head(5).to_dicts()
            ],
            reason=f"Calls are said to take {middle:,.0f} times as long, at the median, as passes until the same "
            "worker begins its next one: microseconds that stand for milliseconds. Start times in seconds, or hundreds "
            "of calls in flight under one worker's name, would look so too.",
            mend="Write all times in milliseconds, and start times in milliseconds since 1970",
        ),
    )


RULES = (
    Rule("mixed-units", "one unit of time", ("total_ms",), mixed_units),
    Rule(
        "faster-than-a-launch",
        "decode steps that a device can take",
        ("decode_ms", "output_tokens"),
        faster_than_a_launch,
    ),
    Rule(
        "longer-than-their-run",
        "calls no longer than their run",
        ("total_ms", "started_unix_ms", "prefill_ms"),
        longer_than_their_run,
    ),
)
