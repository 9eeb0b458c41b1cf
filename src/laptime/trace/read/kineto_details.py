"""What Kineto's events hold beside times where a profiler was asked for more: shapes, allocations, process groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec
import numpy as np

from laptime.trace.read.kineto_events import ABSENT, Args, Details
from laptime.trace.read.tables import Ids, Table, whole_number, whole_numbers
from laptime.trace.read.timeline import Int64

MEMORY = "[memory]"
_HOST_DEVICE = 0
_LONGEST = 4_000
_BY_VALUE = r"(?i)attention|attn|fmha|flash|convolution|conv\d?d"
"""Operators whose work depends on values too: whether attention is causal, a convolution's stride."""

_ELEMENT_BYTES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Float8_e4m3fn", "Float8_e5m2"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
}
"""Of one element of a collective, by the type's name there."""

_NO_ARGS = Args()
_NULL = b"null"


def shape_columns(names: Iterable[str | None], args: Sequence[Details], shapes: Ids) -> Table:
    """Numbers of operators' shapes with types, values and strides, -1 without; no column where none has any.

    names: of the operators.
    """
    dims = list(map(attrgetter("dims"), args))
    if dims.count(ABSENT) == len(dims):
        return {}
    numbers = np.full(len(args), -1, dtype=np.int64)
    by_value: dict[str | None, bool] = {}
    known: dict[bytes, int] = {}
    for i, (name, own_dims, own) in enumerate(zip(names, dims, args, strict=True)):
        if own_dims is ABSENT:
            continue
        if name not in by_value:
            by_value[name] = re.search(_BY_VALUE, name or "") is not None
        types, strides, values = own.types, own.strides, own.inputs if by_value[name] else ABSENT
        text = b",".join(
            (
                own_dims,
                _NULL if types is ABSENT else types,
                _NULL if values is ABSENT else values,
                _NULL if strides is ABSENT else strides,
            )
        )
        number = known.get(text)
        if number is None:
            listed = b"[%b]" % text
            number = shapes[listed.decode("utf-8", "replace")] if len(listed) <= _LONGEST else -1
            known[text] = number
        numbers[i] = number
    return {"shape": numbers}


def sequence_columns(args: Sequence[Details]) -> Table:
    """Autograd's numbers: of a forward operator its own, of a backward one -2 less that of its forward one; -1 for
    neither. No column where none has any."""
    stated = list(map(attrgetter("sequence"), args))
    if stated.count(None) == len(stated):
        return {}
    numbers = np.full(len(args), -1, dtype=np.int64)
    for i, (value, own) in enumerate(zip(stated, args, strict=True)):
        number = whole_number(value)
        if number is not None and 0 <= number < 2**62:
            backward = (whole_number(own.forward_thread) or 0) > 0
            numbers[i] = -2 - number if backward else number
    return {"sequence": numbers}


def kernel_columns(args: Sequence[Details], names: Ids) -> Table:
    """Numbers of the kernels' names that launches of HIP state, -1 without one; no column where none does."""
    if _absent("kernel", args):
        return {}
    texts = [_text(one.kernel) for one in args]
    return {"kernel": np.array([names[text] if text else -1 for text in texts], dtype=np.int64)}


def group_columns(args: Sequence[Details], groups: Ids) -> Table:
    """Numbers of collectives' process groups and operations, -1 where the file does not say."""
    if _absent("group", args) and _absent("ranks", args):
        return {}
    return {"group": np.array([_group(one, groups) for one in args], dtype=np.int64)}


def bytes_column(args: Sequence[Details], copied: Int64) -> Int64:
    """Bytes that copies moved, and those that a collective was given where the file says it; else -1.

    copied: of the copies.
    """
    if _absent("group", args) and _absent("ranks", args):
        return copied
    given = [(whole_number(one.elements) or 0) * _ELEMENT_BYTES.get(_text(one.dtype) or "", 0) for one in args]
    stated = np.array([size if 0 < size < 2**62 else -1 for size in given], dtype=np.int64)
    return np.where(stated > 0, stated, copied)


def _absent(field: str, args: Sequence[Details]) -> bool:
    """Whether no event has this field."""
    return list(map(attrgetter(field), args)).count(ABSENT) == len(args)


def _group(args: Details, groups: Ids) -> int:
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


def memory_columns(
    process: Iterable[object], thread: Iterable[object], all_args: Sequence[Args | None], at_ns: Int64
) -> Table:
    """Allocations and frees as columns.

    process, thread: ids as they stand in the file.
    at_ns: their times.
    """
    args = [_NO_ARGS if one is None else one for one in all_args]

    def column(values: Iterable[object], otherwise: int) -> Int64:
        return whole_numbers(values, lambda: np.full(len(args), otherwise, dtype=np.int64))

    kind = column([one.device_type for one in args], _HOST_DEVICE)
    device = column([one.device_id for one in args], 0)
    return {
        "at_ns": at_ns,
        "process": column(process, -1),
        "thread": column(thread, -1),
        "device": np.where(kind == _HOST_DEVICE, -1, np.maximum(device, 0)),
        "bytes": column([one.changed for one in args], 0),
        "allocated": column([one.allocated for one in args], -1),
        "reserved": column([one.reserved for one in args], -1),
        "address": column([one.address for one in args], 0),
    }
