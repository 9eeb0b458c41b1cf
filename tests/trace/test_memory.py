"""Memory where the profiler recorded it: exact curve and peak, and who held it then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.analysis import analyse, read_trace
from laptime.trace.memory_result import DeviceMemory
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow

GPU, HOST = 1, 0


def change(at: float, size: int, address: int, total: int | None = None, kind: int = GPU) -> dict[str, object]:
    args: dict[str, object] = {"Bytes": size, "Addr": address, "Device Type": kind, "Device Id": 0 if kind else -1}
    if total is not None:
        args |= {"Total Allocated": total, "Total Reserved": 1 << 30}
    return {"ph": "i", "s": "t", "name": "[memory]", "pid": 100, "tid": 7, "ts": at, "args": args}


def span(name: str, cat: str, at: float, long: float, **args: object) -> dict[str, object]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 100, "tid": 7, "ts": at, "dur": long, "args": args}


def read(folder: Path, *events: dict[str, object]) -> list[DeviceMemory]:
    path = folder / "a.json"
    kernel = span("k", "kernel", 5_000, 3, device=0, stream=7)
    path.write_text(json.dumps({"traceEvents": [kernel, *events]}))
    return read_trace(path).memory


def test_the_peak_and_what_held_it(tmp_path: Path) -> None:
    (memory,) = read(
        tmp_path,
        span("nn.Module: Layer_3", "python_function", 0, 100),
        span("nn.Module: Linear_7", "python_function", 5, 40),
        span("aten::mm", "cpu_op", 10, 20),
        span("aten::relu", "cpu_op", 60, 20),
        change(12, 4_000, 1, 14_000),
        change(13, 500, 2, 14_500),
        change(14, -500, 2, 14_000),
        change(65, 3_000, 3, 17_000),
        change(90, -4_000, 1, 13_000),
        change(95, 1_000, 2, 14_000),
    )
    assert (memory.device, memory.relative, memory.changes) == (0, False, 6)
    assert (memory.start_bytes, memory.peak_bytes, memory.end_bytes) == (10_000, 17_000, 14_000)
    assert memory.peak_ns == 65_000
    assert memory.reserved_bytes == 1 << 30
    assert memory.before_bytes == 10_000
    assert [(row.operator, row.module, row.bytes, row.allocations) for row in memory.holders] == [
        ("aten::mm", "Layer › Linear", 4_000, 1),
        ("aten::relu", "Layer", 3_000, 1),
    ]
    assert memory.curve_bytes == [14_000, 14_500, 14_000, 17_000, 13_000, 14_000]


def test_devices_are_apart_and_old_files_count_from_their_begin(tmp_path: Path) -> None:
    """The format of 2021 states neither totals nor addresses."""
    gpu, host = read(
        tmp_path, change(1, 700, 0), change(2, -200, 0), change(3, 64, 0, kind=HOST), change(4, 900, 0, kind=HOST)
    )
    assert (gpu.device, gpu.relative, gpu.peak_bytes, gpu.end_bytes) == (0, True, 700, 500)
    assert (host.device, host.peak_bytes) == (-1, 964)
    assert (gpu.before_bytes, gpu.holders, gpu.reserved_bytes) == (None, [], None)


def test_steps_have_a_begin_and_a_peak(tmp_path: Path) -> None:
    events = []
    for i in range(5):
        at = i * 1_000.0
        events += [
            span(f"ProfilerStep#{i}", "user_annotation", at, 990),
            span("cudaLaunchKernel", "cuda_runtime", at + 5, 3, correlation=i + 1),
            span("sgemm", "kernel", at + 20, 300, correlation=i + 1, device=0, stream=7),
            change(at + 1, 100, 1, 1_100 + i * 10),
            change(at + 10, 50, 2, 1_150 + i * 10),
            change(at + 30, -50, 2, 1_100 + i * 10),
            change(at + 40, -90, 1, 1_010 + i * 10),
        ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"traceEvents": events}))
    (memory,) = read_trace(path).memory
    assert [(step.start_ns, step.start_bytes, step.peak_bytes) for step in memory.steps] == [
        (i * 1_000_000 + 5_000, 1_100 + i * 10, 1_150 + i * 10) for i in range(5)
    ]


@pytest.mark.parametrize("broken", [{"Bytes": None}, {"Bytes": "x", "Addr": [1]}, {"Device Id": 1e99}])
def test_damaged_changes_cost_little(tmp_path: Path, broken: dict[str, object]) -> None:
    damaged = change(2, 5, 2, 105)
    damaged["args"] = {**damaged["args"], **broken}  # type: ignore[dict-item]
    memories = read(tmp_path, change(1, 100, 1, 100), damaged, change(3, 100, 3, 205))
    assert max(memory.peak_bytes for memory in memories) == 205


def test_a_trace_without_memory_has_none() -> None:
    assert analyse(build([ActivityRow(0, 5)])).memory == []


@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_what_is_held_sums_to_the_peak(tmp_path_factory, sizes: list[int], order) -> None:
    """Allocations and frees in any order: blocks from before, and those held, make the peak."""
    events, alive, total, at, levels = [], [], 1_000, 0, [1_000]
    for i, size in enumerate(sizes):
        at += 1
        alive.append((i + 1, size))
        total += size
        events.append(change(at, size, i + 1, total))
        levels.append(total)
        while alive and order.random() < 0.4:
            address, freed = alive.pop(order.randrange(len(alive)))
            at += 1
            total -= freed
            events.append(change(at, -freed, address, total))
            levels.append(total)
    (memory,) = read(tmp_path_factory.mktemp("m"), *events)
    assert memory.peak_bytes == max(levels)
    assert memory.before_bytes == 1_000
    assert sum(holder.bytes for holder in memory.holders) + 1_000 == memory.peak_bytes
    assert max(memory.curve_bytes) == max(levels[1:])
