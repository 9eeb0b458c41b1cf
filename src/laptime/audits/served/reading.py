"""Result files of vLLM bench, SGLang bench, AIPerf, genai-perf, GuideLLM, LLMPerf, llama-bench, optimum-benchmark.

A format is recognised by the fields that only it has. Nothing is guessed: what a file doesn't say stays None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from laptime.audits.served.fields import (
    Object,
    as_int,
    as_ms,
    as_number,
    as_rate,
    numbers_of,
    ratio_of,
    value_at,
    whole_ms,
)  # fmt: skip
from laptime.audits.served.perf_exports import (
    aiperf_records,
    aiperf_summary,
    genai_perf_requests,
    is_aiperf_summary,
    is_genai_perf_requests,
)
from laptime.audits.served.result import ServedLevel, ServedRequest, ServedResult, StatedFigures
from laptime.data.legacy import FILE_NAME, RESULTS
from laptime.data.outside import DAMAGE
from laptime.errors import LaptimeError

HIGHEST_BYTES = 1 << 30


def read_served(path: Path) -> ServedResult | None:
    """The result that a file holds, or a folder of results of one program; None for what is none of them.

    Raises LaptimeError for a file that begins as one and is damaged.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix not in (".json", ".jsonl") or not path.is_file() or path.stat().st_size > HIGHEST_BYTES:
        return None
    if FILE_NAME.fullmatch(path.name):  # older results: decoding them here would take as long as reading them
        return None
    values = _values(path)
    if not values:
        return None
    for recognise, read in FORMATS:
        if recognise(values):
            try:
                return read(values, path)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise LaptimeError(f"{path}: looks like a result of {read.__name__.strip('_')}, but {error!r} is not "
                                   "as that program writes it; write the file again") from error  # fmt: skip
    return None


def _folder(path: Path) -> ServedResult | None:
    """Several files of one program, each a load of its own."""
    if any((path / name).exists() for name in ("run.json", "plan.json")):
        return None
    files = sorted([*path.glob("*.json"), *path.glob("*.jsonl")])
    found = [one for file in files[:200] if (one := read_served(file)) is not None]
    if not found or len({one.program for one in found}) != 1:
        return None
    detailed = [one for one in found if any(level.requests for level in one.levels)] or found
    levels = [level for one in detailed for level in one.levels]
    return msgspec.structs.replace(detailed[0], source=str(path), levels=levels)


def _values(path: Path) -> list[Object]:
    """The objects of a JSON file (one, or a list) or of JSON lines; empty for anything else."""
    content = path.read_bytes()
    if f'"{RESULTS}"'.encode() in content:  # an older result under another name
        return []
    try:
        value = _decoded(content)
    except (*DAMAGE, ValueError):
        try:
            value = [_decoded(line) for line in content.splitlines() if line.strip()]
        except (*DAMAGE, ValueError):
            return []
    many = value if isinstance(value, list) else [value]
    return [one for one in many if isinstance(one, dict)] if all(isinstance(one, dict) for one in many) else []


def _decoded(content: bytes) -> Any:
    """A JSON value; Python's writers put Infinity for a rate without limit, which JSON doesn't have."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        if b"Infinity" not in content and b"NaN" not in content:
            raise
    return json.loads(content)


def _has(*names: str) -> Callable[[Sequence[Object]], bool]:
    return lambda values: all(name in values[0] for name in names)


def _vllm(values: Sequence[Object], path: Path) -> ServedResult:
    levels = []
    for one in values:
        gaps = one.get("itls") or []
        requests = [
            ServedRequest(
                ttft_ms=as_ms(value_at(one, "ttfts", place)),
                total_ms=as_ms(value_at(one, "latencies", place)) or _whole_ms(one, place, row),
                gaps_ms=[gap * 1e3 for gap in row],
                chunks=len(row) + 1,
                prompt_tokens=as_int(value_at(one, "input_lens", place)),
                output_tokens=as_int(value_at(one, "output_lens", place)),
                start_s=as_number(value_at(one, "start_times", place)),
                client_queue_ms=as_ms(value_at(one, "queue_times", place)),
                error=value_at(one, "errors", place) or None,
            )
            for place, row in enumerate(gaps)
        ]
        levels.append(
            ServedLevel(
                name=_load_name(one, path),
                requests=requests,
                planned=as_int(one.get("num_prompts")),
                finished=as_int(one.get("completed")),
                failed=_failed(one, requests),
                rate_per_s=as_rate(one.get("request_rate")),
                achieved_per_s=one.get("request_throughput"),
                concurrency=as_int(one.get("max_concurrency")),
                shared_prefix_tokens=as_int(one.get("random_prefix_len")),
                output_mean=ratio_of(one.get("total_output_tokens"), one.get("completed")),
                p99="p99_ttft_ms" in one,
                stated=_stated(one),
            )
        )
    return ServedResult(program="vLLM bench serve", source=str(path), levels=levels, ttft_from="sent")


def _without_gaps(stated: StatedFigures) -> StatedFigures:
    """SGLang may sum up gaps by tokens that it counts again, so the gaps that it keeps needn't give its summary."""
    times = {kind: figures for kind, figures in stated.times.items() if kind != "gap"}
    return msgspec.structs.replace(stated, times=times)


def _whole_ms(one: Object, place: int, gaps: Sequence[float]) -> float | None:
    """A request's time by its first token and its gaps; unknown where a backend keeps no gaps of several tokens."""
    several = (as_int(value_at(one, "output_lens", place)) or 0) > 1
    return None if several and not gaps else whole_ms(value_at(one, "ttfts", place), gaps)


def _sglang(values: Sequence[Object], path: Path) -> ServedResult:
    found = _vllm(values, path)
    levels = [
        msgspec.structs.replace(
            level, shared_prefix_tokens=as_int(one.get("gsp_system_prompt_len")), stated=_without_gaps(level.stated)
        )
        for one, level in zip(values, found.levels, strict=True)
    ]
    return msgspec.structs.replace(found, program="SGLang bench_serving", levels=levels)


def _guidellm(values: Sequence[Object], path: Path) -> ServedResult:
    levels = []
    for place, one in enumerate(values[0]["benchmarks"]):
        kept = one.get("requests") or {}
        groups = {name: kept.get(name) or [] for name in ("successful", "errored", "incomplete")}
        totals = (one.get("metrics") or {}).get("request_totals") or {}
        strategy = (one.get("config") or {}).get("strategy") or one.get("scheduler", {}).get("strategy") or {}
        due = "targeted_start" if as_rate(strategy.get("rate")) else "scheduled_at"
        requests = [_guidellm_request(row, name, due) for name, rows in groups.items() for row in rows]
        levels.append(
            ServedLevel(
                name=str(strategy.get("type_") or f"benchmark {place + 1}"),
                requests=requests,
                finished=as_int(totals.get("successful")) if totals else len(groups["successful"]),
                failed=as_int(totals.get("errored")) if totals else len(groups["errored"]),
                rate_per_s=as_rate(strategy.get("rate")),
                concurrency=as_int(strategy.get("streams")),
            )
        )
    return ServedResult(program="GuideLLM", source=str(path), levels=levels, ttft_from="sent")


def _guidellm_request(row: Object, group: str, due_name: str) -> ServedRequest:
    """due_name: without a rate the target is the start of the whole run; a request is due when its turn comes."""
    inputs, outputs = row.get("input_metrics") or {}, row.get("output_metrics") or {}
    latency, timings = row.get("request_latency"), (row.get("info") or {}).get("timings") or {}
    due, sent = timings.get(due_name), timings.get("request_start")
    return ServedRequest(
        ttft_ms=row.get("time_to_first_token_ms"),
        total_ms=None if latency is None else latency * 1e3,
        per_token_ms=row.get("inter_token_latency_ms"),
        prompt_tokens=as_int(row.get("prompt_tokens") or inputs.get("text_tokens") or inputs.get("total_tokens")),
        output_tokens=as_int(row.get("output_tokens") or outputs.get("text_tokens") or outputs.get("total_tokens")),
        cached_tokens=as_int(inputs.get("cached_tokens")),
        chunks=as_int(timings.get("token_iterations")),
        start_s=sent if sent is not None else row.get("request_start_time"),
        client_queue_ms=None if due is None or sent is None else (sent - due) * 1e3,
        error=None if group == "successful" else group,
    )


def _llmperf(values: Sequence[Object], path: Path) -> ServedResult:
    requests = [
        ServedRequest(
            ttft_ms=as_ms(one.get("ttft_s")),
            total_ms=as_ms(one.get("end_to_end_latency_s")),
            per_token_ms=as_ms(one.get("inter_token_latency_s")),
            prompt_tokens=as_int(one.get("number_input_tokens")),
            output_tokens=as_int(one.get("number_output_tokens")),
            error=None
            if one.get("error_code") is None
            else f"{one['error_code']} {one.get('error_msg') or ''}".strip(),
        )
        for one in values
    ]
    failed = sum(request.error is not None for request in requests)
    level = ServedLevel(name=path.stem, requests=requests, finished=len(requests) - failed, failed=failed)
    return ServedResult(program="LLMPerf", source=str(path), levels=[level], ttft_from="sent")


def _llmperf_summary(values: Sequence[Object], path: Path) -> ServedResult:
    (one,) = values
    level = ServedLevel(
        name=path.stem,
        planned=as_int(one.get("results_num_requests_started")),
        finished=as_int(one.get("results_num_completed_requests")),
        failed=as_int(one.get("results_number_errors")),
        concurrency=as_int(one.get("num_concurrent_requests")),
        output_mean=one.get("results_number_output_tokens_mean"),
        stated=StatedFigures(times={kind: _llmperf_times(one, name) for kind, name in LLMPERF_TIMES.items()}),
    )
    return ServedResult(program="LLMPerf", source=str(path), levels=[level], ttft_from="sent")


LLMPERF_TIMES = {"TTFT": "ttft_s", "request": "end_to_end_latency_s"}


def _llmperf_times(one: Object, name: str) -> dict[str, float]:
    parts = {"mean": "mean", "min": "min", "median": "quantiles_p50", "p99": "quantiles_p99", "max": "max"}
    found = numbers_of({statistic: one.get(f"results_{name}_{part}") for statistic, part in parts.items()})
    return {statistic: seconds * 1e3 for statistic, seconds in found.items()}


def _llama_bench(values: Sequence[Object], path: Path) -> ServedResult:
    levels = []
    for one in values:
        tokens = int(one.get("n_gen") or 0)
        requests = [
            ServedRequest(
                total_ms=ns / 1e6,
                prompt_tokens=as_int(one.get("n_prompt")),
                output_tokens=tokens or None,
                per_token_ms=ns / 1e6 / tokens if tokens and not one.get("n_prompt") else None,
            )
            for ns in one.get("samples_ns") or []
        ]
        name = f"pp{one['n_prompt']} tg{tokens}"
        mean_ns = as_number(one.get("avg_ns"))
        stated = StatedFigures(
            times={} if mean_ns is None else {"request": {"mean": mean_ns / 1e6}},
            call_rate=as_number(one.get("avg_ts")),
        )
        levels.append(
            ServedLevel(name=name, requests=requests, finished=len(requests), failed=0, p99=False, stated=stated)
        )
    return ServedResult(program="llama-bench", source=str(path), levels=levels, ttft_from=None, batches=True)


def _optimum(values: Sequence[Object], path: Path) -> ServedResult:
    report = values[0].get("report", values[0])
    levels = []
    for name in ("load", "load_model", "prefill", "decode", "per_token", "forward", "call"):
        part = report.get(name)
        times = ((part or {}).get("latency") or {}).get("values")
        if not times:
            continue
        requests = [ServedRequest(total_ms=value * 1e3) for value in times]
        mean_s = as_number(part["latency"].get("mean"))
        stated = StatedFigures(times={} if mean_s is None else {"request": {"mean": mean_s * 1e3}})
        levels.append(ServedLevel(name=name, requests=requests, finished=len(requests), failed=0, stated=stated))
    return ServedResult(program="optimum-benchmark", source=str(path), levels=levels, ttft_from=None, batches=True)


def _is_optimum(values: Sequence[Object]) -> bool:
    report = values[0].get("report", values[0])
    if not isinstance(report, dict):
        return False
    parts = [report.get(name) for name in ("prefill", "decode", "per_token", "forward", "call")]
    latencies = [part.get("latency") for part in parts if isinstance(part, dict)]
    return any(isinstance(one, dict) and "values" in one for one in latencies)


FORMATS: tuple[tuple[Callable[[Sequence[Object]], bool], Callable[[Sequence[Object], Path], ServedResult]], ...] = (
    (_has("total_output_tokens_retokenized", "completed", "duration"), _sglang),
    (_has("completed", "total_input_tokens", "request_throughput", "num_prompts"), _vllm),
    (_has("metadata", "metrics"), aiperf_records),
    (is_aiperf_summary, aiperf_summary),
    (is_genai_perf_requests, genai_perf_requests),
    (lambda values: isinstance(values[0].get("benchmarks"), list) and "metadata" in values[0], _guidellm),
    (_has("ttft_s", "end_to_end_latency_s", "number_output_tokens"), _llmperf),
    (_has("results_num_requests_started", "results_number_errors"), _llmperf_summary),
    (_has("n_prompt", "n_gen", "samples_ns", "avg_ts"), _llama_bench),
    (_is_optimum, _optimum),
)
"""How each format is recognised, and how it is read."""


def programs() -> Iterator[str]:
    """The programs whose results are read."""
    yield from ("vLLM bench serve", "SGLang bench_serving", "AIPerf", "genai-perf", "GuideLLM", "LLMPerf",
                "llama-bench", "optimum-benchmark")  # fmt: skip


def _failed(one: Object, requests: Sequence[ServedRequest]) -> int | None:
    """As it counts them, or as many rows as have an error; without a count, those that it asked and that didn't end."""
    failed, planned, finished = (as_int(one.get(name)) for name in ("failed", "num_prompts", "completed"))
    if failed is None and planned is not None and finished is not None:
        return max(0, planned - finished)
    with_error = sum(request.error is not None for request in requests)
    return max(failed, with_error) if failed is not None else with_error or None


def _stated(one: Object) -> StatedFigures:
    kinds = {"TTFT": "ttft_ms", "token": "tpot_ms", "gap": "itl_ms", "request": "e2el_ms"}
    kinds |= {"request": "e2e_latency_ms"} if "mean_e2e_latency_ms" in one else {}
    times = {
        kind: numbers_of({statistic: one.get(f"{statistic}_{name}") for statistic in ("mean", "median", "p99")})
        for kind, name in kinds.items()
    }
    return StatedFigures(
        duration_s=as_number(one.get("duration")),
        times=times,
        requests_rate=as_number(one.get("request_throughput")),
        output_rate=as_number(one.get("output_throughput")),
        tokens_rate=as_number(one.get("total_token_throughput", one.get("total_throughput"))),
        input_tokens=as_number(one.get("total_input_tokens")),
        output_tokens=as_number(one.get("total_output_tokens")),
    )


def _load_name(one: Object, path: Path) -> str:
    rate, users = as_rate(one.get("request_rate")), as_int(one.get("max_concurrency"))
    parts = [*([f"{rate:g}/s"] if rate else []), *([f"{users} at once"] if users else [])]
    return ", ".join(parts) or path.stem
