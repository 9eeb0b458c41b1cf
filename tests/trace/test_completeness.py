"""Whether a trace holds all that happened: each case is written here, in the formats that can have it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars
import pytest

from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse, read_trace
from laptime.trace.read.reading import read_timeline
from tests.trace.build_timeline import build
from tests.trace.engines import LAYER, decoder, host_bound
from tests.trace.read.rows_back import activity_rows, call_rows
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, kineto_events, write_nsys

GEMM, ADD = "ampere_sgemm_128x64_tn", "void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<float>>(int)"
T = 1_000_000


def a_run(count: int = 100, *, shift: int = 0, step: int = 15_007) -> tuple[list[ActivityRow], list[CallRow]]:
    activities, calls = [], []
    for i in range(count):
        at = T + shift + i * step
        calls.append(CallRow(at, at + 5_000, correlation=i + 1))
        activities.append(ActivityRow(at + 6_001, at + 16_003, (GEMM, ADD)[i % 2], correlation=i + 1))
    return activities, calls


def codes(analysis) -> dict[str, tuple[str, int]]:
    return {finding.code: (finding.severity, finding.count) for finding in analysis.integrity.findings}


def test_launches_without_kernels_make_it_partial() -> None:
    activities, calls = a_run(step=20_000)
    assert "launches-without-kernels" not in codes(analyse(build(activities, calls)))
    analysis = analyse(build(activities[60:], calls))
    assert codes(analysis)["launches-without-kernels"] == ("severe", 60)
    assert analysis.integrity.verdict == "partial"
    few = analyse(build(activities[:-2], calls))
    assert (few.integrity.verdict, codes(few)["launches-without-kernels"]) == ("ok", ("warning", 2))


def test_kernels_without_a_duration_leave_open_why_it_waits() -> None:
    """A fifth of kernels of 10 µs is written with a duration of 0. Where all of a name are so, they were short."""
    activities, calls = a_run(step=20_000)
    lost = [replace(row, end_ns=row.start_ns) if i % 5 == 0 else row for i, row in enumerate(activities)]
    analysis = analyse(build(lost, calls))
    assert (analysis.integrity.verdict, codes(analysis)["zero-durations"]) == ("partial", ("severe", 20))
    assert analysis.headline.endswith("20 of 100 kernels are recorded to last no time, so why isn't certain")
    assert "could leave" not in analysis.advice
    short = [replace(row, end_ns=row.start_ns) if row.name == ADD else row for row in activities]
    assert "zero-durations" not in codes(analyse(build(short, calls)))


def test_work_whose_time_was_not_taken_is_left_out(tmp_path: Path) -> None:
    """Two of 100 kernels start and end at 0, ten minutes before the others."""
    activities, calls = a_run(shift=600_000_000_000, step=20_000)
    lost = [replace(row, start_ns=0, end_ns=0) if i in (40, 41) else row for i, row in enumerate(activities)]
    analysis = read_trace(write_nsys(tmp_path / "t.sqlite", lost, calls))
    assert (analysis.integrity.verdict, codes(analysis)["zero-timestamps"]) == ("partial", ("severe", 2))
    whole = analyse(build([row for i, row in enumerate(activities) if i not in (40, 41)], calls))
    assert (analysis.devices[0].span_ns, analysis.devices[0].busy_ns) == (
        whole.devices[0].span_ns,
        whole.devices[0].busy_ns,
    )
    assert "600000" not in analysis.headline


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.ncu-rep", b"NVR\0", "an Nsight Compute report"),
        ("a.jsonl", b'{"Type":48,"CudaEvent":{"startNs":"1"}}\n', "Nsight Systems' JSON lines"),
        ("a.json.zst", b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
        ("a.json.xz", b"\xfd7zXZ\0", "compressed by xz"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str, head: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(head * 9)
    with pytest.raises(LaptimeError, match=said):
        read_timeline(path)


def test_lost_kernels_may_hide_the_steps() -> None:
    activities, calls = a_run(step=20_000)
    named = [replace(row, name=f"k{i * i % 101}") for i, row in enumerate(activities)]
    reason = analyse(build(named[:-3], calls)).steps.reason or ""
    assert reason.endswith("3 launches without a kernel may hide what repeats")


def test_failed_launches_are_not_lost_kernels(tmp_path: Path) -> None:
    """What CUDA answered with an error ran no kernel: the capture is whole, and the headline names the error."""
    activities, calls = a_run(20, step=900_000)
    path = write_nsys(tmp_path / "t.sqlite", activities[:5], calls)
    assert "launches-without-kernels" in codes(read_trace(path))
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_RUNTIME ADD returnValue INTEGER DEFAULT 0")
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET returnValue = 222 WHERE correlationId > 5")
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET returnValue = 7123 WHERE correlationId = 6")
    found = read_trace(path)
    assert codes(found)["failed-launches"] == ("severe", 15)
    assert "launches-without-kernels" not in codes(found)
    assert found.headline.endswith(
        ": 15 of 20 kernel launches failed, most of them with CUDA error 222 (the driver is too old for the program's"
        " PTX)"
    )
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL")
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET returnValue = 209")
    none = read_trace(path)
    assert "20 of 20 kernel launches failed with CUDA error 209 (the program has no code for this GPU)" in none.headline
    assert "permission" not in str([finding.message for finding in none.integrity.findings])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET returnValue = 0")
    assert "failed-launches" not in codes(read_trace(path))


def test_launches_into_a_graph_and_host_functions_lack_no_kernel() -> None:
    activities, calls = a_run(20, step=20_000)
    begin = CallRow(T + 9 * 20_000 - 3_000, T + 9 * 20_000 - 2_000, "cudaStreamBeginCapture")
    end = CallRow(T + 15 * 20_000 - 3_000, T + 15 * 20_000 - 2_000, "cudaStreamEndCapture")
    host = CallRow(T + 17 * 20_000 + 8_000, T + 17 * 20_000 + 9_000, "cudaLaunchHostFunc", 900)
    found = codes(analyse(build(activities[:9] + activities[15:], [*calls, begin, end, host])))
    assert "launches-without-kernels" not in found
    assert found["captured-launches"] == ("info", 6)


def test_a_duration_over_its_stream_is_no_truth_and_no_step() -> None:
    activities, calls = a_run(160, step=20_000)
    assert "overlong-kernels" not in codes(analyse(build(activities, calls)))
    long = activities[40]
    activities[40] = ActivityRow(long.start_ns, long.start_ns + 2_000_000, long.name, correlation=long.correlation)
    steps = eight_steps()
    analysis = analyse(build(activities, calls, steps))
    assert (analysis.integrity.verdict, codes(analysis)["overlong-kernels"]) == ("partial", ("severe", 1))
    assert analysis.steps.start_ns is not None
    assert analysis.steps.wall_ns is not None
    end = analysis.steps.start_ns + analysis.steps.wall_ns
    assert not (analysis.steps.start_ns < long.start_ns + 2_000_000 and end > long.start_ns)
    assert analyse(build(activities, calls, steps[2:3])).steps.method == "none"  # the only one is spoiled


@pytest.mark.parametrize(("kind", "name"), [("memcpy", "Memcpy HtoD (Pinned -> Device)"), ("memset", "Memset")])
@pytest.mark.parametrize(("at", "over"), [(0, 159), (40, 30), (41, 2), (42, 5)])
def test_a_wrong_duration_counts_up_to_the_streams_next_work(kind: str, name: str, at: int, over: int) -> None:
    """What is recorded of all other work stays right: each step is half idle, and the GPU too."""
    for other in ("kernel", kind):
        activities, calls = a_run(160, step=20_000)
        if other != "kernel":
            activities[at] = replace(activities[at], name=name, kind=kind)
        sound = analyse(build(activities, calls, eight_steps()))
        long = activities[at]
        activities[at] = replace(long, end_ns=activities[min(at + over, 159)].end_ns + 1_000)
        analysis = analyse(build(activities, calls, eight_steps()))
        assert (analysis.integrity.verdict, codes(analysis)["overlong-kernels"]) == ("partial", ("severe", 1))
        assert analysis.steps.count == 8
        assert analysis.steps.busy_ns == sound.steps.busy_ns
        own = [activities[at].start_ns, activities[at + 1].start_ns]
        assert analysis.devices[0].busy_ns == sound.devices[0].busy_ns + own[1] - long.end_ns
        assert analysis.headline.startswith("GPU idle at least 50 %")


def test_kernels_that_overlap_on_one_stream_are_of_several() -> None:
    """Two ranks under one process, device and stream, whose correlation ids don't repeat: nothing parts them."""
    one, calls = a_run(160)
    other = [replace(row, start_ns=row.start_ns + 3_000, end_ns=row.end_ns + 3_000, correlation=None) for row in one]
    analysis = analyse(build([*one, *other], calls))
    assert codes(analysis)["merged-streams"][0] == "warning"
    assert "kernels of one stream overlap, so several streams or ranks may be in it" in analysis.headline
    early = [replace(row, start_ns=row.start_ns - 60) for row in one[1:]]  # programmatic dependent launch
    assert "merged-streams" not in codes(analyse(build([one[0], *early], calls)))


def test_the_last_work_of_all_has_nothing_behind_it_and_is_doubted_by_its_own_kind() -> None:
    activities, calls = a_run(160, step=20_000)
    last = activities[-1]
    activities[-1] = replace(last, end_ns=last.start_ns + 10_000_000_000)
    analysis = analyse(build(activities, calls, eight_steps()))
    assert (analysis.integrity.verdict, codes(analysis)["doubtful-duration"]) == ("partial", ("severe", 1))
    assert analysis.headline.endswith("the last recorded duration is doubtful")
    # A wait for all of it that returned before says that it can't be, and where it ended at the latest.
    waited = [*calls, CallRow(last.start_ns + 5_000, last.start_ns + 30_000, "cudaDeviceSynchronize")]
    analysis = analyse(build(activities, waited, eight_steps()))
    assert (codes(analysis)["overlong-kernels"], analysis.steps.count) == (("severe", 1), 8)
    assert analysis.devices[0].span_ns == last.start_ns + 30_000 - activities[0].start_ns
    assert analysis.headline.endswith("some recorded durations can't be")
    # A collective lasts for as long as another rank is late, and what ran once may take long.
    for name in ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "validation"):
        rows = [replace(row, name=name) if row.name == last.name else row for row in activities]
        rows = rows if "nccl" in name else [*activities[:-1], replace(activities[-1], name=name)]
        assert "doubtful-duration" not in codes(analyse(build(rows, calls, eight_steps())))


def eight_steps() -> list[RangeRow]:
    at = [T + 400_000 * step - 1_000 for step in range(9)]
    return [RangeRow(start, end, f"ProfilerStep#{i}") for i, (start, end) in enumerate(pairwise(at))]


def test_a_duration_over_the_rest_of_a_graph_is_no_truth_and_no_step() -> None:
    """One kernel of one replay lasts over the next 30 of its stream; in no other replay does it."""
    rows = host_bound([decoder(12, LAYER)] * 8, graph=True, between_ns=9_000)
    at = 4 * 12 * len(LAYER) + 7
    wrong = [
        replace(row, end_ns=rows.activities[at + 30].end_ns) if i == at else row
        for i, row in enumerate(rows.activities)
    ]
    analysis = analyse(build(wrong, rows.calls))
    assert (analysis.integrity.verdict, codes(analysis)["overlong-kernels"]) == ("partial", ("severe", 1))
    began = wrong[at].start_ns
    assert analysis.steps.start_ns is not None
    assert not analysis.steps.start_ns <= began < analysis.steps.start_ns + (analysis.steps.wall_ns or 0)
    assert analyse(build(*rows.all)).integrity.verdict == "ok"


def test_a_lost_block_of_kernels_is_said_beside_steps_that_are_whole() -> None:
    rows = host_bound([decoder(12, LAYER, [("embedding", 3_000)], [("argmax", 3_000)])] * 24, launch_ns=100, host=[])
    count = len(rows.activities) // 24
    kept = [*rows.activities[: 8 * count], *rows.activities[16 * count :]]
    headline = analyse(build(kept, rows.calls)).headline
    assert "ms of them idle in what was recorded; " in headline
    assert f"{8 * count} of {24 * count} kernel launches have no kernel" in headline


def test_merged_streams_have_no_wrong_durations() -> None:
    """Two streams under one number: long kernels of one run over short ones of the other, again and again."""
    rows = [ActivityRow(T + 50_003 * i, T + 50_003 * i + 45_001, GEMM) for i in range(30)]
    rows += [
        ActivityRow(T + 50_003 * i + 9_001 * k, T + 50_003 * i + 9_001 * k + 5_003, ADD)
        for i in range(30)
        for k in (1, 2, 3)
    ]
    assert "overlong-kernels" not in codes(analyse(build(rows)))


def test_an_impossible_duration_among_merged_streams_is_no_busy_gpu() -> None:
    """Where the streams are known to be merged nothing is cut, and the steps that it doesn't reach are spoken of."""
    activities, calls = a_run(160, step=20_000)
    beside = [replace(row, start_ns=row.start_ns + 2_000, end_ns=row.end_ns + 3_500) for row in activities[::2]]
    rows = [*activities, *beside]
    rows[100] = replace(rows[100], end_ns=rows[100].start_ns + 10_000_000_000)
    analysis = analyse(build(rows, calls, eight_steps()))
    assert (analysis.devices[0].idle_ns < 2_000_000, analysis.steps.count) == (True, 8)
    assert analysis.headline.startswith("GPU idle 41 % of a step: the host can't launch fast enough")
    assert analysis.headline.endswith("some recorded durations can't be")
    alone = analyse(build(rows, calls)).headline
    assert "hardly waits" not in alone
    assert "its time goes" not in alone


def test_a_graphs_branches_have_no_wrong_durations() -> None:
    rows = [ActivityRow(T + 30_003 * i, T + 30_003 * i + 9_001, GEMM, correlation=i + 1) for i in range(60)]
    rows[30] = replace(rows[30], end_ns=rows[30].start_ns + 25_000)
    rows += [
        ActivityRow(rows[30].start_ns + 4_000 * k, rows[30].start_ns + 4_000 * k + 3_001, ADD, correlation=31)
        for k in (1, 2)
    ]
    assert "overlong-kernels" not in codes(analyse(build(rows)))


def test_a_step_of_lost_kernels_has_no_known_busy_time_and_no_remedy() -> None:
    """Two of three records lost, here and there; and all of them before the last steps, which leaves those whole."""
    activities, calls = a_run(160, step=20_000)
    whole = analyse(build(activities[80:], calls, eight_steps()))
    assert "step-incomplete" not in codes(whole)
    assert whole.whatif
    kept = [row for i, row in enumerate(activities) if i % 20 == 0 or i % 7 in (1, 4)]
    analysis = analyse(build(kept, calls, eight_steps()))
    assert analysis.steps.count >= 1
    assert codes(analysis)["step-incomplete"][0] == "severe"
    assert analysis.whatif == []
    assert "how long the GPU works in it isn't known" in analysis.advice
    assert "the GPU works 0" not in analysis.advice


@pytest.mark.parametrize("every", [1, 2])
def test_a_step_that_lost_replays_lie_in_has_no_remedy(every: int) -> None:
    """Of 24 replays every second one's kernels are missing: what looks like a step is two."""
    calls = [CallRow(T + 100_000 * i, T + 100_000 * i + 5_000, "cudaGraphLaunch", i + 1) for i in range(24)]
    work = [
        ActivityRow(call.end_ns + 6_001 * k, call.end_ns + 6_001 * k + 5_003, f"k{k}", correlation=i + 1, graph_node=k)
        for i, call in enumerate(calls)
        if i % every == 0
        for k in range(9)
    ]
    analysis = analyse(build(work, calls))
    assert analysis.steps.wall_ns == 100_000 * every
    assert ("step-incomplete" in codes(analysis)) == (every == 2)
    assert ("the GPU works 0.0" in analysis.advice) == (every == 1)


def test_a_gpu_that_hardly_worked_is_said_to() -> None:
    activities, calls = a_run(4)
    calls.append(CallRow(T + 50_000_000, T + 60_000_000, "cudaDeviceSynchronize", 99))
    analysis = analyse(build(activities, calls))
    assert analysis.headline.startswith("The GPU's work lies within 0.055 ms of the 60 ms that were traced")
    assert codes(analysis)["short-device-span"] == ("warning", 1)
    calls.append(CallRow(T + 20_000_000_000, T + 20_000_000_001, "cudaDeviceSynchronize", 100))
    assert "that were traced (under 0.001 %)" in analyse(build(activities, calls)).headline


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("sort", [False, True])
def test_ranks_merged_under_one_id_are_taken_apart(tmp_path: Path, ranks: int, sort: bool) -> None:
    """Each rank is 33 % idle; one GPU with the work of all of them would be less."""
    alone = analyse(build(*a_run(24))).devices[0]
    events: list[str] = []
    for rank in range(ranks):
        events += kineto_events(*a_run(24, shift=3_000 * rank))
    if sort:
        events.sort(key=lambda event: json.loads(event)["ts"])
    path = tmp_path / "merged.json"
    path.write_text(f'{{"schemaVersion": 1, "traceEvents": [{",".join(events)}]}}')
    analysis = read_trace(path)
    assert codes(analysis)["merged-ranks"] == ("warning", ranks)
    figures = [(device.span_ns, device.idle_ns, device.kernels, device.launches) for device in analysis.devices]
    assert figures == [(alone.span_ns, alone.idle_ns, 24, 24)] * ranks


def ranks(pids: list[int], devices: list[int], *, shift: int = 3_000, ids_apart: int = 0) -> list[list[str]]:
    """The events of each of several ranks, all of one program, with three steps each."""
    events = []
    for rank, (pid, device) in enumerate(zip(pids, devices, strict=True)):
        activities, calls = a_run(24, shift=shift * rank)
        at = [T + shift * rank - 1_000 + 15_007 * 8 * step for step in range(4)]
        steps = [
            RangeRow(start, end, f"ProfilerStep#{i}", process=pid, thread=pid)
            for i, (start, end) in enumerate(pairwise(at))
        ]
        events.append(
            kineto_events(
                [replace(a, device=device, correlation=a.correlation + rank * ids_apart) for a in activities],
                [replace(c, process=pid, thread=pid, correlation=c.correlation + rank * ids_apart) for c in calls],
                steps,
            )
        )
    return events


def merged(path: Path, files: list[list[str]], *, sort: bool) -> Path:
    events = [event for file in files for event in file]
    if sort:
        events.sort(key=lambda event: json.loads(event)["ts"])
    path.write_text(f'{{"schemaVersion": 1, "traceEvents": [{",".join(events)}]}}')
    return path


@pytest.mark.parametrize(
    ("pids", "devices"),
    [
        ([100, 101], [0, 0]),
        ([100, 100], [0, 1]),
        ([100, 200], [0, 1]),
        ([300, 200, 100], [2, 0, 1]),
        ([1, 2, 3, 4], [0, 1, 0, 1]),
    ],
    ids=["one-device", "one-pid", "both-differ", "three", "two-nodes"],
)
@pytest.mark.parametrize("sort", [False, True])
def test_merged_ranks_with_ids_of_their_own_are_joined_to_their_launches(
    tmp_path: Path, pids: list[int], devices: list[int], sort: bool
) -> None:
    alone = analyse(build(*a_run(24))).devices[0]
    count = len(pids)
    path = merged(tmp_path / "merged.json", ranks(pids, devices), sort=sort)
    analysis = read_trace(path)
    assert codes(analysis)["merged-ranks"] == ("warning", count)
    figures = [(d.device, d.span_ns, d.idle_ns, d.kernels, d.launches) for d in analysis.devices]
    assert sorted(figures) == [(i, alone.span_ns, alone.idle_ns, 24, 24) for i in range(count)]
    assert "no-launch-record" not in codes(analysis)
    if len(set(pids)) > 1:
        assert analysis.steps.count == 3
        activities = read_timeline(path).activities
        numbers = range(count) if len(set(devices)) < count else devices
        assert set(zip(activities.process.tolist(), activities.device.tolist(), strict=True)) == set(
            zip(pids, numbers, strict=True)
        )


def test_kernels_before_the_first_launch_stay_with_their_rank(tmp_path: Path) -> None:
    """They were launched before the capture began, so no id says whose they are."""
    first, second = ranks([100, 101], [0, 0])
    second = [e for e in second if "cudaLaunchKernel" not in e or json.loads(e)["args"]["correlation"] > 4]
    analysis = read_trace(merged(tmp_path / "merged.json", [first, second], sort=False))
    assert [(device.kernels, device.launches) for device in analysis.devices] == [(24, 24), (24, 20)]


@pytest.mark.parametrize("sort", [False, True])
def test_ids_that_differ_leave_open_whether_processes_share_a_gpu(tmp_path: Path, sort: bool) -> None:
    analysis = read_trace(merged(tmp_path / "merged.json", ranks([100, 101], [0, 0], ids_apart=1000), sort=sort))
    (device,) = analysis.devices
    (finding,) = [f for f in analysis.integrity.findings if f.code == "several-processes"]
    assert "MPS" in finding.message
    assert "or are ranks merged into this file" in finding.message
    assert "2 processes share it, or are merged ranks" in analysis.headline
    assert [process.process for process in device.processes] == [100, 101]


def test_processes_that_take_turns_on_one_gpu_are_no_ranks(tmp_path: Path) -> None:
    """Each kernel of one runs in the other's gaps: on GPUs of their own some would overlap."""
    files = []
    for rank, pid in enumerate((100, 101)):
        activities, calls = a_run(24, shift=11_000 * rank, step=22_000)
        files.append(kineto_events(activities, [replace(c, process=pid, thread=pid) for c in calls]))
    analysis = read_trace(merged(tmp_path / "merged.json", files, sort=False))
    assert "merged-ranks" not in codes(analysis)
    assert codes(analysis)["several-processes"] == ("info", 2)


def test_work_that_the_ids_cannot_part_is_said_to_be_so(tmp_path: Path) -> None:
    """Sorted by time, one rank's host far ahead of its GPU: the first launch of an id isn't its first kernel's."""
    files = []
    for pid, late in ((100, 0), (101, 7_000_013), (102, 3_000_005)):
        activities, calls = a_run(60, shift=late // 3)
        activities = [
            replace(a, start_ns=a.start_ns - late // 3 + 8_000_000 + (late * i) % 160_000, end_ns=0)
            for i, a in enumerate(activities)
        ]
        activities = [replace(a, end_ns=a.start_ns + 10_000) for a in activities]
        files.append(kineto_events(activities, [replace(c, process=pid, thread=pid) for c in calls]))
    analysis = read_trace(merged(tmp_path / "merged.json", files, sort=True))
    (finding,) = [f for f in analysis.integrity.findings if f.code == "merged-ranks"]
    assert "can't be told" in finding.message
    assert len(analysis.devices) == 1


def noted(path: Path, *texts: str) -> Path:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE DIAGNOSTIC_EVENT (timestamp, timestampType, source, severity, text, globalPid)")
        db.executemany("INSERT INTO DIAGNOSTIC_EVENT (severity, text) VALUES (2, ?)", [(text,) for text in texts])
    db.close()
    return path


def test_what_nsight_noted_is_said_in_our_words(tmp_path: Path) -> None:
    path = noted(
        write_nsys(tmp_path / "t.sqlite", *a_run(20)),
        "Process was launched by the profiler, see /home/secret/stdout.log",
        "Not all CUDA events might have been collected.",
        "Number of CUPTI events produced: 90112, CUPTI buffers: 49 of 50. Some CUPTI events might be missing.",
        "Installed CUDA driver version (99.7) is not supported by this build of Nsight Systems.",
    )
    analysis = read_trace(path)
    assert analysis.integrity.verdict == "partial"
    assert codes(analysis)["lost-records"] == ("severe", 2)
    assert codes(analysis)["driver-not-supported"] == ("warning", 1)
    assert "99.7" in str(analysis.integrity.findings)
    assert b"secret" not in analysis.to_json()


def test_a_process_without_cuda_is_no_fault_of_the_one_with_it(tmp_path: Path) -> None:
    path = noted(
        write_nsys(tmp_path / "t.sqlite", *a_run(20)),
        "No CUDA events collected. Does the process use CUDA?",
        "Number of CUDA events collected: \t40.",
    )
    assert codes(read_trace(path)) == {"processes-without-cuda": ("info", 1), "no-steps": ("info", 1)}


def test_a_refusal_names_its_reason(tmp_path: Path) -> None:
    _, calls = a_run(3)
    path = write_nsys(tmp_path / "launched.sqlite", [], calls)
    assert "3 kernel launches were traced, but no work of a GPU" in read_trace(path).headline
    noted(path, "Installed CUDA driver version (99.7) is not supported by this build of Nsight Systems.")
    assert "does not support the installed CUDA driver (99.7)" in read_trace(path).headline


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[[1, 2, 3], [[4, 5]]]", "memory timeline"),
        (b"\x80\x04\x95 snapshot", "a pickle"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"PAR1" + bytes(20), "Parquet"),
        (b'<?xml version="1.0"?><session version="2"/>', "Visual Profiler"),
        (gzip.compress(b"SQLite format 3\0" + bytes(300), mtime=0), "a packed SQLite file; unpack it first"),
        (b"PK\x03\x04" + bytes(20), "an archive"),
        (gzip.compress(b"rank0.json".ljust(257, b"\0") + b"ustar" + bytes(300), mtime=0), "an archive"),
        (b"\x01\x00QuadDCommon" + bytes(40), "nsys export --type sqlite"),
    ],
)
def test_other_files_are_called_by_their_name(
    tmp_path: Path, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "renamed.bin"
    path.write_bytes(content)
    with pytest.raises(LaptimeError, match=reason):
        read_timeline(path)


def test_a_file_of_xlas_profiler_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host.xplane.pb"
    path.write_bytes(b"\n\x9d\x02\x08\x01\x12/host:CPU")
    with pytest.raises(LaptimeError, match="XLA's profiler"):
        read_timeline(path)


def test_a_report_is_exported_where_nsys_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_nsys(tmp_path / "whole.sqlite", *a_run(5))
    nsys = tmp_path / "nsys"
    nsys.write_text(f'#!/bin/sh\n[ "$2 $3" = "--type sqlite" ] && cp {whole} "$5"\n')
    nsys.chmod(0o755)
    report = tmp_path / "decode.nsys-rep"
    report.write_bytes(b"\x00\x01")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    timeline = read_timeline(report)
    assert activity_rows(timeline) == activity_rows(read_timeline(whole))
    assert timeline.source.file == str(report)
    nsys.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(LaptimeError, match="exit code 3"):
        read_timeline(report)


def test_a_folder_of_parquet_tables_is_read(tmp_path: Path) -> None:
    whole = write_nsys(tmp_path / "whole.sqlite", *a_run(5))
    folder = tmp_path / "decode_pqtdir"
    folder.mkdir()
    with sqlite3.connect(whole) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = db.execute(f'SELECT * FROM "{name}"')
            heads = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
            polars.DataFrame(rows, schema=heads, orient="row", infer_schema_length=None).write_parquet(
                folder / f"{name}.parquet"
            )
    db.close()
    read, expected = read_timeline(folder), read_timeline(whole)
    assert activity_rows(read) == activity_rows(expected)
    assert call_rows(read) == call_rows(expected)
    assert read_trace(folder).source.file == "decode_pqtdir"


def test_a_damaged_launch_was_not_made_before_the_capture(tmp_path: Path) -> None:
    """The first launch's record is damaged: whether it was before the capture isn't known."""
    activities, calls = a_run(20, step=20_000)
    events = kineto_events(activities, calls)
    first = next(i for i, event in enumerate(events) if '"cudaLaunchKernel"' in event)
    events[first] = events[first].replace('"cudaLaunchKernel"', '"cuda"Launch')
    path = tmp_path / "t.json"
    path.write_text(f'{{"schemaVersion": 1, "traceEvents": [{", ".join(events)}]}}')
    messages = [finding.message for finding in read_trace(path).integrity.findings]
    assert not any("before the capture began" in message for message in messages)
    assert any("its record was lost" in message for message in messages)
