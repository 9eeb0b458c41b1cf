"""Times that can't be: negative, longer than what holds them, or after the end of the run."""

from __future__ import annotations

from itertools import pairwise

from laptime.audits.rule import Judged, NotJudged, RuleOutcome, counted
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult
from laptime.audits.served.rule import CLOSE, after_first, figure, found, good_of

UNIT, FAR = 1000.0, 10.0
"""A unit that was swapped (s, ms) is off by a thousand; so far off that a thousandth is nearer than the figure."""
RUN_CLOSE, RUN_CLOSE_S = 0.05, 0.1


def broken(request: ServedRequest) -> bool:
    """Whether a request's own times can't all be."""
    return _why(request) is not None


def impossible_times(result: ServedResult) -> RuleOutcome:
    """Negative times, a first token after the end, one token that takes longer than the whole."""
    known = [r for r in good_of(result) if r.ttft_ms is not None or r.total_ms is not None]
    totals = [(level, said) for level in result.levels if (said := _of_summary(level)) is not None]
    if not known and not totals:
        return NotJudged("the file keeps no times of requests, and no summary with TTFT beside the request's time")
    wrong = [(r, why) for r in known if (why := _why(r)) is not None]
    of_loads = [f"{level.name}: {why}" for level, said in totals for why in said]
    if not wrong and not of_loads:
        return Judged(len(known) or len(totals))
    unit = "request" if wrong else "load"
    count = len(wrong) or sum(bool(said) for _, said in totals)
    return found(
        "impossible-times", "severe", count, len(known) if wrong else len(totals), [why for _, why in wrong] + of_loads,
        "A time is below 0, a part lasts longer than the whole that holds it, or a summary's figures are out of order. "
        + _units(wrong)
        + "Two clocks, a clock that was set meanwhile, fields that were swapped, or figures that are not of the same "
        "requests look so too.",
        "Find out which field is wrong, and in which unit it is, before you use any of its figures", unit,
    )  # fmt: skip


def _units(wrong: list[tuple[ServedRequest, str]]) -> str:
    """What a swapped unit would explain, if it explains most."""
    first = [r for r, _ in wrong if (r.total_ms or 0) > 0 and (r.ttft_ms or 0) > FAR * (r.total_ms or 0)]
    fits = [r for r in first if (r.ttft_ms or 0) / UNIT <= (r.total_ms or 0)]
    if fits and len(fits) > len(wrong) / 2:
        return (
            f"In {counted(len(fits), 'request')} a thousandth of TTFT would fit: TTFT may be in another unit than its "
            "field says (ms for s), or the request's time may be (s for ms). "
        )
    tokens = [r for r, _ in wrong if (r.total_ms or 0) > 0 and (r.per_token_ms or 0) > (r.total_ms or 0)]
    fits = [r for r in tokens if (r.per_token_ms or 0) / UNIT * ((r.output_tokens or 1) - 1) <= (r.total_ms or 0)]
    if fits and len(fits) > len(wrong) / 2:
        return (
            f"In {counted(len(fits), 'request')} a thousandth of the time per token would fit: it may be in another "
            "unit than its field says (ms for s). "
        )
    return ""


def _why(r: ServedRequest) -> str | None:
    for name, value in (("TTFT", r.ttft_ms), ("request", r.total_ms), ("time per token", r.per_token_ms)):
        if value is not None and value < 0:
            return f"{name} {figure(value)} ms"
    if r.gaps_ms and min(r.gaps_ms) < 0:
        return f"a gap of {figure(min(r.gaps_ms))} ms"
    total = r.total_ms
    if total is None or total <= 0:
        return None
    if r.ttft_ms is not None and r.ttft_ms > (1 + CLOSE) * total:
        return f"TTFT {r.ttft_ms:,.1f} ms of a request of {total:,.1f} ms"
    if (r.per_token_ms or 0) > (1 + CLOSE) * total and (r.output_tokens or 0) > 1:
        return f"{r.per_token_ms:,.1f} ms a token in a request of {total:,.1f} ms"
    return None


def _of_summary(level: ServedLevel) -> list[str] | None:
    """What of a summary can't be; None where it says too little."""
    times = level.stated.times
    first, whole = times.get("TTFT") or {}, times.get("request") or {}
    if not first and not whole:
        return None
    said = [
        f"{statistic} of TTFT {first[statistic]:,.1f} ms, of the whole request {whole[statistic]:,.1f} ms"
        for statistic in first
        if statistic in whole and first[statistic] > (1 + CLOSE) * whole[statistic] > 0
    ]
    for kind, figures in times.items():
        ranked = [(name, figures[name]) for name in ("min", "median", "p99", "max") if name in figures]
        said += [
            f"{low} of {kind} times {figure(below)} ms, {high} {figure(above)} ms"
            for (low, below), (high, above) in pairwise(ranked)
            if below > (1 + CLOSE) * above
        ]
        said += [f"{name} of {kind} times {figure(value)} ms" for name, value in figures.items() if value < 0]
    return said


def longer_than_run(result: ServedResult) -> RuleOutcome:
    """Requests that last longer than the run that sent them, or end after it."""
    known = [(level, level.stated.duration_s) for level in result.levels if level.good]
    judged = [(level, run_s) for level, run_s in known if run_s and any(r.total_ms for r in level.good)]
    if not judged:
        return NotJudged("the file doesn't keep requests beside the duration of their run")
    late = [(level, run_s, rows) for level, run_s in judged if (rows := _late(level, run_s))]
    of = sum(len(level.good) for level, _ in judged)
    if not late:
        return Judged(of)
    count = sum(len(rows) for *_, rows in late)
    return found(
        "longer-than-run", "severe", count, of,
        [f"{level.name}: the run took {figure(run_s)} s, and a request ends {figure(max(_ends(level, rows)))} s "
         f"{'after the first began' if _started(level) else 'after it began'}" for level, run_s, rows in late],
        "Requests end after the end of the run that sent them. " + _fitting(late)
        + "A duration of another run, or one that leaves out a part (a warm-up), looks so too.",
        "Find out which field is wrong before you use its rates or times", "request",
    )  # fmt: skip


def _started(level: ServedLevel) -> bool:
    return all(r.start_s is not None for r in level.good)


def _ends(level: ServedLevel, rows: list[ServedRequest]) -> list[float]:
    """When each ends, s after the first of its load began; without starts, after it began itself."""
    first = min((r.start_s or 0.0 for r in level.good), default=0.0) if _started(level) else None
    return [(0.0 if first is None else (r.start_s or 0.0) - first) + (r.total_ms or 0.0) / 1e3 for r in rows]


def _late(level: ServedLevel, run_s: float) -> list[ServedRequest]:
    limit = (1 + RUN_CLOSE) * run_s + RUN_CLOSE_S
    return [r for r, end in zip(level.good, _ends(level, level.good), strict=True) if end > limit]


def _fitting(late: list[tuple[ServedLevel, float, list[ServedRequest]]]) -> str:
    """Which part of a request would fit if it were a thousandth."""
    if any(_spread(level) > (1 + RUN_CLOSE) * run_s + RUN_CLOSE_S for level, run_s, _ in late):
        return (
            "Their starts alone lie further apart than it took, so its duration is too short, and its rates are wrong. "
        )
    rows = [(run_s * 1e3, r.ttft_ms or 0.0, after_first(r)) for _, run_s, many in late for r in many]
    if all(first / UNIT + rest <= run_ms < first for run_ms, first, rest in rows):
        return "They would fit if TTFT were a thousandth: perhaps it is in ms where the field is in s. "
    if all(first + rest / UNIT <= run_ms < rest for run_ms, first, rest in rows):
        return "They would fit if the gaps between tokens were a thousandth: perhaps those are in ms for s. "
    return ""


def _spread(level: ServedLevel) -> float:
    starts = [r.start_s for r in level.good if r.start_s is not None]
    return max(starts) - min(starts) if starts else 0.0
