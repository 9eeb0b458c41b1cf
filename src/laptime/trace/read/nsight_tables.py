"""Which tables and columns an Nsight Systems export has, under names that changed over the years, and their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from laptime.errors import LaptimeError, NoTraceError
from laptime.trace.read.nsight_names import (
    CALL_TABLES,
    CUDA_DEVICES,
    DEVICE_TABLES,
    DIAGNOSTICS,
    RANGE_TABLES,
    STRINGS,
    TABLE,
)
from laptime.trace.read.second_process import available, elsewhere
from laptime.trace.read.sqlite_columns import MISSING, database, quoted, read_columns, table_columns
from laptime.trace.read.timeline import Int64

_NAME_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "KERNEL": ("demangledName", "shortName", "mangledName"),
    "MEMSET": (),
    "GRAPH_TRACE": ("graphId",),
    "NVTX_EVENTS": ("textId",),
}
COPY_BASE = 256
"""A copy's code is its kind, and above it what memory it read and wrote (each one more than in the file, or 0)."""

_BETWEEN_DEVICES, _PEER = 8, 10
_NVTX_RANGES = (59, 60, 70, 71)  # push/pop and start/end ranges, of NVTX and of its text form
_LATEST_NS = 2**62

LARGE_BYTES = 16 << 20
"""A smaller export is read before a second process would have started to pay."""


class NsightExport(msgspec.Struct, frozen=True):
    """An export's tables by their plain names ("KERNEL"), with their columns."""

    path: Path
    names: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    schema_version: str | None


class Rows(msgspec.Struct, frozen=True):
    """A table's integer columns, each MISSING where the file has nothing.

    `start_ns, end_ns, name, correlation, global` (id of process and thread) everywhere; `device, stream, graph_node`
    of device work; `row` of ranges. Left out and counted: `unreadable` rows, and those that end before they start.
    """

    columns: Mapping[str, Int64]
    unreadable: int = 0
    negative: int = 0
    damage: str | None = None


OTHER_PROGRAMS: dict[re.Pattern[str], str] = {
    re.compile("CANN_API|NPU_INFO"): "the Ascend profiler",
    re.compile("HIP|HSA|KERN|rocpd_(?:metadata|string)(?:_[0-9a-f_]+)?"): "rocprof",
    re.compile("read_only_(?:kernels|cuda_calls)"): "DLProf",
    re.compile("StringTable"): "nvprof",
}
"""Whose SQLite a file is, by a table that it has."""

_INSTEAD = {
    "the Ascend profiler": "laptime reads device work of CUDA and HIP only",
    "rocprof": "trace with torch.profiler, and export with prof.export_chrome_trace()",
    "nvprof": "trace the program with nsys profile -t cuda,nvtx",
}


def open_export(path: Path) -> NsightExport:
    """Look at an export's schema.

    Raises:
        LaptimeError: when it is damaged or of another program.
    """
    names: dict[str, str] = {}
    versions: dict[str, int] = {}
    schema = None
    with database(path) as db:
        columns = table_columns(db)
        for name in columns:
            match = re.fullmatch(TABLE, name)
            if match is not None and int(match[2] or 0) >= versions.get(match[1], 0):
                names[match[1]], versions[match[1]] = name, int(match[2] or 0)
        for meta in ("META_DATA_EXPORT", "EXPORT_META_DATA"):  # since 2024, and before
            if {"name", "value"} <= set(columns.get(meta, ())):
                row = db.execute(f"SELECT value FROM {meta} WHERE name = 'EXPORT_SCHEMA_VERSION'").fetchone()  # noqa: S608
                schema = str(row[0]) if row else schema
    whose = next((whose for table, whose in OTHER_PROGRAMS.items() if any(map(table.fullmatch, columns))), "")
    if STRINGS not in columns and (not names or whose == "nvprof"):
        raise NoTraceError(
            f"{path}: an SQLite file{whose and f' of {whose}'}, but not one of Nsight Systems; "
            + (_INSTEAD.get(whose) or "export one with nsys export --type sqlite")
        )
    names |= {name: name for name in (STRINGS, CUDA_DEVICES, DIAGNOSTICS) if name in columns}
    return NsightExport(path, names, {plain: columns[name] for plain, name in names.items()}, schema)


def read_rows(export: NsightExport) -> dict[str, Rows]:
    """Read every table of activities, calls and ranges that has times; of a large file the calls in a second process.

    Not in a second thread: the two would wait for each other in SQLite's allocator (measured: no faster).

    Raises:
        LaptimeError: when a table of activities is damaged. Damage to another is noted in its Rows.
    """
    known = DEVICE_TABLES + CALL_TABLES + RANGE_TABLES
    timed = [table for table in known if {"start", "end"} <= set(export.columns.get(table, ()))]
    called = [table for table in timed if table in CALL_TABLES]
    read: dict[str, Rows] = {}
    if called and export.path.stat().st_size >= LARGE_BYTES and available():
        with elsewhere(lambda: [_read_table(export, table) for table in called], Rows) as fetch:
            read = {table: _read_table(export, table) for table in timed if table not in called}
            read |= zip(called, fetch() or (), strict=False)
    return {table: read[table] if table in read else _read_table(export, table) for table in timed}


def _read_table(export: NsightExport, table: str) -> Rows:
    where = "1"
    if table == "NVTX_EVENTS":
        where = '"end" IS NOT NULL'  # marks, and ranges that never ended, have none
        if "eventType" in export.columns[table]:
            where += f" AND eventType IN {_NVTX_RANGES}"
    try:
        columns, unreadable = read_columns(export.path, export.names[table], _wanted(export, table), where=where)
    except LaptimeError as error:
        if table in DEVICE_TABLES:
            raise
        return Rows({}, damage=str(error))
    start, end = columns["start_ns"], columns["end_ns"]
    possible = (start > -_LATEST_NS) & (end < _LATEST_NS)
    forward = end >= start
    good = possible & forward
    if not good.all():
        columns = {name: values[good] for name, values in columns.items()}
    return Rows(columns, unreadable + int((~possible).sum()), int((possible & ~forward).sum()))


def _wanted(export: NsightExport, table: str) -> dict[str, str | None]:
    """What is read of a table: result name -> SQL, None where the table lacks the column."""

    def column(*names: str) -> str | None:
        present = [quoted(name) for name in names if name in export.columns[table]]
        return f"coalesce({', '.join(present)})" if len(present) > 1 else present[0] if present else None

    wanted = {
        "start_ns": column("start"),
        "end_ns": column("end"),
        "correlation": column("correlationId"),
        "name": _copy_code(export.columns[table])
        if table in ("MEMCPY", "MEMCPY2")
        else column(*_NAME_COLUMNS.get(table, ("nameId",))),
        "global": column("globalPid" if table in DEVICE_TABLES else "globalTid"),
    }
    if table in DEVICE_TABLES:
        return wanted | {
            "device": column("deviceId"),
            "stream": column("streamId"),
            "graph_node": column("graphNodeId"),
            "bytes": column("bytes") if table != "KERNEL" else None,
        }
    return wanted | {"row": "rowid"} if table == "NVTX_EVENTS" else wanted


def _copy_code(columns: tuple[str, ...]) -> str | None:
    """SQL of a copy's code. A copy from one device to another is a peer copy, whatever its kind says."""
    if "copyKind" not in columns:
        return None
    kind = "copyKind"
    if {"srcDeviceId", "dstDeviceId"} <= set(columns):
        kind = f"CASE WHEN copyKind = {_BETWEEN_DEVICES} AND srcDeviceId <> dstDeviceId THEN {_PEER} ELSE copyKind END"
    if {"srcKind", "dstKind"} <= set(columns):
        kind += f" + {COPY_BASE} * (ifnull(srcKind, -1) + 1) + {COPY_BASE**2} * (ifnull(dstKind, -1) + 1)"
        kind = kind.replace("CASE", "(CASE").replace("END", "END)")
    return kind


def gpu_of(export: NsightExport) -> dict[tuple[int, int], int]:
    """(process, CUDA ordinal) -> GPU, if one ordinal means different GPUs in different processes; else empty."""
    if not {"gpuId", "cudaId", "pid"} <= set(export.columns.get(CUDA_DEVICES, ())):
        return {}
    wanted: dict[str, str | None] = {"gpu": "gpuId", "cuda": "cudaId", "process": "pid"}
    try:
        columns, _ = read_columns(export.path, CUDA_DEVICES, wanted)
    except LaptimeError:
        return {}
    keys = zip(columns["process"].tolist(), columns["cuda"].tolist(), strict=True)
    gpus = {key: gpu for key, gpu in zip(keys, columns["gpu"].tolist(), strict=True) if gpu != MISSING}
    meanings: dict[int, set[int]] = {}
    for (_, cuda), gpu in gpus.items():
        meanings.setdefault(cuda, set()).add(gpu)
    return gpus if any(len(meant) > 1 for meant in meanings.values()) else {}


def process_of(global_id: Int64) -> Int64:
    """The process id in a globalPid or globalTid; MISSING stays."""
    return np.where(global_id == MISSING, MISSING, global_id >> 24 & 0xFFFFFF)


def thread_of(global_id: Int64) -> Int64:
    """The thread id in a globalTid; MISSING stays."""
    return np.where(global_id == MISSING, MISSING, global_id & 0xFFFFFF)
