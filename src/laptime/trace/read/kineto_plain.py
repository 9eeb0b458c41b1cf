"""Events exactly as torch.profiler writes them today, as columns in half the time that kineto_columns takes.

Ids are integers, times have at most three decimals, and nothing is missing. A stretch of a file in which one event
differs is left to kineto_events and kineto_columns as a whole, so that nothing is read in another way here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec.structs import astuple

from laptime.trace.read.kineto_columns import ACTIVITY, CALL, CODES, RANGE, Batch, Texts, nameless
from laptime.trace.read.kineto_details import (
    MEMORY,
    bytes_column,
    group_columns,
    kernel_columns,
    memory_columns,
    sequence_columns,
    shape_columns,
)
from laptime.trace.read.kineto_events import Args, Details, Number
from laptime.trace.read.kineto_times import plain_to_ns
from laptime.trace.read.launch_links import UNKNOWN
from laptime.trace.read.tables import Table, whole_numbers
from laptime.trace.read.timeline import Activity, Int64


class PlainArgs(Details, gc=False):
    """What is used of the `args` of an event that lasts; a number below 0 is one that is not there."""

    device: int = -1
    stream: int = -1
    correlation: int = -1
    graph_node: int = msgspec.field(default=-1, name="graph node id")
    bytes: Number = None  # HIP's are strings


class PlainSpan(msgspec.Struct, gc=False, tag_field="ph", tag="X"):
    """An event that lasts."""

    cat: str
    name: str
    pid: int
    tid: int
    ts: msgspec.Raw
    dur: float
    args: PlainArgs | None = None


class OwnSpan(PlainSpan, gc=False, tag="X"):
    """The same, or one of the profiler's own entries at the end of a file, whose ids are texts."""

    pid: int | str  # type: ignore[assignment]
    tid: int | str  # type: ignore[assignment]


class PlainInstant(msgspec.Struct, gc=False, tag_field="ph", tag="i"):
    """An event that doesn't, such as an allocation."""

    name: str
    cat: str | None = None
    pid: Number = None
    tid: Number = None
    ts: msgspec.Raw = msgspec.Raw()
    args: Args | None = None


class ArrowStart(msgspec.Struct, gc=False, tag_field="ph", tag="s"):
    """The start of an arrow from a launch to its work. Nothing of it is used."""


class ArrowEnd(msgspec.Struct, gc=False, tag_field="ph", tag="f"):
    """The end of an arrow. Nothing of it is used."""


class Label(msgspec.Struct, gc=False, tag_field="ph", tag="M"):
    """The name of a process or a thread. Nothing of it is used."""


PlainEvent = PlainSpan | PlainInstant | ArrowStart | ArrowEnd | Label

_EVENTS = msgspec.json.Decoder(list[PlainEvent])
_OWN, _OWN_BYTES = b'"Spans"', 1 << 12
"""The process of the profiler's own span, and within how many bytes of a file's last stretch it stands."""

_NO_ARGS = PlainArgs()

_LONGEST_NS = 2.0**40
_CLEAR = 0.499
"""A float of fewer ns than that is wrong by less than 0.0003 ns: one that is so near to a whole number rounds to it."""


def decode_plain(text: bytes) -> list[PlainEvent] | None:
    """The events of a list of plain ones, or of these and the profiler's own; None when one of them is neither."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (_with_own() if _OWN in text[-_OWN_BYTES:] else _EVENTS).decode(text)
    return None


@cache
def _with_own() -> msgspec.json.Decoder[list[PlainEvent]]:
    """Of the last stretch of a file, which may be all that is asked for."""
    return msgspec.json.Decoder(list[OwnSpan | PlainInstant | ArrowStart | ArrowEnd | Label])


class _NotPlainError(Exception):
    """A value is missing, or one that only kineto_columns reads."""


def plain_columns(events: Sequence[PlainEvent], *, details: bool = True) -> Batch | None:
    """What kineto_columns.columns_of makes of such events, or None where a value isn't plain."""
    try:
        return _columns(events, details)
    except (OverflowError, _NotPlainError):
        return None


def _columns(events: Sequence[PlainEvent], details: bool) -> Batch:
    rows = _spans(events)
    code = np.fromiter(map(CODES.get, map(attrgetter("cat"), rows), repeat(-1)), np.int64, len(rows))
    if (code < 0).any():
        known = np.flatnonzero(code >= 0)
        rows, code = _chosen(rows, known), code[known]
    timed: list[Table] = []
    if not details:
        of_ranges, others = np.flatnonzero(code >= RANGE), np.flatnonzero(code < RANGE)
        timed.append(_only_timed(_chosen(rows, of_ranges), code[of_ranges]))
        rows, code = _chosen(rows, others), code[others]
    fields: Iterable[Sequence[Any]] = zip(*map(astuple, rows), strict=True) if rows else repeat((), 7)
    _, names, processes, threads, starts, durations, args = fields
    if rows and type(rows[0]) is OwnSpan and {*map(type, processes), *map(type, threads)} != {int}:
        raise _NotPlainError
    texts, start = Texts(), _times(starts)
    name = np.fromiter(map(texts.names.__getitem__, names), np.int64, len(rows))
    if "" in texts.names:
        raise _NotPlainError
    times: Table = {"start_ns": start, "end_ns": start + _durations(durations), "name": name}
    of_host: Table = times | {"process": _numbers(processes), "thread": _numbers(threads)}
    activities, calls, ranges = (np.flatnonzero(of) for of in (code < CALL, code == CALL, code >= RANGE))
    if details:
        own = _args(args, ranges)
        kinds: Table = {"kind": code[ranges] - RANGE}
        further = shape_columns(_chosen(names, ranges), own, texts.shapes) | sequence_columns(own)
        timed.append(_at(of_host, ranges) | kinds | further)
    return Batch(
        activities=_at(times, activities) | _activity_columns(_args(args, activities), code[activities], texts),
        calls=_at(of_host, calls) | _call_columns(_args(args, calls), texts),
        ranges=timed[0],
        untimed=0,
        negative=0,
        memory=_memory(events) if details else {},
        names=tuple(texts.names),
        shapes=tuple(texts.shapes),
        groups=tuple(texts.groups),
    )


def _only_timed(rows: Sequence[PlainSpan], code: Int64) -> Table:
    """Host ranges of which nothing but their times is asked."""
    start = _times(list(map(attrgetter("ts"), rows)))
    return nameless(start, start + _durations(list(map(attrgetter("dur"), rows))), code)


def _spans(events: Sequence[PlainEvent]) -> Sequence[PlainSpan]:
    """The events that last; all of them are of one type."""
    return [event for event in events if type(event) is PlainSpan] or [
        event for event in events if type(event) is OwnSpan
    ]


def _at(table: Table, index: Int64) -> Table:
    return {column: values[index] for column, values in table.items()}


_Value = TypeVar("_Value")


def _chosen(values: Sequence[_Value], index: Int64) -> Sequence[_Value]:
    return values if len(index) == len(values) else [values[i] for i in index.tolist()]


def _times(texts: Sequence[msgspec.Raw]) -> Int64:
    plain = plain_to_ns(texts)
    if plain is None:
        raise _NotPlainError
    return plain


def _durations(durations: Sequence[float]) -> Int64:
    """Nanoseconds, none of them negative, and each the one that its text says, though floats were made of them."""
    exact = np.fromiter(durations, np.float64, len(durations)) * 1000
    whole = np.rint(exact)
    if len(exact) and (exact.min() < 0 or exact.max() > _LONGEST_NS or np.abs(exact - whole).max() > _CLEAR):
        raise _NotPlainError
    return whole.astype(np.int64)


def _memory(events: Sequence[PlainEvent]) -> Table:
    """Allocations and frees."""
    if not list(map(type, events)).count(PlainInstant):
        return {}
    rows = [event for event in events if isinstance(event, PlainInstant) and event.name == MEMORY]
    at_ns = _times([row.ts for row in rows])
    if not rows:
        return {}
    return memory_columns([row.pid for row in rows], [row.tid for row in rows], [row.args for row in rows], at_ns)


def _activity_columns(args: Sequence[PlainArgs], code: Int64, texts: Texts) -> Table:
    device, stream, node = _ids("device", args), _ids("stream", args), _ids("graph_node", args)
    if (device < 0).any() or (stream < 0).any():
        raise _NotPlainError
    copies = (code != ACTIVITY + Activity.KERNEL).any()
    return group_columns(args, texts.groups) | {
        "kind": code - ACTIVITY,
        "device": device,
        "stream": stream,
        "correlation": _ids("correlation", args),
        "process": np.full(len(args), UNKNOWN, dtype=np.int64),
        "graph_node": np.where(node > 0, node, -1),
        "bytes": bytes_column(args, _bytes(args) if copies else np.full(len(args), -1)),
    }


def _bytes(args: Sequence[PlainArgs]) -> Int64:
    return whole_numbers(map(attrgetter("bytes"), args), lambda: np.full(len(args), -1))


def _call_columns(args: Sequence[PlainArgs], texts: Texts) -> Table:
    links = _ids("correlation", args)
    if (links < 0).any():
        raise _NotPlainError
    return {"correlation": links} | kernel_columns(args, texts.names)


def _args(args: Sequence[PlainArgs | None], index: Int64) -> Sequence[PlainArgs]:
    return [one or _NO_ARGS for one in _chosen(args, index)]


def _ids(field: str, values: Sequence[PlainArgs]) -> Int64:
    return _numbers(list(map(attrgetter(field), values)))


def _numbers(values: Sequence[int]) -> Int64:
    return np.fromiter(values, np.int64, len(values))
