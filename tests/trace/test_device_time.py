"""What a device's time went to: against an independent computation, nanosecond by nanosecond."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.report.trace import words
from laptime.trace.analysis import analyse, read_trace
from laptime.trace.device_time import copy_direction
from laptime.trace.result import CopyTime, TraceAnalysis
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, write_kineto, write_nsys

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)"
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
UP, DOWN = "Memcpy HtoD (Pageable -> Device)", "Memcpy DtoH (Device -> Pinned)"
WORK = {GEMM: "compute", ADD: "compute", NCCL: "communication", UP: "copy", "Memcpy PtoP": "communication"}
ORDER = ("compute", "communication", "copy", "memset")


def copied(name: str) -> str:
    return "memcpy" if name.startswith("Memcpy") else "memset" if name == "Memset" else "kernel"


def a_row(start: int, length: int, name: str, stream: int) -> ActivityRow:
    return ActivityRow(start, start + length, name, copied(name), stream=stream)


row = st.builds(a_row, st.integers(0, 60), st.integers(0, 20), st.sampled_from([*WORK, "Memset"]), st.integers(1, 3))


@settings(max_examples=150)
@given(rows=st.lists(row, min_size=1, max_size=12))
def test_every_nanosecond_is_told_apart(rows: list[ActivityRow]) -> None:
    """Counted one nanosecond after the other: the kinds that run in it decide what it adds to."""
    (device,) = analyse(build(rows)).devices
    expected = {kind: [0, 0, 0] for kind in ORDER}
    for at in range(100):
        running = {WORK.get(r.name, "memset") for r in rows if r.start_ns <= at < r.end_ns}
        for kind in running:
            expected[kind][0] += 1
            expected[kind][1] += running == {kind} if kind == "compute" else "compute" not in running
        if running:
            expected[min(running, key=ORDER.index)][2] += 1
    present = {WORK.get(r.name, "memset") for r in rows}
    assert {b.kind: [b.busy_ns, b.exposed_ns, b.share_ns] for b in device.busy} == {
        kind: figures for kind, figures in expected.items() if kind in present
    }
    assert sum(b.share_ns for b in device.busy) == device.busy_ns
    assert sum(k.share for k in analyse(build(rows)).kernels) <= 1.00001


def mostly_copies() -> tuple[list[ActivityRow], list[CallRow]]:
    """30 times: 1 MB up in 1 ms out of pageable memory, then a kernel of 20 µs."""
    activities, calls = [], []
    for i in range(30):
        at = 1_000_000 + i * 1_030_000
        activities += [
            ActivityRow(at + 6_001, at + 1_006_001, UP, "memcpy", correlation=2 * i + 1, bytes=1_000_000),
            ActivityRow(at + 1_007_000, at + 1_027_000, ADD, correlation=2 * i + 2),
        ]
        calls += [
            CallRow(at, at + 5_000, "cudaMemcpyAsync", 2 * i + 1),
            CallRow(at + 900_000, at + 905_000, "cudaLaunchKernel", 2 * i + 2),
        ]
    return activities, calls


@pytest.fixture(params=["kineto", "nsys"])
def read(request: pytest.FixtureRequest, tmp_path: Path):
    def of(activities: list[ActivityRow], calls: list[CallRow]) -> TraceAnalysis:
        if request.param == "kineto":
            return read_trace(write_kineto(tmp_path / "t.json", activities, calls))
        return read_trace(write_nsys(tmp_path / "t.sqlite", activities, calls))

    return of


def test_copies_lead_with_direction_memory_and_rate(read) -> None:
    analysis = read(*mostly_copies())
    assert analysis.headline == "GPU busy 99 %: its time goes to copies (97 %), host to device (pageable, 1 GB/s)"
    assert analysis.devices[0].copies == [
        CopyTime(
            direction="host to device",
            memory="pageable",
            count=30,
            sum_ns=30_000_000,
            busy_ns=30_000_000,
            bytes=30_000_000,
            bytes_per_second=1e9,
        )
    ]


def test_exposed_communication_leads(read) -> None:
    """20 times GEMM 50 µs, NCCL 100 µs, add 50 µs: half of the time only NCCL runs."""
    activities, calls = [], []
    for i in range(20):
        for j, (name, offset, length) in enumerate([(GEMM, 0, 50), (NCCL, 50, 100), (ADD, 150, 50)]):
            at = 1_000_003 + i * 200_000 + offset * 1000
            stream = 13 if name == NCCL else 7
            activities.append(ActivityRow(at, at + length * 1000, name, stream=stream, correlation=3 * i + j + 1))
            calls.append(CallRow(at - 400_000, at - 395_000, "cudaLaunchKernel", 3 * i + j + 1))
    analysis = read(activities, calls)
    assert "exposed communication 50 %" in analysis.headline
    assert [(b.kind, b.exposed_ns) for b in analysis.devices[0].busy] == [
        ("compute", 2_000_000),
        ("communication", 2_000_000),
    ]


def test_two_processes_on_one_gpu_are_said(tmp_path: Path) -> None:
    activities, calls = [], []
    for i in range(25):
        for process, name, shift in ((100, GEMM, 0), (200, ADD, 20_000)):
            at = 1_000_007 + i * 60_000 + shift
            activities.append(ActivityRow(at, at + 50_000, name, stream=7, process=process, correlation=i + 1))
            calls.append(CallRow(at - 30_000, at - 25_000, "cudaLaunchKernel", i + 1, process=process, thread=process))
    analysis = read_trace(write_nsys(tmp_path / "t.sqlite", activities, calls))
    (device,) = analysis.devices
    assert "2 processes share it" in analysis.headline
    assert [(p.process, p.busy_ns) for p in device.processes] == [(100, 25 * 50_000), (200, 25 * 50_000)]
    assert sum(kernel.share for kernel in analysis.kernels) == pytest.approx(1, abs=1e-5)


def test_copies_between_devices_are_communication(tmp_path: Path) -> None:
    rows = [
        ActivityRow(1_000, 3_000, "Memcpy PtoP", "memcpy", bytes=64),
        ActivityRow(2_000, 4_000, "Memcpy PtoP", "memcpy", stream=9, bytes=64),
    ]
    analysis = read_trace(write_nsys(tmp_path / "t.sqlite", rows))
    assert [(b.kind, b.sum_ns, b.busy_ns) for b in analysis.devices[0].busy] == [("communication", 4_000, 3_000)]
    assert analysis.devices[0].copies[0].direction == "peer to peer"


def test_pages_of_unified_memory_have_no_launch(tmp_path: Path) -> None:
    """The driver moves them: nothing is missing, and the host is not slow at launching."""
    rows = [ActivityRow(10_000, 20_000, "add", correlation=1)]
    rows += [ActivityRow(30_007 + 9_001 * i, 31_000 + 9_003 * i, "Memcpy unified DtoH", "memcpy") for i in range(40)]
    analysis = read_trace(write_kineto(tmp_path / "t.json", rows, [CallRow(1_000, 2_000, correlation=1)]))
    assert {finding.code for finding in analysis.integrity.findings} == {"unified-memory", "no-steps"}
    assert analysis.devices[0].copies[0].memory == "unified"
    assert "the host launches nothing, and the driver moves pages of unified memory (40 copies)" in analysis.headline
    assert analysis.devices[0].launches == 1
    assert words.launches(analysis.devices[0]) == "1 kernel and 40 copies; 1 launch, and 40 copies by the driver"


def test_waits_without_pages_are_the_hosts(tmp_path: Path) -> None:
    rows = [ActivityRow(10_000, 20_000, "add", correlation=1)]
    pages = [(30_000_000 * i, 40) for i in range(1, 5)]
    for start, count in pages:
        rows += [
            ActivityRow(start + 9_000 * i, start + 9_000 * i + 1_000, "Memcpy unified DtoH", "memcpy")
            for i in range(count)
        ]
    analysis = read_trace(write_kineto(tmp_path / "t.json", rows, [CallRow(1_000, 2_000, correlation=1)]))
    assert "; the driver moves pages of unified memory in between (160 copies)" in analysis.headline


def test_a_damaged_copys_name_has_a_direction(tmp_path: Path) -> None:
    (copies,) = (
        read_trace(write_kineto(tmp_path / "t.json", [ActivityRow(1, 5, "Memcpy HTOd (Pageable -> Device)", "memcpy")]))
        .devices[0]
        .copies
    )
    assert (copies.direction, copies.memory) == ("host to device", "pageable")


def test_memsets_lead_as_copies_do(read) -> None:
    activities, calls = [], []
    for i in range(20):
        at = 1_000_003 + i * 1_100_000
        calls += [CallRow(at - 9_000, at - 8_000, "cudaMemsetAsync", 2 * i + 1)]
        calls += [CallRow(at - 7_000, at - 6_000, "cudaLaunchKernel", 2 * i + 2)]
        activities.append(ActivityRow(at, at + 1_000_000, "Memset", "memset", correlation=2 * i + 1))
        activities.append(ActivityRow(at + 1_000_000, at + 1_050_000, GEMM, correlation=2 * i + 2))
    assert read(activities, calls).headline == "GPU busy 96 %: its time goes to memsets (91 %)"


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("CopyHostToDevice", "host to device"),
        ("zeCommandListAppendMemoryCopy(M2D)", "host to device"),
        ("Memcpy D2M(Device -> Memory)", "device to host"),
        ("CopyDeviceToHost", "device to host"),
        ("CopyDeviceToDevice", "device to device"),
        ("CopyAnything", "unknown"),
    ],
)
def test_rocms_names_of_copies_have_a_direction(name: str, direction: str) -> None:
    assert copy_direction(name) == (direction, None)


def test_a_rate_has_no_exponent() -> None:
    rows = [
        ActivityRow(1_000_000 * i, 1_000_000 * i + 990_000, "Memcpy DtoD", "memcpy", bytes=3 * 10**9) for i in (1, 2)
    ]
    assert "device to device (3,030 GB/s)" in analyse(build(rows)).headline
