"""Requests by their order: a stretch that was slower than what came before and after, and requests that are copies."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from statistics import median

from laptime.audits.rule import Judged, NotJudged, RuleOutcome, counted
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult
from laptime.audits.served.rule import after_first, found

FEWEST, FEWEST_ROW, FEWEST_TOKENS = 40, 10, 8
SLOW, OTHERS_SLOW, LIKE = 1.5, 0.05, 1.25
"""Slower by half, hardly any other so slow, and no more load or longer prompts than elsewhere."""
EDGE, STEP = 3, 0.8
DIGITS = 6
"""A time with fewer digits can be another's by chance."""


def slow_stretch(result: ServedResult) -> RuleOutcome:
    """Requests in a row that took longer per token than those before and after, without a reason in the file."""
    judged, rows, slow = 0, [], 0
    for level in result.levels:
        timed = [(r, ms) for r in level.good if r.start_s is not None and (ms := _per_token(r)) is not None]
        if len(timed) < FEWEST or len(timed) < len(level.good) or not _spread_out([r for r, _ in timed]):
            continue
        judged += len(timed)
        if (stretch := _stretch(timed)) is not None:
            low, high, words = stretch
            rows.append(f"{level.name}: requests {low + 1} to {high} of {len(timed)}, {words}")
            slow += high - low
    if not judged or result.batches:
        return NotJudged(f"no load keeps starts and times per token of {FEWEST} requests sent one after another")
    if not rows:
        return Judged(judged)
    return found(
        "slow-stretch", "warning", slow, judged, rows,
        f"{counted(slow, 'request')} in a row took far longer per token than those before and after, with no more "
        "requests a second, no longer prompts, and no crowd when it began. A GPU that was throttled, another user of "
        "the server, or a stop inside it may have done that; so may what the requests asked, which isn't in the file. "
        "More requests under way are what a slow server brings about; near its limit they can also be the cause.",
        "Look at clocks and at what else ran then; measure again, or give that stretch by itself", "request",
    )  # fmt: skip


def _per_token(r: ServedRequest) -> float | None:
    if r.total_ms is None or r.ttft_ms is None or (r.output_tokens or 0) < FEWEST_TOKENS:
        return None
    value = after_first(r) / ((r.output_tokens or 2) - 1)
    return value if value > 0 else None


def _spread_out(requests: list[ServedRequest]) -> bool:
    """Whether they began one after another: of requests sent at once the order of starts says nothing."""
    usual_s = median(r.total_ms or 0.0 for r in requests) / 1e3
    return _span(requests) > 5 * usual_s


def _span(requests: list[ServedRequest]) -> float:
    return (requests[-1].start_s or 0.0) - (requests[0].start_s or 0.0)


def _stretch(timed: list[tuple[ServedRequest, float]]) -> tuple[int, int, str] | None:
    """The longest row of slow requests, from, to and how it was; None if anything in the file may explain it."""
    usual = median(ms for _, ms in timed)
    low, high = _longest([ms > SLOW * usual for _, ms in timed])
    inside, outside = timed[low:high], timed[:low] + timed[high:]
    if not FEWEST_ROW <= len(inside) <= len(timed) / 2 or min(low, len(timed) - high) < FEWEST_ROW:
        return None
    far = timed[: max(0, low - FEWEST_ROW)] + timed[high + FEWEST_ROW :]  # what it touches may be slow in part
    if sum(ms > SLOW * usual for _, ms in far) > OTHERS_SLOW * len(outside):
        return None
    requests, others = [r for r, _ in inside], [r for r, _ in outside]
    rate = (len(requests) - 1) / _span(requests) if _span(requests) > 0 else float("inf")
    other_rate = len(others) / max(_span([r for r, _ in timed]) - _span(requests), 1e-9)
    usual_s = median(r.total_ms or 0.0 for r in others) / 1e3
    at_once = _in_flight([r for r, _ in timed])
    crowd, other_crowd = median(at_once[low:high]), median(at_once[:low] + at_once[high:])
    if median(at_once[low - EDGE : low + 1]) > LIKE * max(1.0, other_crowd):  # it was crowded before it was slow
        return None
    if rate > LIKE * other_rate or _span(requests) < usual_s or _prompt(requests) > LIKE * _prompt(others):
        return None
    slow = median(ms for _, ms in inside)
    edges = [ms for _, ms in inside[:EDGE]], [ms for _, ms in inside[-EDGE:]]
    if min(median(edge) for edge in edges) < STEP * slow:  # it came and went by degrees, as a crowd does
        return None
    ratio = slow / median(ms for _, ms in outside)
    return low, high, (f"{ratio:.1f} times the others' time per token, with {crowd:.0f} others under way instead of "
                       f"{other_crowd:.0f}")  # fmt: skip


def _in_flight(requests: list[ServedRequest]) -> list[int]:
    """How many others were not yet done when each began."""
    ends = sorted((r.start_s or 0.0) + (r.total_ms or 0.0) / 1e3 for r in requests)
    return [place - bisect_right(ends, r.start_s or 0.0) for place, r in enumerate(requests)]


def _longest(flags: list[bool]) -> tuple[int, int]:
    best, low = (0, 0), 0
    for place, flag in enumerate([*flags, False]):
        if not flag:
            best, low = max(best, (low, place), key=lambda row: row[1] - row[0]), place + 1
    return best


def _prompt(requests: list[ServedRequest]) -> float:
    return median(r.prompt_tokens or 0 for r in requests)


def copied_requests(result: ServedResult) -> RuleOutcome:
    """Requests whose times are another's to the last digit."""
    loads = [(level, keys) for level in result.levels if len(keys := _keys(level)) > 1]
    if not loads or result.batches:
        return NotJudged("the file keeps no requests with times so fine that two of them can't be alike by chance")
    counts = [(level, sum(count - 1 for count in Counter(keys).values())) for level, keys in loads]
    of = sum(len(keys) for _, keys in loads)
    copied = sum(count for _, count in counts)
    if not copied:
        return Judged(of)
    return found(
        "copied-requests", "severe", copied, of,
        [f"{level.name}: {count} of {len(level.good)} requests" for level, count in counts if count],
        "These requests have the same time to the first token and the same times after it as another one, to the last "
        "digit. Times that were measured don't repeat so: rows were copied, or a file was joined with itself. (A "
        "simulated server whose times are computed looks so too.)",
        "Drop the copies, and count the requests again", "request",
    )  # fmt: skip


def _keys(level: ServedLevel) -> list[tuple[float, ...]]:
    return [
        (r.ttft_ms, r.total_ms)
        for r in level.good
        if r.ttft_ms is not None and r.total_ms is not None and min(_digits(r.ttft_ms), _digits(r.total_ms)) >= DIGITS
    ]


def _digits(value: float) -> int:
    """How many digits a time has, without zeros at its ends."""
    return len(f"{value:.12g}".replace(".", "").split("e")[0].strip("0-"))
