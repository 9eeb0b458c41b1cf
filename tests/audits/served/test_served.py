"""Other programs' results: each format is recognised, each rule fires on what it is for and on nothing else.

vllm-bench-0.32.0.json and guidellm-0.8.1.json are real output, cut to ten requests (vLLM's summary was worked out again
for these ten), of a server that sends a role first and its first content 30 ms later (tests/engines/known_server.py).
The others are written with the programs' fields.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laptime.audits import audit
from laptime.audits.served.reading import read_served
from laptime.cli.main import run
from laptime.errors import LaptimeError

DATA = Path(__file__).parent / "data"
VLLM = DATA / "vllm-bench-0.32.0.json"


def fired(path) -> dict[str, str]:
    return {finding.code: finding.severity for finding in audit(path).findings}


def vllm(tmp_path, name: str = "r.json", **result) -> Path:
    file = tmp_path / name
    file.write_text(json.dumps(result))
    return file


def sound(requests: int = 120, tokens: int = 8) -> dict:
    """A result of vLLM bench that has nothing wrong: one chunk a token, no waiting, the rate kept."""
    return {
        "num_prompts": requests, "completed": requests, "failed": 0, "request_rate": 10.0, "max_concurrency": None,
        "total_input_tokens": 32 * requests, "total_output_tokens": tokens * requests, "request_throughput": 10.0,
        "duration": requests / 10, "input_lens": [32] * requests, "output_lens": [tokens] * requests,
        "ttfts": [0.03] * requests, "itls": [[0.01] * (tokens - 1)] * requests,
        "latencies": [0.03 + 0.01 * (tokens - 1)] * requests, "start_times": [0.1 * n for n in range(requests)],
        "queue_times": [0.0001] * requests, "errors": [""] * requests, "p99_ttft_ms": 30.0, "model_id": "m",
        "tokenizer_id": "t", "output_throughput": 10.0 * tokens, "mean_ttft_ms": 30.0, "mean_tpot_ms": 10.0,
    }  # fmt: skip


def test_a_sound_result_has_no_finding(tmp_path):
    assert fired(vllm(tmp_path, **sound())) == {}


def test_real_output_of_vllm_bench_takes_a_role_for_a_token():
    report = audit(VLLM)
    assert "vLLM bench serve" in report.source and report.samples == 10
    (finding,) = [one for one in report.findings if one.code == "chunk-for-token"]
    assert finding.severity == "severe" and finding.count == 10 and "12 tokens in 14 chunks" in finding.examples
    ttfts = [one.ttft_ms for one in read_served(VLLM).levels[0].requests]
    assert min(ttfts) < 10  # the truth is 30 ms


def test_real_output_of_guidellm():
    result = read_served(DATA / "guidellm-0.8.1.json")
    assert result.program == "GuideLLM" and result.levels[0].concurrency == 2
    requests = result.levels[0].good
    assert len(requests) == 10 and all(one.chunks == one.output_tokens == 12 for one in requests)
    assert all(one.ttft_ms > 30 and one.prompt_tokens == 10 for one in requests)
    # On the busy machine where it ran, 2 to 6 ms passed in the client before it sent, and its TTFT leaves them out.
    assert fired(DATA / "guidellm-0.8.1.json") == {"few-for-percentile": "info", "ttft-without-queue": "severe"}


SENT_LATE = {"start_times": [0.2 * n for n in range(120)], "duration": 24.0, "request_throughput": 5.0,
             "output_throughput": 40.0}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "severity"),
    [
        ({"queue_times": [0.2] * 120}, "ttft-without-queue", "severe"),
        ({"failed": 30, "completed": 110, "request_throughput": 110 / 12}, "failures-dropped", "severe"),
        ({"failed": 1, "completed": 119, "request_throughput": 119 / 12}, "failures-dropped", "warning"),
        (
            {"ttfts": [0.9] + [0.03] * 119, "latencies": [0.97] + [0.1] * 119, "mean_ttft_ms": 37.25},
            "warm-up-inside",
            "warning",
        ),
        (SENT_LATE, "client-bound", "severe"),
        ({"input_lens": [32, 512] * 60}, "mixed-prompts", "info"),
        ({"random_prefix_len": 64}, "cached-prefixes", "warning"),
        ({"itls": [[0.02] * 3] * 120}, "chunk-for-token", "severe"),
    ],
)
def test_each_rule_finds_what_it_is_for(tmp_path, changes, code, severity):
    assert fired(vllm(tmp_path, **sound() | changes)) == {code: severity}


OTHER = {"total_output_tokens": 1080, "output_throughput": 90.0, "latencies": [0.08, 0.14] * 60}


def test_loads_that_are_compared(tmp_path):
    vllm(tmp_path, "a.json", **sound(tokens=8))
    other = sound() | OTHER | {"output_lens": [6, 12] * 60, "itls": [[0.01] * 5, [0.01] * 11] * 60}
    vllm(tmp_path, "b.json", **other)
    assert fired(tmp_path) == {"eos-ignored-in-some": "severe"}
    lengths = sound() | {
        "output_lens": [7, 9] * 60,
        "itls": [[0.01] * 6, [0.01] * 8] * 60,
        "latencies": [0.09, 0.11] * 60,
    }
    vllm(tmp_path, "a.json", **lengths)
    assert fired(tmp_path) == {"unequal-output-lengths": "warning"}


def test_the_other_formats_are_recognised(tmp_path):
    files = {
        "SGLang bench_serving": json.dumps(
            {"backend": "sglang", "request_rate": 4.0, "max_concurrency": 8, "duration": 3.0, "completed": 2,
             "total_input_tokens": 64, "total_output_tokens": 8, "total_output_tokens_retokenized": 8,
             "request_throughput": 1.0, "input_lens": [32, 32], "output_lens": [4, 4], "ttfts": [0.1, 0.1],
             "itls": [[0.01, 0.01, 0.01]] * 2, "errors": ["", ""]}),
        "AIPerf": json.dumps(
            {"metadata": {"request_start_ns": 5_000_000_000, "benchmark_phase": "profiling"}, "error": None,
             "metrics": {"time_to_first_token": {"value": 31.0, "unit": "ms"},
                         "request_latency": {"value": 150.0, "unit": "ms"},
                         "output_sequence_length": {"value": 12, "unit": "tokens"}}}),
        "LLMPerf": json.dumps(
            [{"error_code": None, "error_msg": "", "ttft_s": 0.2, "end_to_end_latency_s": 1.0,
              "inter_token_latency_s": 0.1, "number_input_tokens": 30, "number_output_tokens": 10,
              "number_total_tokens": 40, "request_output_throughput_token_per_s": 10.0}] * 9),
        "llama-bench": json.dumps(
            [{"build_commit": "abc", "n_prompt": 0, "n_gen": 16, "avg_ns": 3.42e6, "avg_ts": 6679.4,
              "samples_ns": [9_000_000, 2_000_000, 2_100_000, 2_000_000, 2_000_000], "samples_ts": [1.0] * 5}]),
        "optimum-benchmark": json.dumps(
            {"config": {}, "report": {"prefill": {"latency": {"unit": "s", "values": [0.1] * 5}},
                                      "decode": {"latency": {"unit": "s", "values": [0.4] * 5}}}}),
    }  # fmt: skip
    for program, content in files.items():
        file = tmp_path / f"{program.split()[0]}.json"
        file.write_text(content + "\n")
        assert read_served(file).program == program
        assert program in audit(file).source
    assert fired(tmp_path / "LLMPerf.json")["per-token-includes-first"] == "severe"
    (row, *_) = json.loads(files["LLMPerf"])
    rows = [row | {"inter_token_latency_s": 0.095}] * 9  # neither 1.0 s / 10 nor 0.8 s / 9: to the last chunk, over 10
    (tmp_path / "LLMPerf.json").write_text(json.dumps(rows))
    assert fired(tmp_path / "LLMPerf.json")["per-token-includes-first"] == "severe"
    (tmp_path / "LLMPerf.json").write_text(json.dumps([row | {"inter_token_latency_s": 0.8 / 9}] * 9))
    assert "per-token-includes-first" not in fired(tmp_path / "LLMPerf.json")
    assert fired(tmp_path / "llama-bench.json") == {"warm-up-inside": "warning"}


def test_what_is_none_of_them_is_left_to_the_other_readers(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_served(tmp_path / "x.json") is None and read_served(tmp_path) is None
    with pytest.raises(LaptimeError):
        audit(tmp_path / "x.json")


def test_a_damaged_result_is_one_line(tmp_path, capsys):
    (tmp_path / "g.json").write_text('{"benchmarks": [7], "metadata": {}}')
    assert run(["audit", str(tmp_path / "g.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_real_output_of_aiperf():
    (level,) = read_served(DATA / "aiperf-0.13.0.jsonl").levels
    assert len(level.good) == 10 and level.failed == 0
    for one in level.good:
        assert one.output_tokens == 13  # by its own tokenizer; the endpoint counted 12
        assert one.ttft_ms > 30 and one.per_token_ms == pytest.approx((one.total_ms - one.ttft_ms) / 12)
        assert one.client_queue_ms > 0
    assert "chunk-for-token" not in fired(DATA / "aiperf-0.13.0.jsonl")


def test_a_rate_without_limit_as_python_writes_it(tmp_path):
    line = json.dumps({"request_rate": float("inf"), "max_concurrency": 8, "duration": 3.0, "completed": 2,
                       "total_input_tokens": 64, "total_output_tokens": 8, "total_output_tokens_retokenized": 8,
                       "request_throughput": 1.0, "accept_length": float("nan")})  # fmt: skip
    assert "Infinity" in line
    (tmp_path / "s.jsonl").write_text(f"{line}\n{line}\n")
    result = read_served(tmp_path / "s.jsonl")
    assert result.program == "SGLang bench_serving" and len(result.levels) == 2
    assert result.levels[0].rate_per_s is None and result.levels[0].concurrency == 8
    (tmp_path / "deep.json").write_text('{"a": Infinity, "b": ' + "[" * 100_000)
    assert read_served(tmp_path / "deep.json") is None


def test_aiperf_that_hung_up_as_asked_has_no_failures(tmp_path):
    hung_up = {"code": 499, "type": "RequestCancellationError", "message": "Request was cancelled after 0.000 seconds"}
    record = {"metadata": {"timestamp_ns": 7, "credit_phase": "profiling"}, "error": None,
              "metrics": {"ttft": {"value": 30.0}, "request_latency": {"value": 140.0},
                          "inter_token_latency": {"value": 10.0}, "output_sequence_length": {"value": 12}}}  # fmt: skip
    lines = [record | {"metrics": {}, "error": hung_up}] * 3 + [record] * 9
    lines.append(record | {"metrics": {}, "error": {"type": "TimeoutError"}})
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (level,) = read_served(tmp_path / "p.jsonl").levels
    assert (level.finished, level.failed) == (9, 1) and level.good[0].ttft_ms == 30.0
    summary = {"records": {"request_latency": {"avg": 140.0}, "request_count": {"avg": 9.0},
                           "error_request_count": {"avg": 4.0}}, "input_config": {},
               "error_summary": [{"error_details": hung_up, "count": 3}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(summary))
    (level,) = read_served(tmp_path / "a.json").levels
    assert (level.finished, level.failed) == (9, 1)


def test_guidellm_one_after_another_waits_for_its_turn_only(tmp_path):
    result = json.loads((DATA / "guidellm-0.8.1.json").read_text())
    (benchmark,) = result["benchmarks"]
    for row in benchmark["requests"]["successful"]:
        row["info"]["timings"]["targeted_start"] -= 60  # what 0.5 writes of requests without a rate: the run's start
        row["info"]["timings"]["scheduled_at"] = row["info"]["timings"]["request_start"] - 1e-4
        row["info"]["timings"]["token_iterations"] = 10  # its time per token is divided by tokens all the same
    (tmp_path / "g.json").write_text(json.dumps(result))
    assert fired(tmp_path / "g.json") == {"few-for-percentile": "info"}
    benchmark["config"]["strategy"] |= {"type_": "constant", "rate": 4.0}
    (tmp_path / "g.json").write_text(json.dumps(result))
    assert fired(tmp_path / "g.json")["ttft-without-queue"] == "severe"


def test_requests_that_an_older_vllm_bench_does_not_count_as_failed(tmp_path):
    older = sound() | {"completed": 110, "request_throughput": 110 / 12}
    del older["failed"]
    (tmp_path / "v.json").write_text(json.dumps(older))
    assert fired(tmp_path / "v.json") == {"failures-dropped": "severe"}
    none = (
        sound()
        | {"completed": 0, "failed": 120, "request_throughput": 0.0}
        | {name: [] for name in ("itls", "ttfts", "latencies")}
    )
    (tmp_path / "v.json").write_text(json.dumps(none))
    assert fired(tmp_path / "v.json") == {"failures-dropped": "severe"}  # and no percentile of no requests
