"""Who launched what: exact sums, nothing credited beyond a range's end, layers together and projections apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.analysis import analyse, read_trace
from laptime.trace.launch_result import LaunchedBy, Launcher
from laptime.trace.launch_threads import NOWHERE
from laptime.trace.launch_tree import launch_tree
from laptime.trace.read.timeline import GpuTimeline
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_nsys

AUTOGRAD = 200


def work(launches: list[tuple[int, int]], *, thread: int = 100, each: int = 50, first: int = 0) -> tuple[list, list]:
    """Kernels of `each` ns one after the other, launched at these instants: (instant, length of the call)."""
    calls = [CallRow(at, at + long, correlation=first + i, thread=thread) for i, (at, long) in enumerate(launches)]
    kernels = [
        ActivityRow(10_000 + (first + i) * each, 10_000 + (first + i + 1) * each, f"k{i}", correlation=first + i)
        for i in range(len(launches))
    ]
    return kernels, calls


def found_in(timeline: GpuTimeline) -> LaunchedBy:
    found = analyse(timeline).launched_by
    assert found is not None
    return found


def row(found: LaunchedBy, kind: str, name: str) -> Launcher:
    return next(row for row in found.launchers if (row.kind, row.name) == (kind, name))


def test_operators_modules_and_ranges_of_one_launch() -> None:
    kernels, calls = work([(10, 2), (20, 2), (60, 2), (95, 2)])
    ranges = [
        RangeRow(0, 90, "decode step 1"),
        RangeRow(0, 50, "nn.Module: Layer_0", "python"),
        RangeRow(5, 30, "nn.Module: Linear_0", "python"),
        RangeRow(6, 29, "aten::linear", "cpu_op"),
        RangeRow(8, 25, "aten::mm", "cpu_op"),
        RangeRow(55, 70, "aten::add", "cpu_op"),
        RangeRow(1, 80, "model.py(3): generate", "python"),
    ]
    found = found_in(build(kernels, calls, ranges))
    assert (found.total_ns, found.unknown_ns, found.unnamed_ns) == (200, 0, 50)
    mm, linear = row(found, "operator", "aten::mm"), row(found, "operator", "aten::linear")
    assert (mm.calls, mm.activities, mm.own_ns, mm.total_ns) == (1, 2, 100, 100)
    assert (linear.own_ns, linear.total_ns, linear.share) == (0, 100, 0.5)
    assert row(found, "module", "Layer › Linear").total_ns == 100
    assert row(found, "module", "Layer").own_ns == 0
    assert row(found, "range", "decode step 1").total_ns == 150
    assert not [row for row in found.launchers if row.kind == "frame"], "modules are named: Python frames are left out"
    assert sum(row.own_ns for row in found.launchers if row.kind == "operator") == 150


def test_nothing_is_credited_to_a_range_beyond_its_end() -> None:
    """A range that ends inside a call that it began, and one that another range outlasts."""
    kernels, calls = work([(10, 100), (45, 5), (70, 5)])
    ranges = [RangeRow(0, 5, "over", "cpu_op"), RangeRow(20, 60, "first", "nvtx"), RangeRow(40, 80, "second", "nvtx")]
    found = found_in(build(kernels, calls, ranges))
    assert [(row.name, row.total_ns) for row in found.launchers] == [("second", 100)]
    assert found.unnamed_ns == 50


def test_layers_are_one_line_and_the_projections_inside_have_numbers() -> None:
    ranges, launches = [], []
    for layer in range(9):
        at = layer * 100
        ranges.append(RangeRow(at, at + 90, f"nn.Module: Layer_{layer}", "python"))
        for i in range(3):
            ranges.append(RangeRow(at + 10 * i, at + 10 * i + 8, f"nn.Module: Linear_{layer * 3 + i}", "python"))
            launches.append((at + 10 * i + 2, 3))
    found = found_in(build(*work(launches), ranges))
    assert {row.name: (row.calls, row.total_ns) for row in found.launchers} == {
        "Layer": (9, 9 * 150),
        "Layer › Linear 1": (9, 9 * 50),
        "Layer › Linear 2": (9, 9 * 50),
        "Layer › Linear 3": (9, 9 * 50),
    }


def test_ranges_that_differ_by_a_number_are_one_line() -> None:
    ranges = [RangeRow(i * 10, i * 10 + 9, f"ProfilerStep#{i}") for i in range(4)]
    found = found_in(build(*work([(i * 10 + 1, 2) for i in range(4)]), ranges))
    assert [(row.name, row.calls, row.total_ns) for row in found.launchers] == [("ProfilerStep#", 4, 200)]


def test_backward_on_a_thread_of_its_own_belongs_to_the_range_around_it() -> None:
    forward, called = work([(10, 2)])
    backward, called_too = work([(60, 2), (130, 2)], thread=AUTOGRAD, first=1)
    ranges = [
        RangeRow(0, 100, "ProfilerStep#3"),
        RangeRow(5, 20, "aten::mm", "cpu_op"),
        RangeRow(55, 70, "MmBackward0", "cpu_op", thread=AUTOGRAD),
        RangeRow(125, 140, "MmBackward0", "cpu_op", thread=AUTOGRAD),
    ]
    found = found_in(build(forward + backward, called + called_too, ranges))
    step = row(found, "range", "ProfilerStep#3")
    assert (step.calls, step.total_ns) == (1, 100)
    assert row(found, "operator", "MmBackward0").total_ns == 100


def test_python_frames_stand_in_where_no_module_is_recorded() -> None:
    ranges = [
        RangeRow(0, 99, "tornado/platform/asyncio.py(211): start", "python"),  # a notebook's own frames launch nothing
        RangeRow(0, 98, "IPython/core/interactiveshell.py(3553): run_code", "python"),
        RangeRow(0, 90, "serve.py(10): answer", "python"),
        RangeRow(5, 80, "torch/nn/functional.py(1): linear", "python"),
        RangeRow(6, 70, "<built-in method linear>", "python"),
    ]
    found = found_in(build(*work([(10, 2)]), ranges))
    assert [(row.kind, row.name) for row in found.launchers] == [("frame", "serve.py(10): answer")]


def test_a_trace_that_names_nobody_has_none() -> None:
    assert analyse(build(*work([(10, 2)]))).launched_by is None


def test_work_without_a_launch_is_said_to_be_unknown() -> None:
    kernels, calls = work([(10, 2)])
    found = found_in(build([*kernels, ActivityRow(20_000, 20_070)], calls, [RangeRow(0, 50, "step")]))
    assert (found.total_ns, found.unknown_ns, found.unnamed_ns) == (120, 70, 0)


def test_nvtx_of_an_nsys_export(tmp_path: Path) -> None:
    kernels, calls = work([(10_000, 2_000), (60_000, 2_000)])
    ranges = [RangeRow(0, 50_000, "prefill"), RangeRow(55_000, 90_000, "{'Module': 'model.layers.7.mlp'}")]
    found = read_trace(write_nsys(tmp_path / "a.sqlite", kernels, calls, ranges)).launched_by
    assert found is not None
    assert [(row.kind, row.name, row.total_ns) for row in found.launchers] == [
        ("range", "prefill", 50),
        ("module", "model.layers.#.mlp", 50),
    ]


@given(
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12),
    instants=st.lists(st.integers(0, 60), min_size=1, max_size=12),
)
def test_the_tree_is_what_is_open_at_each_launch(spans: list[tuple[int, int]], instants: list[int]) -> None:
    ranges = [RangeRow(start, start + long, f"r{chr(97 + i)}", "cpu_op") for i, (start, long) in enumerate(spans)]
    timeline = build(*work([(at, 1) for at in sorted(instants)]), ranges)
    tree = launch_tree(timeline, np.arange(len(instants)))
    order = sorted(ranges, key=lambda r: (r.start_ns, -r.end_ns, ranges.index(r)))
    for at, node in zip(sorted(instants), tree.node.tolist(), strict=True):
        path = []
        while node != NOWHERE:
            path.insert(0, tree.names[node])
            node = tree.parent[node]
        expected = [
            r.name
            for i, r in enumerate(order)
            if r.start_ns <= at < r.end_ns
            and not any(r.end_ns > o.start_ns and o.end_ns > r.end_ns and o.start_ns <= at for o in order[i + 1 :])
        ]
        assert sorted(path) == sorted(expected)


def test_each_launch_has_its_own_path_in_towers_of_any_depth_and_width() -> None:
    """Towers side by side, the first of them deep: their lower levels have many rows, the upper ones a single row."""
    depths = [1_500, *([40] * 70), *([3] * 100)]
    ranges, instants, paths, at = [], [], [], 0
    for tower, depth in enumerate(depths):
        names = [f"r{chr(97 + (tower + level) % 7)}" for level in range(depth)]
        ranges += [RangeRow(at + i, at + 2 * depth - i, name, "cpu_op") for i, name in enumerate(names)]
        for inside in sorted({0, depth // 2, depth - 1}):
            instants.append(at + inside)
            paths.append(names[: inside + 1])
        at += 2 * depth + 1
    timeline = build(*work([(instant, 1) for instant in instants]), ranges)
    tree = launch_tree(timeline, np.arange(len(instants)))
    for node, expected in zip(tree.node.tolist(), paths, strict=True):
        path = []
        while node != NOWHERE:
            path.append(tree.names[node])
            node = tree.parent[node]
        assert path[::-1] == expected
    assert len(set(zip(tree.parent.tolist(), tree.names, strict=True))) == len(tree.names)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_quantiles_of_a_kernel_are_durations_that_occur(share: float) -> None:
    rng = np.random.default_rng(3)
    long = rng.integers(0, 10_000, 257)
    rows = [ActivityRow(i * 20_000, i * 20_000 + int(d), "a" if i % 3 else "b") for i, d in enumerate(long)]
    for kernel in analyse(build(rows)).kernels:
        own = np.sort([row.end_ns - row.start_ns for row in rows if row.name == kernel.name])
        expected = int(np.quantile(own, share, method="inverted_cdf"))
        assert {0.5: kernel.p50_ns, 0.95: kernel.p95_ns, 1.0: kernel.max_ns}[share] == expected


def test_backward_operators_belong_to_the_modules_of_their_forward_operators(tmp_path: Path) -> None:
    """Autograd numbers an operator; its backward one bears the number and runs on another thread."""

    def event(cat: str, name: str, at: float, long: float, thread: int = 7, **args: object) -> dict[str, object]:
        return {"ph": "X", "cat": cat, "name": name, "pid": 100, "tid": thread, "ts": at, "dur": long, "args": args}

    def launch(at: float, number: int, thread: int = 7) -> list[dict[str, object]]:
        return [
            event("cuda_runtime", "cudaLaunchKernel", at, 2, thread, correlation=number),
            event("kernel", "k", 1_000 + number * 20, 10, correlation=number, device=0, stream=7),
        ]

    events = [
        event("user_annotation", "ProfilerStep#1", 0, 900),
        event("user_annotation", "forward", 5, 300),
        event("user_annotation", "backward", 400, 300),
        event("python_function", "nn.Module: Net_0", 10, 200),
    ]
    for i, number in enumerate((41, 42)):
        start = 20.0 + i * 50
        events.append(event("python_function", f"nn.Module: Linear_{i}", start, 40))
        numbered = {"Sequence number": number, "Fwd thread id": 0}
        events.append(event("cpu_op", "aten::addmm", start + 5, 30, **numbered))
        events += launch(start + 10, i + 1)
        start, numbered = 500.0 - i * 60, {"Sequence number": number, "Fwd thread id": 1}
        events.append(event("cpu_op", "evaluate: AddmmBackward0", start, 40, 9, **numbered))
        events.append(event("cpu_op", "AddmmBackward0", start + 5, 30, 9, **numbered))
        events += launch(start + 10, i + 3, 9)
    events.append(event("cpu_op", "AccumulateGrad", 600, 30, 9, **{"Sequence number": 77, "Fwd thread id": 1}))
    events += launch(610, 5, 9)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"traceEvents": events}))
    found = read_trace(path).launched_by
    assert found is not None
    totals = {(row.kind, row.name): (row.calls, row.total_ns) for row in found.launchers}
    assert totals["module", "Net"] == (1, 40_000)
    assert totals["module", "Net › Linear 1"] == (1, 20_000)
    assert totals["module", "Net › Linear 2"] == (1, 20_000)
    assert totals["range", "forward"] == (1, 20_000), "a range around the forward pass has ended by then"
    assert totals["range", "backward"] == (1, 30_000)
    assert totals["range", "ProfilerStep#1"] == (1, 50_000)
    assert totals["operator", "AccumulateGrad"] == (1, 10_000)
    beside = read_trace(path, capture=path).launched_by  # which holds no capture of a graph: it adds nothing
    assert beside is not None
    assert beside.launchers == found.launchers
