"""Requests as engines record them: instants where they are said, None where they are not, stages that sum."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from laptime import read_engine, show
from laptime.engines.life import lives_of
from laptime.engines.request_logs import requests_of_batching
from laptime.errors import LaptimeError

SGLANG = {
    "id": "r1", "prompt_tokens": 40, "completion_tokens": 5, "cached_tokens": 8, "e2e_latency": 0.5,
    "request_received_ts": 1000.0, "request_sent_to_scheduler_ts": 1000.01, "queue_time": 0.1,
    "prefill_finished_ts": 1000.2, "decode_finished_ts": 1000.45, "response_sent_to_client_ts": 1000.5,
    "finish_reason": {"type": "stop"},
}  # fmt: skip
TENSORRT = {
    "request_id": 3,
    "perf_metrics": {
        "timing_metrics": {"server_arrival_time": 5.0, "arrival_time": 5.01, "first_scheduled_time": 5.05,
                           "first_token_time": 5.15, "last_token_time": 5.4},
        "kv_cache_metrics": {"num_reused_blocks": 2},
    },
}  # fmt: skip


def stages(report) -> dict[str, float]:
    return {name: round(figure.mean_ms, 3) for name, figure in report.levels[0].stages.items()}


def test_sglangs_log(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(SGLANG | {"id": f"r{n}"}) + "\n" for n in range(3)) + '{"half')
    report = read_engine(file)
    assert report.engine == "sglang" and report.requests == 3 and report.steps is None
    assert stages(report) == {"preprocessing": 10, "queue": 100, "prefill": 90, "decode": 250, "other": 50}
    assert report.levels[0].cost_ms is None and report.levels[0].cached_share == 0.2
    show(report)


def test_tensorrts_metrics(tmp_path):
    file = tmp_path / "perf.json"
    file.write_text(json.dumps([TENSORRT]))
    assert stages(read_engine(file)) == {"preprocessing": 10, "queue": 40, "prefill": 100, "decode": 250}


def test_continuous_batching_by_its_public_fields():
    output = SimpleNamespace(request_id="q", prompt_ids=[1] * 7, generated_tokens=[1, 2, 3], error=None,
                             created_time=1.0, lifespan=(1.5, 4.0), timestamps=[2.0, 3.0, 3.5])  # fmt: skip
    waiting = SimpleNamespace(request_id="w", prompt_ids=[1], generated_tokens=[], error=None, created_time=1.0,
                              lifespan=(-1, -1), timestamps=None)  # fmt: skip
    requests = requests_of_batching({"q": output, "w": waiting})
    (life,), missing = lives_of(requests, [])
    assert {name: ns / 1e6 for name, ns in life.stages.items()} == {
        "queue": 500, "prefill": 500, "decode": 1500, "other": 500,
    }  # fmt: skip
    assert [one.request_id for one in missing] == ["w"] and missing[0].scheduled is None


def test_what_an_engine_does_not_say_stays_unknown(tmp_path):
    file = tmp_path / "log.jsonl"
    known = {name: SGLANG[name] for name in ("id", "request_received_ts", "prefill_finished_ts", "decode_finished_ts")}
    file.write_text(json.dumps(known) + "\n")
    report = read_engine(file)
    assert "queue" not in report.levels[0].stages and report.levels[0].output_tokens_mean is None


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(LaptimeError, match="no request log"):
        read_engine(tmp_path / "x.json")
