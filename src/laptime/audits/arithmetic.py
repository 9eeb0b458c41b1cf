"""Rules that a single sample breaks by its own numbers: stages that can't be, and sums that don't close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, decimals, key_of, percent, worst_rows
from laptime.data.columns import STAGE_COLUMNS
from laptime.data.record import STAGES

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

ROUNDING_MS = 0.03
"""A sum may differ by this much: four stages and a total, each rounded to a hundredth of a millisecond."""

BEFORE_DECODE = tuple(f"{name}_ms" for name in STAGES[: STAGES.index("decode")])
"""The stages that decode is left over from, where it is obtained by subtraction."""

SUBTRACTED_SHARE = 0.95
"""When decode is the exact remainder in this share of the samples, it was not measured but left over."""

RESIDUAL_SHARE = 0.25
"""Real models spend a few per cent of a call outside their stages (`other` in any profile)."""

RESIDUAL_SAMPLES = 0.05
"""A share of samples from which a large residual is the rule, not an accident of a few."""

BARS = 20


def zero_decode(measurements: Measurements) -> RuleOutcome:
    """A decode of exactly 0 with two or more tokens: N tokens need N - 1 forwards, and those take time."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "output_tokens")
    rows = rows.filter(col("output_tokens") >= 2, col("decode_ms").is_not_null())
    zeros = rows.filter(col("decode_ms") == 0)
    if zeros.is_empty():
        return Judged(rows.height)
    reason = (
        f"Decode is 0 ms in {zeros.height:,} of {counted(rows.height, 'sample')} "
        f"({percent(zeros.height / rows.height)}) "
        "that generated two tokens or more, which takes a decode forward at least."
    )
    remainder = _remainder()
    over = zeros.filter(remainder < 0).with_columns(error=remainder)
    picture = None
    if not over.is_empty():
        mean = -float(over["error"].mean() or 0.0)  # type: ignore[arg-type]
        low, high = float(over["error"].min()), float(over["error"].max())  # type: ignore[arg-type]
        reason += (
            " Decode was obtained by subtraction, total − vision − prefill of separate measurements, and clamped at 0: "
            f"in {_all_or(over.height, zeros.height)} vision + prefill is longer than the total, "
            f"by {mean:.2f} ms on average (total − vision − prefill: {decimals(low)} to {decimals(high)} ms)."
        )
        rest = rows.filter(col("decode_ms") > 0)
        exact = rest.filter((col("decode_ms") - remainder).abs() <= ROUNDING_MS).height
        if rest.height and exact / rest.height >= SUBTRACTED_SHARE:
            reason += f" In {_all_or(exact, rest.height)} of the others decode is exactly what is left of the total."
        picture = _histogram(
            over["error"], "What is left for decode where 0 was stored", "total − vision − prefill, ms"
        )
    shown = worst_rows(zeros.with_columns(error=-remainder), col("error").fill_null(0.0))
    return Judged(
        rows.height,
        AuditFinding(
            code="zero-decode",
            severity="severe",
            count=zeros.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: decode 0 ms with {row['output_tokens']} tokens{_sum_words(row)}" for row in shown
            ],
            reason=reason,
            mend="Measure all stages in one call (laptime profile does); samples with N = 1 have no decode: store null",
            picture=picture,
        ),
    )


def subtracted_decode(measurements: Measurements) -> RuleOutcome:
    """Decode that equals total - vision - prefill to the last digit everywhere: left over, not measured."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "output_tokens").filter(
        col("decode_ms") > 0, col("total_ms").is_not_null(), col("prefill_ms").is_not_null(), col("output_tokens") >= 2
    )
    exact = rows.filter((col("decode_ms") - _remainder()).abs() <= ROUNDING_MS, col("other_ms").fill_null(0.0) == 0)
    if not rows.height or exact.height / rows.height < SUBTRACTED_SHARE:
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="subtracted-decode",
            severity="warning",
            count=exact.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: decode {decimals(row['decode_ms'])} = total {decimals(row['total_ms'])}{_less(row)} ms"
                for row in exact.head(5).to_dicts()
            ],
            reason=(
                f"In {percent(exact.height / rows.height)} of the samples decode is exactly total − vision − prefill "
                "and nothing is left for anything else: it was not measured, and holds sampling, set-up and the errors "
                "of the other three."
            ),
            mend="Measure all stages in one call, with everything between them as a stage of its own",
        ),
    )


def stage_sum_exceeds_total(measurements: Measurements) -> RuleOutcome:
    """Stages of one call partition it: their sum can't be longer than the call."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS).filter(col("total_ms").is_not_null()).with_columns(sum=stage_sum())
    bad = rows.filter(col("sum") > col("total_ms") + rounding_room())
    if bad.is_empty():
        return Judged(rows.height)
    excess = (col("sum") - col("total_ms")).alias("excess")
    shown = worst_rows(bad.with_columns(excess), col("excess"))
    mean, most = bad.select(excess.mean().alias("mean"), excess.max().alias("max")).row(0)
    return Judged(
        rows.height,
        AuditFinding(
            code="stage-sum-exceeds-total",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: stages sum to {decimals(row['sum'])}, total {decimals(row['total_ms'])} ms"
                for row in shown
            ],
            reason=(
                f"In {counted(bad.height, 'sample')} the stages sum to more than the whole call, by {decimals(mean)} "
                f"ms on average and {decimals(most)} ms at most: they come from different calls, or from clocks that "
                "differ."
            ),
            mend="Take stages and total from marks on one timeline of one call",
        ),
    )


def negative_stage(measurements: Measurements) -> RuleOutcome:
    """No time is negative, and no call takes none."""
    from polars import any_horizontal, col

    rows = measurements.measured
    names = [name for name in (*STAGE_COLUMNS, "ttft_ms", "tpot_ms") if measurements.has(name)]
    bad = rows.filter(any_horizontal(*(col(name) < 0 for name in names), col("total_ms") == 0))
    if bad.is_empty():
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="negative-stage",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[f"{key_of(row)}: {_negatives(row, names)}" for row in bad.head(5).to_dicts()],
            reason=f"{counted(bad.height, 'sample')} with a time below 0, or a total of 0: a difference of two "
            "measurements that don't belong together, or a clock that was set back.",
            mend="Use a monotonic clock, and no stage that is a difference of separate measurements",
        ),
    )


def residual_too_large(measurements: Measurements) -> RuleOutcome:
    """What no stage explains (`other`, or the total less the stages) as a share of the total."""
    from polars import col, when

    counted_residual = (
        when(col("other_ms").is_not_null()).then(col("other_ms")).otherwise(col("total_ms") - stage_sum())
    )
    rows = measurements.used.with_columns(share=counted_residual / col("total_ms")).filter(col("share").is_not_null())
    fits = col("total_ms") + rounding_room() >= stage_sum()  # of the others too much is in stages, as their rule says
    bad = rows.filter(col("share") > RESIDUAL_SHARE, fits)
    if rows.is_empty():
        return NotJudged("no sample has a total and its stages")
    if bad.is_empty():
        return Judged(rows.height)
    shown = worst_rows(bad, col("share"))
    many = bad.height / rows.height >= RESIDUAL_SAMPLES
    return Judged(
        rows.height,
        AuditFinding(
            code="residual-too-large",
            severity="warning" if many else "info",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {percent(row['share'])} of {decimals(row['total_ms'])} ms is in no stage"
                for row in shown
            ],
            reason=(
                f"In {counted(bad.height, 'sample')} more than {percent(RESIDUAL_SHARE)} of the call is in none of "
                "the stages: a stage is missed or cut short, or the host does something else there."
            ),
            mend="Look at these calls with laptime trace; check that every chunk and block is inside its stage",
        ),
    )


def _remainder() -> polars.Expr:
    from polars import col, sum_horizontal

    before = [col(name).fill_null(0.0) for name in BEFORE_DECODE]
    return col("total_ms") - sum_horizontal(before)


def stage_sum() -> polars.Expr:
    """The stages of a sample, `other` among them, as a sum; what is null counts as 0."""
    from polars import sum_horizontal

    return sum_horizontal(*BEFORE_DECODE, "decode_ms", "other_ms")


DIGITS = (-1, 0, 1)
"""Decimals to which a row's times may have been rounded, fewer than the hundredths that ROUNDING_MS is for."""

ROUNDED = 2
"""So many stages of a row that are whole steps are so by rounding, not by chance."""


def rounding_room() -> polars.Expr:
    """By how much a row's sum may differ from its total: more where the stages or the total were rounded to more."""
    from polars import all_horizontal, col, lit, sum_horizontal, when

    names = (*BEFORE_DECODE, "decode_ms", "other_ms")
    there = sum_horizontal((col(name).fill_null(0.0) != 0).cast(int) for name in names)
    room = lit(ROUNDING_MS)
    for digits in reversed(DIGITS):
        step = 10.0**-digits
        rounded = all_horizontal(
            ((col(name) - (col(name) / step).round(0) * step).abs() < 1e-9).fill_null(value=True) for name in names
        )
        half = step / 2
        room = when(rounded & (there >= ROUNDED)).then((there + 1) * half + ROUNDING_MS).otherwise(room)
    return room


def _all_or(part: int, whole: int) -> str:
    return f"all {whole:,}" if part == whole else f"{part:,} of {whole:,}"


def _sum_words(row: dict[str, float | None]) -> str:
    if row.get("total_ms") is None or row.get("prefill_ms") is None:
        return ""
    parts = {name: row[name] or 0.0 for name in BEFORE_DECODE if row[name] is not None}
    words = " + ".join(f"{name.removesuffix('_ms')} {decimals(ms)}" for name, ms in parts.items())
    added = f"{words} = {decimals(sum(parts.values()))}"
    return f"; {added}, total {decimals(row['total_ms'])}"


def _less(row: dict[str, float | None]) -> str:
    return "".join(f" − {name.removesuffix('_ms')} {decimals(row[name])}" for name in BEFORE_DECODE if row[name])


def _negatives(row: dict[str, float | None], names: list[str]) -> str:
    below = [f"{n.removesuffix('_ms')} {decimals(v)} ms" for n in names if (v := row[n]) is not None and v < 0]
    return ", ".join(below) or "total 0 ms"


def _histogram(values: polars.Series, title: str, x: str) -> AuditPicture:
    import numpy as np

    counts, edges = np.histogram(values.to_numpy(), bins=BARS)
    points = [AuditPoint(round(float(left), 2), float(n)) for left, n in zip(edges[:-1], counts, strict=True)]
    return AuditPicture(kind="bars", title=title, x=x, y="samples", points=points)


RULES = (
    Rule("zero-decode", "decode above 0 wherever two tokens or more came", ("decode_ms", "output_tokens"), zero_decode),
    Rule(
        "subtracted-decode",
        "decode measured, not left over",
        ("decode_ms", "prefill_ms", "total_ms", "output_tokens"),
        subtracted_decode,
    ),
    Rule(
        "stage-sum-exceeds-total",
        "stages within their call",
        ("prefill_ms", "decode_ms", "total_ms"),
        stage_sum_exceeds_total,
    ),
    Rule("negative-stage", "no time below 0", (), negative_stage),
    Rule(
        "residual-too-large",
        "most of a call inside its stages",
        ("prefill_ms", "decode_ms", "total_ms"),
        residual_too_large,
    ),
)
