"""Rules about rows that are no single calls: means among calls, means so far, a batch's time with each of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.recording import decimal_step
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, decimals, key_of, percent
from laptime.data.columns import STAGE_COLUMNS
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

NAMES = frozenset({"mean", "avg", "average", "total", "sum", "median", "overall", "all", "p50", "p95", "p99", "std"})
"""What a line that sums others up is called."""

EXACT = 1e-9
"""How near a mean lies to what is worked out from the others: both are sums of the same numbers."""

FEWEST, COLUMNS = 4, 2
"""Calls of a configuration, and times that agree, from which an exact mean is no chance."""

LONG = 40
"""Calls of a configuration from which it shows whether they still differ as much."""

FALL, ERRORS = -0.5, 4.5
"""Means so far differ from one to the next as one over their number: a power of -1. Half-way decides, and so many
standard errors from none."""

SHARED = 0.2
"""From this share of the samples on, equal totals are no accident."""


def summary_rows(measurements: Measurements) -> RuleOutcome:
    """The first or last line of a configuration, or of the table, that is the mean or sum of the others."""
    from polars import col

    names = [name for name in ("total_ms", *STAGE_COLUMNS) if measurements.has(name)]
    rows = measurements.of(*STAGE_COLUMNS).filter(col("total_ms") > 0)
    called = rows.filter(col("sample_id").str.to_lowercase().is_in(list(NAMES)).fill_null(value=False))
    parts = [rows, *rows.partition_by("config_id", maintain_order=True)]
    places = [int(row) for part in parts if part.height > FEWEST for row in _ends(part, list(dict.fromkeys(names)))]
    bad = rows.filter(col("row").is_in(sorted({*places, *called["row"].to_list()})))
    if bad.is_empty() or bad.height > 0.5 * rows.height:
        return Judged(rows.height)
    exact = len(set(places))
    how = "is exactly the mean (or the sum)" if exact else "has the name of a mean (or a sum)"
    return Judged(
        rows.height,
        AuditFinding(
            code="summary-rows",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:.6g} ms" for row in bad.head(5).to_dicts()],
            reason=f"{counted(bad.height, 'row')} among the calls {how} of the other rows: a line that sums up, as a "
            "spreadsheet or a print-out has it at its end. It counts as one more call, and makes every spread smaller.",
            mend="Leave lines that sum up out of the table; laptime works them out",
        ),
    )


def _ends(part: polars.DataFrame, names: list[str]) -> list[int]:
    """The rows at either end that are the mean or the sum of the others in the total and COLUMNS more times."""
    found = []
    for place in (0, part.height - 1):
        agree = 0
        for name in names:
            values = part[name].cast(float).to_numpy()
            if np.isnan(values).any() or np.ptp(values) == 0:
                continue
            one, others = values[place], np.delete(values, place)
            near = any(abs(one - of) <= EXACT * abs(of) for of in (float(others.mean()), float(others.sum())))
            agree += near and np.ptp(others) > 0
        if agree > COLUMNS:
            found.append(int(part["row"][place]))
    return found


def running_mean(measurements: Measurements) -> RuleOutcome:
    """Totals that differ less and less from one to the next, as means over all calls so far do."""
    from polars import col

    rows = measurements.of("total_ms").filter(col("total_ms") > 0).sort("row")
    parts = [part for part in rows.partition_by("config_id", maintain_order=True) if part.height >= LONG]
    if not parts:
        return NotJudged(f"no configuration has {LONG} samples")
    steps, calls, again = [], [], []
    for part in parts:
        totals, number = part["total_ms"].to_numpy().astype(np.float64), np.arange(1, part.height + 1)
        single = np.diff(totals * number)  # the calls themselves, if these are means so far
        steps.append(np.abs(np.diff(totals))[1:])
        again.append(np.abs(np.diff(single)))
        calls.append(number[2:])
    fall = _power(np.concatenate(steps), np.concatenate(calls))
    undone = _power(np.concatenate(again), np.concatenate(calls))
    if fall is None or undone is None:
        return NotJudged("too few totals differ from the one before")
    positive = all((np.diff(part["total_ms"].to_numpy() * np.arange(1, part.height + 1)) > 0).all() for part in parts)
    if fall[0] > FALL or fall[0] + ERRORS * fall[1] > 0 or abs(undone[0]) > -FALL or not positive:
        return Judged(rows.height)
    count = sum(part.height for part in parts)
    return Judged(
        rows.height,
        AuditFinding(
            code="running-mean",
            severity="severe",
            count=count,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:.6g} ms" for row in parts[0].tail(5).to_dicts()],
            reason=f"In {counted(len(parts), 'configuration')} the totals differ less and less from one row to the "
            f"next, as the number of rows to the power of {decimals(fall[0])}; read as means over all calls so far, "
            "the calls themselves differ equally much from beginning to end. What a progress line shows was probably "
            "stored. Spreads, percentiles and intervals of such rows mean nothing.",
            mend="Store the time of each call; the mean so far times its number, less the one before, gives it back",
        ),
    )


def _power(steps: Floats, calls: np.ndarray) -> tuple[float, float] | None:
    """How steps go with the number of calls, as a power, and its standard error."""
    there = steps > 0
    if there.sum() < max(LONG // 2, 0.9 * len(steps)):
        return None
    x, y = np.log(calls[there]), np.log(steps[there])
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    return slope, float((left @ left / (len(left) - 2) / (x @ x)) ** 0.5)


def shared_totals(measurements: Measurements) -> RuleOutcome:
    """Calls with equal totals whose stages differ: a batch's time that stands with each of its rows."""
    from polars import col, struct

    rows = measurements.of(*STAGE_COLUMNS).filter(col("total_ms") > 0, col("prefill_ms") > 0)
    if rows.is_empty():
        return NotJudged("no sample with a total and prefill")
    if decimal_step(rows["total_ms"].to_numpy().astype(np.float64)) is not None:
        return NotJudged("totals are rounded so far that some are equal by chance")
    groups = rows.group_by("total_ms").agg(
        n=col("row").len(),
        keys=struct("config_id", "sample_id", "repeat").n_unique(),
        kinds=struct("prefill_ms", "decode_ms").n_unique(),
        rows=col("row"),
    )
    groups = groups.filter(col("n") > 1, col("keys") > 1, col("kinds") > 1)
    count = int(groups["n"].sum())
    if groups.height < 3 or count < SHARED * rows.height:
        return Judged(rows.height)
    size = float(groups["n"].median() or 0.0)  # type: ignore[arg-type]
    bad = rows.filter(col("row").is_in(groups["rows"].explode().implode())).sort("total_ms", "row")
    return Judged(
        rows.height,
        AuditFinding(
            code="shared-totals",
            severity="severe",
            count=count,
            of=rows.height,
            examples=[
                f"{key_of(row)}: total {row['total_ms']:.6f} ms, prefill {row['prefill_ms']:.2f} ms"
                for row in bad.head(4).to_dicts()
            ],
            reason=f"{counted(count, 'sample')} ({percent(count / rows.height)}) share their total with others to the "
            f"last digit, {size:.0f} at a time at the median, and their stages differ: the time of a batch probably "
            "stands with each of its rows. As single calls they count too often, and what a row alone would take is "
            "not known.",
            mend="Store a batch as one call with its size (column batch), or measure rows alone",
        ),
    )


RULES = (
    Rule("summary-rows", "no line that sums others up", ("total_ms", "sample_id"), summary_rows),
    Rule("running-mean", "single calls, no means so far", ("total_ms",), running_mean),
    Rule("shared-totals", "a total for each call", ("total_ms", "prefill_ms"), shared_totals),
)
