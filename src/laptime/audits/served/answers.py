"""Requests that are counted as what they may not be: answers without a token, and more under way than was asked."""

from __future__ import annotations

from statistics import median

from laptime.audits.rule import Judged, NotJudged, RuleOutcome, counted
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult
from laptime.audits.served.rule import figure, found, good_of

EMPTY_SEVERE, MOST_EMPTY, FAST = 0.05, 0.5, 0.1
"""From this share on figures change; with more, the file counts no tokens; so fast no answer is."""
JITTER_MS, MORE = 2.0, 1.05


def empty_answers(result: ServedResult) -> RuleOutcome:
    """Finished requests without a single token."""
    good = good_of(result)
    full = [r for r in good if r.output_tokens]
    if result.batches or len(full) < max(1, MOST_EMPTY * len(good)):
        return NotJudged("the file doesn't count the tokens of most requests")
    empty = [r for r in good if not r.output_tokens]
    if not empty:
        return Judged(len(good))
    usual = median([r.total_ms for r in full if r.total_ms] or [0.0])
    fast = [r for r in empty if (r.total_ms or 0.0) < FAST * usual]
    share = len(empty) / len(good)
    said = (
        f"{counted(len(fast), 'request')} of them took less than a tenth of what the others take, and make means and "
        "percentiles look fast. "
        if fast
        else ""
    )
    return found(
        "empty-answers", "severe" if fast and share >= EMPTY_SEVERE else "warning", len(empty), len(good),
        [_shown(r) for r in empty],
        "Requests without one token of an answer stand among the finished ones. " + said
        + "Requests that failed, and whose failure wasn't noticed, look so. So do answers that end at once, and those "
        "whose tokens the client doesn't count (a call of a tool, thinking).",
        "Look at what the server answered; leave out what failed, and say how many that were", "request",
    )  # fmt: skip


def _shown(r: ServedRequest) -> str:
    count = "no count of tokens" if r.output_tokens is None else f"{r.output_tokens} tokens"
    return f"{count}, the request {'of unknown time' if r.total_ms is None else f'{figure(r.total_ms)} ms'}"


def more_at_once(result: ServedResult) -> RuleOutcome:
    """More requests under way than the load says."""
    known = [(level, peak) for level in result.levels if (peak := _peak(level)) is not None]
    if not known or result.batches:
        return NotJudged("no load names how many requests at once, beside their starts and times")
    over = [(level, peak) for level, peak in known if peak > MORE * (level.concurrency or 0)]
    if not over:
        return Judged(len(known))
    return found(
        "more-at-once", "warning", len(over), len(known),
        [f"{level.name}: {peak} under way, {level.concurrency} asked" for level, peak in over],
        "More requests were under way at once than the load says, so the server had more to do than its name. A limit "
        "that holds for each of several clients, figures under the name of another load, and starts that count from "
        "when a request was due look so.",
        "Name the load by what was under way, or mend the client's limit", "load",
    )  # fmt: skip


def _peak(level: ServedLevel) -> int | None:
    """The most requests under way at once; None where the file doesn't say."""
    rows = level.requests
    if not level.concurrency or not rows or any(r.start_s is None or not r.total_ms for r in rows):
        return None
    begins = [((r.start_s or 0.0) * 1e3 + JITTER_MS, 1) for r in rows]
    ends = [((r.start_s or 0.0) * 1e3 + max((r.total_ms or 0.0) - JITTER_MS, JITTER_MS), -1) for r in rows]
    peak = now = 0
    for _, step in sorted(begins + ends):
        now += step
        peak = max(peak, now)
    return peak
