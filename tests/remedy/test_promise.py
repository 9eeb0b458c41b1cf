"""Promises from a trace: a real captured one, and what must hold of any."""

from pathlib import Path

import pytest

import laptime
from laptime.remedy.promise import ROWS_BANDWIDTH, fused_kernels, growing_ms, promises

DATA = Path(__file__).parents[1] / "trace" / "data"


@pytest.fixture(scope="module")
def eager():
    return laptime.read_trace(DATA / "decode-eager.json.gz", tpot_ms=4.0)


def test_every_remedy_but_the_eager_static_cache_is_promised_something(eager):
    ranges = promises(eager, 4.0, floor_ms=0.05, our_kernels=42)
    assert set(ranges) == {"buffers", "fusion", "graph", "compiled", "kernels", "fast", "whole"}
    for name, promise in ranges.items():
        assert 0 < promise.low_ms <= promise.high_ms, name
        assert promise.assumptions
    assert ranges["fast"].low_ms < ranges["kernels"].high_ms
    assert ranges["compiled"].low_ms <= ranges["graph"].low_ms
    assert ranges["fusion"].high_ms <= 4.0


def test_the_fast_promise_is_bytes_plus_kernels_and_scales_with_both(eager):
    one = promises(eager, 4.0, floor_ms=2.0, our_kernels=100)["fast"]
    assert (one.low_ms, one.high_ms) == (pytest.approx(2.15), pytest.approx(2.5))
    more = promises(eager, 4.0, floor_ms=4.0, our_kernels=200)["fast"]
    assert (more.low_ms, more.high_ms) == (pytest.approx(2 * one.low_ms), pytest.approx(2 * one.high_ms))


def test_with_several_rows_the_products_reach_less_of_the_bandwidth(eager):
    one = promises(eager, 4.0, floor_ms=2.0, our_kernels=100)["fast"]
    eight = promises(eager, 4.0, floor_ms=2.0, our_kernels=100, batch=8)["fast"]
    assert one.high_ms < eight.high_ms
    assert eight.high_ms == pytest.approx(2.0 / ROWS_BANDWIDTH[1] + 0.5, abs=1e-3)
    assert f"{ROWS_BANDWIDTH[1]:.0%}" in eight.assumptions[0]


def test_a_preallocated_cache_is_not_concatenated_at_best(eager):
    growing = growing_ms(eager)
    assert growing == pytest.approx(0.046019)
    whatif = next(row for row in eager.whatif if row.remedy == "graph")
    graph = promises(eager, 4.0, floor_ms=0.05, our_kernels=42)["graph"]
    assert graph.low_ms == pytest.approx(whatif.step_ns_low / 1e6 - growing, abs=1e-4)
    assert graph.high_ms == pytest.approx((whatif.step_ns_high + whatif.outside_ns) / 1e6, abs=1e-4)
    assert f"{growing:.2f} ms" in graph.assumptions[-1]


def test_without_a_plan_nothing_is_promised_of_our_kernels(eager):
    ranges = promises(eager, 4.0, floor_ms=None, our_kernels=None)
    assert not {"fast", "kernels"} & set(ranges)


def test_merged_runs_leave_fewer_kernels_and_less_work(eager):
    kernels, busy_ms = fused_kernels(eager)
    assert 0 < kernels < eager.steps.kernels_per_step
    assert 0 < busy_ms < eager.steps.busy_ns / 1e6
