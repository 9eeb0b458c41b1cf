"""Two real traces that the project ships: what is in them is known from how they were made (data/README.md)."""

from pathlib import Path

import pytest

import laptime
from laptime.trace.result import TraceAnalysis

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module", params=["eager", "graph"])
def captured(request: pytest.FixtureRequest) -> tuple[str, TraceAnalysis]:
    return request.param, laptime.read_trace(DATA / f"decode-{request.param}.json.gz")


def test_the_twelve_decode_steps_are_found_without_annotations(captured: tuple[str, TraceAnalysis]) -> None:
    name, analysis = captured
    assert analysis.steps.count == 12
    assert analysis.steps.method == {"eager": "period", "graph": "graph"}[name]
    assert analysis.steps.confidence > 0.7


def test_every_launch_is_recorded_and_the_file_supports_its_figures(captured: tuple[str, TraceAnalysis]) -> None:
    _, analysis = captured
    assert analysis.integrity.verdict == "ok"
    device = analysis.devices[0]
    assert device.busy_ns + device.idle_ns == device.span_ns
    assert device.kernel_sum_ns <= device.busy_ns


def test_a_graph_needs_fewer_launches_and_leaves_smaller_gaps() -> None:
    eager, graph = (laptime.read_trace(DATA / f"decode-{name}.json.gz") for name in ("eager", "graph"))
    assert graph.devices[0].launches < graph.devices[0].kernels < eager.devices[0].kernels
    assert graph.steps.launches_per_step < eager.steps.launches_per_step / 5
    assert graph.devices[0].gaps.median_ns < 1_000 < eager.devices[0].gaps.median_ns


def test_the_eight_layers_of_the_eager_step_are_found() -> None:
    steps = laptime.read_trace(DATA / "decode-eager.json.gz").steps
    assert steps.layers is not None
    assert steps.layers.count == 8
    assert steps.layers.count * steps.layers.kernels_per_layer + steps.layers.outside == steps.kernels_per_step


def test_what_was_measured_lies_in_what_was_predicted() -> None:
    """The eager trace predicts the step under a graph and fusion, with what lies outside the layers launched as before;
    the other trace is that step (traced, too)."""
    eager, graph = (laptime.read_trace(DATA / f"decode-{name}.json.gz") for name in ("eager", "graph"))
    predicted = {row.remedy: row for row in eager.whatif}["graph+fusion"]
    assert predicted.outside_ns > 0
    assert predicted.step_ns_low <= graph.steps.wall_ns <= predicted.step_ns_high + predicted.outside_ns
