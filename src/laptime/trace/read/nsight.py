"""Nsight Systems exports (.sqlite), older and newer: whatever table or column is missing is said in a finding.

Only the tables named in nsight_tables are read. An export also holds the environment and the output of what ran;
nothing of that is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from laptime.data.finding import Finding
from laptime.errors import LaptimeError
from laptime.trace.read import tables
from laptime.trace.read.launch_links import claim, launches_kernel
from laptime.trace.read.nsight_diagnostics import diagnostics, failed_launches
from laptime.trace.read.nsight_names import CALL_TABLES, DEVICE_TABLES, RANGE_TABLES, STRINGS
from laptime.trace.read.nsight_tables import (
    COPY_BASE,
    NsightExport,
    Rows,
    gpu_of,
    open_export,
    process_of,
    read_rows,
    thread_of,
)
from laptime.trace.read.sqlite_columns import MISSING, read_strings
from laptime.trace.read.tables import Ids, Table, narrow
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64, RangeKind, Source

COPY_KINDS: Mapping[int, str] = {
    1: "Memcpy HtoD",
    2: "Memcpy DtoH",
    3: "Memcpy HtoA",
    4: "Memcpy AtoH",
    5: "Memcpy AtoA",
    6: "Memcpy AtoD",
    7: "Memcpy DtoA",
    8: "Memcpy DtoD",
    9: "Memcpy HtoH",
    10: "Memcpy PtoP",
    11: "Memcpy unified HtoD",
    12: "Memcpy unified DtoH",
    13: "Memcpy unified DtoD",
}
MEMORY_KINDS: Mapping[int, str] = {
    0: "Pageable",
    1: "Pinned",
    2: "Device",
    3: "Array",
    4: "Managed",
    5: "Device",
    6: "Managed",
}
_KINDS = {
    "KERNEL": Activity.KERNEL,
    "MEMCPY": Activity.MEMCPY,
    "MEMCPY2": Activity.MEMCPY,
    "MEMSET": Activity.MEMSET,
    "GRAPH_TRACE": Activity.GRAPH,
}
_DENSE = 1 << 24
_UNNAMED = "(unnamed)"
_API_VERSION = re.compile(r"(?:_ptsz|_ptds)?(?:_v\d{3,})?$")
_OPERATOR = re.compile(r"(.+?), (?:op_id|seq) = \d+.*", re.DOTALL)  # what torch.autograd.profiler.emit_nvtx writes


def read(path: Path) -> GpuTimeline:
    """Read an Nsight Systems export.

    Raises:
        LaptimeError: when it is none, or damaged where activities are kept.
    """
    export = open_export(path)
    rows = read_rows(export)
    findings = tuple(_findings(export, rows))
    rows = {table: read for table, read in rows.items() if read.columns}
    by_string = [table for table in ("KERNEL", *CALL_TABLES, *RANGE_TABLES) if table in rows]
    ids = [_distinct(rows[table].columns["name"])[0] for table in by_string]
    texts = _strings(export, np.concatenate(ids)) if ids else {}
    names, gpus = Ids(), gpu_of(export)
    findings += tuple(_failed(export, rows, texts))
    # Rows are let go as soon as they are turned into the timeline's narrower columns.
    calls = [_calls(rows.pop(table), texts, names) for table in CALL_TABLES if table in rows]
    ranges = [_ranges(export, table, rows.pop(table), texts, names) for table in RANGE_TABLES if table in rows]
    activities = [_activities(table, rows.pop(table), texts, names, gpus) for table in DEVICE_TABLES if table in rows]
    return GpuTimeline(
        source=Source("nsys-sqlite", str(path), export.schema_version),
        activities=tables.activities(claim(activities, calls, names)),
        calls=tables.calls(calls),
        ranges=tables.ranges(ranges),
        strings=tuple(names),
        findings=findings,
    )


def _failed(export: NsightExport, rows: Mapping[str, Rows], texts: Mapping[int, str]) -> Iterable[Finding]:
    """Launches that failed. Where as many kernels ran as were launched none did, and the calls aren't read again."""
    launching = {number: text for number, text in texts.items() if launches_kernel(text)}
    if not launching:
        return
    ids = np.array(sorted(launching), dtype=np.int64)
    launched = sum(int(np.isin(rows[table].columns["name"], ids).sum()) for table in CALL_TABLES if table in rows)
    of_graphs = rows["KERNEL"].columns["graph_node"] > 0 if "KERNEL" in rows else np.zeros(0, dtype=np.bool_)
    if launched > len(of_graphs) - int(of_graphs.sum()):
        yield from failed_launches(export, launching, launched)


def _strings(export: NsightExport, ids: Int64) -> dict[int, str]:
    if not {"id", "value"} <= set(export.columns.get(STRINGS, ())):
        return {}
    return read_strings(export.path, STRINGS, "id", "value", ids)


def _named(ids: Int64, text: Callable[[int], str | None], names: Ids) -> Int32:
    """Numbers in the timeline's string table for a column of ids, through what each distinct id is called."""
    distinct, which = _distinct(ids)
    numbers: Int32 = np.array([names[text(i) or _UNNAMED] for i in distinct.tolist()], dtype=np.int32)
    return numbers[which]


def _distinct(ids: Int64) -> tuple[Int64, Int64]:
    """The distinct ids, ascending, and for each id its place among them. Ids are dense, so no sort is needed."""
    low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    if high - low >= _DENSE:
        distinct, which = np.unique(ids, return_inverse=True)
        return distinct, which.astype(np.int64)
    present = np.zeros(high - low + 1, dtype=np.bool_)
    present[ids - low] = True
    return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[ids - low]


def _activities(
    table: str, rows: Rows, texts: Mapping[int, str], names: Ids, gpus: Mapping[tuple[int, int], int]
) -> Table:
    columns = rows.columns
    count = len(columns["start_ns"])
    called: dict[str, Callable[[int], str | None]] = {
        "KERNEL": texts.get,
        "MEMSET": lambda _: "Memset",
        "GRAPH_TRACE": lambda graph: "CUDA graph" if graph == MISSING else f"CUDA graph {graph}",
    }
    process = process_of(columns["global"])
    node = columns["graph_node"]
    return {
        "start_ns": columns["start_ns"],
        "end_ns": columns["end_ns"],
        "device": _gpus(process, columns["device"], gpus),
        "stream": narrow(columns["stream"]),
        "process": narrow(process),
        "name": _named(columns["name"], called.get(table, _copy_name), names),
        "kind": np.full(count, _KINDS[table], dtype=np.int8),
        "correlation": columns["correlation"],
        "graph_node": np.full(count, 0) if table == "GRAPH_TRACE" else np.where(node > 0, node, -1),
        "bytes": columns["bytes"],
    }


def _copy_name(code: int) -> str:
    """A copy's direction and memory, from nsight_tables.copy_code: `Memcpy HtoD (Pageable -> Device)`."""
    if code == MISSING:
        return "Memcpy"
    kind, source, target = code % COPY_BASE, code // COPY_BASE % COPY_BASE - 1, code // COPY_BASE**2 - 1
    name = COPY_KINDS.get(kind, "Memcpy")
    ends = (MEMORY_KINDS.get(source), MEMORY_KINDS.get(target))
    return name if None in ends else f"{name} ({ends[0]} -> {ends[1]})"


def _gpus(process: Int64, device: Int64, gpus: Mapping[tuple[int, int], int]) -> Int32:
    """Devices as the machine counts them, where processes count them differently (CUDA_VISIBLE_DEVICES)."""
    renamed = device.copy()
    for (owner, cuda), gpu in gpus.items():
        renamed[(process == owner) & (device == cuda)] = gpu
    return narrow(renamed)


def _calls(rows: Rows, texts: Mapping[int, str], names: Ids) -> Table:
    def text(i: int) -> str | None:
        return _API_VERSION.sub("", texts[i]) if i in texts else None

    return {
        "start_ns": rows.columns["start_ns"],
        "end_ns": rows.columns["end_ns"],
        "process": narrow(process_of(rows.columns["global"])),
        "thread": thread_of(rows.columns["global"]),
        "name": _named(rows.columns["name"], text, names),
        "correlation": rows.columns["correlation"],
    }


def _ranges(export: NsightExport, table: str, rows: Rows, texts: Mapping[int, str], names: Ids) -> Table:
    columns = rows.columns
    ids, called = columns["name"], dict(texts)
    if table == "NVTX_EVENTS":
        ids, called = _inline_texts(export, columns, called)
    operators = {i for i, text in called.items() if table == "NVTX_EVENTS" and _OPERATOR.fullmatch(text)}
    called |= {i: _OPERATOR.sub(r"\1", called[i]) for i in operators}
    kind = np.full(len(ids), RangeKind.NVTX if table == "NVTX_EVENTS" else RangeKind.PROFILER, dtype=np.int64)
    kind[np.isin(ids, np.array(sorted(operators), dtype=np.int64))] = RangeKind.CPU_OP
    return {
        "start_ns": columns["start_ns"],
        "end_ns": columns["end_ns"],
        "process": narrow(process_of(columns["global"])),
        "thread": thread_of(columns["global"]),
        "name": _named(ids, called.get, names),
        "kind": kind,
    }


def _inline_texts(
    export: NsightExport, columns: Mapping[str, Int64], texts: dict[int, str]
) -> tuple[Int64, dict[int, str]]:
    """Names of NVTX ranges, which are in StringIds or in the row itself: the latter get negative ids of their own."""
    ids = columns["name"].copy()
    inline = ids == MISSING
    if not inline.any() or "text" not in export.columns["NVTX_EVENTS"]:
        return ids, texts
    rows = columns["row"][inline]
    try:
        row_texts = read_strings(export.path, export.names["NVTX_EVENTS"], "rowid", "text", rows)
    except LaptimeError:
        return ids, texts
    own = Ids()
    ids[inline] = [MISSING if (text := row_texts.get(row)) is None else -2 - own[text] for row in rows.tolist()]
    return ids, texts | {-2 - number: text for text, number in own.items()}


def _findings(export: NsightExport, rows: Mapping[str, Rows]) -> Iterable[Finding]:
    """What is missing or had to be left out."""
    yield from diagnostics(export)
    missing = [table for table in ("KERNEL", "RUNTIME", STRINGS) if table not in export.names]
    if "RUNTIME" in missing and "DRIVER" in rows:
        missing.remove("RUNTIME")
    traced = any(table in rows for table in (*DEVICE_TABLES, *CALL_TABLES))
    why = {
        "KERNEL": "no kernel was recorded" + ("" if traced else " (was CUDA traced?)"),
        "RUNTIME": "no API call was recorded, so launches and causes are not known",
        STRINGS: "names are not known",
    }
    for table in missing:
        severity: Literal["warning", "severe"] = "warning" if table == "KERNEL" else "severe"
        yield Finding(code="missing-table", severity=severity, message=f"no {table} table: {why[table]}")
    useful = {
        **dict.fromkeys(DEVICE_TABLES, ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")),
        **dict.fromkeys(CALL_TABLES, ("start", "end", "correlationId", "globalTid", "nameId")),
    }
    for table, wanted in useful.items():
        lacking = [column for column in wanted if column not in export.columns.get(table, wanted)]
        if lacking:
            yield Finding(
                code="missing-column",
                severity="severe" if {"start", "end", "deviceId"} & set(lacking) else "warning",
                message=f"the {table} table has no {', '.join(lacking)}",
                count=len(lacking),
            )
    for table, read in rows.items():
        if read.damage:
            yield Finding(code="unreadable-table", severity="severe", message=f"the {table} table is damaged")
        if read.unreadable:
            message = f"rows of the {table} table without readable times were left out"
            yield Finding(code="unreadable-events", severity="severe", message=message, count=read.unreadable)
        if read.negative:
            message = f"rows of the {table} table that end before they start were left out"
            yield Finding(code="negative-durations", severity="severe", message=message, count=read.negative)
