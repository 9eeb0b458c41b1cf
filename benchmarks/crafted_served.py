"""Faults of results that other programs wrote, put into simulated results of their formats (audit_faults.py).

They were put before the audit before any rule was made for them. The threads: vLLM 7242, 6531; SGLang 6525, 6681, 9812,
10746, 12389; GuideLLM 216, 444, 245; AIPerf 340, 1333, 1338; perf_analyzer 433; llmperf 99; LLMKube 1268; llama.cpp
15643; optimum-benchmark 223; mobile_app_open 1121; openvino.genai 1414.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

Result = Any
REQUESTS, TOKENS, PROMPT = 120, 24, 100


class ServedFault(NamedTuple):
    """One thing that is wrong in a result: the rules that name it, and what writes such a result."""

    name: str
    codes: tuple[str, ...]
    write: Callable[[random.Random], tuple[str, Result]]


def rows_of(chance: random.Random) -> dict[str, list[Any]]:
    """Requests that were sent ten a second, in seconds."""
    many = range(REQUESTS)
    return {
        "ttfts": [0.05 * chance.uniform(0.8, 1.2) for _ in many],
        "itls": [[0.012 * chance.uniform(0.8, 1.2) for _ in range(TOKENS - 1)] for _ in many],
        "start_times": [0.1 * n + 0.002 * chance.random() for n in many],
        "input_lens": [PROMPT] * REQUESTS,
        "output_lens": [TOKENS] * REQUESTS,
        "errors": [""] * REQUESTS,
    }


def vllm(rows: dict[str, list[Any]], **changed: Any) -> tuple[str, Result]:
    """A result of vLLM bench with the summary that it gives of these rows."""
    good = [n for n, error in enumerate(rows["errors"]) if not error]
    ends = [rows["start_times"][n] + rows["ttfts"][n] + sum(rows["itls"][n]) for n in range(REQUESTS)]
    seconds, many = max(ends) - min(rows["start_times"]) + 0.01, len(good)
    inputs, outputs = (sum(rows[name][n] for n in good) for name in ("input_lens", "output_lens"))
    per_token = [sum(rows["itls"][n]) / (rows["output_lens"][n] - 1) for n in good if rows["output_lens"][n] > 1]
    result = {
        "num_prompts": REQUESTS, "completed": many, "failed": REQUESTS - many, "request_rate": 10.0,
        "max_concurrency": None, "duration": seconds, "total_input_tokens": inputs, "total_output_tokens": outputs,
        "request_throughput": many / seconds, "output_throughput": outputs / seconds,
        "total_token_throughput": (inputs + outputs) / seconds,
    }  # fmt: skip
    kinds = {"ttft": [rows["ttfts"][n] for n in good], "tpot": per_token,
             "itl": [gap for n in good for gap in rows["itls"][n]]}  # fmt: skip
    for name, values in kinds.items():
        if values:
            last = sorted(values)[int(0.99 * (len(values) - 1))]
            result |= {f"mean_{name}_ms": fmean(values) * 1e3, f"median_{name}_ms": median(values) * 1e3}
            result[f"p99_{name}_ms"] = last * 1e3
    return "vllm.json", result | rows | changed


def sglang(rows: dict[str, list[Any]], **changed: Any) -> tuple[str, Result]:
    """The same as SGLang's bench_serving writes it."""
    _, result = vllm(rows)
    whole = [first + sum(gaps) for first, gaps in zip(rows["ttfts"], rows["itls"], strict=True)]
    result |= {"backend": "sglang", "total_output_tokens_retokenized": result["total_output_tokens"],
               "mean_e2e_latency_ms": fmean(whole) * 1e3, "median_e2e_latency_ms": median(whole) * 1e3}  # fmt: skip
    return "sglang.jsonl", result | changed


def aiperf(chance: random.Random, change: Callable[[int, dict[str, Any]], None]) -> tuple[str, Result]:
    """Records of AIPerf. change: of the record of this number."""
    rows = []
    for place in range(REQUESTS):
        gaps = [12 * chance.uniform(0.8, 1.2) for _ in range(TOKENS - 1)]
        first, began = 50 * chance.uniform(0.8, 1.2), 1_795_919_896_000_000_000 + place * 100_000_000
        row = {
            "metadata": {"credit_issued_ns": began - 40_000, "request_start_ns": began, "benchmark_phase": "profiling"},
            "metrics": {
                "time_to_first_token": {"value": first, "unit": "ms"},
                "request_latency": {"value": first + sum(gaps), "unit": "ms"},
                "inter_token_latency": {"value": fmean(gaps), "unit": "ms"},
                "inter_chunk_latency": {"value": gaps, "unit": "ms"},
                "output_sequence_length": {"value": TOKENS, "unit": "tokens"},
                "input_sequence_length": {"value": PROMPT, "unit": "tokens"},
            },
            "error": None,
        }
        change(place, row)
        rows.append(row)
    return "profile_export.jsonl", rows


def genai_perf(chance: random.Random, change: Callable[[list[int]], None]) -> tuple[str, Result]:
    """The requests of genai-perf. change: of a request's instants, ns."""
    requests = []
    for place in range(REQUESTS):
        sent = place * 1_000_000_000
        instants = [sent + 50_000_000 + n * 12_000_000 + chance.randrange(900_000) for n in range(TOKENS)]
        change(instants)
        requests.append({"timestamp": sent, "request_inputs": {}, "response_timestamps": instants})
    kept = {"experiment": {"mode": "concurrency", "value": 1}, "requests": requests}
    return "profile_export.json", {"service_kind": "openai", "experiments": [kept]}


def guidellm(chance: random.Random, change: Callable[[int, dict[str, Any]], None]) -> tuple[str, Result]:
    """A report of GuideLLM. change: of the request of this number."""
    rows = []
    for place in range(REQUESTS):
        first, gap = 50 * chance.uniform(0.8, 1.2), 12 * chance.uniform(0.9, 1.1)
        began = 1.75e9 + 0.1 * place
        row = {
            "time_to_first_token_ms": first, "inter_token_latency_ms": gap,
            "request_latency": (first + gap * (TOKENS - 1)) / 1e3, "prompt_tokens": PROMPT, "output_tokens": TOKENS,
            "info": {"timings": {"targeted_start": began - 1e-4, "scheduled_at": began - 1e-4, "request_start": began,
                                 "token_iterations": TOKENS}},
        }  # fmt: skip
        change(place, row)
        rows.append(row)
    one = {
        "config": {"strategy": {"type_": "constant", "rate": 10.0}},
        "requests": {"successful": rows, "errored": [], "incomplete": []},
        "metrics": {"request_totals": {"successful": REQUESTS, "errored": 0}},
    }
    return "benchmarks.json", {"metadata": {}, "benchmarks": [one]}


def llmperf(chance: random.Random, change: Callable[[int, dict[str, Any]], None]) -> tuple[str, Result]:
    """Responses of LLMPerf with (total - TTFT) / (N - 1). change: of the response of this number."""
    rows = []
    for place in range(REQUESTS):
        tokens, first, gap = 60 + chance.randrange(9), 0.05 * chance.uniform(0.8, 1.2), 0.012 * chance.uniform(0.9, 1.1)
        row = {"error_code": None, "error_msg": "", "inter_token_latency_s": gap, "ttft_s": first,
               "end_to_end_latency_s": first + gap * (tokens - 1), "number_input_tokens": 550,
               "number_output_tokens": tokens}  # fmt: skip
        change(place, row)
        rows.append(row)
    return "individual_responses.json", rows


def llama_bench(chance: random.Random, **changed: Any) -> tuple[str, Result]:
    """Two tests of llama-bench, prefill and decode."""
    tests = []
    for prompt, tokens, ms in ((512, 0, 300.0), (0, 128, 1500.0)):
        times = [round(ms * chance.uniform(0.98, 1.02) * 1e6) for _ in range(5)]
        rates = [(prompt + tokens) / ns * 1e9 for ns in times]
        test = {"build_commit": "abc", "n_prompt": prompt, "n_gen": tokens, "avg_ns": fmean(times),
                "avg_ts": fmean(rates), "samples_ns": times, "samples_ts": rates}  # fmt: skip
        tests.append(test | {name: make(test) for name, make in changed.items()})
    return "llama-bench.json", tests


def optimum(chance: random.Random, decode: float = 0.4, rate: float = 1.0) -> tuple[str, Result]:
    """A report of optimum-benchmark. decode: its seconds. rate: what its throughput is multiplied by."""

    def part(seconds: float, unit: str, amount: float) -> dict[str, Any]:
        values = [seconds * chance.uniform(0.98, 1.02) for _ in range(6)]
        mean = fmean(values)
        return {"latency": {"unit": "s", "values": values, "mean": mean, "count": len(values)},
                "throughput": {"unit": unit, "value": rate * amount / mean}}  # fmt: skip

    report = {"prefill": part(0.1, "tokens/s", 4 * 512), "decode": part(decode, "tokens/s", 4 * 31)}
    return "benchmark_report.json", {"config": {}, "report": report}


def _first_in_gaps(chance: random.Random) -> tuple[str, Result]:
    rows = rows_of(chance)
    rows["itls"] = [[first, *gaps] for first, gaps in zip(rows["ttfts"], rows["itls"], strict=True)]
    return vllm(rows)


def _usage_in_gaps(chance: random.Random) -> tuple[str, Result]:
    rows = rows_of(chance)
    rows["itls"] = [[*gaps, 8e-5] for gaps in rows["itls"]]
    return vllm(rows)


def _asked_length(chance: random.Random) -> tuple[str, Result]:
    rows = rows_of(chance)
    rows["itls"] = [gaps[: chance.randrange(6, TOKENS - 1)] for gaps in rows["itls"]]
    return sglang(rows)


def _never_first(chance: random.Random) -> tuple[str, Result]:
    name, result = sglang(rows_of(chance))
    result |= {"ttfts": [0.0] * REQUESTS, "itls": [[] for _ in range(REQUESTS)], "latencies": None}
    for kind in ("ttft", "itl"):
        result |= {f"{statistic}_{kind}_ms": 0.0 for statistic in ("mean", "median", "p99")}
    return name, result


def _whole_answers(chance: random.Random) -> tuple[str, Result]:
    """Nothing streams: the whole answer stands as the first token."""
    rows = rows_of(chance)
    whole = [first + sum(gaps) for first, gaps in zip(rows["ttfts"], rows["itls"], strict=True)]
    rows["ttfts"], rows["itls"] = whole, [[] for _ in range(REQUESTS)]
    _, result = vllm(rows)
    return "vllm.json", result | {"latencies": whole}


def _failed_as_fast(chance: random.Random) -> tuple[str, Result]:
    rows = rows_of(chance)
    for n in range(0, REQUESTS, 10):
        rows["ttfts"][n], rows["itls"][n], rows["output_lens"][n] = 0.0, [], 0
    return vllm(rows)


def _asked_as_done(chance: random.Random) -> tuple[str, Result]:
    rows = rows_of(chance)
    for n in range(0, REQUESTS, 12):
        rows["errors"][n], rows["ttfts"][n], rows["itls"][n], rows["output_lens"][n] = "Timeout", 0.0, [], 0
    name, result = vllm(rows)
    return name, result | {"request_throughput": REQUESTS / result["duration"]}


def _per_n(chance: random.Random) -> tuple[str, Result]:
    name, result = vllm(rows_of(chance))
    scale = {f"{s}_tpot_ms": result[f"{s}_tpot_ms"] * (TOKENS - 1) / TOKENS * 0.97 for s in ("mean", "median")}
    whole = [f + sum(g) for f, g in zip(result["ttfts"], result["itls"], strict=True)]
    return name, result | scale | {"mean_tpot_ms": fmean(whole) / TOKENS * 1e3}


def _p99_below(chance: random.Random) -> tuple[str, Result]:
    name, result = vllm(rows_of(chance))
    return name, result | {"p99_ttft_ms": result["median_ttft_ms"] * 0.6}


def _short_run(chance: random.Random) -> tuple[str, Result]:
    """The run's duration ends when the last request is sent, in a burst: half of it is missing."""
    rows = rows_of(chance)
    rows["start_times"] = [0.001 * n for n in range(REQUESTS)]
    name, result = vllm(rows)
    seconds = 0.12
    return name, result | {"request_rate": "inf", "duration": seconds, "request_throughput": REQUESTS / seconds,
                           "output_throughput": REQUESTS * TOKENS / seconds,
                           "total_token_throughput": REQUESTS * (TOKENS + PROMPT) / seconds}  # fmt: skip


def _prompts_in_rate(chance: random.Random) -> tuple[str, Result]:
    name, result = vllm(rows_of(chance))
    return name, result | {"output_throughput": result["total_token_throughput"]}


def _more_at_once(chance: random.Random) -> tuple[str, Result]:
    """Two at once were asked for; four were under way."""
    name, result = vllm(rows_of(chance))
    return name, result | {"max_concurrency": 2}


def _pool(chance: random.Random) -> tuple[str, Result]:
    """64 at once were asked for; the client had connections for four, and requests waited for one within TTFT."""
    rows = rows_of(chance)
    rows["start_times"] = [0.0001 * n for n in range(REQUESTS)]
    whole = TOKENS * 0.012 + 0.05
    rows["ttfts"] = [first + whole * (n // 4) for n, first in enumerate(rows["ttfts"])]
    name, result = vllm(rows)
    return name, result | {"max_concurrency": 200, "request_rate": "inf"}


def _retokenised(chance: random.Random) -> tuple[str, Result]:
    name, result = vllm(rows_of(chance))
    more = round(1.3 * result["total_output_tokens"])
    seconds, both = result["duration"], more + result["total_input_tokens"]
    return name, result | {"total_output_tokens": more, "output_throughput": more / seconds,
                           "total_token_throughput": both / seconds}  # fmt: skip


def _aiperf_failed(place: int, row: dict[str, Any]) -> None:
    if place % 8 == 0:
        row["metrics"] = {"request_latency": {"value": 0.4, "unit": "ms"},
                          "input_sequence_length": {"value": PROMPT, "unit": "tokens"}}  # fmt: skip


def _aiperf_ns(_: int, row: dict[str, Any]) -> None:
    row["metrics"]["request_latency"]["value"] *= 1e6


def _aiperf_whole(_: int, row: dict[str, Any]) -> None:
    row["metrics"]["time_to_first_token"]["value"] = row["metrics"]["request_latency"]["value"]
    del row["metrics"]["inter_chunk_latency"], row["metrics"]["inter_token_latency"]


def _two_at_once(instants: list[int]) -> None:
    instants[0] = instants[1] - 250_000


def _held_back(instants: list[int]) -> None:
    for n in range(0, len(instants), 6):
        last = instants[min(n + 5, len(instants) - 1)]
        for m in range(n, min(n + 6, len(instants))):
            instants[m] = last + 4_000 * (m - n)


def _guidellm_epoch(place: int, row: dict[str, Any]) -> None:
    if place % 3 == 0:
        row["time_to_first_token_ms"] = -1.75e12


def _guidellm_ms(_: int, row: dict[str, Any]) -> None:
    row["request_latency"] *= 1e3


def _guidellm_failed(place: int, row: dict[str, Any]) -> None:
    if place % 9 == 0:
        row |= {"output_tokens": 0, "request_latency": 0.0008, "time_to_first_token_ms": None,
                "inter_token_latency_ms": None}  # fmt: skip


def _llmperf_lost(place: int, row: dict[str, Any]) -> None:
    if place % 8 == 0:
        row |= {"inter_token_latency_s": 0.0, "ttft_s": 0.0, "end_to_end_latency_s": 0.0, "number_output_tokens": 0}


def _llmperf_one_token(place: int, row: dict[str, Any]) -> None:
    """The whole answer comes as the first chunk."""
    row |= {"ttft_s": row["end_to_end_latency_s"], "inter_token_latency_s": 0.0}


SERVED = (
    ServedFault("vLLM: TTFT among the gaps", ("chunk-for-token",), _first_in_gaps),
    ServedFault("vLLM: the usage's event among the gaps", ("chunk-for-token",), _usage_in_gaps),
    ServedFault("SGLang: the asked length as the answer's", ("chunk-for-token",), _asked_length),
    ServedFault("SGLang: TTFT and gaps 0", ("ttft-not-seen",), _never_first),
    ServedFault("vLLM: answers came whole", ("not-streamed",), _whole_answers),
    ServedFault("vLLM: failed requests as finished", ("empty-answers",), _failed_as_fast),
    ServedFault("vLLM: requests asked, not finished, a second", ("summary-unlike-rows",), _asked_as_done),
    ServedFault("vLLM: TPOT with the first token, over N", ("summary-unlike-rows",), _per_n),
    ServedFault("vLLM: p99 below the median", ("impossible-times",), _p99_below),
    ServedFault("vLLM: the run ends when the last is sent", ("longer-than-run",), _short_run),
    ServedFault("vLLM: prompts in the output's rate", ("summary-unlike-rows",), _prompts_in_rate),
    ServedFault("vLLM: more at once than asked", ("more-at-once",), _more_at_once),
    ServedFault("vLLM: fewer connections than asked", ("ttft-without-queue",), _pool),
    ServedFault("vLLM: tokens counted again", ("summary-unlike-rows",), _retokenised),
    ServedFault("AIPerf: failed requests as finished", ("empty-answers",), lambda c: aiperf(c, _aiperf_failed)),
    ServedFault("AIPerf: request in ns called ms", ("total-unlike-parts",), lambda c: aiperf(c, _aiperf_ns)),
    ServedFault("AIPerf: answers came whole", ("not-streamed",), lambda c: aiperf(c, _aiperf_whole)),
    ServedFault("genai-perf: two tokens at once", ("chunks-in-bursts",), lambda c: genai_perf(c, _two_at_once)),
    ServedFault("genai-perf: chunks held back", ("chunks-in-bursts",), lambda c: genai_perf(c, _held_back)),
    ServedFault("GuideLLM: TTFT minus the time of day", ("impossible-times",), lambda c: guidellm(c, _guidellm_epoch)),
    ServedFault("GuideLLM: request in ms called s", ("total-unlike-parts",), lambda c: guidellm(c, _guidellm_ms)),
    ServedFault("GuideLLM: failed requests as finished", ("empty-answers",), lambda c: guidellm(c, _guidellm_failed)),
    ServedFault("LLMPerf: lost requests as times of 0", ("empty-answers",), lambda c: llmperf(c, _llmperf_lost)),
    ServedFault("LLMPerf: answers came whole", ("not-streamed",), lambda c: llmperf(c, _llmperf_one_token)),
    ServedFault("llama-bench: rates not those of its times", ("summary-unlike-rows",),
                lambda c: llama_bench(c, avg_ts=lambda test: 2 * test["avg_ts"])),
    ServedFault("llama-bench: mean time not that of its times", ("summary-unlike-rows",),
                lambda c: llama_bench(c, avg_ns=lambda test: test["avg_ns"] / 1e3)),
    ServedFault("optimum-benchmark: decode below 0", ("impossible-times",), lambda c: optimum(c, decode=-0.02)),
)  # fmt: skip

SOUND: tuple[Callable[[random.Random], tuple[str, Result]], ...] = (
    lambda c: vllm(rows_of(c)),
    lambda c: sglang(rows_of(c)),
    lambda c: aiperf(c, lambda *_: None),
    lambda c: genai_perf(c, lambda _: None),
    lambda c: guidellm(c, lambda *_: None),
    lambda c: llmperf(c, lambda *_: None),
    llama_bench,
    optimum,
)


def write_result(folder: Path, named: tuple[str, Result]) -> Path:
    """The file of a result, a line for each object where its name says so."""
    name, result = named
    lines = result if name.endswith(".jsonl") and isinstance(result, list) else [result]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / name).write_text(text + "\n")
    return folder / name
