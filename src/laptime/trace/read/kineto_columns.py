"""Kineto events as columns: which category is what, and where each id stands in which year's format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.kineto_details import (
    MEMORY,
    bytes_column,
    group_columns,
    kernel_columns,
    memory_columns,
    sequence_columns,
    shape_columns,
)
from laptime.trace.read.kineto_events import Args, Event
from laptime.trace.read.kineto_times import to_ns
from laptime.trace.read.launch_links import UNKNOWN
from laptime.trace.read.tables import Ids, Table, whole_number, whole_numbers
from laptime.trace.read.timeline import Activity, Int64, RangeKind

ACTIVITY_KINDS: Mapping[str, Activity] = {
    "kernel": Activity.KERNEL,
    "Kernel": Activity.KERNEL,
    "gpu_memcpy": Activity.MEMCPY,
    "Memcpy": Activity.MEMCPY,
    "gpu_memset": Activity.MEMSET,
    "Memset": Activity.MEMSET,
    "mlu_memcpy": Activity.MEMCPY,
    "mlu_memset": Activity.MEMSET,
}
CALL_CATEGORIES = frozenset(
    f"{vendor}_{layer}"
    for vendor in ("cuda", "hip", "xpu", "mtia", "mlu", "musa", "privateuse1")
    for layer in ("runtime", "driver")
) | {"Runtime", "Driver"}
RANGE_KINDS: Mapping[str, RangeKind] = {
    "user_annotation": RangeKind.NVTX,
    "cpu_op": RangeKind.CPU_OP,
    "Operator": RangeKind.CPU_OP,
    "python_function": RangeKind.PYTHON,
    "overhead": RangeKind.PROFILER,
}

ACTIVITY, CALL, RANGE = 0, 8, 16  # a category's code is its table plus its kind
CODES: Mapping[str | None, int] = {
    **{cat: ACTIVITY + kind for cat, kind in ACTIVITY_KINDS.items()},
    **dict.fromkeys(CALL_CATEGORIES, CALL),
    **{cat: RANGE + kind for cat, kind in RANGE_KINDS.items()},
}
_NO_ARGS = Args()
_UNNAMED = "(unnamed)"


class Batch(msgspec.Struct, frozen=True):
    """A stretch of a file as columns, each table's rows in the order of the file; `name` is an index into `names`.

    Where the file has details, ranges have a `shape` (index into `shapes`), activities a `group`, calls a `kernel`.
    `untimed` and `negative` events (no readable time; ending before they start) were left out.
    """

    names: Sequence[str]
    activities: Table
    calls: Table
    ranges: Table
    untimed: int
    negative: int
    shapes: Sequence[str] = ()
    groups: Sequence[str] = ()
    memory: Table = msgspec.field(default_factory=dict)  # empty where there is none


class Texts(msgspec.Struct, frozen=True):
    """Texts that a batch's columns are numbers of."""

    names: Ids = msgspec.field(default_factory=Ids)
    shapes: Ids = msgspec.field(default_factory=Ids)
    groups: Ids = msgspec.field(default_factory=Ids)


def columns_of(events: Sequence[Event], *, details: bool = True) -> Batch:
    """Turn events into columns; what is no activity, call or range of a known kind is passed over.

    details: also names and threads of host ranges, operators' shapes, autograd's numbers, and the allocator's events.
    """
    rows = [event for event in events if event.ph == "X" and event.cat in CODES]
    code = np.fromiter(map(CODES.__getitem__, map(attrgetter("cat"), rows)), np.int64, len(rows))
    start, timed = to_ns(list(map(attrgetter("ts"), rows)))
    duration, lasting = to_ns(list(map(attrgetter("dur"), rows)))
    timed &= lasting
    good = timed & (duration >= 0)
    if not good.all():
        rows = [row for row, kept in zip(rows, good.tolist(), strict=True) if kept]
        code, start, duration = code[good], start[good], duration[good]
    untimed = int(np.count_nonzero(~timed))
    negative = int(np.count_nonzero(~good)) - untimed
    only_timed: Table = {}
    if not details:
        host, others = np.flatnonzero(code >= RANGE), np.flatnonzero(code < RANGE)
        only_timed = nameless(start[host], start[host] + duration[host], code[host])
        rows, code, start, duration = [rows[i] for i in others.tolist()], code[others], start[others], duration[others]
    numbers = Texts()
    names = numbers.names
    name = np.fromiter(map(names.__getitem__, [row.name or _UNNAMED for row in rows]), np.int64, len(rows))
    common: Table = {"start_ns": start, "end_ns": start + duration, "name": name}

    def table(mask: npt.NDArray[np.bool_], own_columns: _OwnColumns) -> Table:
        index = np.flatnonzero(mask)
        chosen = rows if len(index) == len(rows) else [rows[i] for i in index.tolist()]
        own = own_columns(chosen, code[index], numbers)
        return {column: values[index] for column, values in common.items()} | own

    activities, calls = table(code < CALL, _activity_columns), table(code == CALL, _call_columns)
    ranges = table(code >= RANGE, _range_columns) if details else only_timed
    return Batch(
        names=tuple(names),
        activities=activities,
        calls=calls,
        ranges=ranges,
        untimed=untimed,
        negative=negative,
        shapes=tuple(numbers.shapes),
        groups=tuple(numbers.groups),
        memory=_memory(events) if details else {},
    )


_OwnColumns = Callable[[list[Event], Int64, Texts], Table]


def _memory(events: Sequence[Event]) -> Table:
    """Allocations and frees, which are instants. Those without a readable time are left out."""
    if not list(map(attrgetter("name"), events)).count(MEMORY):
        return {}
    rows = [event for event in events if event.name == MEMORY and event.ph == "i"]
    at_ns, timed = to_ns([row.ts for row in rows])
    kept = [row for row, good in zip(rows, timed.tolist(), strict=True) if good]
    if not kept:
        return {}
    return memory_columns(
        [row.pid for row in kept], [row.tid for row in kept], [row.args for row in kept], at_ns[timed]
    )


def _activity_columns(rows: list[Event], code: Int64, numbers: Texts) -> Table:
    args = [row.args or _NO_ARGS for row in rows]
    node = _few("graph_node", args)
    copies = (code != ACTIVITY + Activity.KERNEL).any()
    return group_columns(args, numbers.groups) | {
        "kind": code - ACTIVITY,
        "device": _few("device", args, lambda: _few("pid", rows)),
        "stream": _few("stream", args, lambda: _few("tid", rows)),
        "correlation": _links(args, [one.device is None and one.stream is None for one in args]),
        "process": np.full(len(rows), UNKNOWN, dtype=np.int64),
        "graph_node": np.where(node > 0, node, -1),
        "bytes": bytes_column(args, _ids("bytes", args) if copies else _all(-1, args)),
    }


def _call_columns(rows: list[Event], _: Int64, numbers: Texts) -> Table:
    args = [row.args or _NO_ARGS for row in rows]
    own = {"correlation": _links(args, [(row.name or "").startswith("hip") for row in rows])}
    return _host_columns(rows) | own | kernel_columns(args, numbers.names)


def _range_columns(rows: list[Event], code: Int64, numbers: Texts) -> Table:
    args = [row.args or _NO_ARGS for row in rows]
    further = shape_columns([row.name for row in rows], args, numbers.shapes) | sequence_columns(args)
    return _host_columns(rows) | {"kind": code - RANGE} | further


def nameless(start: Int64, end: Int64, code: Int64) -> Table:
    """Host ranges of which only the times and the kinds were asked: -1 for a name, a process and a thread."""
    unknown = _all(-1, start)
    times: Table = {"start_ns": start, "end_ns": end, "kind": code - RANGE}
    return times | {"name": unknown, "process": unknown, "thread": unknown}


def _host_columns(rows: list[Event]) -> Table:
    return {"process": _few("pid", rows), "thread": _few("tid", rows)}


def _ids(field: str, values: Sequence[object]) -> Int64:
    """One field of each value as a number, -1 where it has none."""
    return whole_numbers(map(attrgetter(field), values), lambda: _all(-1, values))


def _links(args: Sequence[Args], of_hip: list[bool]) -> Int64:
    """What links work to its call. ROCm's first profiler gave that number another name, and work no other argument.

    of_hip: of each event whether that profiler can have written it.
    """
    links = _ids("correlation", args)
    if (links >= 0).all() or not any(of_hip):
        return links
    return np.where((links < 0) & np.array(of_hip, dtype=np.bool_), _ids("external", args), links)


def _few(field: str, values: Sequence[object], otherwise: Callable[[], Int64] | None = None) -> Int64:
    """The same for a field that is mostly one and the same; `otherwise` makes numbers for values that hold none."""
    distinct = set(map(attrgetter(field), values))
    if len(distinct) == 1:
        number = whole_number(distinct.pop())
        if number is not None:
            return _all(number, values)
    return whole_numbers(map(attrgetter(field), values), otherwise or (lambda: _all(-1, values)))


def _all(number: int, values: Sequence[object] | Int64) -> Int64:
    return np.full(len(values), number, dtype=np.int64)


class Joined(msgspec.Struct, frozen=True, eq=False):
    """All batches of a file, with one table of each kind of text."""

    names: tuple[str, ...]
    shapes: tuple[str, ...]
    groups: tuple[str, ...]
    activities: list[Table]  # pieces
    calls: list[Table]
    ranges: list[Table]
    memory: list[Table]


def joined(batches: list[Batch]) -> Joined:
    """Give batches one table of texts. The list is emptied."""
    names, shapes, groups = Ids(), Ids(), Ids()
    pieces: tuple[list[Table], list[Table], list[Table]] = ([], [], [])
    memory: list[Table] = []
    batches.reverse()
    while batches:
        batch = batches.pop()
        number = np.array([names[name] for name in batch.names], dtype=np.int32)
        further = {
            "name": number,
            "kernel": number,
            "shape": np.array([shapes[text] for text in batch.shapes], dtype=np.int32),
            "group": np.array([groups[text] for text in batch.groups], dtype=np.int32),
        }
        for gathered, table in zip(pieces, (batch.activities, batch.calls, batch.ranges), strict=True):
            if len(table["name"]):
                renumbered = {
                    column: np.append(further[column], np.int32(-1))[values]  # -1 stays -1
                    for column, values in table.items()
                    if column in further
                }
                gathered.append({**table, **renumbered})
        if batch.memory:
            memory.append(batch.memory)
    return Joined(tuple(names), tuple(shapes), tuple(groups), *pieces, memory)
