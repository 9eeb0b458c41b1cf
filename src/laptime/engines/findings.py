"""What a reader must know before trusting the figures of a load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from laptime.data.record import Finding
from laptime.engines.result import Level

LAG_LIMIT_MS = 2.0
LAG_SHARE = 0.05
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
            message=f"{level.name}: the client itself was up to {_lag(level):.1f} ms late (99th percentile), so it "
            "may be the bottleneck; use a lower load, or several clients",
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
    """Whether the client's own lag is large, absolutely and beside the time to the first token."""
    ttft = level.ttft_ms.median.value if level.ttft_ms.median else None
    return _lag(level) > LAG_LIMIT_MS and (ttft is None or _lag(level) > LAG_SHARE * ttft)


def _lag(level: Level) -> float:
    return max((value for value in (level.lag_p99_ms, level.late_p99_ms) if value is not None), default=0.0)
