"""Are the figures of `laptime trace` those of the raw events? Every file of a folder, against plain Python.

    LAPTIME_TRACES=FOLDER python benchmarks/trace_raw.py [FILE ...]

It shares no code with the readers: own JSON and SQLite, Decimal for times, sorted lists for unions, and an own list of
names for communication. It compares of each device the span, busy and idle time, kernels and their sum, gaps, copies by
direction with their bytes, compute and communication with what of it is exposed; and of `ProfilerStep` ranges the
number of steps and the longest time between the first kernels of two.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from laptime.errors import LaptimeError
from laptime.trace.analysis import read_trace
from laptime.trace.result import DeviceTimes, Steps

RESULT = Path(__file__).with_name("results") / "trace_raw.json"

# start, end, kind, device, name, direction of a copy, bytes, (process, correlation), stream
Row = tuple[int, int, str, int, str, str, int | None, tuple[int, int], str]
Spans = list[tuple[int, int]]

KINDS = {"kernel": "kernel", "gpu_memcpy": "copy", "memcpy": "copy", "gpu_memset": "memset", "memset": "memset"}
COMMUNICATES = re.compile(
    r"nccl|rccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce|sendrecv|nvshmem"
    r"|internode::|intranode::|deep_ep::",
    re.IGNORECASE,
)
WAYS = {
    "HtoD": "host to device",
    "DtoH": "device to host",
    "DtoD": "device to device",
    "PtoP": "peer to peer",
    "HtoH": "host to host",
    "HtoA": "host to array",
    "AtoH": "array to host",
    "AtoA": "array to array",
    "AtoD": "array to device",
    "DtoA": "device to array",
}
NSYS_WAYS = {
    1: "HtoD",
    2: "DtoH",
    3: "HtoA",
    4: "AtoH",
    5: "AtoA",
    6: "AtoD",
    7: "DtoA",
    8: "DtoD",
    9: "HtoH",
    10: "PtoP",
    11: "HtoD",
    12: "DtoH",
    13: "DtoD",
}


def kineto_rows(path: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """The device's activities, and all events."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    loaded = json.loads(raw, parse_float=Decimal, parse_int=Decimal, strict=False)
    events = loaded["traceEvents"] if isinstance(loaded, dict) else loaded
    rows: list[Row] = []
    for event in events:
        kind = KINDS.get(str(event.get("cat") or "").lower())
        if event.get("ph") != "X" or not kind:
            continue
        start, length = Decimal(event["ts"]) * 1000, Decimal(event["dur"]) * 1000
        args = event.get("args", {})
        lower = {str(key).lower(): value for key, value in args.items()}
        way = re.search(r"(HtoD|DtoH|DtoD|PtoP|HtoH)|(?:Copy)?(Host|Device)To(Host|Device)", event["name"])
        named = ""
        if kind == "copy":
            named = WAYS.get(way[1], "") if way and way[1] else f"{way[2]} to {way[3]}".lower() if way else "unknown"
        size = lower.get("bytes")
        key = (int(event.get("pid", 0)), int(lower.get("correlation", lower.get("external id", -1))))
        row = (int(start), int(start + length), kind, int(lower["device"]), event["name"], named)
        rows.append((*row, None if size is None else int(size), key, str(lower.get("stream"))))
    return rows, events


def nsys_rows(path: Path) -> list[Row]:
    """The device's activities of an export."""
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    rows: list[Row] = []
    for kind in ("kernel", "memcpy", "memset", "graph"):
        table = "CUPTI_ACTIVITY_KIND_" + {"graph": "GRAPH_TRACE"}.get(kind, kind.upper())
        if table not in tables:
            continue
        name = "(SELECT value FROM StringIds WHERE id = demangledName)" if kind == "kernel" else "''"
        more = "copyKind, bytes" if kind == "memcpy" else "0, NULL"
        found = db.execute(f'SELECT start, "end", deviceId, {name}, {more} FROM {table}').fetchall()
        for start, end, device, named, way, size in found:
            direction = WAYS.get(NSYS_WAYS.get(way, ""), "unknown") if kind == "memcpy" else ""
            rows.append((start, end, KINDS.get(kind, kind), device, named or "", direction, size, (0, 0), ""))
    return rows


def union(spans: Iterable[tuple[int, int]]) -> Spans:
    """Intervals that touch no more, in order."""
    result: Spans = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def length(spans: Spans) -> int:
    """Of a union."""
    return sum(end - start for start, end in spans)


def expected(rows: list[Row]) -> dict[str, Any]:
    """One device's figures by plain Python."""
    spans = [(row[0], row[1]) for row in rows]
    whole = union(spans)
    kernels = [row for row in rows if row[2] == "kernel"]
    talks = [row for row in rows if (COMMUNICATES.search(row[4]) and row[2] == "kernel") or row[5] == "peer to peer"]
    computes = union((r[0], r[1]) for r in rows if r[2] in ("kernel", "graph") and not COMMUNICATES.search(r[4]))
    talking = union((row[0], row[1]) for row in talks)
    copies: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        if row[2] == "copy":
            entry = copies[row[5]]
            entry[0] += 1
            entry[1] += row[1] - row[0]
            entry[2] += row[6] if row[6] is not None else -(1 << 60)  # one unknown size makes their sum unknown
    return {
        "span": whole[-1][1] - whole[0][0],
        "busy": length(whole),
        "idle": whole[-1][1] - whole[0][0] - length(whole),
        "gaps": len(whole) - 1,
        "kernels": len(kernels),
        "kernel_sum": sum(row[1] - row[0] for row in kernels),
        "compute": length(computes),
        "communication": length(talking),
        "exposed communication": length(union([*computes, *talking])) - length(computes),
        "copies": {way: (*entry[:2], max(entry[2], 0)) for way, entry in sorted(copies.items())},
    }


def said(device: DeviceTimes) -> dict[str, Any]:
    """The same figures as laptime says them."""
    busy = {row.kind: row for row in device.busy}
    copies: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in device.copies:
        if row.direction != "memset":
            entry = copies[row.direction]
            entry[0] += row.count
            entry[1] += row.sum_ns
            entry[2] += row.bytes or 0
    talks = busy.get("communication")
    return {
        "span": device.span_ns,
        "busy": device.busy_ns,
        "idle": device.idle_ns,
        "gaps": device.gaps.count,
        "kernels": device.kernels,
        "kernel_sum": device.kernel_sum_ns,
        "compute": busy["compute"].busy_ns if "compute" in busy else 0,
        "communication": talks.busy_ns if talks else 0,
        "exposed communication": talks.exposed_ns if talks else 0,
        "copies": {way: tuple(entry) for way, entry in sorted(copies.items())},
    }


def profiler_steps(events: list[dict[str, Any]], rows: list[Row]) -> tuple[int, list[int]]:
    """How many `ProfilerStep` ranges launched kernels, and the times from one's first kernel to the next one's."""
    named = [e for e in events if e.get("ph") == "X" and str(e["name"]).startswith("ProfilerStep")]
    host = sorted(
        {(int(Decimal(e["ts"]) * 1000), int((Decimal(e["ts"]) + Decimal(e["dur"])) * 1000), e["name"])
         for e in named if "gpu" not in str(e.get("cat", "")).lower()}
    )  # fmt: skip
    launched: dict[int, int] = {}
    for event in events:
        args = event.get("args") or {}
        if event.get("ph") == "X" and str(event.get("cat", "")).lower() in ("runtime", "cuda_runtime", "cuda_driver"):
            number = args.get("correlation", args.get("External id", args.get("external id")))
            if number is not None:
                launched[int(number)] = int(Decimal(event["ts"]) * 1000)
    streams = Counter(row[8] for row in rows if row[2] == "kernel" and row[7][1] in launched)
    main = max(streams, key=streams.__getitem__, default=None)  # other streams fetch ahead
    first: dict[int, int] = {}
    for row in sorted(rows):
        at = launched.get(row[7][1])
        if row[2] != "kernel" or at is None or row[8] != main:
            continue
        step = next((i for i, (a, b, _) in enumerate(host) if a <= at < b), None)
        if step is not None:
            first.setdefault(step, row[0])
    starts = [first[i] for i in sorted(first)]
    return len(starts), [b - a for a, b in pairwise(starts)]


def steps_differ(steps: Steps, events: list[dict[str, Any]], rows: list[Row]) -> str:
    """What laptime's steps have else than the ranges of the profiler's user; empty where there are none."""
    count, walls = profiler_steps(events, rows)
    if count == 0 or steps.name is None or not steps.name.startswith("ProfilerStep"):
        return ""
    if steps.count != count:
        return f"{steps.count} steps, {count} ProfilerStep ranges with kernels"
    if walls and steps.wall_ns not in walls:
        return f"a step of {steps.wall_ns} ns is none of {walls}"
    return ""


def check(path: Path) -> dict[str, Any]:
    """One file: what differs, or why laptime refused it."""
    try:
        analysis = read_trace(path)
    except LaptimeError as error:
        return {"file": path.name, "refused": str(error).partition(": ")[2]}
    if analysis.integrity.verdict == "unsupported":
        return {"file": path.name, "refused": analysis.integrity.findings[0].message}
    events: list[dict[str, Any]] = []
    if path.suffix == ".sqlite":
        rows = nsys_rows(path)
    else:
        rows, events = kineto_rows(path)
    by_device: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_device[row[3]].append(row)
    differ = []
    hidden = any(row[2] == "graph" for row in rows)
    for device in analysis.devices:
        mine, theirs = expected(by_device.pop(device.device, [])), said(device)
        for figure in mine:
            if hidden and figure.startswith("kernel"):
                continue
            if mine[figure] != theirs[figure]:
                differ.append(f"GPU {device.device} {figure}: {theirs[figure]}, by raw events {mine[figure]}")
    differ += [f"GPU {number} is left out" for number in by_device]
    steps = analysis.steps
    ranges = steps_differ(steps, events, [row for row in rows if row[3] == steps.device])
    return {
        "file": path.name,
        "verdict": analysis.integrity.verdict,
        "devices": len(analysis.devices),
        "steps": steps.count,
        "method": steps.method,
        "differ": [*differ, *([ranges] if ranges else [])],
    }


def main() -> None:
    """Check every file that is named, or that the folder and its folders of ranks hold."""
    named = [Path(name) for name in sys.argv[1:]]
    found = sorted(p for p in Path(os.environ.get("LAPTIME_TRACES", ".")).rglob("*") if p.suffix in SUFFIXES)
    results = []
    for path in named or found:
        try:
            results.append(check(path))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            results.append({"file": path.name, "refused": f"not read by this check: {type(error).__name__} {error}"})
        last = results[-1]
        print(last["file"], last.get("refused") or last["differ"] or "equal", flush=True)
    held = [row for row in results if "differ" in row]
    equal = sum(not row["differ"] for row in held)
    print(f"{equal} of {len(held)} files equal, {len(results) - len(held)} refused")
    if not named:
        RESULT.write_text(json.dumps({"equal": equal, "held": len(held), "files": results}, indent=1) + "\n")


SUFFIXES = (".json", ".gz", ".sqlite")

if __name__ == "__main__":
    main()
