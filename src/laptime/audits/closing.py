"""Rules about a call as a sum: stages and `other` that leave a part of the total over; one column in another unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laptime.audits.arithmetic import BEFORE_DECODE, RESIDUAL_SHARE, rounding_room, stage_sum
from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, worst_rows
from laptime.data.columns import STAGE_COLUMNS

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

SHARE = 0.01
"""Of the total: less is what other programs count at the ends of a call."""

SEVERAL, FEW = 3, 0.01
"""Fewer samples, or a smaller share, are single calls."""

OFF, CLOSES = 0.05, 0.02
"""A sum that was off by more than the first and is by less than the second after a column is scaled was off by it."""

FILLS = 0.1
"""Where `other` is known, a small stage in seconds is, as milliseconds, what the sum lacks; within this part of it."""

LARGE = 20.0
"""A stage in microseconds is so many times as long as the call, at the median: a fiftieth of it, in milliseconds."""

MOST = 0.9
"""In this share of the samples."""

FEWEST = 10


def stages_miss_total(measurements: Measurements) -> RuleOutcome:
    """Stages and `other`, which is said to be the rest, that sum to less than the total."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "output_tokens").filter(
        col("total_ms") > 0, col("other_ms") >= 0, col("prefill_ms") > 0,
        col("decode_ms").is_not_null() | (col("output_tokens") == 1),
    )  # fmt: skip
    if rows.is_empty():
        return NotJudged("no sample with other_ms beside its stages")
    missed = col("total_ms") - stage_sum()
    rows = rows.with_columns(missed=missed)
    bad = rows.filter(col("missed") > rounding_room(), col("missed") > SHARE * col("total_ms"))
    if bad.height < max(SEVERAL, FEW * rows.height):
        return Judged(rows.height)
    middle = float((bad["missed"] / bad["total_ms"]).median() or 0.0)  # type: ignore[arg-type]
    return Judged(
        rows.height,
        AuditFinding(
            code="stages-miss-total",
            severity="severe" if bad.height >= 0.05 * rows.height else "warning",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: stages and other sum to {row['total_ms'] - row['missed']:.2f}, total "
                f"{row['total_ms']:.2f} ms"
                for row in worst_rows(bad, col("missed"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) the stages and what is "
            f"in no stage (other) sum to less than the total, by {percent(middle)} of it at the median. A total that "
            "holds tries which failed and were repeated, one that is a percentile while stages are means, or clocks "
            "of different rates would each look so.",
            mend="Take stages, other and total from one call; count each try as a call of its own",
        ),
    )


def stage_in_seconds(measurements: Measurements) -> RuleOutcome:
    """One stage, in all samples, in seconds, microseconds or nanoseconds: with its unit changed the call closes."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS)
    rows = rows.filter(col("total_ms") > 0, col("prefill_ms") > 0, col("decode_ms").is_not_null())
    if rows.height < FEWEST:
        return NotJudged(f"fewer than {FEWEST} samples with stages and a total")
    known = (col("other_ms").null_count() == 0).alias("known")
    closes = CLOSES if rows.select(known).item() else RESIDUAL_SHARE
    apart = ((stage_sum() - col("total_ms")).abs() > max(OFF, closes) * col("total_ms")).mean()
    names = [name for name in (*BEFORE_DECODE, "decode_ms", "other_ms") if measurements.has(name)]
    shares = rows.select(apart.alias("apart")).item()
    if shares is None or shares < MOST:
        small = _fills_what_lacks(rows, names) if rows.select(known).item() else None
        return Judged(rows.height, None if small is None else _in_unit(rows, small, "seconds", 1e3))
    for name in names:
        for factor, unit in ((1e3, "seconds"), (1e-3, "microseconds"), (1e-6, "nanoseconds")):
            scaled = stage_sum() + col(name).fill_null(0.0) * (factor - 1) - col("total_ms")
            beside = rows.select((col(name) / col("total_ms")).median()).item()
            if factor < 1 and (beside is None or beside < LARGE):  # without it any sum could close
                continue
            inside = (scaled <= CLOSES * col("total_ms")) & (scaled >= -closes * col("total_ms"))
            if (rows.select(inside.mean().alias("inside")).item() or 0.0) >= MOST:
                return Judged(rows.height, _in_unit(rows, name, unit, factor))
    return Judged(rows.height)


def _fills_what_lacks(rows: polars.DataFrame, names: list[str]) -> str | None:
    """The stage that, read as seconds, is what the sum lacks in most samples: a small part of the total each time."""
    from polars import col

    lacks = col("total_ms") - stage_sum()
    for name in names:
        fills = (col(name).fill_null(0.0) * 999 - lacks).abs() <= FILLS * lacks
        if (rows.select((fills & (lacks > rounding_room())).mean().alias("fills")).item() or 0.0) >= MOST:
            return name
    return None


def _in_unit(rows: polars.DataFrame, name: str, unit: str, factor: float) -> AuditFinding:
    stage = name.removesuffix("_ms")
    return AuditFinding(
        code="stage-in-other-unit",
        severity="severe",
        count=rows.height,
        of=rows.height,
        examples=[
            f"{key_of(row)}: {stage} {row[name]:.6g}, as {unit} {row[name] * factor:.6g} ms, total "
            f"{row['total_ms']:.6g} ms"
            for row in rows.head(5).to_dicts()
            if row[name] is not None
        ],
        reason=f"The stages don't sum to the total, and with {stage} read as {unit} they do, in {percent(MOST)} of "
        f"the samples or more: {stage} is probably in {unit} and the others in milliseconds.",
        mend=f"Write {name} in milliseconds",
    )


RULES = (
    Rule("stages-miss-total", "nothing of the total left over", ("other_ms", "total_ms"), stages_miss_total),
    Rule("stage-in-other-unit", "stages in one unit", ("prefill_ms", "decode_ms", "total_ms"), stage_in_seconds),
)
