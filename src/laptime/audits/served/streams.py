"""Streams whose instants aren't what they are taken for: none seen, one for all, several at once, a part missing."""

from __future__ import annotations

from statistics import fmean, median

from laptime.audits.rule import Judged, NotJudged, RuleOutcome, counted, percent
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult
from laptime.audits.served.rule import CLOSE, figure, found, gaps_by_token, good_of

AT_ONCE, FEWEST_GAPS, TOGETHER = 0.05, 8, 0.4
"""A gap of a twentieth of the mean one is none of generation; so many gaps tell; such a share of them is held back."""
SAME_MS = 1.0
"""A first token that comes within so much of the end of a whole answer came with it."""
FAR, FAR_MS = 2.0, 20.0
"""So many times its parts, and so much longer, a request's time is not theirs."""
UNITS = {1e3: "a thousandth", 1e6: "a millionth", 1e-3: "a thousand times as much"}


def never_seen(result: ServedResult) -> RuleOutcome:
    """First tokens after 0 ms: nobody saw one."""
    known = [r for r in good_of(result) if r.ttft_ms is not None and r.output_tokens]
    loads = [level for level in result.levels if "TTFT" in level.stated.times and not level.requests]
    if not known and not loads:
        return NotJudged("the file keeps no TTFT of requests with answers, and no summary of TTFT")
    unseen = [r for r in known if r.ttft_ms == 0]
    empty = [level for level in loads if _all_zero(level)]
    if not unseen and not empty:
        return Judged(len(known) or len(loads))
    of, count = len(known) or len(loads), len(unseen) or len(empty)
    return found(
        "ttft-not-seen", "severe" if count > of / 2 else "warning", count, of,
        [f"TTFT 0 ms, {r.output_tokens} tokens" for r in unseen]
        or [f"{level.name}: every figure of TTFT is 0 ms" for level in empty],
        "Answers with tokens have a time to the first token of 0: the client saw none, and the field kept the value it "
        "began with. Streams whose events hold no text where the client looks (thinking, a call of a tool), another "
        "form of stream than the client reads, and a server that doesn't stream look so. Gaps are lost as well, and a "
        "time per token from these fields holds the first token.",
        "Use nothing but the whole request's time; read the stream by its tokens", "request" if unseen else "load",
    )  # fmt: skip


def _all_zero(level: ServedLevel) -> bool:
    first, whole = level.stated.times["TTFT"], level.stated.times.get("request") or level.stated.times.get("token")
    return bool(first and whole) and not any(first.values()) and any((whole or {}).values())


def not_streamed(result: ServedResult) -> RuleOutcome:
    """First tokens that come when the whole answer does."""
    known = [r for r in good_of(result) if r.ttft_ms and r.total_ms and (r.output_tokens or 0) > 1]
    if not known or result.batches:
        return NotJudged("the file keeps no TTFT beside the time of answers of several tokens")
    whole = [r for r in known if _came_whole(r)]
    if len(whole) <= len(known) / 2:
        return Judged(len(known))
    return found(
        "not-streamed", "severe", len(whole), len(known),
        [f"TTFT {r.ttft_ms:.1f} ms, the whole request {r.total_ms:.1f} ms, {r.output_tokens} tokens" for r in whole],
        "Answers of several tokens came as a whole: TTFT is the time of the request, and no gap or time per token "
        "follows from it. A server, a proxy or a client that doesn't stream looks so; so does a field that was filled "
        "with another's value.",
        "Ask for a stream, and look for what holds it back; until then give the whole request's time alone", "request",
    )  # fmt: skip


def _came_whole(r: ServedRequest) -> bool:
    first, total = r.ttft_ms or 0.0, r.total_ms or 0.0
    return abs(total - first) <= min(SAME_MS, CLOSE * total)


def came_whole(r: ServedRequest) -> bool:
    """Whether nothing of a stream was seen but its end: nothing can be said of its events then."""
    return r.ttft_ms == 0 or not r.gaps_ms or bool(r.total_ms and _came_whole(r))


def chunks_in_bursts(result: ServedResult) -> RuleOutcome:
    """Events of a stream that come together, though their tokens can't."""
    known = [r for r in good_of(result) if r.gaps_ms and len(r.gaps_ms) >= FEWEST_GAPS and fmean(r.gaps_ms) > 0]
    if not known:
        return NotJudged(f"the file keeps no {FEWEST_GAPS} gaps of a request")
    held = [r for r in known if _share_at_once(r) >= TOGETHER]
    first = [r for r in known if (r.gaps_ms or [0.0])[0] < AT_ONCE * median(r.gaps_ms or [0.0])]
    bad, words = (held, "held") if len(held) >= len(first) else (first, "first")
    if len(bad) <= len(known) / 2:
        return Judged(len(known))
    said = {
        "held": "Most events of a stream come within a twentieth of its mean gap of the one before: they were held "
        "back and sent together. A percentile of the gaps then says how a proxy, the network or the client flushes. ",
        "first": "The second event comes at once after the first: the first token waited for the second. TTFT holds a "
        "step of decode, and the percentiles of the gaps hold one that is none. ",
    }
    return found(
        "chunks-in-bursts", "warning", len(bad), len(known),
        [f"gaps of {', '.join(figure(gap) for gap in (r.gaps_ms or [])[:6])}, … ms" for r in bad],
        said[words] + "Several tokens that one step makes (speculative decoding), each sent as its own event, look so "
        "too.",
        "Switch off buffering between server and client; use (total - TTFT) / (N - 1) for the time per token",
        "request",
    )  # fmt: skip


def _share_at_once(r: ServedRequest) -> float:
    gaps = r.gaps_ms or []
    return sum(gap < AT_ONCE * fmean(gaps) for gap in gaps) / len(gaps)


def total_unlike_parts(result: ServedResult) -> RuleOutcome:
    """Requests far longer than their first token and the gaps after it."""
    known = [(r, whole) for r in good_of(result) if r.total_ms and (whole := _parts(r)) is not None]
    if not known or result.batches:
        return NotJudged("the file keeps no request's time beside TTFT and gaps or a time per token")
    far = [(r, whole) for r, whole in known if (r.total_ms or 0) > max(FAR * whole, whole + FAR_MS)]
    if not far:
        return Judged(len(known))
    ratio = median((r.total_ms or 0.0) / whole for r, whole in far)
    near = next((words for factor, words in UNITS.items() if 0.8 < ratio / factor < 1.25), None)
    unit = f"{near} of the request's time would fit: it may be in another unit than its field says. " if near else ""
    return found(
        "total-unlike-parts", "severe" if len(far) > len(known) / 2 else "warning", len(far), len(known),
        [f"the request {figure(r.total_ms or 0)} ms, TTFT and what followed it {figure(whole)} ms" for r, whole in far],
        f"Requests take over {FAR:g} times as long as their first token and the gaps after it. "
        + (unit[:1].upper() + unit[1:])
        + "Tries that failed before, a stream that stays open after its last token, tokens that the client didn't see, "
        f"and times of two requests look so too. It is so in {percent(len(far) / len(known))} of "
        f"{counted(len(known), 'request')}.",
        "Find out which of the fields is another thing than its name says before you use either", "request",
    )  # fmt: skip


def _parts(r: ServedRequest) -> float | None:
    """TTFT and what follows it, by gaps or by the time per token; None where one of them is not known."""
    if not r.ttft_ms or r.ttft_ms < 0 or (r.output_tokens or 0) < 2:
        return None
    if r.gaps_ms:
        return r.ttft_ms + sum(r.gaps_ms)
    return None if not r.per_token_ms else r.ttft_ms + gaps_by_token(r)
