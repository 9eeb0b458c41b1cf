"""Rules about tokens: what decode is divided by, and whether the forwards match the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.ranks import ERROR, trend
from laptime.audits.result import AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, decimals, key_of, percent, worst_rows
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

BUCKETS = ((2, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""Numbers of output tokens that are shown together. The off-by-one halves the first and hardly moves the last."""

FEWEST = 30
"""Samples below which the growth with N is not judged."""

GROWTH = 0.5
"""Per-token times grow as ((N - 1)/N) to this power: 1 when divided by N, 0 when divided by N - 1. Half-way decides."""


def decode_per_token_by_n(measurements: Measurements) -> RuleOutcome:
    """Per-token times that are decode / N, or grow with N as (N - 1)/N does: N tokens need N - 1 forwards."""
    from polars import col

    rows = measurements.of("output_tokens", "decode_ms", "decode_per_token_ms")
    rows = rows.filter(col("output_tokens") >= 2, col("decode_per_token_ms") > 0)
    if measurements.has("decode_ms"):
        by_n = _divided_by_n(rows)
        if by_n is not None:
            return Judged(rows.height, by_n)
        if rows.filter(col("decode_ms").is_not_null()).height == rows.height:
            return Judged(rows.height)  # every one of them was divided rightly
    if rows.height < FEWEST or rows["output_tokens"].n_unique() < 2:
        return NotJudged(f"needs column decode_ms, or {FEWEST} samples with different numbers of tokens")
    return Judged(rows.height, _grows_with_n(rows))


def forwards_mismatch(measurements: Measurements) -> RuleOutcome:
    """N tokens need N - 1 decode forwards, counted as they ran."""
    from polars import col

    rows = measurements.of("output_tokens", "decode_forwards", "drafted_tokens")
    rows = rows.filter(col("output_tokens").is_not_null(), col("decode_forwards").is_not_null())
    if measurements.has("drafted_tokens"):
        rows = rows.filter(col("drafted_tokens").is_null())  # an assisted call's forward gives several tokens
    bad = rows.filter(col("decode_forwards") != col("output_tokens") - 1)
    if bad.is_empty():
        return Judged(rows.height)
    shown = worst_rows(bad, (col("decode_forwards") - col("output_tokens") + 1).abs())
    return Judged(
        rows.height,
        AuditFinding(
            code="forwards-mismatch",
            severity="warning",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['decode_forwards']} decode forwards for {row['output_tokens']} tokens"
                for row in shown
            ],
            reason=f"In {counted(bad.height, 'sample')} the decode forwards that ran are not the output tokens less "
            f"one, so decode per token means something else there; it is left empty. {_how(bad)}",
            mend="Count tokens from the returned ids without prompt and padding; compare whole decode times, or turn "
            "assisted decoding off",
        ),
    )


def _how(bad: polars.DataFrame) -> str:
    """What would look so: more tokens than forwards give, or fewer."""
    from polars import col

    more = bad.filter(col("output_tokens") - 1 > col("decode_forwards")).height
    if more == bad.height:
        return (
            "Assisted decoding, padding counted as tokens, or tokens counted anew by another tokenizer would each look "
            "so."
        )
    if more:
        return "Some have more tokens, some fewer: tokens counted anew by another tokenizer would look so."
    return (
        "There are fewer tokens than forwards: a forward past the end, tokens that were cut off or skipped, or another "
        "tokenizer would each look so."
    )


def _divided_by_n(rows: polars.DataFrame) -> AuditFinding | None:
    """The finding when stored per-token times equal decode / N rather than decode / (N - 1)."""
    from polars import col

    wrong, right = col("decode_ms") / col("output_tokens"), col("decode_ms") / (col("output_tokens") - 1)
    near_wrong = (col("decode_per_token_ms") - wrong).abs() < (col("decode_per_token_ms") - right).abs()
    close = (col("decode_per_token_ms") - wrong).abs() <= 0.25 * (right - wrong).abs() + 0.005
    compared = rows.filter(col("decode_ms") > 0, col("output_tokens") >= 2)
    bad = compared.filter(near_wrong & close)
    if not compared.height or bad.height / compared.height < 0.5:
        return None
    table, picture = _by_bucket(bad["output_tokens"].to_numpy(), bad["decode_per_token_ms"].to_numpy())
    shown = worst_rows(bad, -col("output_tokens"))
    return AuditFinding(
        code="decode-per-token-by-N",
        severity="severe",
        count=bad.height,
        of=compared.height,
        examples=[
            f"{key_of(row)}: {row['decode_per_token_ms']:.2f} ms = {row['decode_ms']:.2f} / {row['output_tokens']}; "
            f"{row['output_tokens'] - 1} forwards take {row['decode_ms'] / (row['output_tokens'] - 1):.2f} ms each"
            for row in shown
        ],
        reason=f"Decode per token is decode / N in {percent(bad.height / compared.height)} of the samples, but N "
        f"tokens need N − 1 decode forwards, so short outputs look faster than they are. {table}",
        mend="Divide by N − 1 (laptime does), and leave it empty where N = 1",
        picture=picture,
    )


def _grows_with_n(rows: polars.DataFrame) -> AuditFinding | None:
    """The finding when per-token times follow (N - 1)/N: judged by the slope of their logarithms, robustly."""
    from polars import col

    tokens, values = rows["output_tokens"].to_numpy(), rows["decode_per_token_ms"].to_numpy()
    log = col("decode_per_token_ms").log()
    logs = rows.select(log - log.median().over("config_id")).to_series().to_numpy()
    growth = trend(np.log((tokens - 1) / tokens), logs, 1 - ERROR)
    if growth is None or growth.low <= GROWTH or growth.slope > 2 - GROWTH:
        return None
    table, picture = _by_bucket(tokens, values)
    short = rows.sort("output_tokens", "row").head(5).to_dicts()
    return AuditFinding(
        code="decode-per-token-by-N",
        severity="severe",
        count=rows.height,
        of=rows.height,
        examples=[
            f"{key_of(row)}: {row['decode_per_token_ms']:.2f} ms with {row['output_tokens']} tokens, "
            f"{row['decode_per_token_ms'] * row['output_tokens'] / (row['output_tokens'] - 1):.2f} by N − 1"
            for row in short
        ],
        reason=f"Decode per token grows with the number of tokens as (N − 1)/N does (power {decimals(growth.slope)}, "
        f"at 99 % {decimals(growth.low)} to {decimals(growth.high)}): it was divided by N, not by the N − 1 forwards. "
        f"{table}",
        mend="Multiply by N/(N − 1), or divide decode by N − 1 (laptime does)",
        picture=picture,
    )


def _by_bucket(tokens: Floats, values: Floats) -> tuple[str, AuditPicture]:
    """Median per-token times by number of tokens, as stored and by N - 1, in words and as a picture."""
    stored, mended, words = [], [], []
    for low, high in BUCKETS:
        inside = (tokens >= low) & (tokens <= (high or np.inf))
        if not inside.any():
            continue
        name = f"{low}" if low == high else f"{low}–{high}" if high else f"{low}+"
        before = float(np.median(values[inside]))
        after = float(np.median(values[inside] * tokens[inside] / (tokens[inside] - 1)))
        stored.append(AuditPoint(name, round(before, 3)))
        mended.append(AuditPoint(name, round(after, 3)))
        words.append(f"N = {name}: {before:.1f} → {after:.1f}")
    picture = AuditPicture(
        kind="bars",
        title="Decode per token by output tokens: as stored, and divided by N − 1",
        x="output tokens N",
        y="ms per token",
        points=stored,
        expected=mended,
    )
    return f"As stored → by N − 1, median ms: {', '.join(words)}.", picture


RULES = (
    Rule(
        "decode-per-token-by-N",
        "decode divided by N − 1",
        ("decode_per_token_ms", "output_tokens"),
        decode_per_token_by_n,
    ),
    Rule(
        "forwards-mismatch",
        "as many decode forwards as tokens less one",
        ("output_tokens", "decode_forwards"),
        forwards_mismatch,
    ),
)
