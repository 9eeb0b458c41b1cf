"""A trace for Perfetto: its work, and beside it tracks of gaps and steps that tile the time."""

from __future__ import annotations

import itertools
import json

import pytest

from laptime.report.trace.perfetto import trace_to_perfetto
from tests.trace import engines
from tests.trace.build_timeline import build


def test_a_trace_without_work_is_a_timeline_without_events() -> None:
    assert json.loads(trace_to_perfetto(build()))["traceEvents"] == []


def test_perfetto_gets_gap_and_step_tracks() -> None:
    events = json.loads(trace_to_perfetto(build(*engines.published_engine(6).all)))["traceEvents"]
    tracks = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert tracks == {"laptime: steps", "laptime: gaps by cause", "stream 7"}
    spans = [e for e in events if e["ph"] == "X"]
    steps = [e for e in spans if e["cat"] == "laptime.step"]
    gaps = [e for e in spans if e["cat"] == "laptime.gap"]
    work = [e for e in spans if e["cat"] == "gpu"]
    assert (len(steps), len(work)) == (6, 2_400)
    assert sum("modal" in e["name"] for e in steps) == 1
    end = max(e["ts"] + e["dur"] for e in work)
    assert sum(e["dur"] for e in gaps) + sum(e["dur"] for e in work) == pytest.approx(end, abs=0.01)
    for first, second in itertools.pairwise(gaps):
        assert first["ts"] + first["dur"] <= second["ts"] + 1e-6
