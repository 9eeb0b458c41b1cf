"""Nsight Systems exports: old and new schemas, whatever is missing, several processes, and damage."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.trace.integrity import check
from laptime.trace.read import sqlite_columns
from laptime.trace.read.launch_links import launches
from laptime.trace.read.reading import read_timeline
from laptime.trace.read.timeline import GpuTimeline
from tests.trace.read.rows_back import activity_rows, by_time, call_rows, range_rows
from tests.trace.write_traces import (
    COPY_NAMES,
    MEMSET_NAME,
    ActivityRow,
    CallRow,
    RangeRow,
    write_kineto,
    write_nsys,
)

T = 60_111_513_113
KERNEL = ActivityRow(T, T + 1_001, "k", correlation=5)
LAUNCH = CallRow(T - 9_001, T - 4_000, "cudaLaunchKernel", 5)
RANGE = RangeRow(T - 20_000, T + 90_000, "step 1")
FLUSH = RangeRow(T - 10, T, "CUPTI Buffer flush", "profiler")


def codes(timeline: GpuTimeline) -> dict[str, int]:
    return {finding.code: finding.count for finding in timeline.findings}


def execute(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("suffix", ["", "_V2", "_V3"])
@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("metadata", [False, True])
def test_reads_what_was_written(tmp_path: Path, suffix: str, text_ids: bool, metadata: bool) -> None:
    rows = [
        KERNEL,
        ActivityRow(T + 2_000, T + 2_003, "Memcpy DtoH", "memcpy", 1, 9, 6),
        ActivityRow(T + 3_000, T + 3_003, MEMSET_NAME, "memset", 1, 9, 7),
        ActivityRow(T + 4_000, T + 4_003, "CUDA graph 3", "graph", 0, 9, 8, graph_node=0),
        ActivityRow(T + 9_000, T + 9_001, correlation=9, graph_node=2 << 32),
    ]
    path = tmp_path / "a b%20#.sqlite"
    write_nsys(path, rows, [LAUNCH], [RANGE, FLUSH], suffix=suffix, text_ids=text_ids, metadata=metadata)
    timeline = read_timeline(path)
    assert activity_rows(timeline) == rows
    assert call_rows(timeline) == [LAUNCH]
    assert range_rows(timeline) == [RANGE, FLUSH]
    assert timeline.findings == ()
    assert (timeline.source.format, timeline.source.schema_version) == ("nsys-sqlite", "3.23.1" if metadata else None)


def test_reading_leaves_no_file_behind(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [KERNEL], [LAUNCH])
    tmp_path.chmod(0o500)
    read_timeline(path)
    tmp_path.chmod(0o700)
    assert [file.name for file in tmp_path.iterdir()] == ["t.sqlite"]


def test_correlation_ids_that_two_processes_share_stay_apart(tmp_path: Path) -> None:
    calls = [CallRow(T - 9_000 + p, T - 8_000, correlation=5, process=p, thread=p) for p in (144, 145)]
    rows = [ActivityRow(T + p, T + p + 1, correlation=5, process=p, device=p - 144) for p in (144, 145)]
    timeline = read_timeline(write_nsys(tmp_path / "t.sqlite", rows, calls))
    assert timeline.activities.process.tolist() == [144, 145]
    assert timeline.calls.process[launches(timeline)].tolist() == [144, 145]


def test_api_versions_and_operator_numbers_are_no_part_of_a_name(tmp_path: Path) -> None:
    called = ["cudaLaunchKernel_v7000", "cudaLaunchKernel_ptsz_v7000", "cuLaunchKernelEx", "cudaMemcpyAsync_v3020"]
    calls = [CallRow(T + i, T + i + 1, name, i + 1) for i, name in enumerate(called)]
    ranges = [RangeRow(T, T + 9, "aten::mm, op_id = 77"), RangeRow(T + 1, T + 8, "aten::mm, seq = 3, sizes = [[1]]")]
    timeline = read_timeline(write_nsys(tmp_path / "t.sqlite", [KERNEL], calls, ranges))
    names = [call.name for call in call_rows(timeline)]
    assert names == ["cudaLaunchKernel", "cudaLaunchKernel", "cuLaunchKernelEx", "cudaMemcpyAsync"]
    assert [(row.name, row.kind) for row in range_rows(timeline)] == [("aten::mm", "cpu_op")] * 2


def test_marks_and_ranges_without_an_end_are_no_ranges(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [KERNEL], [LAUNCH], [RANGE])
    execute(
        path,
        f"INSERT INTO NVTX_EVENTS VALUES ({T}, NULL, 59, 'open', 1, NULL)",
        f"INSERT INTO NVTX_EVENTS VALUES ({T}, {T}, 34, 'mark', 1, NULL)",
    )
    assert range_rows(read_timeline(path)) == [RANGE]


def test_one_ordinal_for_two_gpus_is_told_apart(tmp_path: Path) -> None:
    rows = [ActivityRow(T + p, T + p + 1, correlation=5, process=p, device=0) for p in (144, 145)]
    path = write_nsys(tmp_path / "t.sqlite", rows, [LAUNCH])
    execute(
        path,
        "CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId INTEGER, cudaId INTEGER, pid INTEGER)",
        "INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (2, 0, 144), (3, 0, 145)",
    )
    assert read_timeline(path).activities.device.tolist() == [2, 3]


@pytest.mark.parametrize(
    "without",
    [
        "CUPTI_ACTIVITY_KIND_KERNEL",
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        "NVTX_EVENTS",
        "StringIds",
        *(
            f"CUPTI_ACTIVITY_KIND_KERNEL.{column}"
            for column in (
                *("start", "deviceId", "streamId", "correlationId", "globalPid"),
                *("demangledName", "shortName", "graphNodeId"),
            )
        ),
        *(f"CUPTI_ACTIVITY_KIND_RUNTIME.{column}" for column in ("end", "globalTid", "correlationId", "nameId")),
        *(f"NVTX_EVENTS.{column}" for column in ("eventType", "text", "textId", "globalTid")),
    ],
)
def test_whatever_is_missing_is_said_and_the_rest_is_read(tmp_path: Path, without: str) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [KERNEL], [LAUNCH], [RANGE], without=[without])
    timeline = read_timeline(path)
    kernels_gone = without in ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_KERNEL.start")
    assert len(timeline.activities.start_ns) == (0 if kernels_gone else 1)
    if not kernels_gone:
        assert (timeline.activities.start_ns[0], timeline.activities.end_ns[0]) == (KERNEL.start_ns, KERNEL.end_ns)
        assert timeline.activities.process.tolist() == [KERNEL.process]
    table, _, column = without.partition(".")
    if column in ("demangledName", "shortName", "graphNodeId") or table == "NVTX_EVENTS":
        assert timeline.findings == ()  # another column says it, or it is no loss for a number
    else:
        said = [f.message for f in timeline.findings if f.code == ("missing-column" if column else "missing-table")]
        assert len(said) == 1
        assert (column or table.removeprefix("CUPTI_ACTIVITY_KIND_")) in said[0]
    if kernels_gone:
        assert check(timeline).verdict == "unsupported"


def test_values_that_are_no_integers_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [KERNEL], [LAUNCH])
    table = '"CUPTI_ACTIVITY_KIND_KERNEL" (start, "end", deviceId, streamId, correlationId, globalPid)'
    execute(
        path,
        f"INSERT INTO {table} VALUES (NULL, 5, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES ('x', 5, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES (1.5, 5, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES (x'3031', 5, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES (9, 5, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES ({-(2**63)}, {2**63 - 1}, 0, 7, 1, 1)",
        f"INSERT INTO {table} VALUES ({T}, {T + 1}, 'x', 'y', 'z', NULL)",
    )
    timeline = read_timeline(path)
    assert codes(timeline) == {"unreadable-events": 5, "negative-durations": 1}
    assert timeline.activities.start_ns.tolist() == [T, T]
    assert sorted(timeline.activities.device.tolist()) == [-1, 0]


def test_a_view_in_a_tables_place_is_not_run(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [KERNEL], [LAUNCH])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS start, i AS 'end' FROM n"
    execute(path, f"CREATE VIEW CUPTI_ACTIVITY_KIND_MEMSET AS {endless}")
    assert activity_rows(read_timeline(path)) == [KERNEL]


def test_tables_larger_than_a_window_keep_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_columns, "WINDOW_ROWS", 7)
    rows = [ActivityRow(T + 10 * i, T + 10 * i + 3, f"k{i % 4}", correlation=i + 1) for i in range(70)]
    path = write_nsys(tmp_path / "t.sqlite", rows, [LAUNCH])
    execute(path, f"DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE start = {T + 30}")
    assert activity_rows(read_timeline(path)) == rows[:3] + rows[4:]


def test_an_sqlite_file_of_something_else_is_one_clear_line(tmp_path: Path) -> None:
    execute(tmp_path / "t.sqlite", "CREATE TABLE cats (name TEXT)")
    with pytest.raises(LaptimeError, match="not one of Nsight Systems") as error:
        read_timeline(tmp_path / "t.sqlite")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "whose"),
    [
        ("KERN", "of rocprof,"),
        ("rocpd_string_00003fdc_92cb_72cb", "of rocprof,"),
        ("CANN_API", "of the Ascend profiler,"),
        ("read_only_kernels", "of DLProf,"),
    ],
)
def test_an_sqlite_file_of_another_profiler_is_named(tmp_path: Path, table: str, whose: str) -> None:
    execute(tmp_path / "t.sqlite", f"CREATE TABLE {table} (name TEXT)")
    with pytest.raises(LaptimeError, match=whose):
        read_timeline(tmp_path / "t.sqlite")


def test_a_file_of_nvprof_has_tables_of_the_same_names_and_is_no_export(tmp_path: Path) -> None:
    names = ("KERNEL", "CONCURRENT_KERNEL", "RUNTIME")
    tables = [f"CREATE TABLE CUPTI_ACTIVITY_KIND_{name} (start INTEGER, end INTEGER)" for name in names]
    execute(tmp_path / "t.nvvp", "CREATE TABLE StringTable (_id_ INTEGER, value TEXT)", *tables)
    with pytest.raises(LaptimeError, match=r"of nvprof, but not one of Nsight Systems; trace the program with nsys"):
        read_timeline(tmp_path / "t.nvvp")


def test_a_text_too_large_for_memory_is_one_clear_line(tmp_path: Path) -> None:
    file = write_nsys(tmp_path / "large.sqlite", [KERNEL], [LAUNCH])
    execute(file, f"INSERT INTO StringIds VALUES (999999, '{'x' * 12_000_000}')")
    limited = (  # a limit of this process's SQLite, which can't be raised again
        "import sqlite3, sys; sqlite3.connect(':memory:').execute('PRAGMA hard_heap_limit=8000000'); "
        "from laptime.cli.main import main; sys.argv = ['laptime', 'trace', sys.argv[1]]; main()"
    )
    ended = subprocess.run([sys.executable, "-c", limited, file], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"laptime: {file}: not readable as SQLite (damaged); export it again with nsys export\n"


def test_truncated_and_flipped_databases_never_end_otherwise(tmp_path: Path) -> None:
    rows = [ActivityRow(T + 10 * i, T + 10 * i + 3, f"k{i % 40}", correlation=i + 1) for i in range(400)]
    calls = [CallRow(T + 10 * i - 9, T + 10 * i - 5, correlation=i + 1) for i in range(400)]
    whole = write_nsys(tmp_path / "whole.sqlite", rows, calls, [RANGE]).read_bytes()
    chance = random.Random(7)
    path = tmp_path / "t.sqlite"
    for _ in range(150):
        data = bytearray(whole[: chance.choice((len(whole), chance.randrange(20, len(whole))))])
        for _ in range(chance.randrange(4)):
            data[chance.randrange(16, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            check(read_timeline(path))
        except LaptimeError as error:
            assert "\n" not in str(error)


@st.composite
def traces(draw: st.DrawFn) -> tuple[list[ActivityRow], list[CallRow], list[RangeRow]]:
    """Rows that both formats can hold: one process, at least one call."""
    name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
    api = st.sampled_from(["cudaLaunchKernel", "cudaMemcpyAsync", "cuLaunchKernelEx", "cudaGraphLaunch"])
    start = st.integers(0, 2 * 10**18) | st.integers(0, 3)
    length = st.integers(0, 10**12) | st.integers(0, 3)
    correlation = st.integers(1, 12)

    def activity(kind: str, name: st.SearchStrategy[str]) -> st.SearchStrategy[ActivityRow]:
        return st.builds(
            lambda at, ns, *rest: ActivityRow(at, at + ns, rest[0], kind, *rest[1:]),
            *(start, length, name, st.integers(0, 3), st.integers(0, 99), st.none() | correlation),
        )

    kernels = activity("kernel", name)
    memory = st.sampled_from(["", " (Pageable -> Device)", " (Device -> Pinned)"])
    copied = st.builds(str.__add__, st.sampled_from(sorted(COPY_NAMES)), memory)
    copies = activity("memcpy", copied)
    sets = activity("memset", st.just(MEMSET_NAME))
    called = st.builds(lambda at, ns, *rest: CallRow(at, at + ns, *rest), start, length, api, correlation)
    ranged = st.builds(
        lambda at, ns, *rest: RangeRow(at, at + ns, *rest),
        *(start, length, name.filter(lambda text: ", " not in text), st.sampled_from(["nvtx", "profiler"])),
    )
    return (
        draw(st.lists(kernels | copies | sets, max_size=12, unique=True)),
        draw(st.lists(called, min_size=1, max_size=12, unique=True)),
        draw(st.lists(ranged, max_size=6)),
    )


@settings(max_examples=80, deadline=None)
@given(trace=traces(), text_ids=st.booleans())
def test_both_formats_read_back_as_the_same_timeline(tmp_path_factory, trace, text_ids: bool) -> None:
    activities, calls, ranges = trace
    folder = tmp_path_factory.mktemp("both")
    kineto = read_timeline(write_kineto(folder / "t.json", activities, calls, ranges))
    nsys = read_timeline(write_nsys(folder / "t.sqlite", activities, calls, ranges, text_ids=text_ids))
    of_graphs = {call.correlation for call in calls if call.name == "cudaGraphLaunch"}
    expected = [replace(a, graph_node=0) if a.correlation in of_graphs else a for a in activities]
    for timeline in (kineto, nsys):
        assert by_time(activity_rows(timeline)) == by_time(expected)
        assert by_time(call_rows(timeline)) == by_time(calls)
        assert by_time(range_rows(timeline)) == by_time(ranges)
        for table in (timeline.activities, timeline.calls, timeline.ranges):
            ordered = list(zip(table.start_ns.tolist(), table.end_ns.tolist(), strict=True))
            assert ordered == sorted(ordered)
