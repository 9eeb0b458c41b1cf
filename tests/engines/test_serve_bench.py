"""A load on a server whose truth is known: what the client says of it, and what it keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from laptime import audit, compare, page, read_frame, to_json
from laptime.cli.main import run
from laptime.data.run_folder import load_run
from laptime.engines.address import endpoint_url
from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.loads import concurrency, constant
from laptime.engines.questions import Asking
from laptime.engines.request import read_requests
from laptime.engines.result import Slo
from laptime.errors import LaptimeError
from tests.engines.known_server import KnownServer, Plan, running

CHAT = Asking(api="chat", model="known", prompt_tokens=16, new_tokens=8)


def asked(server: KnownServer, out: Path | None = None, **options):
    loads = options.pop("loads", [concurrency(2, 6)])
    request = ServeRequest(url=server.url, asking=options.pop("asking", CHAT), loads=loads, warmup=1, **options)
    return serve_bench(request, out)


def test_instants_stand_in_the_order_of_the_servers_own(tmp_path):
    with running(Plan(first_s=0.4, gap_s=0.005, role_first=True)) as server:
        asked(server, tmp_path / "run", loads=[concurrency(1, 5)])
        truths = server.served
    requests = read_requests(tmp_path / "run")
    assert len(requests) == len(truths) == 6
    for request, truth in zip(requests, truths, strict=True):
        assert request.sent.ns <= truth.arrived_ns
        assert request.first_event.ns < truth.writes_ns[0] <= request.first_content.ns  # the role is no content
        assert len(request.chunks) == len(truth.writes_ns)
        assert all(write <= chunk.ns for write, chunk in zip(truth.writes_ns, request.chunks, strict=True))
        assert request.due.ns <= request.sent.ns <= request.first_content.ns <= request.last_content.ns
        assert request.last_content.ns <= request.done.ns


def test_a_chunk_is_not_taken_for_a_token(tmp_path):
    with running(Plan(gap_s=0.002, chunks=(1, 3, 2))) as server:
        level = asked(server, tmp_path / "run").levels[0]
    assert level.output_tokens_mean == 6
    assert level.tokens_per_chunk == 2
    assert level.itl_requests == 0 and level.itl_ms.n == 0
    assert level.chunk_gap_ms.n == 12
    for request in read_requests(tmp_path / "run"):
        stream = (request.last_content.ns - request.first_content.ns) / 1e6
        assert request.tpot_ms == pytest.approx(stream / 5)


def test_unknown_is_null_and_never_zero(tmp_path):
    with running(Plan(usage="none")) as server:
        report = asked(server, tmp_path / "run")
    (sample, *_) = load_run(tmp_path / "run").samples
    assert sample.output_tokens is None and sample.tpot_ms is None and sample.itl_ms is None
    assert sample.stages.prefill_ms is None and sample.stages.vision_ms is None and sample.stages.decode_ms is None
    assert sample.stages.closes() and sample.stages.other_ms == sample.stages.total_ms
    assert report.levels[0].tpot_ms.median is None
    assert "no-usage" in {finding.code for finding in report.findings}


def test_one_token_has_no_time_per_token():
    with running(Plan(chunks=(1,))) as server:
        assert asked(server).levels[0].tpot_ms.n == 0


def test_an_answer_that_came_whole_has_no_first_token(tmp_path):
    with running(Plan(whole=True)) as server:
        level = asked(server, tmp_path / "run").levels[0]
    assert level.finished == 6 and level.ttft_ms.n == 0
    assert all("not-streamed" in request.flags for request in read_requests(tmp_path / "run"))


def test_chunks_of_one_read_are_flagged(tmp_path):
    with running(Plan(together=True)) as server:
        asked(server, tmp_path / "run")
    assert all("chunks-merged" in request.flags for request in read_requests(tmp_path / "run"))


def test_a_kept_connection_that_the_server_closed_costs_no_request(tmp_path):
    with running(Plan(close_after=True)) as server:
        level = asked(server, tmp_path / "run", loads=[concurrency(1, 5)]).levels[0]
        assert len(server.served) == 6
    assert level.finished == 5
    assert sum("resent" in request.flags for request in read_requests(tmp_path / "run")) == 5


def test_nor_do_several_of_them(tmp_path):
    with running(lambda n: Plan(first_s=0.05, close_after=n < 5)) as server:
        loads = [concurrency(4, 4), concurrency(1, 3)]  # four connections are kept, then one request meets them all
        level = asked(server, tmp_path / "run", loads=loads).levels[1]
    assert level.finished == 3, level.failed
    assert not (tmp_path / "run" / "failures-client.jsonl").exists()


@pytest.mark.parametrize(
    ("plan", "outcome"),
    [
        (Plan(status=503), "http-error"),
        (Plan(hang_up_after=2), "cut-off"),
        (Plan(error_after=1), "stream-error"),
        (Plan(stall_s=30), "time-out"),
    ],
)
def test_failures_are_recorded_and_count_as_slower(tmp_path, plan, outcome):
    with running(lambda n: plan if n in (2, 4) else Plan()) as server:
        report = asked(server, tmp_path / "run", timeout_s=2.0, slo=Slo(total_ms=60_000))
    level = report.levels[0]
    assert level.failed == {outcome: 2} and level.finished == 4
    assert level.good.value == pytest.approx(4 / 6)
    assert level.total_ms.failed == 2
    assert level.total_ms.percentiles[0].value_ms is not None  # the third of six: finished
    assert [failure.error.split(":")[0] for failure in load_run(tmp_path / "run").failures] == [outcome] * 2
    assert "failed-requests" in {finding.code for finding in report.findings}


def test_latency_counts_from_when_a_request_was_due(tmp_path):
    """One slow request must not hide those that were due meanwhile: they are sent all the same."""
    with running(lambda n: Plan(first_s=0.3 if n == 1 else 0.0)) as server:
        asked(server, tmp_path / "run", loads=[constant(50, 10)])
        arrived = sorted(truth.arrived_ns for truth in server.served[1:])
    requests = [request for request in read_requests(tmp_path / "run") if request.repeat >= 0]
    slow = max(requests, key=lambda request: request.total_ms)
    assert sum(slow.sent.ns < instant < slow.done.ns for instant in arrived) >= 5
    for request in requests:
        assert request.total_ms == pytest.approx((request.done.ns - request.due.ns) / 1e6)
        assert request.client_wait_ms >= 0


def test_no_prompt_is_sent_twice_unless_asked_for():
    with running(Plan()) as server:
        asked(server)
        asked(server)
        texts = [served.body["messages"][0]["content"] for served in server.served]
    assert len(set(texts)) == len(texts) == 14
    assert len({text[:8] for text in texts}) == 2  # what two runs send shares no prefix
    with running(Plan()) as server:
        asked(server, fixed_prompt=True)
        assert len({served.body["messages"][0]["content"] for served in server.served}) == 1


def test_cached_prefixes_are_found():
    with running(Plan(cached=5)) as server:
        report = asked(server)
    assert report.levels[0].cached_share == 0.5
    assert "cached-prefixes" in {finding.code for finding in report.findings}


def test_the_folder_is_read_by_the_other_verbs(tmp_path):
    with running(Plan(gap_s=0.001)) as server:
        report = asked(server, tmp_path / "run", slo=Slo(ttft_ms=1000))
    frame = read_frame(tmp_path / "run")
    assert frame.height == 7 and frame["prefill_ms"].null_count() == 7
    assert not audit(tmp_path / "run").findings
    assert compare(tmp_path / "run", tmp_path / "run").verdict != "slower"
    decoded = json.loads(to_json(report))
    assert decoded["schema"] == "laptime.serve/1" and decoded["levels"][0]["finished"] == 6
    shown = page(report)
    assert "Where the time goes" in shown and "Latency against load" in shown


def test_loads_of_different_prompts_lack_no_samples(tmp_path):
    with running(Plan()) as server:
        asked(server, tmp_path / "run", loads=[concurrency(1, 6), concurrency(3, 6)])
    assert not {one.code for one in audit(tmp_path / "run").findings} & {"missing-samples", "overlapping-calls"}


def test_segments_sum_to_the_mean_total():
    with running(Plan(first_s=0.002, gap_s=0.001)) as server:
        level = asked(server, loads=[concurrency(1, 1)]).levels[0]
    parts = level.segments
    summed = parts.client_wait_ms + parts.first_event_ms + parts.first_content_ms + parts.streaming_ms + parts.end_ms
    assert summed == pytest.approx(level.total_ms.median.value, abs=1e-6)


def wait_for_lines(file: Path, lines: int) -> None:
    until = time.monotonic() + 120
    while not (file.exists() and file.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < until, f"{file.name} never held {lines} lines"
        time.sleep(0.01)


def test_a_killed_server_costs_no_finished_request(tmp_path):
    command = [sys.executable, "-m", "tests.engines.known_server", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        asking = [sys.executable, "-m", "laptime", "serve-bench", server.stdout.readline().strip(), "--requests", "40",
                  "--concurrency", "3", "--json", "--out", str(tmp_path / "run")]  # fmt: skip
        with subprocess.Popen(asking, stdout=subprocess.PIPE) as client:
            try:
                wait_for_lines(tmp_path / "run" / "samples-client.jsonl", 8)
            finally:
                os.kill(server.pid, signal.SIGKILL)
            report = json.loads(client.stdout.read())
    (level,) = report["levels"]
    kept = load_run(tmp_path / "run")
    measured = [one for one in kept.samples if one.repeat >= 0]
    assert client.returncode == 0
    assert level["finished"] == len(measured) >= 6
    assert level["finished"] + sum(level["failed"].values()) == 40
    assert len(kept.failures) == sum(level["failed"].values()) > 0
    assert set(level["failed"]) <= {"cut-off", "no-connection"}


def test_a_killed_client_keeps_what_was_finished(tmp_path):
    with running(Plan(first_s=0.02)) as server:
        command = [sys.executable, "-m", "laptime", "serve-bench", server.url, "--requests", "10000", "--out"]
        with subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.DEVNULL) as client:
            try:
                wait_for_lines(tmp_path / "run" / "samples-client.jsonl", 8)
            finally:
                os.kill(client.pid, signal.SIGKILL)
    kept = load_run(tmp_path / "run")
    assert len(kept.samples) >= 8
    assert kept.info.session["planned"] == 10000
    assert len(read_requests(tmp_path / "run")) >= len(kept.samples)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "run"
    with running(Plan(first_s=0.01)) as server:
        command = [sys.executable, "-m", "laptime", "serve-bench", server.url, "--requests", "60", "--concurrency", "2",
                   "--out", str(folder)]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as client:
            try:
                wait_for_lines(folder / "samples-client.jsonl", 10)
            finally:
                os.kill(client.pid, signal.SIGKILL)
        lines = (folder / "samples-client.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "samples-client.jsonl").write_bytes(b"".join(lines[:-1]))  # killed between the two files
        before = len(read_requests(folder))
        server.served.clear()
        assert run([*command[3:], "--resume"]) == 0
        assert len(server.served) == 60 - (before - 2) + 2  # the rest, and two for warm-up again
    after = load_run(folder)
    measured = [one for one in after.samples if one.repeat >= 0]
    assert len(measured) == 60 and len({one.key for one in after.samples}) == len(after.samples)
    assert len(read_requests(folder)) == len(after.samples)
    assert run([*command[3:], "--resume", "--new-tokens", "9"]) == 2


def test_the_key_is_sent_and_never_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOME_KEY", "secret-value")
    with running(Plan()) as server:
        code = run(["serve-bench", server.url, "--requests", "2", "--api-key-env", "SOME_KEY", "--json", "--out",
                    str(tmp_path / "run")])  # fmt: skip
        assert server.served[0].headers["authorization"] == "Bearer secret-value"
    assert code == 0
    assert "secret-value" not in capsys.readouterr().out
    assert all("secret-value" not in file.read_text() for file in (tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "no address"),
        (["http://127.0.0.1:9"], "no server answers"),
        (["http://127.0.0.1:9", "--concurrency", "0"], "--concurrency"),
        (["http://127.0.0.1:9", "--ramp", "5"], "--ramp"),
        (["http://127.0.0.1:9", "--slo", "speed=3"], "--slo"),
        (["http://127.0.0.1:9", "--body", "[]"], "--body"),
        (["http://127.0.0.1:9", "--api-key-env", "NOT_THERE_AT_ALL"], "--api-key-env"),
    ],
)
def test_bad_input_is_one_line(arguments, named, capsys):
    assert run(["serve-bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1


def test_a_server_that_answers_no_warm_up_is_refused():
    with running(Plan(status=500)) as server, pytest.raises(LaptimeError, match="no warm-up request"):
        asked(server)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "http://h:8000/v1/chat/completions"),
        ("https://h/api/v1", "https://h/api/v1/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
    ],
)
def test_addresses(url, whole):
    assert endpoint_url(url, "chat") == whole


@pytest.mark.parametrize("url", ["http://[::1", "http://h:port", "ftp://h", "h:8000"])
def test_what_is_no_address_is_one_line(url):
    with pytest.raises(LaptimeError, match="no address of a server"):
        endpoint_url(url, "chat")


def test_where_nobody_answers_nothing_is_left_and_the_question_is_read_first(capsys, tmp_path):
    """The same command works once the server is up; what is wrong with the question is said without a server."""
    out = tmp_path / "run"
    asked = ["serve-bench", "http://localhost:9", "--model", "m", "--out", str(out)]
    for _ in range(2):
        assert run(asked) == 2
        err = capsys.readouterr().err
        assert "no warm-up request was answered (Connect call failed" in err or "Connection refused" in err
        assert "ssl" not in err
        assert not out.exists()
    for words, says in (
        (["--timeout", "0"], "--timeout 0"),
        (["--find-load", "1"], "--find-load: needs --slo"),
        (["--resume"], "--resume: goes with --out"),
        (["--data", str(tmp_path / "none.jsonl")], "none.jsonl: no such file"),
        (["--slo", "ttft=abc"], "--slo ttft=abc: write a time above 0"),
        (["--slo", "ttft=0.2"], "--slo ttft=0.2: ttft=0.2 says no unit; write ttft=0.2s or ttft=0.2ms"),
    ):
        assert run(["serve-bench", "http://localhost:9", *words]) == 2
        err = capsys.readouterr().err
        assert (says in err, err.count("\n")) == (True, 1), err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://localhost:99999", "https://localhost:99999: no address of a server: a port is a number from 1"),
        ("http://h:port", "a port is a number"), ("http://h:0", "a port is a number"),
        ("localhost:1", "http:// or https:// is missing"), ("localhost", "http:// or https:// is missing"),
        ("ftp://h", "it begins with ftp://"), ("http://", "it names no host"), ("http://h/?a=1", "it has a [?] or a #"),
        ("http://name:secret-value@h:1", r"^\.\.\.@h:1: .* a name or a password stands in it"),
        ("http://name:secret@value@h:99999", "a name or a password stands in it"),
        ("name:secret-value@h", "a name or a password stands in it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_address_is_said(url, said):
    with pytest.raises(LaptimeError, match=said) as refused:
        endpoint_url(url, "chat")
    assert "secret" not in str(refused.value)
