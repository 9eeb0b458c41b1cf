"""Write the same activities as a PyTorch profiler file and as an Nsight Systems export, from plain rows.

A test that wants a trace says what happened, row by row, and picks a format. Times are integer nanoseconds;
both writers keep every one of them, so both files must read back as the same timeline.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VM = 0x1_0000_0000_0000
"""What Nsight Systems puts above a process id: globalPid = VM | pid << 24, globalTid = globalPid | tid."""


@dataclass(frozen=True)
class ActivityRow:
    """Work on a device. `graph` is a whole replay recorded as one interval (nsys only)."""

    start_ns: int
    end_ns: int
    name: str = "kernel"
    kind: str = "kernel"  # kernel | memcpy | memset | graph
    device: int = 0
    stream: int = 7
    correlation: int | None = None
    process: int = 100
    graph_node: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class CallRow:
    """An API call on a host thread."""

    start_ns: int
    end_ns: int
    name: str = "cudaLaunchKernel"
    correlation: int = 0
    process: int = 100
    thread: int = 100


@dataclass(frozen=True)
class RangeRow:
    """A named interval on a host thread. nsys knows only `nvtx` and `profiler`."""

    start_ns: int
    end_ns: int
    name: str = "step"
    kind: str = "nvtx"  # nvtx | cpu_op | python | profiler
    process: int = 100
    thread: int = 100


def microseconds(ns: int) -> str:
    """Nanoseconds as the decimal microseconds that Kineto writes: 1234567 -> 1234.567."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{ns // 1000}.{ns % 1000:03d}"


KINETO_CATEGORIES: Mapping[str, Mapping[str, str]] = {
    "2025": {
        "kernel": "kernel",
        "memcpy": "gpu_memcpy",
        "memset": "gpu_memset",
        "call": "cuda_runtime",
        "driver": "cuda_driver",
        "nvtx": "user_annotation",
        "cpu_op": "cpu_op",
        "python": "python_function",
        "profiler": "overhead",
    },
    "2021": {
        "kernel": "Kernel",
        "memcpy": "Memcpy",
        "memset": "Memset",
        "call": "Runtime",
        "driver": "Runtime",
        "nvtx": "user_annotation",
        "cpu_op": "Operator",
        "python": "python_function",
        "profiler": "overhead",
    },
}


def kineto_events(
    activities: Iterable[ActivityRow] = (),
    calls: Iterable[CallRow] = (),
    ranges: Iterable[RangeRow] = (),
    *,
    style: str = "2025",
) -> list[str]:
    """Each row as one event of `traceEvents`, in Kineto's own text form."""
    category = KINETO_CATEGORIES[style]
    events = []

    def event(cat: str, name: str, pid: object, tid: object, start_ns: int, end_ns: int, args: Mapping[str, object]):
        events.append(
            f'  {{\n    "ph": "X", "cat": {json.dumps(cat)}, "name": {json.dumps(name)},'
            f' "pid": {json.dumps(pid)}, "tid": {json.dumps(tid)},\n'
            f'    "ts": {microseconds(start_ns)}, "dur": {microseconds(end_ns - start_ns)},\n'
            f'    "args": {json.dumps(args)}\n  }}'
        )

    for r in ranges:
        event(category[r.kind], r.name, r.process, r.thread, r.start_ns, r.end_ns, {"External id": 1, "Ev Idx": 0})
    for c in calls:
        cat = category["driver" if c.name.startswith("cu") and not c.name.startswith("cuda") else "call"]
        args = {"External id": 1, "cbid": 211, "correlation": c.correlation}
        event(cat, c.name, c.process, c.thread, c.start_ns, c.end_ns, args)
    for a in activities:
        args = {"device": a.device, "context": 1, "stream": a.stream}
        if a.correlation is not None:
            args["correlation"] = a.correlation
        if a.graph_node is not None:
            args["graph node id"] = a.graph_node
        if a.bytes is not None:
            args["bytes"] = a.bytes
        tid = f"stream {a.stream}" if style == "2021" else a.stream
        event(category[a.kind], a.name, a.device, tid, a.start_ns, a.end_ns, args)
    return events


def write_kineto(
    path: Path,
    activities: Iterable[ActivityRow] = (),
    calls: Iterable[CallRow] = (),
    ranges: Iterable[RangeRow] = (),
    *,
    style: str = "2025",
) -> Path:
    """Write a PyTorch profiler file (gzipped when the name ends in .gz) and return its path.

    `style` is the format's year: "2025", or "2021" with its other categories and `tid: "stream 7"`.
    """
    body = ",\n".join(kineto_events(activities, calls, ranges, style=style))
    text = f'{{\n  "schemaVersion": 1,\n  "traceEvents": [\n{body}\n  ],\n  "traceName": "test.json"\n}}\n'
    data = text.encode()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


NSYS_TABLES: Mapping[str, tuple[str, ...]] = {
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        *("start", "end", "deviceId", "contextId", "streamId", "correlationId", "globalPid"),
        *("demangledName", "shortName", "mangledName", "graphNodeId"),
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        *("start", "end", "deviceId", "contextId", "streamId", "correlationId", "globalPid"),
        *("bytes", "copyKind", "srcKind", "dstKind", "graphNodeId"),
    ),
    "CUPTI_ACTIVITY_KIND_MEMSET": (
        *("start", "end", "deviceId", "contextId", "streamId", "correlationId", "globalPid"),
        *("value", "bytes", "graphNodeId"),
    ),
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": (
        *("start", "end", "deviceId", "contextId", "streamId", "correlationId", "globalPid"),
        *("graphId", "graphExecId"),
    ),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "eventClass", "globalTid", "correlationId", "nameId"),
    "NVTX_EVENTS": ("start", "end", "eventType", "text", "globalTid", "textId"),
    "PROFILER_OVERHEAD": ("start", "end", "globalTid", "nameId"),
}

COPY_NAMES: Mapping[str, int] = {
    "Memcpy HtoD": 1,
    "Memcpy DtoH": 2,
    "Memcpy DtoD": 8,
    "Memcpy HtoH": 9,
    "Memcpy PtoP": 10,
}
"""Nsight Systems keeps a copy's direction, not its name: a memcpy row must bear one of these. Behind it may stand
what memory it read and wrote: "Memcpy HtoD (Pageable -> Device)"."""

MEMORY: Mapping[str, int] = {"Pageable": 0, "Pinned": 1, "Device": 2, "Managed": 4}

MEMSET_NAME = "Memset"


def write_nsys(
    path: Path,
    activities: Iterable[ActivityRow] = (),
    calls: Iterable[CallRow] = (),
    ranges: Iterable[RangeRow] = (),
    *,
    suffix: str = "",
    text_ids: bool = False,
    without: Sequence[str] = (),
    metadata: bool = True,
) -> Path:
    """Write an Nsight Systems export and return its path.

    Args:
        path: the .sqlite file.
        activities, calls, ranges: the rows. Only tables with rows are made, as nsys does. A memcpy's name must
            be one of COPY_NAMES, a memset's MEMSET_NAME; a graph's is "CUDA graph N".
        suffix: what CUPTI tables' names end in ("", "_V2", "_V3").
        text_ids: NVTX names through StringIds (textId) instead of inline.
        without: tables ("NVTX_EVENTS") and columns ("CUPTI_ACTIVITY_KIND_KERNEL.graphNodeId") to leave out.
        metadata: whether META_DATA_EXPORT is there (it is not before 2024).
    """
    strings: dict[str, int] = {}
    rows: dict[str, list[dict[str, object]]] = {table: [] for table in NSYS_TABLES}

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings) + 1)

    def pid(process: int) -> int:
        return VM | process << 24

    for a in activities:
        row: dict[str, object] = {
            "start": a.start_ns,
            "end": a.end_ns,
            "deviceId": a.device,
            "contextId": 1,
            "streamId": a.stream,
            "correlationId": a.correlation,
            "globalPid": pid(a.process),
            "graphNodeId": a.graph_node,
        }
        if a.kind == "kernel":
            row |= {"demangledName": text(a.name), "shortName": text(a.name[:12]), "mangledName": text("_Z" + a.name)}
        elif a.kind == "memcpy":
            direction, _, memory = a.name.partition(" (")
            row |= {"bytes": a.bytes, "copyKind": COPY_NAMES[direction]}
            if memory:
                source, target = memory.rstrip(")").split(" -> ")
                row |= {"srcKind": MEMORY[source], "dstKind": MEMORY[target]}
        elif a.kind == "graph":
            row |= {"graphId": int(a.name.removeprefix("CUDA graph ")), "graphExecId": 1}
        elif a.name != MEMSET_NAME:
            raise ValueError(f"nsys calls every memset {MEMSET_NAME!r}")
        else:
            row |= {"bytes": a.bytes}
        table = {"graph": "GRAPH_TRACE"}.get(a.kind, a.kind.upper())
        rows[f"CUPTI_ACTIVITY_KIND_{table}"].append(row)
    for c in calls:
        tid = pid(c.process) | c.thread
        row = {"start": c.start_ns, "end": c.end_ns, "eventClass": 1, "globalTid": tid}
        rows["CUPTI_ACTIVITY_KIND_RUNTIME"].append(row | {"correlationId": c.correlation, "nameId": text(c.name)})
    for r in ranges:
        row = {"start": r.start_ns, "end": r.end_ns, "globalTid": pid(r.process) | r.thread}
        if r.kind == "profiler":
            rows["PROFILER_OVERHEAD"].append(row | {"nameId": text(r.name)})
        elif r.kind == "nvtx":
            name = {"textId": text(r.name)} if text_ids else {"text": r.name}
            rows["NVTX_EVENTS"].append(row | {"eventType": 59} | name)
        else:
            raise ValueError(f"nsys has no ranges of kind {r.kind!r}")

    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        for table, columns in NSYS_TABLES.items():
            if not rows[table] or table in without:
                continue
            kept = [c for c in columns if f"{table}.{c}" not in without]
            name = table + (suffix if table.startswith("CUPTI") else "")
            typed = ", ".join(f'"{c}" TEXT' if c == "text" else f'"{c}" INTEGER' for c in kept)
            db.execute(f'CREATE TABLE "{name}" ({typed})')
            db.executemany(
                f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(kept))})',
                [tuple(row.get(c) for c in kept) for row in rows[table]],
            )
        if "StringIds" not in without:
            db.execute("CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
            db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(i, s) for s, i in strings.items()])
        if metadata:
            db.execute("CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT)")
            version = {"EXPORT_PRODUCT_VERSION": "2025.5.2.266", "EXPORT_SCHEMA_VERSION": "3.23.1"}
            db.executemany("INSERT INTO META_DATA_EXPORT VALUES (?, ?)", version.items())
    db.close()
    return path
