"""Results that contradict themselves: units that were swapped, summaries of something else, copies, a slow stretch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import fmean, median

import pytest

from laptime.audits import audit
from laptime.audits.served.reading import read_served

DATA = Path(__file__).parent / "data"
REQUESTS = 120


def fired(path) -> dict[str, str]:
    return {finding.code: finding.severity for finding in audit(path).findings}


def finding(path, code: str):
    (one,) = [one for one in audit(path).findings if one.code == code]
    return one


def written(tmp_path, result, name: str = "r.json") -> Path:
    (tmp_path / name).write_text(json.dumps(result))
    return tmp_path / name


def lines(tmp_path, rows) -> Path:
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "p.jsonl"


def vllm(change=None) -> dict:
    """A sound result of vLLM bench with times as they are measured. change: of its rows, before they are summed up."""
    chance, tokens = random.Random(27), 24
    rows = {
        "ttfts": [0.05 * chance.uniform(0.8, 1.2) for _ in range(REQUESTS)],
        "itls": [[0.012 * chance.uniform(0.8, 1.2) for _ in range(tokens - 1)] for _ in range(REQUESTS)],
        "start_times": [0.1 * n for n in range(REQUESTS)],
        "input_lens": [100] * REQUESTS,
        "output_lens": [tokens] * REQUESTS,
        "errors": [""] * REQUESTS,
    }
    if change is not None:
        change(rows)
    per_token = [sum(gaps) / (tokens - 1) for gaps in rows["itls"]]
    summary = {"num_prompts": REQUESTS, "completed": REQUESTS, "failed": 0, "request_rate": "inf", "duration": 13.0,
               "total_input_tokens": 100 * REQUESTS, "total_output_tokens": tokens * REQUESTS,
               "request_throughput": REQUESTS / 13, "output_throughput": tokens * REQUESTS / 13,
               "total_token_throughput": (100 + tokens) * REQUESTS / 13,
               "p99_ttft_ms": 1e3 * max(rows["ttfts"])}  # fmt: skip
    for name, values in (
        ("ttft", rows["ttfts"]),
        ("tpot", per_token),
        ("itl", [g for row in rows["itls"] for g in row]),
    ):
        summary |= {f"mean_{name}_ms": fmean(values) * 1e3, f"median_{name}_ms": median(values) * 1e3}
    return summary | rows


def llmperf(per_token=1.0, ttft=1.0) -> list[dict]:
    """Results of LLMPerf whose time per token is (total - TTFT) / (N - 1) in s, times these factors."""
    chance, rows = random.Random(5), []
    for _ in range(40):
        tokens, first, gap = 60 + chance.randrange(9), 0.05 * chance.uniform(0.8, 1.2), 0.012 * chance.uniform(0.9, 1.1)
        rows.append({"error_code": None, "error_msg": "", "inter_token_latency_s": gap * per_token,
                     "ttft_s": first * ttft, "end_to_end_latency_s": first + gap * (tokens - 1),
                     "number_input_tokens": 550, "number_output_tokens": tokens})  # fmt: skip
    return rows


def aiperf(change=lambda metrics: None) -> list[dict]:
    """The real records of AIPerf, with one change of each one's metrics."""
    rows = [json.loads(line) for line in (DATA / "aiperf-0.13.0.jsonl").read_text().splitlines()]
    for row in rows:
        change(row["metrics"])
    return rows


def test_a_sound_result_and_real_ones_have_no_contradiction(tmp_path):
    assert fired(written(tmp_path, vllm())) == {}
    assert "per-token-includes-first" not in fired(written(tmp_path, llmperf()))
    new = {"impossible-times", "longer-than-run", "summary-unlike-rows", "copied-requests", "slow-stretch",
           "several-tokens-a-chunk"}  # fmt: skip
    for file in DATA.iterdir():
        assert not new & fired(file).keys()


def in_ms(rows, name: str, every: int = 1) -> None:
    for place in range(0, REQUESTS, every):
        row = rows[name][place]
        rows[name][place] = [gap * 1e3 for gap in row] if isinstance(row, list) else row * 1e3


@pytest.mark.parametrize(
    ("name", "every", "words"), [("ttfts", 1, "if TTFT"), ("ttfts", 5, "if TTFT"), ("itls", 1, "if the gaps")]
)
def test_times_in_ms_where_the_field_is_in_s(tmp_path, name, every, words):
    file = written(tmp_path, vllm(lambda rows: in_ms(rows, name, every)))
    assert fired(file) == {"longer-than-run": "severe"}  # the summary follows from the wrong rows
    found = finding(file, "longer-than-run")
    assert words in found.reason and found.count >= REQUESTS // every - 1


def test_a_duration_that_is_too_short(tmp_path):
    file = written(tmp_path, vllm() | {"duration": 2.0})
    assert set(fired(file)) == {"longer-than-run", "summary-unlike-rows"}
    assert "starts alone" in finding(file, "longer-than-run").reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_ttft_ms": 0.05}, "mean of TTFT"),
        ({"mean_tpot_ms": 48.0, "median_tpot_ms": 48.0}, "mean of time per token"),
        ({"median_itl_ms": 24.0}, "median of the gaps"),
        ({"output_throughput": 900.0}, "output tokens/s"),
        ({"request_throughput": 30.0}, "requests/s"),
        ({"total_output_tokens": 4 * 24 * REQUESTS, "output_throughput": 4 * 24 * REQUESTS / 13,
          "total_token_throughput": 196 * REQUESTS / 13}, "output tokens"),
    ],
)  # fmt: skip
def test_a_summary_that_does_not_follow_from_its_requests(tmp_path, change, words):
    file = written(tmp_path, vllm() | change)
    assert fired(file) == {"summary-unlike-rows": "severe"}
    assert words in finding(file, "summary-unlike-rows").examples[0]


def test_a_backend_that_keeps_no_gaps_is_not_held_against_its_time_per_token(tmp_path):
    file = written(tmp_path, vllm() | {"itls": [[] for _ in range(REQUESTS)], "mean_itl_ms": 0.0, "median_itl_ms": 0.0})
    assert "summary-unlike-rows" not in fired(file)


def test_rows_with_an_error_are_failures_whatever_is_counted(tmp_path):
    broken = vllm() | {"completed": 90, "request_throughput": 90 / 13}
    for name, empty in (("ttfts", 0.0), ("itls", []), ("output_lens", 0), ("errors", "Timeout")):
        broken[name] = broken[name][:90] + [empty] * 30
    counted = {"total_output_tokens": 24 * 90, "output_throughput": 24 * 90 / 13,
               "total_token_throughput": (100 * REQUESTS + 24 * 90) / 13}  # fmt: skip
    file = written(tmp_path, broken | counted)
    assert fired(file)["failures-dropped"] == "severe"
    assert finding(file, "failures-dropped").count == 30


def test_times_below_zero(tmp_path):
    def change(rows):
        rows["ttfts"][7] = -0.05

    file = written(tmp_path, vllm(change))
    assert fired(file) == {"impossible-times": "severe"} and finding(file, "impossible-times").count == 1


def slower(rows, first: int, last: int) -> None:
    for place in range(first, last):
        rows["itls"][place] = [3 * gap for gap in rows["itls"][place]]


def test_a_stretch_that_was_slower_than_what_came_before_and_after(tmp_path):
    file = written(tmp_path, vllm(lambda rows: slower(rows, 50, 80)))
    assert fired(file) == {"slow-stretch": "warning"}
    assert "requests 51 to 80" in finding(file, "slow-stretch").examples[0]


def test_a_burst_or_longer_prompts_are_no_slow_stretch(tmp_path):
    def burst(rows):
        slower(rows, 50, 80)
        rows["start_times"][50:80] = [5.0 + 0.04 * n for n in range(30)]

    def long_prompts(rows):
        slower(rows, 50, 80)
        rows["input_lens"][50:80] = [190] * 30

    def to_the_end(rows):
        slower(rows, 90, REQUESTS)

    for change in (burst, long_prompts, to_the_end):
        assert "slow-stretch" not in fired(written(tmp_path, vllm(change)))


def test_requests_that_are_copies(tmp_path):
    def change(rows):
        for name in ("ttfts", "itls"):
            rows[name][60:] = rows[name][:60]

    file = written(tmp_path, vllm(change))
    assert fired(file) == {"copied-requests": "severe"} and finding(file, "copied-requests").count == 60


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        (llmperf(per_token=1e3), "impossible-times", "a thousandth of the time per token would fit"),
        (llmperf(ttft=1e3), "impossible-times", "a thousandth of TTFT would fit"),
        (llmperf(ttft=30), "impossible-times", "Two clocks"),
        (llmperf(per_token=4), "chunk-for-token", "chunks of several tokens"),
    ],
)
def test_llmperf_is_told_what_is_wrong_and_nothing_else(tmp_path, rows, code, words):
    file = written(tmp_path, rows)
    assert {name for name, severity in fired(file).items() if severity != "info"} == {code}
    assert words in finding(file, code).reason


def test_a_unit_that_explains_few_is_not_named(tmp_path):
    rows = llmperf(ttft=30)
    rows[0]["ttft_s"] *= 40
    assert "thousandth" not in finding(written(tmp_path, rows), "impossible-times").reason


def test_aiperf_names_the_unit_of_each_time(tmp_path):
    def in_s(metrics):
        metrics["request_latency"] = {"value": metrics["request_latency"]["value"] / 1e3, "unit": "sec"}

    sound = fired(DATA / "aiperf-0.13.0.jsonl")
    assert fired(lines(tmp_path, aiperf(in_s))) == sound
    wrong = lines(tmp_path, aiperf(lambda metrics: metrics["time_to_first_token"].update(unit="s")))
    assert "a thousandth of TTFT would fit" in finding(wrong, "impossible-times").reason
    (level,) = read_served(lines(tmp_path, aiperf(lambda m: m["request_latency"].update(unit="parsec")))).levels
    assert all(one.total_ms is None for one in level.requests)


def test_aiperf_with_several_tokens_a_chunk(tmp_path):
    def fewer(metrics):
        metrics["inter_chunk_latency"]["value"] = metrics["inter_chunk_latency"]["value"][::4]

    file = lines(tmp_path, aiperf(fewer))
    assert fired(file)["several-tokens-a-chunk"] == "info"
    assert finding(file, "several-tokens-a-chunk").examples[0] == "13 tokens in 4 chunks"
    four_times = lines(tmp_path, aiperf(lambda m: m["inter_token_latency"].update(value=66.0)))
    assert fired(four_times)["chunk-for-token"] == "severe"


def genai_perf(ttft: dict) -> dict:
    return {
        "request_latency": {"unit": "ms", "avg": 800.0, "min": 700.0, "p99": 900.0, "max": 950.0},
        "time_to_first_token": {"unit": "ms"} | ttft,
        "request_throughput": {"unit": "requests/sec", "avg": 5.0},
        "output_sequence_length": {"unit": "tokens", "avg": 64.0},
        "input_config": {"model": ["m"], "service_kind": "openai"},
    }


def test_a_summary_of_genai_perf(tmp_path):
    sound = {"avg": 50.0, "min": 40.0, "p99": 60.0, "max": 70.0}
    file = written(tmp_path, genai_perf(sound), "profile_export_genai_perf.json")
    assert fired(file) == {} and read_served(file).program == "genai-perf"
    without = {name: value for name, value in genai_perf(sound).items() if name != "input_config"}
    other = written(tmp_path, without | {"input_config": {}}, "my_profile_genai_perf.json")
    assert read_served(other).program == "genai-perf"
    for wrong in (sound | {"avg": 5000.0}, sound | {"p99": 10.0}, sound | {"min": -1.0}):
        assert fired(written(tmp_path, genai_perf(wrong), file.name)) == {"impossible-times": "severe"}
    assert (
        fired(written(tmp_path, genai_perf(sound | {"unit": "us", "avg": 50_000.0, "max": 70_000.0}), file.name)) == {}
    )


def test_the_requests_of_genai_perf(tmp_path):
    chance, second = random.Random(3), 1_000_000_000
    requests = []
    for place in range(12):
        instants = [place * second + 50_000_000 + n * 12_000_000 + chance.randrange(900_000) for n in range(8)]
        requests.append({"timestamp": place * second, "request_inputs": {}, "response_timestamps": instants})
    result = {"service_kind": "openai",
              "experiments": [{"experiment": {"mode": "concurrency", "value": 1}, "requests": requests}]}  # fmt: skip
    file = written(tmp_path, result, "profile_export.json")
    (level,) = read_served(file).levels
    assert level.concurrency == 1 and len(level.good) == 12 and level.good[0].chunks == 8
    assert 50 <= level.good[0].ttft_ms < 51 and "genai-perf" in audit(file).source and fired(file) == {}
    requests[3]["response_timestamps"][0] = 3 * second - 5
    assert fired(written(tmp_path, result, file.name)) == {"impossible-times": "severe"}


@pytest.mark.parametrize("value", ["x", {}, float("inf"), None])
@pytest.mark.parametrize("name", ["start_times", "input_lens", "output_lens"])
def test_a_value_of_another_kind_is_unknown(tmp_path, name, value):
    def change(rows):
        rows[name][0] = value

    assert "impossible-times" not in fired(written(tmp_path, vllm(change)))
