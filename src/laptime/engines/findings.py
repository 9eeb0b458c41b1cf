"""What a reader must know before trusting the figures of a load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from laptime.data.finding import Finding
from laptime.engines.result import Level

LAG_LIMIT_MS, LAG_SHARE = 2.0, 0.05
"""The client is late where it is later than both: this, and this share of the load's usual time to the first token."""
LATE_OFTEN, FEW_LATE = 0.01, 3
"""One in a hundred is what a 99th percentile sees, and one or two late ones are a hiccup of any machine."""
CACHED_SHARE = 0.05
GROWTH = 2.0


def findings_of(levels: Sequence[Level], *, fixed_prompts: bool) -> list[Finding]:
    """All findings over the levels of a run, the severe ones first."""
    found = [finding for level in levels for finding in _of_level(level, fixed_prompts=fixed_prompts)]
    order = {"severe": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _of_level(level: Level, *, fixed_prompts: bool) -> Iterator[Finding]:
    failed = sum(level.failed.values())
    if failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in level.failed.items())
        yield Finding(
            code="failed-requests",
            severity="warning",
            count=failed,
            message=f"{level.name}: {failed} of {failed + level.finished} requests failed ({kinds}); percentiles count "
            "them as slower than every finished one",
        )
    if is_bottleneck(level):
        yield Finding(
            code="client-lag",
            severity="severe",
            message=f"{level.name}: the client itself was up to {_lag(level):.1f} ms late (99th percentile), over its "
            f"limit of {_limit_ms(level):.1f} ms for this load, so it may be the bottleneck; {_less_lag(level)}",
        )
    if level.kind in ("constant", "poisson") and level.growth is not None and level.growth > GROWTH:
        yield Finding(
            code="backlog",
            severity="warning",
            message=f"{level.name}: the last quarter of requests took {level.growth:.1f} times as long as the first; a "
            "queue was growing, so the times depend on how long the load lasted",
        )
    if level.cached_share is not None and level.cached_share > CACHED_SHARE:
        yield Finding(
            code="cached-prefixes",
            severity="info" if fixed_prompts else "warning",
            message=f"{level.name}: {100 * level.cached_share:.0f} % of the prompt tokens came from the server's "
            "cache, so the first token came sooner than for new prompts",
        )
    if level.finished and level.tokens_per_chunk is None:
        yield Finding(
            code="no-usage",
            severity="warning",
            message=f"{level.name}: the endpoint counted no output tokens, so times per token are unknown; a chunk is "
            "not taken for a token",
        )
    elif level.tokens_per_chunk is not None and level.itl_requests < level.finished:
        yield Finding(
            code="tokens-share-chunks",
            severity="info",
            message=f"{level.name}: {level.tokens_per_chunk:.2f} tokens came in a chunk on average; gaps between "
            f"tokens are known for {level.itl_requests} of {level.finished} requests",
        )


def is_bottleneck(level: Level) -> bool:
    """Whether the client's own lag is large and no hiccup, absolutely and beside the time to the first token."""
    return _lag(level) > _limit_ms(level)


def _limit_ms(level: Level) -> float:
    """From when the client counts as late in this load, which is later where the first token takes longer."""
    if level.lag_limit_ms is not None:
        return level.lag_limit_ms
    return lag_limit_ms(level.ttft_ms.median.value if level.ttft_ms.median else 0.0)


def _less_lag(level: Level) -> str:
    """What makes the client less late: one request at once is the lowest load that there is."""
    if level.concurrency == 1:
        return "there is no lower load, so run the client on a machine, or on cores, of its own"
    return "use a lower load, several clients, or cores of the client's own"


def lag_limit_ms(usual_ms: float) -> float:
    """From when the client counts as late, ms. usual_ms: the load's median time to the first token."""
    return max(LAG_LIMIT_MS, LAG_SHARE * usual_ms)


def enough_wakes(wakes: int) -> bool:
    """Whether the 99th percentile of so many wakes is more than a hiccup."""
    return wakes >= FEW_LATE / LATE_OFTEN


def often_late(late: int, of: int) -> bool:
    """Whether so many late requests are more than a hiccup."""
    return late >= FEW_LATE and late > LATE_OFTEN * of


def _lag(level: Level) -> float:
    """The larger of how late the client woke and sent, each where it was late often enough; 0 where neither was."""
    sent = level.finished + sum(level.failed.values())
    woke = level.lag_p99_ms if level.wakes is None or enough_wakes(level.wakes) else None
    late = level.late_p99_ms if level.sent_late is None or often_late(level.sent_late, sent) else None
    return max((value for value in (woke, late) if value is not None), default=0.0)
