"""Of a run of `laptime serve-bench`: requests that have no sample because they failed, and the client's own part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from laptime.audits.measurements import Measurements
from laptime.audits.result import EXAMPLES, AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, percent
from laptime.engines.findings import LAG_LIMIT_MS, LAG_SHARE, enough_wakes, lag_limit_ms, often_late
from laptime.engines.request import RequestOutline, between_ms

FAILED_SEVERE = 0.05
"""Of a load: so many failed requests move its medians and percentiles, whatever the others took."""
LATE_SEVERE = 0.05

NO_REQUESTS = "no requests of laptime serve-bench"


def failed_requests(measurements: Measurements) -> RuleOutcome:
    """Requests that no figure of finished ones holds."""
    if not measurements.requests:
        return NotJudged(NO_REQUESTS)
    rows, of, worst = [], 0, 0.0
    for load, requests in _by_load(measurements.requests):
        of += len(requests)
        kinds = Counter(request.outcome for request in requests if request.outcome != "finished")
        if kinds:
            share = kinds.total() / len(requests)
            worst = max(worst, share if kinds.total() > 1 else 0.0)
            words = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
            rows.append((share, kinds.total(), f"{load}: {kinds.total():,} of {len(requests):,} failed ({words})"))
    if not rows:
        return Judged(of)
    rows.sort(key=lambda row: -row[0])
    failed = sum(count for _, count, _ in rows)
    return Judged(
        of,
        AuditFinding(
            code="failed-requests",
            severity="severe" if worst > FAILED_SEVERE else "warning",
            count=failed,
            of=of,
            examples=[words for _, _, words in rows[:EXAMPLES]],
            reason=f"{counted(failed, 'request')} of {of:,} ({percent(failed / of)}) failed, so they have no sample. "
            "serve-bench's own report counts them as slower than every finished one. Summaries, comparisons and fits "
            "of this folder see the finished ones only: a server that fails where it is slow looks fast. A load that "
            "was meant to be too high looks so too.",
            mend="Find out why they failed (failures-*.jsonl), or give the share that failed beside every figure",
            unit="request",
        ),
    )


def client_lag(measurements: Measurements) -> RuleOutcome:
    """What the client itself added: requests that it sent late, and how late its own task woke."""
    if not measurements.requests:
        return NotJudged(NO_REQUESTS)
    of, late_ones, worst, rows = 0, 0, 0.0, []
    for load, requests in _by_load(measurements.requests):
        of += len(requests)
        limit = lag_limit_ms(_usual_ms(requests))
        late = [wait for r in requests if (wait := between_ms(r.due, r.sent)) is not None and wait > limit]
        wakes = [one for one in measurements.wakes if one.load == load and enough_wakes(one.wakes)]
        woken = max((one.p99_ms for one in wakes), default=0.0)
        said = []
        if often_late(len(late), len(requests)):
            said.append(f"{len(late):,} of {len(requests):,} sent {median(late):.1f} ms late (median of these)")
            worst, late_ones = max(worst, len(late) / len(requests)), late_ones + len(late)
        if woken > limit:
            said.append(f"the client's own task woke {woken:.1f} ms late (99th percentile)")
            worst = max([worst, *(2 * LATE_SEVERE for one in wakes if one.p95_ms > limit)])
        if said:
            rows.append((max([woken, *late]), f"{load}, limit {limit:.1f} ms: {'; '.join(said)}", len(requests)))
    if not rows:
        return Judged(of)
    rows.sort(key=lambda row: -row[0])
    in_loads = sum(count for *_, count in rows)
    return Judged(
        of,
        AuditFinding(
            code="client-lag",
            severity="severe" if worst > LATE_SEVERE else "warning",
            count=in_loads,
            of=of,
            examples=[words for _, words, _ in rows[:EXAMPLES]],
            reason=f"In {counted(len(rows), 'load')} with {counted(in_loads, 'request')} the client itself was late by "
            f"over {LAG_LIMIT_MS:g} ms and {percent(LAG_SHARE)} of the usual time to the first token"
            + (f"; {counted(late_ones, 'request')} went out that late" if late_ones else "")
            + ". Times count from when a request was due, so its lag is in them, and the server may have had another "
            "load than the one that was asked. Other programs on the client's machine look so too.",
            mend="Use several clients, a machine for the client alone, or, above one request at once, a lower load",
            unit="request",
        ),
    )


def _by_load(requests: Iterable[RequestOutline]) -> Iterator[tuple[str, Sequence[RequestOutline]]]:
    """The requests of each load, without the warm-up."""
    rows = sorted((r for r in requests if r.repeat >= 0), key=lambda request: request.load)
    for load, of_load in groupby(rows, key=lambda request: request.load):
        yield load, list(of_load)


def _usual_ms(requests: Iterable[RequestOutline]) -> float:
    """The median time to the first content of finished requests, or to the end where nothing was streamed."""
    ends = [(r.due, r.first_content or r.done) for r in requests if r.outcome == "finished"]
    return median((end.ns - due.ns) / 1e6 for due, end in ends) if ends else 0.0


RULES = (
    Rule("failed-requests", "every request answered", (), failed_requests, asks_samples=False),
    Rule("client-lag", "the client sent on time", (), client_lag, asks_samples=False),
)
