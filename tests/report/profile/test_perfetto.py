"""The Perfetto export read back: slices add up to the stages, and every event is one that the format knows."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from laptime.data.record import STAGES, Sample, StageTimes
from laptime.report.profile.perfetto import DEVICE_TRACK, HOST_TRACK, profile_to_perfetto
from tests.report.sample_runs import run_of, sample, samples


def events_of(run_samples: list[Sample]) -> list[dict[str, Any]]:
    decoded = json.loads(profile_to_perfetto(run_of(run_samples)))
    events: list[dict[str, Any]] = decoded["traceEvents"]
    return events


def nanoseconds(us: float) -> int:
    ns = us * 1000
    assert abs(ns - round(ns)) < 1e-3, "the trace lost nanoseconds"
    return round(ns)


@pytest.mark.parametrize(
    "run_samples",
    [samples(20), [sample(1, tokens=1)], [sample(i, vision=False) for i in range(3)]],
    ids=["vlm", "one token", "text only"],
)
def test_slices_add_up_to_the_stages(run_samples: list[Sample]) -> None:
    events = events_of(run_samples)
    for track, stages_of in ((DEVICE_TRACK, "stages"), (HOST_TRACK, "host_stages")):
        calls = [e for e in events if e["ph"] == "X" and e["cat"] == "sample" and e["tid"] == track]
        parts = [e for e in events if e["ph"] == "X" and e["cat"] == "stage" and e["tid"] == track]
        assert [call["name"] for call in calls] == [one.sample_id for one in run_samples]
        for one, call in zip(run_samples, calls, strict=True):
            begin = nanoseconds(call["ts"])
            end = begin + nanoseconds(call["dur"])
            inside = [p for p in parts if begin <= nanoseconds(p["ts"]) < end]
            sums: dict[str, int] = defaultdict(int)
            at = begin
            for part in inside:
                assert nanoseconds(part["ts"]) == at, "stages follow one another without a hole"
                at += nanoseconds(part["dur"])
                sums[part["name"]] += nanoseconds(part["dur"])
            assert at == end
            stages: StageTimes = getattr(one, stages_of)
            assert {name: sums[name] for name in STAGES} == {
                name: round((stages.stage(name) or 0) * 1e6) for name in STAGES
            }


def test_every_mark_is_an_instant_on_both_tracks() -> None:
    one = sample(3)
    events = events_of([one])
    for track in (DEVICE_TRACK, HOST_TRACK):
        instants = [e for e in events if e["ph"] == "i" and e["tid"] == track]
        assert [e["name"] for e in instants] == [mark.kind for mark in one.marks]
        assert all(e["s"] == "t" for e in instants)


def test_counters_follow_the_gpu() -> None:
    run_samples = samples(5)
    clocks = [e["args"]["MHz"] for e in events_of(run_samples) if e["ph"] == "C" and e["name"] == "SM clock"]
    assert clocks == [one.gpu.sm_mhz for one in run_samples if one.gpu]
    assert not [e for e in events_of([msgspec.structs.replace(sample(1), gpu=None)]) if e["ph"] == "C"]


def test_every_event_is_well_formed() -> None:
    events = events_of(samples(3))
    assert {e["ph"] for e in events} == {"M", "X", "i", "C"}
    for event in events:
        assert isinstance(event["pid"], int)
        assert isinstance(event["name"], str)
        assert event["ph"] == "M" or event["ts"] >= 0
    names = [e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"]
    assert names == ["device (cuda:0)", "host"]


def test_each_worker_is_a_process_and_samples_without_marks_are_kept() -> None:
    run_samples = [msgspec.structs.replace(one, worker=f"w{i % 2}", marks=[]) for i, one in enumerate(samples(4))]
    calls = [e for e in events_of(run_samples) if e["ph"] == "X"]
    assert [call["pid"] for call in calls] == [1, 1, 2, 2, 1, 1, 2, 2]


def test_an_empty_run_is_still_a_trace() -> None:
    assert events_of([]) == []


def test_hostile_names_stay_json() -> None:
    hostile = msgspec.structs.replace(sample(1), sample_id='</script>"\ud800\x00' + "x" * 10_000)
    names = [e["name"] for e in events_of([hostile]) if e["ph"] == "X" and e["cat"] == "sample"]
    assert all(len(name) <= 200 for name in names)
