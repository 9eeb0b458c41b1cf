"""A rule about what was stopped: totals that count from the run's beginning and not from the call's."""

from __future__ import annotations

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of
from laptime.data.columns import STAGE_COLUMNS

FEWEST = 12
"""Calls of a worker, of which the totals only grow: chance orders so many in one of 479 million runs."""

FOLLOWS = 0.9
"""In this share of the calls a total grows by what passes until the call's beginning, or by the stages."""

NEAR = 0.1
"""And agrees with it to this share."""


def running_total(measurements: Measurements) -> RuleOutcome:
    """A worker's totals that grow from call to call, by what the call itself takes."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "worker", "started_unix_ms").filter(col("total_ms") > 0)
    if not measurements.timed and not (measurements.has("prefill_ms") and measurements.has("decode_ms")):
        return NotJudged("no start times, and no stages")
    order = ["started_unix_ms", "row"] if measurements.timed else ["row"]
    hit, looked = [], 0
    for part in rows.sort(order).partition_by("worker", maintain_order=True):
        if part.height < FEWEST:
            continue
        looked += part.height
        total = part["total_ms"].to_numpy().astype(np.float64)
        grown = np.diff(total)
        stages = part.select(col("vision_ms").fill_null(0.0) + col("prefill_ms") + col("decode_ms")).to_series()
        by_stages = stages.fill_null(float("nan")).to_numpy()[1:]
        starts = part["started_unix_ms"].to_numpy() if measurements.timed else np.full(part.height, np.nan)
        by_time = np.diff(starts)
        follows = (np.abs(grown - by_stages) <= NEAR * grown) | (np.abs(grown - by_time) <= NEAR * grown)
        if bool((grown > 0).all()) and float(follows.mean()) >= FOLLOWS and total[-1] > 3 * total[0]:
            hit.append(part)
    if not looked:
        return NotJudged(f"no worker has {FEWEST} calls")
    if not hit:
        return Judged(looked)
    first = hit[0].head(5).to_dicts()
    count = sum(part.height for part in hit)
    return Judged(
        looked,
        AuditFinding(
            code="running-total",
            severity="severe",
            count=count,
            of=looked,
            examples=[f"{key_of(row)}: total {row['total_ms']:,.2f} ms" for row in first],
            reason=f"In {counted(count, 'call')} of {counted(len(hit), 'worker')} each total is longer than the one "
            "before, by about what the call itself takes: the clock was probably started once and never again, or "
            "times were added up.",
            mend="Take the start anew before each call; the difference of neighbours is what each call took",
        ),
    )


RULES = (Rule("running-total", "a clock that starts anew with each call", ("total_ms",), running_total),)
