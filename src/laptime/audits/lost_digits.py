"""Rules about digits that were lost on the way: whole seconds, and decimal points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.arithmetic import stage_sum
from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of
from laptime.data.columns import STAGE_COLUMNS
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

SECOND_MS = 1000.0
"""No time is as long as this, where whole seconds were lost."""

NEAR_MS = 20.0
"""What is lost is a whole number of seconds to this, beside what lies between two calls anyway."""

SEVERAL, FEW = 3, 0.05
"""Fewer samples, or a smaller share, are single calls."""

MOST = 0.9

FACTORS = (1, 2, 3)
"""Powers of ten by which a lost decimal point makes a time too large."""

OFF = 0.1
"""And how near to them, as a power of ten, all times of the call lie to those of the same work."""


def whole_seconds_lost(measurements: Measurements) -> RuleOutcome:
    """Times that are all below a second, and short of what else is known by whole seconds."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "started_unix_ms", "queue_ms").filter(col("total_ms") >= 0)
    largest = rows.select([col(name).max() for name in dict.fromkeys(("total_ms", *STAGE_COLUMNS))]).row(0)
    if max((value for value in largest if value is not None), default=0.0) >= SECOND_MS:
        return Judged(rows.height)
    staged = rows.filter(col("prefill_ms").is_not_null(), col("decode_ms").is_not_null())
    found = _short(staged, staged.select(stage_sum() - col("total_ms")).to_series().to_numpy().astype(np.float64))
    beside = "stages and total differ"
    if found is None and measurements.timed and rows["queue_ms"].null_count() == rows.height:
        ordered = rows.sort("started_unix_ms", "row")
        until = ordered.select(col("started_unix_ms").shift(-1) - col("started_unix_ms") - col("total_ms"))
        found = _short(ordered.head(-1), until.to_series().to_numpy().astype(np.float64)[:-1], later=True)
        beside = "the next call begins later than a call's end"
    if found is None:
        return Judged(rows.height)
    bad, short = found
    return Judged(
        rows.height,
        AuditFinding(
            code="whole-seconds-lost",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: total {row['total_ms']:.2f} ms, off by {off:.2f} ms"
                for row, off in zip(bad.head(5).to_dicts(), short[:5].tolist(), strict=True)
            ],
            reason=f"All times are below a second, and in {counted(bad.height, 'sample')} {beside} by a whole number "
            "of seconds: the seconds were lost, and what is left of them was stored (timedelta.microseconds holds what "
            "is below a second alone). Such times are too short by seconds.",
            mend="Use timedelta.total_seconds(), or a difference of time.perf_counter_ns()",
        ),
    )


def _short(
    rows: polars.DataFrame, differences: Floats, *, later: bool = False
) -> tuple[polars.DataFrame, Floats] | None:
    """The rows that are off by one second or more, and by how much, if nearly all of them are by whole seconds.

    later: what is negative is no loss.
    """
    import polars

    seconds = np.round(differences / SECOND_MS)
    off = np.abs(differences - seconds * SECOND_MS)
    lost = np.abs(seconds) >= 1 if not later else seconds >= 1
    if lost.sum() < max(SEVERAL, FEW * len(differences)):
        return None
    if (off[lost] <= NEAR_MS).mean() < MOST or (np.abs(differences[~lost]) <= NEAR_MS).mean() < MOST:
        return None
    return rows.filter(polars.Series(lost)), differences[lost]


def lost_point(measurements: Measurements) -> RuleOutcome:
    """Some calls whose times are all ten, a hundred or a thousand times those of the same work."""
    from polars import all_horizontal, col

    used = measurements.used.filter(col("work").is_not_null())
    names = [name for name in ("prefill_ms", "decode_ms") if measurements.has(name)]
    if len(names) < 2:
        return NotJudged("no prefill and decode: a total alone may be slow")
    names = ["equal_ms", *names]
    powers = used.with_columns(
        **{f"{name}_power": (col(name) / col(name).median().over("work")).log10() for name in names}
    ).filter(all_horizontal((col(name) > 0).fill_null(value=False) for name in names))
    power = col("equal_ms_power").round(0)
    near = all_horizontal((col(f"{name}_power") - power).abs() <= OFF for name in names)
    bad = powers.filter(power.is_in([float(factor) for factor in FACTORS]), near)
    large = powers.filter(col("equal_ms_power") > 0.5)
    if bad.height < SEVERAL or bad.height < MOST * large.height or bad.height > 0.5 * powers.height:
        return Judged(used.height)
    factor = 10 ** int(bad.select(power.alias("power"))["power"].median() or 0)  # type: ignore[arg-type]
    return Judged(
        used.height,
        AuditFinding(
            code="lost-decimal-point",
            severity="severe",
            count=bad.height,
            of=used.height,
            examples=[
                f"{key_of(row)}: total {row['total_ms']:,.6g} ms, {10 ** row['equal_ms_power']:,.1f} times its like"
                for row in bad.head(5).to_dicts()
            ],
            reason=f"All times of {counted(bad.height, 'sample')} are {factor:,} times those of the same work, "
            "prefill and decode alike, with nothing in between: a decimal point was probably lost or read as a "
            "separator of thousands, or these rows are in another unit.",
            mend="Read the table with the decimal point of its program; write numbers without separators",
        ),
    )


RULES = (
    Rule("whole-seconds-lost", "times with their seconds", ("total_ms",), whole_seconds_lost),
    Rule("lost-decimal-point", "digits where they belong", ("total_ms",), lost_point),
)
