"""Real traces, to the nanosecond: span, busy, idle, gaps and sums against plain Python with Decimal and sorted lists.

Nothing is shared with the code under test: own parsing, own tables of names, own union of intervals. Needs a folder of
real traces in LAPTIME_TRACES; they are not ours to ship.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from laptime.trace.analysis import analyse
from laptime.trace.read.reading import read_timeline

FOLDER = os.environ.get("LAPTIME_TRACES")
FILES = sorted(path for path in Path(FOLDER).iterdir() if path.name.endswith((".gz", ".sqlite"))) if FOLDER else []

Row = tuple[int, int, str, int, str]  # start_ns, end_ns, kind, device, name

KINDS = {"kernel": "kernel", "gpu_memcpy": "memcpy", "memcpy": "memcpy", "gpu_memset": "memset", "memset": "memset"}


@dataclass
class Device:
    """One device's figures in ns."""

    span: int
    busy: int
    gaps: int
    kernel_sum: int


def kineto_rows(path: Path) -> list[Row]:
    events = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal, parse_int=Decimal)["traceEvents"]
    rows = []
    for event in events:
        kind = KINDS.get((event.get("cat") or "").lower())
        if event["ph"] == "X" and kind:
            start, length = event["ts"] * 1000, event["dur"] * 1000
            assert start == int(start)
            assert length == int(length)
            rows.append((int(start), int(start + length), kind, int(event["args"]["device"]), event["name"]))
    return rows


def nsys_rows(path: Path) -> list[Row]:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    rows = []
    for kind in ("kernel", "memcpy", "memset", "graph"):
        table = "CUPTI_ACTIVITY_KIND_" + {"graph": "GRAPH_TRACE"}.get(kind, kind.upper())
        if table in tables:
            name = "(SELECT value FROM StringIds WHERE id = demangledName)" if kind == "kernel" else "''"
            rows += db.execute(f"SELECT start, \"end\", '{kind}', deviceId, {name} FROM {table}").fetchall()
    return rows


def figures(rows: list[Row]) -> dict[int, Device]:
    by_device = defaultdict(list)
    for row in rows:
        by_device[row[3]].append(row)
    devices = {}
    for device, own in by_device.items():
        own.sort()
        busy, gaps, reached = 0, 0, own[0][0]
        for start, end, *_ in own:
            gaps += start > reached
            busy += max(0, end - max(start, reached))
            reached = max(reached, end)
        kernel_sum = sum(end - start for start, end, kind, *_ in own if kind == "kernel")
        devices[device] = Device(reached - own[0][0], busy, gaps, kernel_sum)
    return devices


@pytest.mark.skipif(not FILES, reason="LAPTIME_TRACES names no folder of real traces")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_traces_to_the_nanosecond(path: Path) -> None:
    rows = nsys_rows(path) if path.suffix == ".sqlite" else kineto_rows(path)
    timeline = read_timeline(path)
    a = timeline.activities
    kinds = ("kernel", "memcpy", "memset", "graph")
    columns = (a.start_ns, a.end_ns, a.kind, a.device, a.name)
    read = Counter(
        (start, end, kinds[kind], device, timeline.strings[name] if kind == 0 else "")
        for start, end, kind, device, name in zip(*(column.tolist() for column in columns), strict=True)
    )
    assert read == Counter((*row[:4], row[4] if row[2] == "kernel" else "") for row in rows)

    expected = figures(rows)
    analysis = analyse(timeline)
    assert {d.device for d in analysis.devices} == set(expected)
    for device in analysis.devices:
        exact = expected[device.device]
        assert (device.span_ns, device.busy_ns, device.idle_ns) == (exact.span, exact.busy, exact.span - exact.busy)
        assert device.gaps.count == exact.gaps
        hidden = any(row[2] == "graph" and row[3] == device.device for row in rows)
        assert device.kernel_sum_ns == (None if hidden else exact.kernel_sum)


@pytest.mark.skipif(not FILES, reason="LAPTIME_TRACES names no folder of real traces")
def test_known_idle_time_of_an_eager_decode() -> None:
    path = next((path for path in FILES if path.name.startswith("qwen3_4b_hf_decode24")), None)
    if path is None:
        pytest.skip("the folder has no qwen3_4b_hf_decode24 trace")
    (device,) = analyse(read_timeline(path)).devices
    assert (device.device, device.idle_ns) == (0, 1_053_945_153)
