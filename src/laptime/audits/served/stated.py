"""What a result says of a load as a whole, against its own requests, counts and duration."""

from __future__ import annotations

from statistics import fmean, median

from laptime.audits.rule import Judged, NotJudged, RuleOutcome
from laptime.audits.served.result import ServedLevel, ServedResult
from laptime.audits.served.rule import after_first, figure, found

SAME = 0.05
"""What a summary may be off: warm-up calls that it leaves out, and ends of a run that are counted in two ways."""
SAME_MS = 0.1
WORDS = {"TTFT": "TTFT", "request": "the request's time", "token": "time per token", "gap": "the gaps"}


def summary_unlike_rows(result: ServedResult) -> RuleOutcome:
    """Means, medians and rates that don't follow from the file's own requests, counts and duration."""
    judged, rows, count = 0, [], 0
    for level in result.levels:
        pairs = [*_times(level), *_rates(level)]
        judged += bool(pairs)
        unlike = [
            f"{level.name}: {name} {figure(said)}, but {why} give {figure(due)}"
            for name, why, said, due, slack in pairs
            if abs(said - due) > max(slack, SAME * max(abs(said), abs(due)))
        ]
        rows += unlike
        count += bool(unlike)
    if not judged:
        return NotJudged("the file gives no means or rates beside what they are made of")
    if not rows:
        return Judged(judged)
    return found(
        "summary-unlike-rows", "severe", count, judged, rows,
        "Figures of the summary don't follow from the file's own requests, counts and duration; which of the two is "
        "wrong can't be seen. A figure that is a thousand times off may be in another unit. A file that was edited or "
        "joined from two runs, or figures over other requests than those that the file keeps, look so.",
        "Use neither until you know why; work the figures out again from the requests", "load",
    )  # fmt: skip


Stated = tuple[str, str, float, float, float]
"""A figure's name, what it should follow from, what is said, what follows, and how far apart is near enough."""


def _times(level: ServedLevel) -> list[Stated]:
    """Times, where the file keeps exactly the requests that it counts as finished."""
    good = level.good
    if not good or level.finished != len(good) or any(r.ttft_ms == 0 for r in good):
        return []
    timed = all(r.ttft_ms is not None for r in good)
    if not timed and any(kind != "request" for kind in level.stated.times):
        return []
    several = [r for r in good if (r.output_tokens or 0) > 1 and r.total_ms is not None]
    of_rows = {
        "TTFT": [r.ttft_ms or 0.0 for r in good] if timed else [],
        "request": [r.total_ms for r in good if r.total_ms is not None],
        "token": [] if not timed else [after_first(r) / ((r.output_tokens or 2) - 1) for r in several],
        "gap": [gap for r in good for gap in r.gaps_ms or []],
    }
    found_times: list[Stated] = []
    for kind, figures in level.stated.times.items():
        values = of_rows.get(kind) or []
        if len(values) < 2 or (kind != "gap" and len(values) < len(good)):
            continue
        due = {"mean": fmean(values), "median": median(values)}
        found_times += [
            (f"{name} of {WORDS[kind]} (ms)", "its requests", figures[name], due[name], SAME_MS)
            for name in due
            if name in figures
        ]
    return found_times


def _rates(level: ServedLevel) -> list[Stated]:
    """Rates by counts and duration, and counts by requests."""
    said, run_s = level.stated, level.stated.duration_s
    pairs: list[Stated] = []
    if run_s:
        both = (
            None if said.input_tokens is None or said.output_tokens is None else said.input_tokens + said.output_tokens
        )
        for name, rate, amount in (
            ("requests/s", said.requests_rate, level.finished),
            ("output tokens/s", said.output_rate, said.output_tokens),
            ("tokens/s", said.tokens_rate, both),
        ):
            if rate is not None and amount is not None:
                pairs.append((name, f"{amount:,.0f} in {figure(run_s)} s", rate, amount / run_s, 0.01))
    calls = [((r.prompt_tokens or 0) + (r.output_tokens or 0)) / r.total_ms * 1e3 for r in level.good if r.total_ms]
    if said.call_rate is not None and calls and len(calls) == level.finished:
        pairs.append(("tokens/s", "its calls", said.call_rate, fmean(calls), 0.01))
    tokens = [r.output_tokens for r in level.good]
    if said.output_tokens is not None and tokens and level.finished == len(tokens) and None not in tokens:
        pairs.append(("output tokens", "its requests", said.output_tokens, float(sum(n or 0 for n in tokens)), 1.0))
    return pairs
