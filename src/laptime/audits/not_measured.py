"""Rules about calls of which something was not measured and stands there all the same, or is missing unsaid."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, worst_rows
from laptime.audits.units import in_seconds_too

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    pass

WHOLE, WHOLE_MS = 0.02, 1.0
"""A first token that comes so late in its call came with the rest."""
FAST, EMPTY_FAST = 0.05, 0.1
"""No call of the same work takes so small a share of what the others take; none without an answer this one."""
APART = 2.0
"""Nothing lies between the two kinds of calls: by so much the slowest of these is faster than any other."""
SEVERAL, SHARE, MOST = 2, 0.005, 0.4
"""So many calls and such a share of them tell; with more, the others may be the odd ones."""


def times_missing(measurements: Measurements) -> RuleOutcome:
    """Samples without a total, where others have one."""
    from polars import col

    rows = measurements.measured
    without = rows.filter(col("total_ms").is_null())
    if without.is_empty():
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="times-missing",
            severity="warning",
            count=without.height,
            of=rows.height,
            examples=[f"{key_of(row)}: no total" for row in without.head(5).to_dicts()],
            reason=f"{counted(without.height, 'sample')} ({percent(without.height / rows.height)}) have no usable "
            "total: the cell is empty, or holds no number, infinity, or a number that no time can be. No rule can "
            "judge them, and no figure counts them. If slow calls or failed ones are written so, the others look "
            "faster than the whole.",
            mend="Find out why they have none; write how many failed beside each figure",
        ),
    )


def first_not_seen(measurements: Measurements) -> RuleOutcome:
    """First tokens after 0 ms."""
    from polars import col

    rows = measurements.of("ttft_ms", "output_tokens", "total_ms").filter(
        col("ttft_ms").is_not_null(), col("total_ms") > 0, (col("output_tokens") > 0).fill_null(value=True)
    )
    if rows.is_empty():
        return NotJudged("no call with TTFT and a total")
    bad = rows.filter(col("ttft_ms") == 0)
    if bad.is_empty():
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="ttft-not-seen",
            severity="severe" if bad.height > rows.height / 2 else "warning",
            count=bad.height,
            of=rows.height,
            examples=[f"{key_of(row)}: TTFT 0 ms, total {row['total_ms']:.2f} ms" for row in bad.head(5).to_dicts()],
            reason=f"TTFT is exactly 0 in {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}): no "
            "first token was seen, and the field kept the value it began with. An answer that wasn't streamed, a "
            "stream that the client reads in another form, and a first token that held no text look so.",
            mend="Write nothing where no first token was seen; a time per token from it holds the first token",
        ),
    )


def not_streamed(measurements: Measurements) -> RuleOutcome:
    """First tokens that come when the whole answer does."""
    from polars import col, lit, min_horizontal

    rows = measurements.of("ttft_ms", "output_tokens", "total_ms").filter(
        col("ttft_ms") > 0, col("total_ms") > 0, col("output_tokens") >= 2
    )
    if rows.is_empty():
        return NotJudged("no answer of several tokens with TTFT and a total")
    room = min_horizontal(WHOLE * col("total_ms"), lit(WHOLE_MS))
    bad = rows.filter((col("total_ms") - col("ttft_ms")).abs() <= room)
    if bad.height <= rows.height / 2:
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="not-streamed",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: first token after {row['ttft_ms']:.2f} ms, total {row['total_ms']:.2f} ms, "
                f"{row['output_tokens']} tokens"
                for row in worst_rows(bad, col("output_tokens"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) with two tokens or more "
            "the first token comes with the end of the call, so TTFT is the total under another name, and nothing "
            "is left for decode. An answer that wasn't streamed, a proxy that holds it back, and one field filled from "
            "another would each look so.",
            mend="Ask for a stream and take the instant of its first token; else give the total alone",
        ),
    )


def ended_at_once(measurements: Measurements) -> RuleOutcome:
    """Calls that take a twentieth of what the same work takes, or less: they can't have done it."""
    from polars import col, when

    rows = measurements.used
    if rows.height < 10 * SEVERAL:
        return NotJudged(f"fewer than {10 * SEVERAL} samples to compare")
    empty = (col("output_tokens") == 0).fill_null(value=False) & (col("output_tokens") > 0).any()
    usual = col("total_ms").median().over("config_id")
    rows = rows.with_columns(away=when(empty).then((col("total_ms") / usual).log()).otherwise(col("deviation")))
    fast = (col("away") < log(FAST)) | (empty & (col("away") < log(EMPTY_FAST)))
    bad = rows.filter(fast)
    if not max(SEVERAL, SHARE * rows.height) <= bad.height <= MOST * rows.height or in_seconds_too(measurements):
        return Judged(rows.height)
    slowest, next_one = bad["away"].max(), rows.filter(~fast)["away"].min()
    if slowest is None or next_one is None or float(next_one) - float(slowest) < log(APART):  # type: ignore[arg-type]
        return Judged(rows.height)
    none = bad.filter(col("output_tokens") == 0).height
    said = f" Without one token: {none}." if none else ""
    return Judged(
        rows.height,
        AuditFinding(
            code="ended-at-once",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: total {row['total_ms']:.4g} ms, the same work usually {_usual(row):.4g} ms"
                for row in worst_rows(bad, -col("deviation"))
            ],
            reason=f"{counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) took less than a twentieth "
            f"of what the same work takes (without an answer, a tenth).{said} Calls that failed and stand as finished "
            "ones look so; so do answers from a cache of whole answers, and rows of another unit.",
            mend="Look at what these calls returned; take out what failed, and say how many that were",
        ),
    )


def _usual(row: dict[str, float]) -> float:
    return float(row["equal_ms"] / np.exp(row["deviation"]))


RULES = (
    Rule("times-missing", "a total for each sample", ("total_ms",), times_missing),
    Rule("ttft-not-seen", "a first token that was seen", ("ttft_ms", "total_ms"), first_not_seen),
    Rule("not-streamed", "a first token before the end", ("ttft_ms", "total_ms", "output_tokens"), not_streamed),
    Rule("ended-at-once", "calls that can have done their work", ("total_ms",), ended_at_once),
)
