"""When requests are due, what a percentile says, and where a search ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("aiohttp")

from laptime.data.stats import wilson
from laptime.engines.client import LoadRun
from laptime.engines.figures import level_of
from laptime.engines.loads import concurrency, constant, poisson, ramp, replay
from laptime.engines.request import Instant, RequestSample
from laptime.engines.result import Slo
from laptime.engines.search import largest_load
from laptime.engines.stream import EventStream
from laptime.errors import LaptimeError


def answer(total_ms: float, outcome: str = "finished") -> RequestSample:
    return RequestSample(load="l", request_id="q", repeat=0, outcome=outcome, due=Instant(0),
                         done=Instant(int(total_ms * 1e6)))  # fmt: skip


def test_rates_are_kept():
    assert constant(10, 3).arrivals_s == pytest.approx([0, 0.1, 0.2])
    gaps = np.diff(poisson(100, 5000, seed=1).arrivals_s)
    assert gaps.mean() == pytest.approx(0.01, rel=0.1)
    assert gaps.std() == pytest.approx(0.01, rel=0.1)
    rising = np.diff(ramp(1, 9, 500).arrivals_s)
    assert 1 / rising[0] == pytest.approx(1, rel=0.1) and 1 / rising[-1] == pytest.approx(9, rel=0.1)


def test_recorded_arrivals(tmp_path):
    file = tmp_path / "arrivals.jsonl"
    file.write_text('{"timestamp": 7.5}\n\n5.0\n{"arrival_s": 6}\n')
    assert replay(file).arrivals_s == [0, 1, 2.5]
    file.write_text("5.0\nnoon\n")
    with pytest.raises(LaptimeError, match="line 2"):
        replay(file)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50), st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_failures_never_make_a_percentile_lower(times, failures):
    finished = [answer(ms) for ms in times]
    without = level_of(concurrency(1, 1), LoadRun(finished, [], 1.0), None).total_ms
    both = [*finished, *(answer(0.5, "http-error") for _ in range(failures))]
    beside = level_of(concurrency(1, 1), LoadRun(both, [], 1.0), None).total_ms
    for before, after in zip(without.percentiles, beside.percentiles, strict=True):
        known = after.value_ms if after.value_ms is not None else after.at_least_ms
        if before.value_ms is not None and known is not None:
            assert known >= before.value_ms


def test_a_percentile_with_nothing_beyond_it_is_not_given():
    run = LoadRun([answer(ms) for ms in range(1, 101)], [], 1.0)
    known = {one.q: one for one in level_of(concurrency(1, 100), run, None).total_ms.percentiles}
    assert known[0.99].value_ms == 99 and known[0.99].beyond == 2
    assert known[0.999].value_ms is None


@pytest.mark.parametrize("capacity", [3.0, 37.0, 400.0])
def test_the_search_brackets_a_sharp_capacity(capacity):
    found = largest_load(lambda rate: (wilson(1.0 if rate <= capacity else 0.0, 200), False), 10.0, Slo(ttft_ms=1))
    assert found.keeps_per_s <= capacity < found.misses_per_s
    assert found.misses_per_s / found.keeps_per_s < 1.2


def test_the_search_says_what_it_does_not_know():
    found = largest_load(lambda rate: (wilson(0.95, 20), False), 10.0, Slo(ttft_ms=1))
    assert found.keeps_per_s is None and found.misses_per_s is None
    held_up = largest_load(lambda rate: (wilson(0.0, 200), True), 10.0, Slo(ttft_ms=1))
    assert held_up.misses_per_s is None and "client" in held_up.stopped


@given(st.lists(st.integers(1, 40), max_size=20))
@settings(max_examples=50, deadline=None)
def test_events_are_the_same_however_the_bytes_are_cut(cuts):
    whole = (
        b'data: {"choices":[{"delta":{"content":"h\xc3\xa9"}}]}\r\n\r\n: ping\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    )
    stream, events, start = EventStream(), [], 0
    for cut in cuts:
        events += stream.feed(whole[start : start + cut])
        start += cut
    events += stream.feed(whole[start:]) + stream.end()
    assert [event.content for event in events] == ["hé", "", ""]
    assert events[1].usage.output == 2 and events[1].usage.cached is None
    assert events[2].last


def test_a_seed_below_0_is_refused():
    with pytest.raises(LaptimeError, match="the seed can't be negative: -1"):
        poisson(2.0, 10, -1)
