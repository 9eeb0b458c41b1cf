"""What users of other programs' results fall over: one rule, one function, one code."""

from __future__ import annotations

from statistics import median

from laptime.audits.result import AuditReport
from laptime.audits.rule import Judged, NotJudged, RuleOutcome, collected, counted, percent, worst_first
from laptime.audits.served import answers, possible, stated, streams, stretches
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult
from laptime.audits.served.rule import CLOSE, ServedRule, after_first, found, gaps_by_token, good_of

CACHED, FAILED_SEVERE, QUEUE_SHARE, RATE_KEPT = 0.05, 0.05, 0.05, 0.9
WARM, FEWEST_FOR_WARM, LENGTHS, MIXED, FEW_FOR_P99 = 2.0, 8, 1.05, 2.0, 100
FEW_CHUNKS = 1.2
"""So many tokens a chunk: a tokenizer that counts one more or less is no reason to speak of chunks."""


def cached_prefixes(result: ServedResult) -> RuleOutcome:
    """Prompts that a prefix cache had."""
    known = [r for r in good_of(result) if r.cached_tokens is not None and r.prompt_tokens]
    shared = [level for level in result.levels if level.shared_prefix_tokens]
    if not known and not shared:
        return NotJudged("the file doesn't say how many prompt tokens came from a cache, or shared a prefix")
    cached = [r for r in known if (r.cached_tokens or 0) > CACHED * (r.prompt_tokens or 0)]
    of = len(known) or len(result.levels)
    if not cached and not shared:
        return Judged(of)
    said = "All prompts begin with the same tokens. "
    if cached:
        said = f"{counted(len(cached), 'request')} had over {percent(CACHED)} of the prompt in the server's cache. "
    return found(
        "cached-prefixes", "warning", len(cached) or len(shared), of,
        [f"{r.cached_tokens} of {r.prompt_tokens} tokens" for r in cached]
        or [f"{level.name}: {level.shared_prefix_tokens} tokens shared" for level in shared],
        said + "A cached prefix costs no prefill, so the first token comes sooner than for new prompts.",
        "Use prompts that share no prefix, or say beside the figures that the cache was warm",
        "request" if cached else "load",
    )  # fmt: skip


def chunk_for_token(result: ServedResult) -> RuleOutcome:
    """Gaps between chunks given as gaps between tokens."""
    known = [r for r in good_of(result) if r.chunks and r.output_tokens and not streams.came_whole(r)]
    if not known or result.gaps_named == "chunks":
        return _times_of_chunks(result)
    merged = [r for r in known if r.chunks != r.output_tokens]
    if not merged:
        return Judged(len(known))
    return found(
        "chunk-for-token", "severe" if len(merged) > len(known) / 2 else "warning", len(merged), len(known),
        [f"{r.output_tokens} tokens in {r.chunks} chunks" for r in merged],
        "The gaps called inter-token latency are between events of the stream, and an event held several tokens or "
        "none. Their mean and percentiles are not those of tokens. With more events than tokens, events without "
        "content were counted (a role, the end of the stream), and TTFT may be that of such an event.",
        "Use (last - first content) / (N - 1) with N counted by the endpoint, and give gaps between chunks that name",
        "request",
    )  # fmt: skip


def _times_of_chunks(result: ServedResult) -> RuleOutcome:
    """By times per token alone: together they last longer than their whole request, though each is shorter."""
    known = [r for r in good_of(result) if _has_per_token(r) and not possible.broken(r)]
    if not known:
        return NotJudged("the file keeps neither gaps that it calls those of tokens nor times per token with totals")
    long = [r for r in known if gaps_by_token(r) > (1 + CLOSE) * (r.total_ms or 0.0)]
    if not long:
        return Judged(len(known))
    return found(
        "chunk-for-token", "severe" if len(long) > len(known) / 2 else "warning", len(long), len(known),
        [f"{r.per_token_ms:.2f} ms x {(r.output_tokens or 0) - 1} gaps = {gaps_by_token(r):.1f} ms in a request of "
         f"{r.total_ms:.1f} ms ({gaps_by_token(r) / after_first(r):.1f} times what followed the first token)"
         for r in long if after_first(r) > 0],
        "The times per token of a request last longer than the request itself. Gaps between chunks of several tokens, "
        "given as gaps between tokens, look so; so do tokens in the count that were not generated one by one (the "
        "prompt's, or another tokenizer's).",
        "Use (total - TTFT) / (N - 1) with N the generated tokens as the endpoint counts them", "request",
    )  # fmt: skip


def chunks_of_tokens(result: ServedResult) -> RuleOutcome:
    """Chunks that held several tokens, where the program names its gaps those of chunks."""
    known = [r for r in good_of(result) if r.gaps_ms is not None and r.chunks and (r.output_tokens or 0) > 1]
    if not known or result.gaps_named != "chunks":
        return NotJudged("the file keeps no gaps that it calls those of chunks beside counts of tokens")
    unlike = [r for r in known if (r.output_tokens or 0) > FEW_CHUNKS * (r.chunks or 0)]
    if len(unlike) <= len(known) / 20:
        return Judged(len(known))
    return found(
        "several-tokens-a-chunk", "info", len(unlike), len(known),
        [f"{r.output_tokens} tokens in {r.chunks} chunks" for r in unlike],
        "A chunk held several tokens (or the file leaves chunks out, or the count of tokens is another tokenizer's). "
        "The gaps are named those of chunks, and rightly; read as gaps between tokens they would be too long.",
        "For the time per token use (total - TTFT) / (N - 1), and give gaps between chunks that name", "request",
    )  # fmt: skip


def per_token_divisor(result: ServedResult) -> RuleOutcome:
    """A time per token that holds the first token, or divides by N."""
    kept = [r for r in good_of(result) if _has_per_token(r)]
    if not kept:
        return NotJudged("the file keeps no time per token beside TTFT, total and tokens")
    known = [r for r in kept if not possible.broken(r) and gaps_by_token(r) <= (1 + CLOSE) * (r.total_ms or 0.0)]
    if not known:
        return NotJudged("the times per token are longer than their requests, or their times can't be")
    wrong = [r for r in known if gaps_by_token(r) > (1 + CLOSE) * after_first(r)]
    if len(wrong) <= len(known) / 2:
        return Judged(len(known))
    return found(
        "per-token-includes-first", "severe", len(wrong), len(known),
        [f"{r.per_token_ms:.2f} ms x {(r.output_tokens or 0) - 1} gaps = {gaps_by_token(r):.1f} ms, "
         f"but {after_first(r):.1f} ms followed the first token" for r in wrong],
        "The time per token holds more than what followed the first token: prefill and queue are in it (as in the "
        "request's time over all its tokens), so it grows with the prompt and shrinks with the answer. Chunks of which "
        "few hold two tokens, given as tokens, can look so.",
        "Use (total - TTFT) / (N - 1)", "request",
    )  # fmt: skip


def queue_left_out(result: ServedResult) -> RuleOutcome:
    """Waiting inside the client that TTFT leaves out."""
    known = [r for r in good_of(result) if r.client_queue_ms is not None and r.ttft_ms]
    if not known:
        return NotJudged("the file doesn't say how long requests waited inside the client")
    waited = [r for r in known if (r.client_queue_ms or 0) > max(1.0, QUEUE_SHARE * (r.ttft_ms or 0))]
    if not waited:
        return Judged(len(known))
    return found(
        "ttft-without-queue", "severe" if len(waited) > len(known) / 2 else "warning", len(waited), len(known),
        [f"waited {r.client_queue_ms:.1f} ms, TTFT {r.ttft_ms:.1f} ms" for r in waited],
        "Requests were due and waited inside the client (for a connection, for a place within the limit on "
        "concurrency, or for the client itself) before they were sent. TTFT and latency count from sending, so users "
        "would wait longer than they say "
        "(coordinated omission).",
        "Count from when a request was due, or lift the limit on concurrency while a rate is set", "request",
    )  # fmt: skip


def client_bound(result: ServedResult) -> RuleOutcome:
    """A rate that the client asked of itself and didn't send."""
    outcomes: list[tuple[ServedLevel, float]] = []
    for level in result.levels:
        starts = sorted(r.start_s for r in level.requests if r.start_s is not None)
        if level.rate_per_s and len(starts) >= FEWEST_FOR_WARM and starts[-1] > starts[0]:
            outcomes.append((level, (len(starts) - 1) / (starts[-1] - starts[0])))
    if not outcomes:
        return NotJudged("no load names a rate beside the instants at which its requests began")
    late = [(level, sent) for level, sent in outcomes if sent < RATE_KEPT * (level.rate_per_s or 0)]
    if not late:
        return Judged(len(outcomes))
    return found(
        "client-bound", "severe", len(late), len(outcomes),
        [f"{level.name}: sent {sent:.3g} of {level.rate_per_s:g} requests/s" for level, sent in late],
        "The client sent fewer requests a second than asked, so the server had less to do than the load's name says; "
        "it may have been the client that was measured. (A short run with random arrivals can be 10 % off by chance.)",
        "Use a faster client or several, and look at the rate that was sent", "load",
    )  # fmt: skip


def failures_dropped(result: ServedResult) -> RuleOutcome:
    """Failed requests that figures leave out."""
    known = [(level, level.failed) for level in result.levels if level.failed is not None]
    if not known or result.batches:
        return NotJudged("the file doesn't say how many requests failed")
    failed = sum(count for _, count in known)
    of = sum((level.finished or 0) + count for level, count in known)
    if not failed:
        return Judged(of)
    return found(
        "failures-dropped", "severe" if failed > FAILED_SEVERE * of else "warning", failed, of,
        [f"{level.name}: {count} failed, {level.finished} finished" for level, count in known if count],
        "Means and percentiles are over finished requests only. Requests that failed or timed out waited longest, so "
        "leaving them out makes a server look fast by failing.",
        "Count a failed request as slower than every finished one, or give its share beside each figure", "request",
    )  # fmt: skip


def warm_up_inside(result: ServedResult) -> RuleOutcome:
    """First requests that are slower than the others."""
    judged, slow = 0, []
    for level in result.levels:
        times = [_time(r) for r in level.good]
        values = [value for value in times if value is not None]
        if len(values) < FEWEST_FOR_WARM and not (result.batches and len(values) >= 4):
            continue
        judged += 1
        rest = sorted(values[max(1, level.concurrency or 1) :])
        if (
            rest
            and rest[0] > 0
            and values[0] > (WARM if not result.batches else 1.2) * rest[max(0, int(0.95 * len(rest)) - 1)]
        ):
            slow.append((level, values[0], median(rest)))
    if not judged:
        return NotJudged("too few requests are kept one by one in the order of their start")
    if not slow:
        return Judged(judged)
    return found(
        "warm-up-inside", "warning", len(slow), judged,
        [f"{level.name}: first {first:.1f} ms, the rest {rest:.1f} ms (median)" for level, first, rest in slow],
        "The first request is far slower than nearly all that follow: compilation, memory or connections were made "
        "during the measurement.",
        "Warm the server up with requests that are not counted", "load",
    )  # fmt: skip


def unequal_outputs(result: ServedResult) -> RuleOutcome:
    """Loads whose answers differ in length."""
    means = [(level, mean) for level in result.levels if (mean := _output_mean(level)) and not result.batches]
    if len(means) < 2:
        return NotJudged("fewer than two loads say how long their answers were")
    low, high = min(means, key=lambda one: one[1]), max(means, key=lambda one: one[1])
    fixed = [level for level, _ in means if _one_length(level)]
    if fixed and len(fixed) < len(means):
        return found(
            "eos-ignored-in-some", "severe", len(fixed), len(means), [level.name for level in fixed],
            "In some loads every answer has the same length, in others they end by themselves: the end of sequence was "
            "ignored in some of them. Totals, throughput and load differ for that reason alone.",
            "Ignore the end of sequence in all or in none", "load",
        )  # fmt: skip
    if high[1] <= LENGTHS * low[1]:
        return Judged(len(means))
    return found(
        "unequal-output-lengths", "warning", 2, len(means),
        [f"{level.name}: {mean:.1f} tokens" for level, mean in (low, high)],
        "The loads' answers differ in length, so their totals and requests a second are not comparable.",
        "Compare times per token, or make the lengths equal", "load",
    )  # fmt: skip


def mixed_prompts(result: ServedResult) -> RuleOutcome:
    """Prompts of very different sizes under one percentile."""
    judged, mixed = 0, []
    for level in result.levels:
        sizes = [r.prompt_tokens for r in level.good if r.prompt_tokens]
        if len(sizes) >= 2:
            judged += 1
            if max(sizes) > MIXED * min(sizes):
                mixed.append((level, min(sizes), max(sizes)))
    if not judged or result.batches:
        return NotJudged("the sizes of prompts are not kept")
    if not mixed:
        return Judged(judged)
    return found(
        "mixed-prompts", "info", len(mixed), judged,
        [f"{level.name}: {low} to {high} tokens" for level, low, high in mixed],
        "Prompts of one load differ in size, and a percentile of TTFT then says which prompts were long.",
        "Give TTFT by size of the prompt, or a load for each size", "load",
    )  # fmt: skip


def few_for_percentile(result: ServedResult) -> RuleOutcome:
    """A p99 of fewer than 100 requests."""
    known = [(level, level.finished) for level in result.levels if level.finished and level.p99]
    if not known or result.batches:
        return NotJudged("no load has a 99th percentile and a number of requests")
    few = [(level, count) for level, count in known if count < FEW_FOR_P99]
    if not few:
        return Judged(len(known))
    return found(
        "few-for-percentile", "info", len(few), len(known), [f"{level.name}: {count} requests" for level, count in few],
        f"The 99th percentile of fewer than {FEW_FOR_P99} requests is their largest value (or lies between the largest "
        "two), so it says little about the tail.",
        "Send at least 100 requests for a p99, 1,000 for a p99.9", "load",
    )  # fmt: skip


RULES: tuple[ServedRule, ...] = (
    ServedRule("impossible-times", "can the times be?", possible.impossible_times),
    ServedRule("longer-than-run", "do requests fit into the run?", possible.longer_than_run),
    ServedRule("summary-unlike-rows", "does the summary follow from the rest?", stated.summary_unlike_rows),
    ServedRule("copied-requests", "is each request its own?", stretches.copied_requests),
    ServedRule("total-unlike-parts", "is a request as long as its parts?", streams.total_unlike_parts),
    ServedRule("empty-answers", "does each finished request have an answer?", answers.empty_answers),
    ServedRule("ttft-not-seen", "was a first token seen?", streams.never_seen),
    ServedRule("not-streamed", "did the first token come before the answer's end?", streams.not_streamed),
    ServedRule("cached-prefixes", "were prompts in a cache?", cached_prefixes),
    ServedRule("chunk-for-token", "are chunks taken for tokens?", chunk_for_token),
    ServedRule("chunks-in-bursts", "do chunks come one by one?", streams.chunks_in_bursts),
    ServedRule("several-tokens-a-chunk", "does a chunk hold one token?", chunks_of_tokens),
    ServedRule("per-token-includes-first", "is the first token in the time per token?", per_token_divisor),
    ServedRule("ttft-without-queue", "does TTFT leave the client's own queue out?", queue_left_out),
    ServedRule("client-bound", "was the rate sent?", client_bound),
    ServedRule("more-at-once", "were no more under way than asked?", answers.more_at_once),
    ServedRule("failures-dropped", "are failed requests left out?", failures_dropped),
    ServedRule("warm-up-inside", "is the warm-up in it?", warm_up_inside),
    ServedRule("slow-stretch", "are requests in a row slower than the others?", stretches.slow_stretch),
    ServedRule("unequal-output-lengths", "are answers equally long?", unequal_outputs),
    ServedRule("mixed-prompts", "are prompts equally long?", mixed_prompts),
    ServedRule("few-for-percentile", "are there enough requests for p99?", few_for_percentile),
)
"""Every rule over other programs' results, in the order in which they are listed."""


def _has_per_token(request: ServedRequest) -> bool:
    times = request.per_token_ms and request.total_ms and request.ttft_ms is not None
    return bool(times) and (request.output_tokens or 0) > 2


def _time(request: ServedRequest) -> float | None:
    return request.ttft_ms if request.ttft_ms is not None else request.total_ms


def _output_mean(level: ServedLevel) -> float | None:
    known = [r.output_tokens for r in level.good if r.output_tokens]
    return sum(known) / len(known) if known else level.output_mean


def _one_length(level: ServedLevel) -> bool:
    known = [r.output_tokens for r in level.good if r.output_tokens]
    return len(known) >= FEWEST_FOR_WARM and len(set(known)) == 1


def audit_served(result: ServedResult) -> AuditReport:
    """Ask every rule. Findings come worst first; a rule that lacks what it needs says so."""
    findings, runs = collected((rule.code, rule.checks, rule.judge(result)) for rule in RULES)
    kept = sum(len(level.requests) for level in result.levels)
    finished = sum((level.finished or 0) + (level.failed or 0) for level in result.levels)
    return AuditReport(
        source=f"{result.source} ({result.program})",
        samples=kept or finished,
        configs=len(result.levels),
        findings=worst_first(findings),
        rules=runs,
        clean=all(finding.severity == "info" for finding in findings),
    )
