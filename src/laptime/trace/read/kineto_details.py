"""What Kineto's events hold beside times where a profiler was asked for more: shapes, allocations, process groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter

import msgspec
import numpy as np

from laptime.trace.read.kineto_events import ABSENT, Args, Event
from laptime.trace.read.tables import Ids, Table, whole_number
from laptime.trace.read.timeline import Int64

MEMORY = "[memory]"
_HOST_DEVICE = 0
_LONGEST = 4_000
_BY_VALUE = re.compile(r"attention|attn|fmha|flash|convolution|conv\d?d", re.IGNORECASE)
"""Operators whose work depends on values too: whether attention is causal, a convolution's stride."""

_NO_ARGS = Args()


def shape_columns(rows: Sequence[Event], shapes: Ids) -> Table:
    """Numbers of operators' shapes with types, values and strides, -1 without; no column where none has any."""
    all_args = [row.args or _NO_ARGS for row in rows]
    if _absent("dims", all_args):
        return {}
    numbers = np.full(len(rows), -1, dtype=np.int64)
    for i, (row, args) in enumerate(zip(rows, all_args, strict=True)):
        if args.dims is ABSENT:
            continue
        values = args.inputs if _BY_VALUE.search(row.name or "") else ABSENT
        parts = (args.dims, args.types, values, args.strides)
        text = b"[%b]" % b",".join(b"null" if one is ABSENT else one for one in parts)
        if len(text) <= _LONGEST:
            numbers[i] = shapes[text.decode("utf-8", "replace")]
    return {"shape": numbers}


def sequence_columns(rows: Sequence[Event]) -> Table:
    """Autograd's numbers: of a forward operator its own, of a backward one -2 less that of its forward one; -1 for
    neither. No column where none has any."""
    args = [row.args or _NO_ARGS for row in rows]
    stated = list(map(attrgetter("sequence"), args))
    if stated.count(None) == len(stated):
        return {}
    numbers = np.full(len(rows), -1, dtype=np.int64)
    for i, (value, own) in enumerate(zip(stated, args, strict=True)):
        number = whole_number(value)
        if number is not None and 0 <= number < 2**62:
            backward = (whole_number(own.forward_thread) or 0) > 0
            numbers[i] = -2 - number if backward else number
    return {"sequence": numbers}


def kernel_columns(args: Sequence[Args], names: Ids) -> Table:
    """Numbers of the kernels' names that launches of HIP state, -1 without one; no column where none does."""
    if _absent("kernel", args):
        return {}
    texts = [_text(one.kernel) for one in args]
    return {"kernel": np.array([names[text] if text else -1 for text in texts], dtype=np.int64)}


def group_columns(args: Sequence[Args], groups: Ids) -> Table:
    """Numbers of collectives' process groups and operations, -1 where the file does not say."""
    if _absent("group", args) and _absent("ranks", args):
        return {}
    return {"group": np.array([_group(one, groups) for one in args], dtype=np.int64)}


def _absent(field: str, args: Sequence[Args]) -> bool:
    """Whether no event has this field."""
    return list(map(attrgetter(field), args)).count(ABSENT) == len(args)


def _group(args: Args, groups: Ids) -> int:
    name, ranks, collective = (_text(raw) for raw in (args.group, args.ranks, args.collective))
    if name is None and ranks is None:
        return -1
    return groups[msgspec.json.encode([name, _ranks(ranks), collective]).decode()]


def _text(raw: msgspec.Raw) -> str | None:
    """A JSON string's text, or another value as it is written; None without one."""
    if raw is ABSENT or (text := bytes(raw)) == b"null":
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, str) else text.decode("utf-8", "replace")


def _ranks(text: str | None) -> list[int] | None:
    """The ranks of a group: `[0, 1]`. Long lists are cut by the profiler (`[0, 1, ..., 63]`), which says nothing."""
    if text is None or "..." in text:
        return None
    return sorted({int(number) for number in re.findall(r"\d{1,9}", text)}) or None


def memory_columns(events: Sequence[Event], at_ns: Int64) -> Table:
    """Allocations and frees as columns. `at_ns`: their times."""
    args = [event.args if event.args is not None else _NO_ARGS for event in events]

    def column(values: Sequence[object], otherwise: int) -> Int64:
        numbers = (whole_number(value) for value in values)
        return np.array([otherwise if number is None else number for number in numbers], dtype=np.int64)

    kind = column([one.device_type for one in args], _HOST_DEVICE)
    device = column([one.device_id for one in args], 0)
    return {
        "at_ns": at_ns,
        "process": column([event.pid for event in events], -1),
        "thread": column([event.tid for event in events], -1),
        "device": np.where(kind == _HOST_DEVICE, -1, np.maximum(device, 0)),
        "bytes": column([one.changed for one in args], 0),
        "allocated": column([one.allocated for one in args], -1),
        "reserved": column([one.reserved for one in args], -1),
        "address": column([one.address for one in args], 0),
    }
