"""A rule about rows that were copied: different keys with the same times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.recording import decimal_step
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of
from laptime.data.columns import STAGE_COLUMNS

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

COPIED_STAGES = 3
"""Rows that agree to the last digit in so many times are copies of one measurement."""

CHANCE = 0.01
"""Below this number of pairs that are expected to be equal by rounding, equal rows are copies."""

FEWEST = 20
"""Copies of a rounded kind, at least."""


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
        return Judged(rows.height, _copied_and_rounded(rows, kept))
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
            reason=f"{counted(surplus, 'sample')} under other keys {'has' if surplus == 1 else 'have'} all {len(kept)} "
            "times equal to another sample's, to the last digit: one measurement was written several times. Replayed "
            "or imputed rows look so.",
            mend="Keep one row of each measurement; measure again what is then missing",
        ),
    )


def _copied_and_rounded(rows: polars.DataFrame, names: list[str]) -> AuditFinding | None:
    """Copies of which one was rounded to fewer decimals: rows of both kinds, each equal to one of the other, rounded.

    names: the times that are compared.
    """
    from polars import all_horizontal, col

    for digits in (1, 2, 3):
        marked = rows.with_columns(
            (col(name).round(digits) for name in names),
            short=all_horizontal((col(name) == col(name).round(digits)).fill_null(value=True) for name in names),
        )
        short, full = marked.filter(col("short")), marked.filter(~col("short"))
        if min(short.height, full.height) < FEWEST:
            continue
        pairs = short.join(full.unique(names), on=names, how="semi")
        chance = short.height * full.height * _equal_share(rows, digits)
        if pairs.height < max(FEWEST, 0.5 * min(short.height, full.height)) or pairs.height <= 3 * chance + 3:
            continue
        return AuditFinding(
            code="copied-rows",
            severity="severe",
            count=pairs.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: all times equal another sample's, rounded to {digits} decimals"
                for row in pairs.head(5).to_dicts()
            ],
            reason=f"{counted(pairs.height, 'sample')} that are rounded to {digits} "
            f"decimal{'' if digits == 1 else 's'} have all of their {len(names)} times equal to those of a sample that "
            "is not, once that is rounded too: one measurement was probably written twice, by two programs.",
            mend="Keep one row of each measurement, the one with more digits",
        )
    return None


def _equal_share(rows: polars.DataFrame, digits: int) -> float:
    """How often two calls of one configuration have equal totals when rounded, about."""
    step, equal = 10.0**-digits, 0.0
    for values in rows.group_by("config_id").agg("total_ms")["total_ms"].to_list():
        low, high = np.quantile(np.array(values), [0.1, 0.9])
        equal += len(values) ** 2 * min(1.0, step / max(float(high - low), step))
    return equal / max(1, rows.height) ** 2


def _equal_by_rounding(rows: polars.DataFrame) -> float:
    """How many pairs of calls of one configuration are expected to have an equal total, as far as it is rounded.

    Only the total counts: stages of a call are slow together, so they are equal together.
    """
    step = decimal_step(rows["total_ms"].to_numpy().astype(np.float64))
    if step is None:
        return 0.0
    pairs = 0.0
    for values in rows.group_by("config_id").agg("total_ms")["total_ms"].to_list():
        low, high = np.quantile(np.array(values), [0.1, 0.9])
        pairs += len(values) ** 2 / 2 * min(1.0, step / max(float(high - low), step))
    return pairs


RULES = (Rule("copied-rows", "every measurement written once", ("total_ms", "sample_id"), copied_rows),)
