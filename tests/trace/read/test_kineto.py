"""PyTorch profiler files: every format, every nanosecond, and whatever a broken file still says."""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.trace.analysis import read_trace
from laptime.trace.integrity import check
from laptime.trace.ranks import read_ranks
from laptime.trace.read import kineto_bytes
from laptime.trace.read import kineto_stream as events_module
from laptime.trace.read.kineto_times import to_ns
from laptime.trace.read.reading import read_timeline
from tests.trace.read.rows_back import activity_rows, call_rows, range_rows
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, kineto_events, write_kineto

T = 1_712_195_495_519_689_034
"""A time of today in ns: in microseconds, float64 can only tell it to 250 ns."""

KERNEL = ActivityRow(T, T + 1_001, "k", correlation=5)
LAUNCH = CallRow(T - 9_001, T - 4_000, "cudaLaunchKernel", 5)
OPERATOR = RangeRow(T - 20_000, T - 1_000, "aten::mm", "cpu_op")


def wrapped(*events: str, before: str = '"schemaVersion": 1', after: str = '"traceName": "x"') -> bytes:
    return f'{{{before}, "traceEvents": [{", ".join(events)}], {after}}}'.encode()


def read_bytes(path: Path, data: bytes):
    path.write_bytes(data)
    return read_timeline(path)


def codes(timeline) -> dict[str, int]:
    return {finding.code: finding.count for finding in timeline.findings}


@pytest.mark.parametrize("style", ["2025", "2021"])
@pytest.mark.parametrize("name", ["t.json", "t.json.gz", "no-suffix"])
def test_reads_what_was_written(tmp_path: Path, style: str, name: str) -> None:
    rows = [KERNEL, ActivityRow(T + 2_000, T + 2_003, "copy", "memcpy", 1, 9, 6), ActivityRow(T + 9_000, T + 9_001)]
    timeline = read_timeline(write_kineto(tmp_path / name, rows, [LAUNCH], [OPERATOR], style=style))
    assert activity_rows(timeline) == rows
    assert call_rows(timeline) == [LAUNCH]
    assert range_rows(timeline) == [OPERATOR]
    assert timeline.findings == ()
    assert (timeline.source.format, timeline.source.schema_version) == ("kineto", "1")


@pytest.mark.parametrize("style", ["2025", "2021"])
def test_without_details_only_names_and_threads_of_host_ranges_are_missing(tmp_path: Path, style: str) -> None:
    path = write_kineto(tmp_path / "t.json", [KERNEL], [LAUNCH], [OPERATOR], style=style)
    whole, bare = read_timeline(path), read_timeline(path, details=False)
    assert activity_rows(bare) == activity_rows(whole)
    assert call_rows(bare) == call_rows(whole)
    for column in ("start_ns", "end_ns", "kind"):
        assert getattr(bare.ranges, column).tolist() == getattr(whole.ranges, column).tolist()
    for column in ("name", "process", "thread"):
        assert set(getattr(bare.ranges, column).tolist()) == {-1}


def test_a_list_without_an_object_around_it_is_read_too(tmp_path: Path) -> None:
    data = ("[" + ",".join(kineto_events([KERNEL], [LAUNCH])) + "]").encode()
    assert activity_rows(read_bytes(tmp_path / "t.json", data)) == [KERNEL]


@pytest.mark.parametrize("end", ["\n", ",\n", ""])
def test_a_list_may_lack_its_last_bracket(tmp_path: Path, end: str) -> None:
    """Chrome's format leaves it out as it likes. A list that ends within an event is cut."""
    data = ("[" + ",".join(kineto_events([KERNEL], [LAUNCH])) + end).encode()
    timeline = read_bytes(tmp_path / "t.json", data)
    assert (activity_rows(timeline), timeline.findings) == ([KERNEL], ())
    within = read_bytes(tmp_path / "t.json", data.rstrip(b",\n")[:-3])
    assert [finding.code for finding in within.findings] == ["truncated-capture"]


def test_the_calls_and_copies_of_an_mlu_are_read(tmp_path: Path) -> None:
    copy = ActivityRow(T + 20_000, T + 30_000, "Memcpy HtoD", "memcpy", correlation=6)
    events = kineto_events([KERNEL, copy], [LAUNCH, replace(LAUNCH, name="cnMemcpyHtoDAsync", correlation=6)])
    text = ",".join(events).replace("gpu_memcpy", "mlu_memcpy").replace("cuda_runtime", "mlu_runtime")
    timeline = read_bytes(tmp_path / "t.json", f"[{text}]".encode())
    assert activity_rows(timeline) == [KERNEL, copy]
    assert {call.name for call in call_rows(timeline)} == {LAUNCH.name, "cnMemcpyHtoDAsync"}


def test_rocms_first_profiler_links_work_by_the_number_of_operators(tmp_path: Path) -> None:
    """Its operators have such numbers of their own, which link nothing."""
    rows = [
        {"cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1, "dur": 90, "args": {"External id": 2}},
        {"cat": "kernel", "name": "gemm", "pid": 2, "tid": 0, "ts": 30, "dur": 9, "args": {"External id": 4}},
    ]
    for number, name in ((2, "hipMalloc"), (4, "hipExtModuleLaunchKernel")):
        call = {"cat": "cuda_runtime", "name": name, "pid": 1, "tid": 1, "ts": 5 * number, "dur": 3}
        rows.append({**call, "args": {"External id": number, "grid dim": [1, 1, 1]}})
    timeline = read_bytes(tmp_path / "t.json", json.dumps([{"ph": "X", **row} for row in rows]).encode())
    assert [row.correlation for row in activity_rows(timeline)] == [4]
    assert [(row.name, row.correlation) for row in call_rows(timeline)] == [
        ("hipMalloc", 2),
        ("hipExtModuleLaunchKernel", 4),
    ]


def test_hip_names_and_categories(tmp_path: Path) -> None:
    timeline = read_timeline(write_kineto(tmp_path / "t.json", [KERNEL], [CallRow(T - 9, T - 4, "hipLaunchKernel", 5)]))
    assert [call.name for call in call_rows(timeline)] == ["hipLaunchKernel"]


def test_kernels_of_a_graph_launch_are_marked_even_without_node_ids(tmp_path: Path) -> None:
    launches = [CallRow(T, T + 10, "cudaGraphLaunch", 1), CallRow(T + 20, T + 30, "cudaLaunchKernel", 2)]
    rows = [ActivityRow(T + i, T + i + 1, correlation=c) for i, c in ((100, 1), (200, 1), (300, 2))]
    timeline = read_timeline(write_kineto(tmp_path / "t.json", rows, launches))
    assert [row.graph_node for row in activity_rows(timeline)] == [0, 0, None]


def test_processes_of_a_merged_file_are_told_apart_or_left_open(tmp_path: Path) -> None:
    calls = [CallRow(T, T + 1, correlation=c, process=p, thread=p) for c, p in ((1, 10), (2, 10), (2, 20), (3, 20))]
    rows = [ActivityRow(T + 100 * c, T + 100 * c + 1, correlation=c) for c in (1, 2, 3)]
    timeline = read_timeline(write_kineto(tmp_path / "t.json", rows, calls))
    assert timeline.activities.process.tolist() == [10, -1, 20]


@given(
    st.lists(
        st.one_of(
            st.integers(0, 4 * 10**18).map(lambda ns: f"{ns // 1000}.{ns % 1000:03d}"),
            st.integers(-(10**14), 4 * 10**15).map(str),
            st.decimals(-(10**12), 10**15, places=3).map(lambda d: format(d, "f")),
            st.decimals(0, 10**12, places=7).map(lambda d: format(d, "f")),
            st.floats(0, 1e15).map(repr),
        ),
        max_size=30,
    )
)
def test_microseconds_are_read_exactly(texts: list[str]) -> None:
    values, good = to_ns([text.encode() for text in texts])
    assert good.all()
    assert values.tolist() == [int((Decimal(text) * 1000).to_integral_value()) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        '"',
        '""',
        '"5',
        '"five"',
        "[1]",
        "{}",
        "true",
        "1e999999999",
        "9" * 400,
        "-" + "9" * 30,
        "NaN",
        "1\n2",
    ],
)
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    values, good = to_ns([b"1.5", text.encode(), b"2"])
    assert good.tolist() == [True, False, True]
    assert values.tolist() == [1500, 0, 2000]


def test_a_bare_list_with_times_between_quotes_is_read_alike(tmp_path: Path) -> None:
    plain = write_kineto(tmp_path / "plain.json", [KERNEL, ActivityRow(T + 50, T + 81)], [LAUNCH])
    events = json.loads(plain.read_text(encoding="utf-8"), parse_float=str)["traceEvents"]
    for event in events:
        event |= {key: str(event[key]) for key in ("ts", "dur") if key in event}
    quoted = read_bytes(tmp_path / "quoted.json", json.dumps(events).encode())
    assert activity_rows(quoted) == activity_rows(read_timeline(plain))
    assert call_rows(quoted) == call_rows(read_timeline(plain))
    assert quoted.findings == ()


@pytest.mark.parametrize(
    ("event", "code", "word"),
    [
        ({"ph": "M", "name": "process_name", "pid": 8, "args": {"name": "Ascend Hardware"}}, "unread-device", "Ascend"),
        ({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}}, "unread-device", "XLA's"),
        (
            {"ph": "M", "name": "process_name", "pid": 2, "args": {"name": "CPU HIP API"}},
            "unread-device",
            "rocprof wrote",
        ),
        (
            {"ph": "M", "name": "thread_name", "pid": 7, "tid": 7, "args": {"name": "Hip 1087"}},
            "unread-device",
            "rocprof wrote",
        ),
        ({"ph": "X", "cat": "mtia_ccp_events", "name": "wait", "ts": 1, "dur": 2}, "unread-device", "MTIA"),
        ({"ph": "X", "name": "mm", "ts": 1, "dur": 2, "pid": "CUDA functions"}, "legacy-autograd", "old format"),
    ],
)
def test_a_file_whose_device_work_is_not_read_is_named_as_that(tmp_path: Path, event, code: str, word: str) -> None:
    other = {"ph": "X", "cat": "cpu_op", "name": "x" * 500, "pid": 1, "tid": 1, "ts": 1, "dur": 2}
    events = [other] * 50 + [event] + [other] * 10
    path = tmp_path / "t.json"
    integrity = check(read_bytes(path, json.dumps(events, separators=(",", ":")).encode()))
    assert integrity.verdict == "unsupported"
    assert integrity.findings[0].code == code
    assert word in integrity.findings[0].message
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kineto_bytes, "BLOCK_BYTES", 37)  # a sign may lie across two blocks
        assert check(read_timeline(path)).findings[0].code == code


def test_a_word_about_other_devices_is_no_finding_where_there_is_work(tmp_path: Path) -> None:
    path = write_kineto(tmp_path / "t.json", [replace(KERNEL, name="Ascend Hardware")], [LAUNCH])
    assert read_timeline(path).findings == ()


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(names, st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=40),
    block=st.integers(50, 3000),
    unpacked=st.booleans(),
)
def test_blocks_of_any_size_give_the_same_events(tmp_path_factory, lengths, block: int, unpacked: bool) -> None:
    rows, at = [], T
    for i, (name, gap, duration) in enumerate(lengths):
        rows.append(ActivityRow(at + gap, at + gap + duration, name, correlation=i + 1))
        at += gap + duration + 1
    path = tmp_path_factory.mktemp("blocks") / ("t.json" if unpacked else "t.json.gz")
    write_kineto(path, rows, [LAUNCH])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kineto_bytes, "BLOCK_BYTES", block)
        timeline = read_timeline(path)
    assert activity_rows(timeline) == rows
    assert timeline.findings == ()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 4000), packed=st.booleans())
def test_a_cut_file_is_read_as_far_as_whole_events_go(tmp_path_factory, cut: int, packed: bool) -> None:
    rows = [ActivityRow(T + 100 * i, T + 100 * i + 50, correlation=i + 1) for i in range(20)]
    folder = tmp_path_factory.mktemp("cut")
    path = write_kineto(folder / "whole.json", rows, [LAUNCH])
    data = path.read_bytes()
    kept = data[: max(len(data) - cut, data.index(b"[") + 1)]
    packed_data = gzip.compress(kept, 1, mtime=0)[:-8] if packed else kept
    timeline = read_bytes(folder / "cut", packed_data)
    whole = kept.count(b"\n  }")
    assert activity_rows(timeline) == rows[: max(whole - 1, 0)]
    closed = kept.count(b"\n  ]")
    assert ("truncated-capture" in codes(timeline)) == (not closed)
    if not closed:
        assert check(timeline).verdict == ("partial" if whole > 1 else "unsupported")


def test_damage_in_the_middle_costs_one_event_and_says_so(tmp_path: Path) -> None:
    rows = [ActivityRow(T + 100 * i, T + 100 * i + 50, f"kernel {i}", correlation=i + 1) for i in range(30)]
    data = write_kineto(tmp_path / "t.json", rows, [LAUNCH]).read_bytes()
    for old, new in ((b'"kernel 7"', b'"kernel 7 '), (b'"kernel 7"', b'"kernel " 7"'), (b'"kernel 7"', b"kernel 7")):
        timeline = read_bytes(tmp_path / "t.json", data.replace(old, new))
        assert activity_rows(timeline) == rows[:7] + rows[8:]
        assert codes(timeline) == {"unreadable-events": 1}
        assert check(timeline).verdict == "partial"


def test_a_lost_or_spare_brace_does_not_lose_what_follows(tmp_path: Path) -> None:
    rows = [ActivityRow(T + 100 * i, T + 100 * i + 50, f"kernel {i}", correlation=i + 1) for i in range(30)]
    data = write_kineto(tmp_path / "t.json", rows, [LAUNCH]).read_bytes()
    at = data.index(b'"kernel 7"')
    opened, closed = data.index(b'"args": {', at) + 8, data.index(b"}", at)
    for damaged in (data[:opened] + data[opened + 1 :], data[:closed] + b"}" + data[closed:]):
        timeline = read_bytes(tmp_path / "t.json", damaged)
        assert [row for row in activity_rows(timeline) if row.name != "kernel 7"] == rows[:7] + rows[8:]
        assert codes(timeline)["unreadable-events"] >= 1
        assert check(timeline).verdict == "partial"


def test_nan_and_infinity_and_bad_utf8_in_unused_places_cost_nothing(tmp_path: Path) -> None:
    event = kineto_events([KERNEL])[0]
    for extra in ('"memory bandwidth (GB/s)": inf', '"x": NaN', '"x": -Infinity'):
        data = wrapped(event.replace('"context": 1', extra), *kineto_events([], [LAUNCH]))
        timeline = read_bytes(tmp_path / "t.json", data)
        assert activity_rows(timeline) == [KERNEL]
        assert timeline.findings == ()
    data = wrapped(*kineto_events([KERNEL], [LAUNCH])).replace(b'"k"', b'"k\xff"')
    assert [row.name for row in activity_rows(read_bytes(tmp_path / "t.json", data))] == ["k\ufffd"]


def test_impossible_times_are_left_out_and_counted(tmp_path: Path) -> None:
    bad = [
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 5.0, "dur": -1}',
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": NaN, "dur": 1}',
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "dur": 1}',
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 5}',
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": "five", "dur": 1}',
        '{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 1e300, "dur": 1}',
        '{"ph": "X", "cat": "kernel", "name": 5, "pid": 0, "tid": 7, "ts": 5, "dur": 1}',
    ]
    timeline = read_bytes(tmp_path / "t.json", wrapped(*bad, *kineto_events([KERNEL], [LAUNCH])))
    assert activity_rows(timeline) == [KERNEL]
    assert codes(timeline) == {"negative-durations": 1, "untimed-events": 5, "unreadable-events": 1}


@pytest.mark.parametrize(
    "trailer",
    [
        '"deviceProperties": [{"name": "a"}, {"name": "b"}, {"ph": "X"}]',
        '"note": "}, {\\"ph\\": \\"X\\"}"',
    ],
)
def test_what_looks_like_events_elsewhere_is_not_taken_for_them(tmp_path: Path, trailer: str) -> None:
    event = kineto_events([KERNEL])[0].replace('"context": 1', '"nested": [{"ph": "X"}, {"ph": "X", "cat": "kernel"}]')
    events = (event, *kineto_events([], [LAUNCH]))
    for before, after in ((trailer, '"x": 1'), ('"x": 1', trailer)):
        timeline = read_bytes(tmp_path / "t.json", wrapped(*events, before=before, after=after))
        assert activity_rows(timeline) == [KERNEL]
        assert timeline.findings == ()


WHOLE = wrapped(*kineto_events([KERNEL], [LAUNCH]))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (WHOLE + WHOLE, "second-trace"),
        (gzip.compress(WHOLE, mtime=0) * 2, "second-trace"),
        (wrapped(*kineto_events([KERNEL], [LAUNCH]), after='"traceEvents": [{"ph": "X"}]'), "second-trace"),
        (WHOLE + b"garbage", "trailing-bytes"),
        (WHOLE + b"\n\0\0", ""),
        (WHOLE[:-1], ""),
        (wrapped(*kineto_events([KERNEL], [LAUNCH]), after='"traceEvents": [], "a": "}x\\"}"'), ""),
        (wrapped(*kineto_events([KERNEL], [LAUNCH]), after='"a": NaN') + b"x", ""),
    ],
)
def test_what_stands_behind_a_trace_is_said(tmp_path: Path, data: bytes, code: str) -> None:
    timeline = read_bytes(tmp_path / "t.json", data)
    assert activity_rows(timeline) == [KERNEL]
    assert [finding.code for finding in timeline.findings] == [code] * bool(code)
    assert check(timeline).verdict == ("partial" if code == "second-trace" else "ok")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b"{}",
        b'{"schemaVersion": 1}',
        b'{"traceEvents": 5}',
        b'{"a": "\\"traceEvents\\": ["}',
        b'{"a":' * 5000,
        b'{"a": "' + b'\\"traceEvents": [' * 100_000,
        b"\x00" * 100,
        b"\xff\xfe{\x00",
        gzip.compress(b"hello", mtime=0),
        gzip.compress(b"", mtime=0),
        gzip.compress(b'{"traceEvents": [' + b" " * 1000, mtime=0)[:20],
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00" + b"\xff" * 50,
    ],
)
def test_what_is_no_trace_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(LaptimeError) as error:
        read_timeline(tmp_path / "t.json")
    assert "\n" not in str(error.value)
    assert "t.json" in str(error.value)


def test_what_can_not_be_read_as_a_file_is_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path / "none.json", "can't be opened"),
        (tmp_path, "folder"),
        (tmp_path / "pipe", "regular"),
    ):
        with pytest.raises(LaptimeError, match=why):
            read_timeline(path)
    (tmp_path / "a.nsys-rep").write_bytes(b"QDSTRM")
    with pytest.raises(LaptimeError, match=r"nsys export --type sqlite a\.nsys-rep"):
        read_timeline(tmp_path / "a.nsys-rep")


def test_damaged_gzip_data_is_refused_since_no_number_in_it_can_be_trusted(tmp_path: Path) -> None:
    rows = [ActivityRow(T + 100 * i, T + 100 * i + 50, f"k{i * 7919 % 1000}", correlation=i) for i in range(500)]
    data = bytearray(write_kineto(tmp_path / "t.json.gz", rows, [LAUNCH]).read_bytes())
    data[-5] ^= 1  # the checksum
    with pytest.raises(LaptimeError, match="gzip data is damaged"):
        read_bytes(tmp_path / "t.json.gz", bytes(data))


def test_deep_nesting_and_endless_strings_end_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "LARGEST_EVENT_BYTES", 1 << 20)
    good = kineto_events([KERNEL], [LAUNCH])
    for poison in (
        '{"ph":"X","args":' + "[" * 100_000,
        '{"a":' + "1 " * 200_000 + "}" + "]" * 500_000,
        '{"ph":"X","name":"' + '\\"' * 2_000_000,
        "{" * 3_000_000,
    ):
        data = (f'{{"traceEvents": [{good[0]}, {good[1]}, ' + poison).encode()
        timeline = read_bytes(tmp_path / "t.json", data)
        assert activity_rows(timeline) == [KERNEL]
        assert check(timeline).verdict == "partial"


@pytest.mark.parametrize("filling", [b" ", b"{},", b'{"ph": "X"},'])
def test_a_file_that_unpacks_to_hundreds_of_times_its_size_is_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filling: bytes
) -> None:
    monkeypatch.setattr(kineto_bytes, "BOMB_BYTES", 4 << 20)
    with gzip.open(tmp_path / "t.json.gz", "wb", compresslevel=9) as file:
        file.write(b'{"traceEvents": [')
        for _ in range(12):
            file.write(filling * ((1 << 20) // len(filling)))
    size = (tmp_path / "t.json.gz").stat().st_size
    assert size < 1 << 20
    try:
        assert check(read_timeline(tmp_path / "t.json.gz")).verdict == "unsupported"
    except LaptimeError as error:
        assert "times its size" in str(error)


def test_odd_ids_do_no_harm(tmp_path: Path) -> None:
    args = json.dumps({"device": "1", "stream": 7.0, "correlation": str(2**70)})
    odd = '{"ph": "X", "cat": "kernel", "name": "k", "pid": null, "tid": "stream 7", "ts": 5, "dur": 1, "args": ARGS}'
    big = f'{{"ph": "X", "cat": "cpu_op", "name": "op", "pid": {2**40}, "tid": "main", "ts": 5, "dur": 1}}'
    timeline = read_bytes(tmp_path / "t.json", wrapped(odd.replace("ARGS", args), big))
    a = timeline.activities
    assert (a.device.tolist(), a.stream.tolist(), a.correlation.tolist()) == ([1], [7], [-1])
    assert timeline.ranges.process.dtype == np.int32
    assert timeline.ranges.process[0] < -1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema": "1.1.0-chakra.0.0.4", "pid": 1, "nodes": [{"id": 2}]}', "an execution trace"),
        (b'{"rocprofiler-sdk-tool":[{"metadata":{}}]}', "rocprofv3's own JSON"),
        (b'{"schema": "2.0", "rows": []}', "no traceEvents list"),
    ],
)
def test_other_programs_json_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(LaptimeError, match=said):
        read_timeline(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            b'{"name": "void gemm()", "ph": "X", "ts": 5, "dur": 2, "pid": 1, "tid": 7}',
            "another program wrote this file",
        ),
        (b'{"id": 1, "timestamps": []}', "another program wrote this file"),
        (
            b'{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 5, "dur": 2}',
            "only the host's work",
        ),
        (b"", "nothing was recorded, or it is no trace"),
        (
            b'{"name": "Record Window End", "ph": "i", "s": "g", "pid": "", "tid": "", "ts": 5}',
            "torch.profiler recorded nothing",
        ),
        (
            b'{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 5, "dur": "2 us"}',
            "none of its events has a start and a duration that are numbers",
        ),
        (b'"Put", "Get"', "nothing was recorded, or it is no trace"),
        (
            b'{"ph": "X", "cat": "mtia_ccp_events", "name": "k", "pid": 1, "tid": 1, "ts": 5, "dur": 2}',
            "an MTIA accelerator",
        ),
    ],
)
def test_a_trace_without_device_work_says_what_it_is(tmp_path: Path, event: bytes, said: str) -> None:
    (tmp_path / "t.json").write_bytes(b'{"traceEvents": [' + event + b"]}")
    analysis = read_trace(tmp_path / "t.json")
    assert analysis.integrity.verdict == "unsupported"
    assert said in analysis.headline
    assert "was the device traced" not in str(analysis.integrity)
    assert "no-steps" not in {finding.code for finding in analysis.integrity.findings}


@pytest.mark.parametrize(
    "held",
    [
        b'{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 5, "dur": 2}, ',
        b'{"ph": "M", "name": "process_name", "pid": 1, "ts": 0}, ',
        b"",
    ],
    ids=["host work", "names alone", "nothing"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_of_a_cut_trace_the_cut_is_said_first(tmp_path: Path, held: bytes, packed: bool) -> None:
    """What it lost may be all that it is said to lack, so nothing is guessed from that."""
    content = b'{"traceEvents": [' + held + b'{"ph": "X", "cat": "kern'
    path = tmp_path / ("t.json.gz" if packed else "t.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    analysis = read_trace(path)
    assert analysis.integrity.verdict == "unsupported"
    assert analysis.integrity.findings[0].code == "truncated-capture"
    assert ": the file ends in the middle after byte " in analysis.headline
    assert analysis.headline.endswith("and no work of a GPU is among them")
    guessed = ("only the host", "nothing was recorded", "another program")
    assert not [word for word in guessed if word in str(analysis.integrity)]
    (tmp_path / "whole.json").write_bytes(b'{"traceEvents": [' + A_WHOLE_KERNEL + b"]}")
    with pytest.raises(LaptimeError, match="the file ends in the middle after byte"):
        read_ranks(tmp_path)


A_WHOLE_KERNEL = b'{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 5, "dur": 2}'

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_broke_a_reader(path: Path) -> None:
    try:
        verdict = check(read_timeline(path)).verdict
    except LaptimeError as error:
        assert "\n" not in str(error)
    else:
        assert verdict in ("ok", "partial", "unsupported")


DAMAGES = [
    '"',
    '""',
    '""doc [ { string\n(1)',
    'a"b',
    "a\nb",
    "]",
    "}",
    '"]',
    '"}',
    "[{",
    '"[{',
    '"}, {',
    "\\",
    'x"}],"',
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("place", [0, 1, 20, 39])
def test_one_damaged_name_costs_one_event(tmp_path: Path, damage: str, compact: bool, place: int) -> None:
    """Every other event is read, and the file is said to hold events that are not valid."""
    rows = [ActivityRow(1_000 + 10 * i, 1_004 + 10 * i, f"kernel {i}") for i in range(40)]
    events = kineto_events(rows)
    if compact:
        events = [" ".join(event.split()) for event in events]
    events[place] = events[place].replace(f'"kernel {place}"', f'"kernel {damage}"')
    path = tmp_path / "t.json"
    path.write_text(f'{{"schemaVersion": 1, "traceEvents": [{", ".join(events)}], "traceName": "x.json"}}')
    timeline = read_timeline(path)
    read = {timeline.strings[name] for name in timeline.activities.name.tolist()}
    assert {row.name for row in rows} - read <= {f"kernel {place}"}
    whole = damage in ("]", "}", "[{")  # brackets inside a string that is whole are just text
    assert len(timeline.activities.start_ns) == 40 - (not whole)
    codes = {finding.code for finding in timeline.findings}
    assert whole == (not codes)
    assert "truncated-capture" not in codes


def test_times_may_be_strings(tmp_path: Path) -> None:
    rows = [ActivityRow(1_000_001 + 20_000 * i, 1_010_003 + 20_000 * i, f"kernel {i}") for i in range(5)]
    plain = write_kineto(tmp_path / "plain.json", rows)
    text = re.sub(r'"(ts|dur)": ([\d.]+)', r'"\1": "\2"', plain.read_text())
    quoted = tmp_path / "quoted.json"
    quoted.write_text(text)
    assert activity_rows(read_timeline(quoted)) == activity_rows(read_timeline(plain))
    assert read_timeline(quoted).findings == ()
    padded = tmp_path / "padded.json"
    padded.write_text(re.sub(r'"(ts|dur)": "([\d.]+)"', r'"\1": " \2 "', text))
    assert activity_rows(read_timeline(padded)) == activity_rows(read_timeline(plain))
    unreadable = tmp_path / "unreadable.json"
    unreadable.write_text(re.sub(r'"(ts|dur)": "([\d.]+)"', r'"\1": "\2 us"', text))
    assert codes(read_timeline(unreadable)) == {"untimed-events": 5}  # not: of another program


def test_thousands_of_damaged_events_are_read_as_fast_as_whole_ones(tmp_path: Path) -> None:
    """Each has a bracket too many. Looking for its end through all that follows would take a minute."""
    rows = [ActivityRow(T + 1_000 * i, T + 1_000 * i + 500, "k", correlation=i + 1) for i in range(6_000)]
    data = write_kineto(tmp_path / "t.json", rows, [LAUNCH]).read_bytes()
    parts = re.split(rb'("name": "k")', data)
    damaged = b"".join(
        part + b' [{"' if part == b'"name": "k"' and i % 4 == 1 else part for i, part in enumerate(parts)
    )
    timeline = read_bytes(tmp_path / "t.json", damaged)
    assert activity_rows(timeline) == rows[1::2]
    assert codes(timeline)["unreadable-events"] == 3_000
