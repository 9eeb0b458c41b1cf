"""What a plug-in wrote, read back: levels, others' figures beside, a client's view joined, a run folder."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest

from laptime import audit, compare, load_run, page, read_engine, to_json
from laptime.cli.main import run
from laptime.data.run_folder import RunFolder, new_info
from laptime.engines.engine_run import boot_id
from laptime.engines.request import Instant, RequestSample
from laptime.errors import LaptimeError
from laptime.measure.host import describe_host
from tests.engines.lived import REQUESTS, STEPS, ms, write


def client_run(folder, boot: str | None) -> None:
    info = new_info(["serve-bench"], {"model": "m"}, describe_host(), {"boot_id": boot})
    with RunFolder(folder, info, "client") as written:
        written.begin()
    sent = [
        RequestSample(load="2 at once", request_id=f"q{place}", repeat=0, outcome="finished", server_id=one.server_id,
                      due=Instant(one.due.ns - ms(0.5)), sent=Instant(one.due.ns - ms(0.4)),
                      first_content=Instant(one.first_token.ns + ms(2)), last_content=Instant(one.done.ns + ms(1)),
                      done=Instant(one.done.ns + ms(2)))
        for place, one in enumerate(REQUESTS)
    ]  # fmt: skip
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in sent)
    (folder / "requests-client.jsonl").write_bytes(lines)


def test_an_engine_alone(tmp_path):
    report = read_engine(write(tmp_path / "engine"))
    (level,) = report.levels
    assert level.requests == 2 and report.waiting_most == 1 and report.cache_share_most == 0.25
    assert level.cached_share == pytest.approx(7 / 24)
    beside = {one.name: one for one in level.beside}
    assert beside["queue"].there_ms == pytest.approx(0.01) and beside["queue"].here_ms > 8
    assert beside["end to end"].difference_ms == pytest.approx(0)
    assert report.steps.mixed == 1 and report.steps.with_images == 1
    assert json.loads(to_json(report))["schema"] == "laptime.engine/1"


def test_a_client_on_the_same_host_is_joined_from_end_to_end(tmp_path):
    client_run(tmp_path / "client", boot_id())
    report = read_engine(write(tmp_path / "engine"), client=tmp_path / "client", out=tmp_path / "joined")
    (level,) = report.levels
    assert level.name == "2 at once" and not report.cross_host
    assert level.kinds["transport"] == pytest.approx(0.4) and level.kinds["return"] == pytest.approx(2)
    assert sum(level.kinds.values()) == pytest.approx(level.total.mean_ms)
    kept = load_run(tmp_path / "joined")
    assert len(kept.samples) == 2 and all(sample.stages.closes() for sample in kept.samples)
    assert {sample.stages.queue_ms for sample in kept.samples} == {6.5, 17.5}
    assert not {one.code for one in audit(tmp_path / "joined").findings} & {"missing-samples", "overlapping-calls"}
    assert compare(tmp_path / "joined", tmp_path / "joined").verdict != "slower"


def test_clocks_of_two_hosts_are_not_joined(tmp_path):
    client_run(tmp_path / "client", "another start of another machine")
    report = read_engine(write(tmp_path / "engine"), client=tmp_path / "client")
    assert report.cross_host and "transport" not in report.levels[0].kinds
    assert "cross-host" in {finding.code for finding in report.findings}


def test_two_workers_differ_by_their_skew(tmp_path):
    folder = write(tmp_path / "engine")
    late = [msgspec.structs.replace(one, rank=1, end=one.end + ms(0.3)) for one in STEPS]
    (folder / "steps-rank1-8.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in late))
    assert read_engine(folder).steps.skew.value == pytest.approx(0.3)


def test_two_servers_in_one_folder_are_refused(tmp_path):
    folder = write(tmp_path / "engine")
    (folder / "steps-rank0-9.jsonl").write_bytes(msgspec.json.encode(STEPS[0]) + b"\n")
    with pytest.raises(LaptimeError, match="two servers"):
        read_engine(folder)


def test_an_instant_out_of_order_is_severe(tmp_path):
    early = [msgspec.structs.replace(REQUESTS[0], scheduled=Instant(ms(2), "engine")), REQUESTS[1]]
    report = read_engine(write(tmp_path / "engine", early))
    assert {"out-of-order"} <= {finding.code for finding in report.findings if finding.severity == "severe"}


def test_the_page_draws_lives_and_escapes_names(tmp_path):
    hostile = [msgspec.structs.replace(one, request_id="<b>x</b>", text="what was answered") for one in REQUESTS]
    report = read_engine(write(tmp_path / "engine", hostile))
    shown = page(report)
    assert "what was answered" not in shown and b"what was answered" not in to_json(report)
    assert "<b>x</b>" not in shown and 'class="stalled"' in shown and 'class="beside-prefill"' in shown


def test_the_verb_and_its_timeline(tmp_path, capsys):
    write(tmp_path / "engine")
    assert run(["engine", str(tmp_path / "engine"), "--perfetto", str(tmp_path / "t.json")]) == 0
    said = capsys.readouterr().out
    assert "vLLM queued_time" in said and "to the nanosecond" in said
    events = json.loads((tmp_path / "t.json").read_bytes())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X" and event["pid"] == 2 and event["tid"] == 1]
    assert sum(event["dur"] for event in spans) == pytest.approx(56_500)
    assert all(a["ts"] + a["dur"] == pytest.approx(b["ts"]) for a, b in pairwise(spans))


@pytest.mark.parametrize("content", [None, "{}"])
def test_what_is_no_engine_is_one_line(tmp_path, content, capsys):
    if content is not None:
        (tmp_path / "engine-1.json").write_text(content)
    assert run(["engine", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
