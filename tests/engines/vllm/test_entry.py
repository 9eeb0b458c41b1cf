"""The door that vLLM opens: off by default, other versions refused by name, clocks put on one."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import entry_points
from types import SimpleNamespace

import msgspec
import pytest

from laptime.engines.request import RequestSample
from laptime.engines.vllm import entry, request_marks, versions
from laptime.engines.vllm.writer import LineWriter


@pytest.fixture
def once(monkeypatch, tmp_path):
    monkeypatch.setattr(entry, "_installed", False)
    monkeypatch.setenv(versions.VARIABLE, str(tmp_path / "engine"))
    return tmp_path / "engine"


def test_off_unless_the_variable_is_set(monkeypatch):
    monkeypatch.setattr(entry, "_install", pytest.fail)
    monkeypatch.setattr(entry, "_installed", False)
    for value in (None, ""):
        monkeypatch.delenv(versions.VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(versions.VARIABLE, value)
        entry.general()


def test_off_imports_neither_torch_nor_vllm():
    program = "import sys; from laptime.engines.vllm.entry import general; general(); " \
              "print(sorted({'torch', 'vllm', 'polars', 'numpy'} & set(sys.modules)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("found", ["0.31.9", "0.33.0", None])
def test_other_versions_are_refused_by_name(once, monkeypatch, capsys, found):
    monkeypatch.setattr(entry, "installed", lambda: found)
    entry.general()
    said = capsys.readouterr().err
    assert "0.32.0" in said and (found or "unknown") in said and said.count("\n") == 1
    assert not once.exists()


def test_whatever_goes_wrong_the_engine_starts(once, monkeypatch, capsys):
    monkeypatch.setattr(entry, "installed", lambda: "0.32.0")  # and there is no vllm to import
    entry.general()
    assert "nothing is measured" in capsys.readouterr().err


def test_the_entry_points_are_declared():
    for group in ("vllm.general_plugins", "vllm.stat_logger_plugins"):
        found = [one.value for one in entry_points(group=group) if one.name == "laptime"]
        assert not found or found[0].startswith("laptime.engines.vllm.")


def test_a_request_has_its_instants_on_one_clock():
    kept: list[RequestSample] = []
    recorder = request_marks.RequestRecorder(kept.append)
    arrival, began = time.time(), time.perf_counter_ns()
    recorder.handed("id-1")
    queued = time.monotonic()
    stats = SimpleNamespace(arrival_time=arrival, queued_ts=queued, scheduled_ts=queued + 0.01, num_preemptions=1,
                            first_token_ts=queued + 0.02, last_token_ts=0.0, first_token_latency=0.02)  # fmt: skip
    figures = SimpleNamespace(finish_reason="length", request_id="chatcmpl-1", num_prompt_tokens=7, queued_time=0.01,
                              num_cached_tokens=3, num_generation_tokens=2, prefill_time=0.01, decode_time=0.0,
                              inference_time=0.0, e2e_latency=0.03, mean_time_per_output_token=0)  # fmt: skip
    recorder.finished("id-1", figures, stats)
    (request,) = kept
    assert abs(request.arrival.ns - began) < 1_000_000
    assert began <= request.handed.ns <= request.queued.ns + 1000
    assert request.scheduled.ns - request.queued.ns == pytest.approx(10_000_000, abs=1000)
    assert request.last_token is None  # 0.0 is vLLM's word for unknown
    assert request.flags == ["preempted"] and request.outcome == "finished" and request.server_id == "chatcmpl-1"


def test_lines_are_written_beside_the_work(tmp_path):
    writer: LineWriter[int] = LineWriter(tmp_path / "new", lambda: "steps-1", lambda items: [[one] for one in items])
    for value in range(3):
        writer.put(value)
    writer.flush()
    lines = (tmp_path / "new" / "steps-1.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [[0], [1], [2]]
