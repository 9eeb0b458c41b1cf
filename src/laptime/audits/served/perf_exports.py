"""Result files of AIPerf and of genai-perf, which came before it: requests one by one, and summaries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from laptime.audits.served.fields import Object, as_int, as_number, metric_ms, metric_row_ms, metric_value
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult, StatedFigures

TIMES = {"TTFT": "time_to_first_token", "request": "request_latency", "token": "inter_token_latency"}
STATISTICS = {"mean": "avg", "min": "min", "median": "p50", "p99": "p99", "max": "max"}


def aiperf_records(values: Sequence[Object], path: Path) -> ServedResult:
    requests = []
    for one in values:
        metrics, meta = one.get("metrics") or {}, one.get("metadata") or {}
        if meta.get("benchmark_phase") not in (None, "profiling"):
            continue
        if _is_cancelled(one.get("error")) or meta.get("was_cancelled"):
            continue
        start, issued = meta.get("request_start_ns", meta.get("timestamp_ns")), meta.get("credit_issued_ns")
        gaps = metric_row_ms(metrics, "inter_chunk_latency")
        requests.append(
            ServedRequest(
                ttft_ms=metric_ms(metrics, "time_to_first_token") or metric_ms(metrics, "ttft"),
                total_ms=metric_ms(metrics, "request_latency"),
                per_token_ms=metric_ms(metrics, "inter_token_latency"),
                gaps_ms=gaps,
                chunks=None if gaps is None else len(gaps) + 1,
                prompt_tokens=as_int(metric_value(metrics, "input_sequence_length")),
                cached_tokens=as_int(metric_value(metrics, "usage_prompt_cache_read_tokens")),
                output_tokens=as_int(metric_value(metrics, "output_sequence_length")),
                start_s=None if start is None else start / 1e9,
                client_queue_ms=None if start is None or issued is None else (start - issued) / 1e6,
                error=None if one.get("error") is None else str(one["error"])[:200],
            )
        )
    failed = sum(request.error is not None for request in requests)
    level = ServedLevel(name=path.stem, requests=requests, finished=len(requests) - failed, failed=failed)
    return ServedResult(program="AIPerf", source=str(path), levels=[level], ttft_from="sent",
                        gaps_named="chunks")  # fmt: skip


def aiperf_summary(values: Sequence[Object], path: Path) -> ServedResult:
    (one,) = values
    figures = one.get("records") or one
    errors = figures.get("error_request_count") or {}
    cancelled = sum(
        row.get("count") or 0 for row in one.get("error_summary") or [] if _is_cancelled(row.get("error_details"))
    )
    level = ServedLevel(
        name=path.stem,
        finished=as_int((figures.get("request_count") or {}).get("avg")),
        failed=max(0, (as_int(errors.get("avg")) or 0) - cancelled),
        achieved_per_s=(figures.get("request_throughput") or {}).get("avg"),
        output_mean=(figures.get("output_sequence_length") or {}).get("avg"),
        stated=StatedFigures(
            duration_s=None if (run_ms := metric_ms(figures, "benchmark_duration", "avg")) is None else run_ms / 1e3,
            times={kind: _times(figures, name) for kind, name in TIMES.items()},
            requests_rate=as_number((figures.get("request_throughput") or {}).get("avg")),
        ),
    )
    program = "genai-perf" if _is_genai_perf(one, path) else "AIPerf"
    return ServedResult(program=program, source=str(path), levels=[level], ttft_from="sent")


def _is_cancelled(error: Any) -> bool:
    """Whether AIPerf itself hung up, as its user asked (--request-cancellation-rate): no failure of the server."""
    return isinstance(error, dict) and error.get("type") == "RequestCancellationError"


def is_aiperf_summary(values: Sequence[Object]) -> bool:
    figures = values[0].get("records") or values[0]
    return "input_config" in values[0] and isinstance(figures, dict) and "request_latency" in figures


def _times(figures: Object, name: str) -> dict[str, float]:
    found = {statistic: metric_ms(figures, name, key) for statistic, key in STATISTICS.items()}
    return {statistic: value for statistic, value in found.items() if value is not None}


def _is_genai_perf(one: Object, path: Path) -> bool:
    asked = one.get("input_config")
    own = ("perf_analyzer", "service_kind", "formatted_model_name")
    return path.stem.endswith("_genai_perf") or (isinstance(asked, dict) and any(name in asked for name in own))


def is_genai_perf_requests(values: Sequence[Object]) -> bool:
    """Whether it is the file of requests that genai-perf has Perf Analyzer write."""
    experiments = values[0].get("experiments")
    if not isinstance(experiments, list) or not experiments or not isinstance(experiments[0], dict):
        return False
    requests = experiments[0].get("requests")
    return isinstance(requests, list) and bool(requests) and "response_timestamps" in requests[0]


def genai_perf_requests(values: Sequence[Object], path: Path) -> ServedResult:
    """Requests by the instants of their responses, ns; it counts no tokens."""
    levels = []
    for place, one in enumerate(values[0]["experiments"]):
        asked = one.get("experiment") or {}
        requests = [_by_instants(row) for row in one["requests"] if row.get("response_timestamps")]
        users = as_int(asked.get("value")) if asked.get("mode") == "concurrency" else None
        levels.append(
            ServedLevel(
                name=f"{asked.get('mode') or 'experiment'} {asked.get('value', place + 1)}",
                requests=requests,
                finished=len(requests),
                concurrency=users,
                p99=False,
            )
        )
    return ServedResult(program="genai-perf", source=str(path), levels=levels, ttft_from="sent", gaps_named="chunks")


def _by_instants(row: Object) -> ServedRequest:
    sent, instants = row["timestamp"], row["response_timestamps"]
    gaps = [(after - before) / 1e6 for before, after in pairwise(instants)]
    return ServedRequest(
        ttft_ms=(instants[0] - sent) / 1e6,
        total_ms=(instants[-1] - sent) / 1e6,
        gaps_ms=gaps,
        chunks=len(instants),
        start_s=sent / 1e9,
    )
