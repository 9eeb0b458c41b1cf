"""Rules about figures that contradict each other: what is stored beside the stages must agree with them."""

from __future__ import annotations

from math import log
from typing import Any

from laptime.audits.arithmetic import ROUNDING_MS
from laptime.audits.measurements import AT_ONCE_MS, Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, worst_rows
from laptime.audits.starts import ends_as_starts, start_step_ms
from laptime.data.columns import KEY, STAGE_COLUMNS, has_flag
from laptime.data.record import STAGES

APART = 0.02
"""A stored per-token time that differs by less from decode / (N - 1) is another rounding, or another end of decode."""

OVERLAP_MS = 2.0
"""Start times are kept in whole milliseconds by some programs, and clocks are corrected by a few."""

OVERLAP_SHARE = 0.02
"""Of the call before: a smaller overlap is that of the clocks, not of the work."""


def per_token_not_decode(measurements: Measurements) -> RuleOutcome:
    """A stored time per token that is neither decode / (N - 1) nor decode / N."""
    from polars import col

    rows = (
        measurements.of("output_tokens", "decode_ms", "decode_per_token_ms")
        .filter(col("output_tokens") >= 2, col("decode_ms") > 0, col("decode_per_token_ms").is_not_null())
        .with_columns(right=col("decode_ms") / (col("output_tokens") - 1), by_n=col("decode_ms") / col("output_tokens"))
    )
    stored = col("decode_per_token_ms")
    bad = rows.filter(
        (stored - col("right")).abs() > APART * col("right") + ROUNDING_MS,
        (stored - col("by_n")).abs() > APART * col("by_n") + ROUNDING_MS,
    )
    if bad.is_empty():
        return Judged(rows.height)
    factor = bad.select((stored / col("right")).median()).item()
    rate = bad.select(((stored * col("right") / 1e3).log().abs() < log(1.25)).mean()).item()
    likely = "It is about 1,000 / decode per token: tokens per second. " if rate >= 0.9 and not 0.5 < factor < 2 else ""
    return Judged(
        rows.height,
        AuditFinding(
            code="per-token-not-decode",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: stored {row['decode_per_token_ms']:.2f} ms, decode / {row['output_tokens'] - 1} is "
                f"{row['right']:.2f} ms"
                for row in worst_rows(bad, (stored / col("right")).log().abs())
            ],
            reason=f"In {counted(bad.height, 'sample')} the stored time per token is not decode / (N − 1) and not "
            f"decode / N; at the median it is {factor:.2f} times the first. {likely}Prefill in it, a chunk of several "
            "tokens taken for one, a padded batch, or a decode stage with another end would each look so.",
            mend="Say how the time per token was obtained; compare decode / (N − 1), which laptime works out",
        ),
    )


BEFORE_PREFILL = tuple(f"{name}_ms" for name in STAGES[: STAGES.index("prefill")])
"""The stages that the first token waits for, beside prefill."""


def ttft_below_prefill(measurements: Measurements) -> RuleOutcome:
    """A first token before its prefill was over."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "ttft_ms")
    rows = rows.filter(col("ttft_ms").is_not_null(), col("prefill_ms").is_not_null())
    before = [col(name).fill_null(0.0) for name in BEFORE_PREFILL]
    needed = sum(before, col("prefill_ms"))
    bad = rows.with_columns(needed=needed).filter(col("ttft_ms") < col("needed") - ROUNDING_MS)
    if bad.is_empty():
        return Judged(rows.height)
    small = bad.select((col("ttft_ms") / col("needed")).is_between(1e-3, 3e-3).mean()).item()
    seconds = "It is about a thousandth of them: seconds, probably. " if small >= 0.9 else ""
    return Judged(
        rows.height,
        AuditFinding(
            code="ttft-below-prefill",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: first token after {row['ttft_ms']:.2f} ms, vision and prefill take {row['needed']:.2f}"
                for row in worst_rows(bad, col("needed") - col("ttft_ms"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) the first token comes "
            f"before vision and prefill are over. {seconds}A TTFT that counts from scheduling or leaves the encoder "
            "out, stages of another call, or a clock that only saw the launches would each look so.",
            mend="Take TTFT and the stages from marks of one call, and say where TTFT begins",
        ),
    )


_BY_OVERLAPS = ("row", *KEY, "worker", "started_unix_ms", "total_ms", "prefill_ms", "queue_ms", "flags")


def overlapping_calls(measurements: Measurements) -> RuleOutcome:
    """A worker's call that begins before its call before has ended.

    Requests to a server (they have no prefill of their own, or a queue) and calls that were seen to overlap (their flag
    says so) are meant to run together.
    """
    from polars import col

    meant = col("prefill_ms").is_null() | col("queue_ms").is_not_null() | has_flag("overlapped").fill_null(value=False)
    meant = meant | has_flag("repeated-key").fill_null(value=False)  # the same call twice is no overlap
    rows = measurements.frame.select(_BY_OVERLAPS).filter(col("started_unix_ms") > 0, col("total_ms") > 0, ~meant)
    rows = rows.sort("started_unix_ms", "row")
    ends = (col("started_unix_ms") + col("total_ms")).shift(1).over("worker")
    before = col("total_ms").shift(1).over("worker")
    rows = rows.with_columns(over=ends - col("started_unix_ms"), before=before)
    bad = rows.filter(col("over") > OVERLAP_MS + start_step_ms(rows), col("over") > OVERLAP_SHARE * col("before"))
    if bad.is_empty():
        return Judged(rows.height)
    if ends_as_starts(rows, bad.height):
        why = "Taken as ends, the start times of the same calls (nearly) never overlap: ends were probably written."
    else:
        why = (
            "Requests in flight together, several workers under one name, or a clock that was set back would each "
            "look so."
        )
    return Judged(
        rows.height,
        AuditFinding(
            code="overlapping-calls",
            severity="warning",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: begins {row['over']:.1f} ms before the end of the call before, which takes "
                f"{row['before']:.1f} ms"
                for row in worst_rows(bad, col("over"))
            ],
            reason=f"{counted(bad.height, 'call')} of one worker begin before the one before has ended, by what is "
            f"written. If so, they shared the device, or their times hold waiting. {why}",
            mend="Measure one call at a time, name each worker, and write when a call begins",
        ),
    )


GAPS_APART = 0.1
"""Of decode, and one step more: between tokens lie choosing a token and preparing a step that decode may leave out."""

SEVERAL, FEW = 3, 0.02
"""Fewer samples, or a smaller share, are single calls that something interrupted between two marks."""


_BY_TOKENS = ("output_tokens", "decode_forwards", "batch", "ttft_ms", "tpot_ms")


def gaps_not_decode(measurements: Measurements) -> RuleOutcome:
    """Gaps between tokens that don't sum to decode, are too many or too few, or lie beyond the call's end."""
    from polars import col, lit, when

    if not measurements.has("tpot_ms") and not measurements.has("gaps_ms"):
        return NotJudged("no column itl_ms or tpot_ms")
    there = [name for name in ("gaps", "gaps_ms") if name in measurements.frame.columns]
    frame = measurements.of(*STAGE_COLUMNS, *_BY_TOKENS, *there)
    if not there:
        frame = frame.with_columns(gaps=lit(None), gaps_ms=lit(None))
    steps = col("output_tokens") - 1
    own = col("queue_ms").is_null() & (col("batch").fill_null(1) == 1)
    as_many = (col("decode_forwards").is_null()) | (col("decode_forwards") == steps)
    whole = col("decode_ms").is_null() & (col("ttft_ms") > 0) & (col("total_ms") > 0)  # as a client sees a call
    rows = frame.filter(own & as_many, steps >= 1, (col("decode_ms") > 0).fill_null(value=False) | whole).with_columns(
        between=when(col("gaps_ms").is_not_null()).then(col("gaps_ms")).otherwise(col("tpot_ms") * steps), steps=steps
    )
    rows = rows.filter(col("between").is_not_null())
    if rows.is_empty():
        return NotJudged("no sample has decode (or TTFT and a total), its tokens and the gaps between them")
    room = col("decode_ms") * (GAPS_APART + 1 / col("steps")) + ROUNDING_MS
    rounded = when(col("decode_ms").is_null()).then(TTFT_APART * col("total_ms")).otherwise(ROUNDING_MS)
    bad = rows.with_columns(
        other_sum=((col("between") - col("decode_ms")).abs() > room).fill_null(value=False),
        other_count=(col("gaps") != col("steps")).fill_null(value=False),
        too_long=(col("ttft_ms") + col("between") > col("total_ms") + rounded).fill_null(value=False),
    ).filter(col("other_sum") | col("other_count") | col("too_long"))
    if bad.height < max(SEVERAL, FEW * rows.height):
        return Judged(rows.height)
    sums, counts, long = (int(bad[name].sum()) for name in ("other_sum", "other_count", "too_long"))
    parts = [f"in {sums:,} they don't sum to decode"] if sums else []
    parts += [f"in {counts:,} they are not one fewer than the tokens"] if counts else []
    parts += [f"in {long:,} TTFT and gaps together are longer than the call"] if long else []
    ratio = (col("between") / col("decode_ms").fill_null(col("total_ms"))).log().abs()
    return Judged(
        rows.height,
        AuditFinding(
            code="gaps-not-decode",
            severity="severe" if sums or long else "warning",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {'' if row['gaps'] is None else format(row['gaps'], ',') + ' '}gaps of together "
                f"{row['between']:.2f} ms, {_beside(row)} with {row['output_tokens']} tokens"
                for row in worst_rows(bad, ratio)
            ],
            reason=f"The gaps between tokens (ITL, or TPOT times N − 1) contradict the rest in "
            f"{counted(bad.height, 'sample')}: {', '.join(parts)}. A gap for each chunk of several tokens, prefill in "
            "a gap, gaps of the call before in the same list, or a clock that leaves something out would each look so.",
            mend="Take one instant for each token of this call alone; N tokens have N − 1 gaps",
        ),
    )


def _beside(row: dict[str, Any]) -> str:
    """What the gaps are held against."""
    if row["decode_ms"] is not None:
        return f"decode {row['decode_ms']:.2f} ms"
    return f"TTFT {row['ttft_ms']:.2f} and total {row['total_ms']:.2f} ms"


TTFT_APART, TTFT_APART_MS = 0.02, 1.0
"""Of the total: TTFT ends when the host has the first token, a little after prefill's end on the device."""


def ttft_holds_decode(measurements: Measurements) -> RuleOutcome:
    """A first token after which too little of the call is left for its decode."""
    from polars import col, lit, max_horizontal

    rows = measurements.of(*STAGE_COLUMNS, "ttft_ms", "output_tokens", "batch").filter(
        col("ttft_ms") > 0, col("decode_ms") > 0, col("total_ms") > 0, col("queue_ms").is_null(),
        col("output_tokens") >= 2, col("batch").fill_null(1) == 1,
    )  # fmt: skip
    if rows.is_empty():
        return NotJudged("no call with TTFT, decode and a total")
    room = max_horizontal(TTFT_APART * col("total_ms"), lit(TTFT_APART_MS))
    bad = rows.with_columns(over=col("ttft_ms") + col("decode_ms") - col("total_ms")).filter(col("over") > room)
    if bad.height < max(SEVERAL, FEW * rows.height):
        return Judged(rows.height)
    share = float((bad["over"] / bad["decode_ms"]).median() or 0.0)  # type: ignore[arg-type]
    return Judged(
        rows.height,
        AuditFinding(
            code="ttft-holds-decode",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: first token after {row['ttft_ms']:.2f} ms, decode {row['decode_ms']:.2f} ms, total "
                f"{row['total_ms']:.2f} ms"
                for row in worst_rows(bad, col("over"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) TTFT and decode together "
            f"are longer than the call, by {percent(share)} of decode at the median: the instant that is called the "
            "first token lies within decode. A client that waits for the first visible text while a model thinks, a "
            "first chunk of several tokens, or stages of another call would each look so.",
            mend="Take TTFT when the first token comes, whatever it is, and say how many tokens a chunk holds",
        ),
    )


MANY_GAPS, AT_ONCE = 4, 0.4
"""From so many gaps on a call is judged; and the share of them in which no step can have run."""


def gaps_in_bursts(measurements: Measurements) -> RuleOutcome:
    """Gaps between tokens so short that no forward lies in them: tokens that came several at once."""
    from polars import col

    if not measurements.has("gaps_at_once"):
        return NotJudged("no column itl_ms")
    rows = measurements.of("gaps", "gaps_at_once", "gaps_ms", "output_tokens", "drafted_tokens")
    rows = rows.filter(col("gaps") >= MANY_GAPS, col("drafted_tokens").is_null())
    bad = rows.filter(col("gaps_at_once") >= AT_ONCE * col("gaps"))
    if bad.height < max(SEVERAL, GAPS_APART * rows.height):
        return Judged(rows.height)
    together = float((bad["gaps"] / (bad["gaps"] - bad["gaps_at_once"]).clip(1)).median() or 0.0)
    return Judged(
        rows.height,
        AuditFinding(
            code="gaps-in-bursts",
            severity="warning",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['gaps_at_once']:,} of {row['gaps']:,} gaps below {AT_ONCE_MS * 1e3:.0f} µs"
                for row in worst_rows(bad, col("gaps_at_once") / col("gaps"))
            ],
            reason=f"In {counted(bad.height, 'sample')} ({percent(bad.height / rows.height)}) many gaps between tokens "
            f"are shorter than any forward, below {AT_ONCE_MS * 1e3:.0f} µs: about {together:.1f} tokens came at a "
            "time. A proxy or a client that buffers, chunks of several tokens, or speculative decoding would each look "
            "so. The mean gap is right; the median is far too small, and high percentiles are those of whole bursts.",
            mend="Judge such calls by the mean (TPOT), or take a gap for each step of the engine",
        ),
    )


RULES = (
    Rule(
        "per-token-not-decode",
        "stored per-token times are decode's",
        ("decode_per_token_ms", "decode_ms", "output_tokens"),
        per_token_not_decode,
    ),
    Rule("ttft-below-prefill", "no first token before prefill is over", ("ttft_ms", "prefill_ms"), ttft_below_prefill),
    Rule("gaps-not-decode", "gaps between tokens sum to decode", ("output_tokens",), gaps_not_decode),
    Rule(
        "ttft-holds-decode",
        "no decode before the first token",
        ("ttft_ms", "decode_ms", "total_ms"),
        ttft_holds_decode,
    ),
    Rule("gaps-in-bursts", "a forward in each gap", ("output_tokens",), gaps_in_bursts),
    Rule(
        "overlapping-calls",
        "one call at a time on a worker",
        ("started_unix_ms", "total_ms", "prefill_ms"),
        overlapping_calls,
    ),
)
