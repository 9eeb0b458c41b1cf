"""How readers build a timeline: columns gathered piece by piece, names counted once, rows in time order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Activities, ApiCalls, Int32, Int64, MemoryEvents, Ranges

Column = npt.NDArray[np.signedinteger]
Columns = Mapping[str, Column]
Table = dict[str, Column]
Dtypes = Mapping[str, type[np.signedinteger]]

ACTIVITY_DTYPES: Dtypes = {
    "start_ns": np.int64,
    "end_ns": np.int64,
    "device": np.int32,
    "stream": np.int32,
    "process": np.int32,
    "name": np.int32,
    "kind": np.int8,
    "correlation": np.int64,
    "graph_node": np.int64,
    "bytes": np.int64,
    "group": np.int32,
}
CALL_DTYPES: Dtypes = {
    "start_ns": np.int64,
    "end_ns": np.int64,
    "process": np.int32,
    "thread": np.int64,
    "name": np.int32,
    "correlation": np.int64,
    "kernel": np.int32,
}
RANGE_DTYPES: Dtypes = {
    "start_ns": np.int64,
    "end_ns": np.int64,
    "process": np.int32,
    "thread": np.int64,
    "name": np.int32,
    "kind": np.int8,
    "shape": np.int32,
    "sequence": np.int64,
}
MEMORY_DTYPES: Dtypes = {
    "at_ns": np.int64,
    "process": np.int32,
    "thread": np.int64,
    "device": np.int32,
    "bytes": np.int64,
    "allocated": np.int64,
    "reserved": np.int64,
    "address": np.int64,
}
OPTIONAL = frozenset({"group", "kernel", "shape", "sequence"})
"""Columns that a piece may lack. A table that has none in any piece has an empty column."""


class Ids(dict[str, int]):
    """Names to numbers, counted from 0 in the order of their first look-up."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


def in_one(pieces: Sequence[Table]) -> list[Table]:
    """Pieces of a table, used up, as one piece; none as none."""
    if not pieces:
        return []
    names = dict.fromkeys(name for piece in pieces for name in piece)
    lengths = [len(piece["start_ns"]) for piece in pieces]
    return [{name: np.concatenate(_parts(pieces, name, lengths)) for name in names}]


def _parts(pieces: Sequence[Table], column: str, lengths: Sequence[int]) -> list[Column]:
    """A column of each piece, taken out of it; -1 where a piece lacks it."""
    return [
        piece.pop(column) if column in piece else np.full(length, -1, dtype=np.int32)
        for piece, length in zip(pieces, lengths, strict=True)
    ]


def in_time_order(pieces: Sequence[Table], dtypes: Dtypes) -> Table:
    """Join pieces of a table and sort its rows by (start_ns, end_ns); rows that tie keep their order in the file.

    The pieces are used up: their columns are taken out one by one, so that large tables are never held twice.
    """

    lengths = [len(piece["start_ns"]) for piece in pieces]

    def joined(column: str) -> Column:
        parts = [_as(part, dtypes[column]) for part in _parts(pieces, column, lengths)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, dtype=dtypes[column])

    start, end = joined("start_ns"), joined("end_ns")
    order = _order(start, end)
    table: Table = {"start_ns": start, "end_ns": end}
    del start, end
    for column in dtypes:
        if column in OPTIONAL and not any(column in piece for piece in pieces):
            table[column] = np.zeros(0, dtype=dtypes[column])
            continue
        values = table.pop(column) if column in table else joined(column)
        table[column] = values if order is None else values[order]
        table[column].flags.writeable = False
    return table


def _order(start: Column, end: Column) -> npt.NDArray[np.intp] | None:
    """The permutation that sorts by (start, end), or None when the rows are in that order."""

    def sorted_by_both(start: Column, end: Column) -> bool:
        return bool(np.all((start[1:] > start[:-1]) | ((start[1:] == start[:-1]) & (end[1:] >= end[:-1]))))

    if sorted_by_both(start, end):
        return None
    order = np.argsort(start, kind="stable")  # merges the sorted runs that files consist of
    return order if sorted_by_both(start[order], end[order]) else np.lexsort((end, start))


def _as(values: Column, dtype: type[np.signedinteger]) -> Column:
    if dtype is np.int32 and values.dtype != np.int32:
        return narrow(values.astype(np.int64, copy=False))
    return values.astype(dtype, copy=False)


def activities(pieces: Sequence[Table]) -> Activities:
    """Pieces with the columns of ACTIVITY_DTYPES, used up, as one table in time order."""
    return Activities(**in_time_order(pieces, ACTIVITY_DTYPES))


def calls(pieces: Sequence[Table]) -> ApiCalls:
    """Pieces with the columns of CALL_DTYPES, used up, as one table in time order."""
    return ApiCalls(**in_time_order(pieces, CALL_DTYPES))


def ranges(pieces: Sequence[Table]) -> Ranges:
    """Pieces with the columns of RANGE_DTYPES, used up, as one table in time order."""
    return Ranges(**in_time_order(pieces, RANGE_DTYPES))


def memory(pieces: Sequence[Table]) -> MemoryEvents:
    """Pieces with the columns of MEMORY_DTYPES as one table in time order; at one instant in the file's order."""
    at = np.concatenate([piece["at_ns"] for piece in pieces]) if pieces else np.zeros(0, dtype=np.int64)
    order = np.argsort(at, kind="stable")
    table: Table = {}
    for column, dtype in MEMORY_DTYPES.items():
        values = np.concatenate([piece[column] for piece in pieces]) if pieces else np.zeros(0, dtype=dtype)
        table[column] = _as(values, dtype)[order]
    return MemoryEvents(**table)


def whole_numbers(values: Iterable[object], otherwise: Callable[[], Int64]) -> Int64:
    """A column of ids that are mostly plain integers.

    Args:
        values: n values: int, or what some writers put instead (None, "stream 7", 7.0, "7").
        otherwise: makes n numbers for values that hold none; called only when there are any.
    """
    listed = list(values)
    if set(map(type, listed)) <= {int}:
        try:
            return np.fromiter(listed, dtype=np.int64, count=len(listed))
        except OverflowError:
            pass
    numbers: Int64 = otherwise().copy()
    for i, value in enumerate(listed):
        number = whole_number(value)
        if number is not None:
            numbers[i] = number
    return numbers


def whole_number(value: object) -> int | None:
    """The integer that a value stands for ("stream 7" is 7), or None. Within int64."""
    if isinstance(value, str):
        digits = value.rsplit(" ", 1)[-1]
        if not (digits.isascii() and digits.lstrip("-").isdigit() and len(digits) < 19):
            return None
        value = digits
    elif isinstance(value, float):
        if not value.is_integer() or abs(value) >= 2**53:
            return None
    elif not isinstance(value, int):
        return None
    number = int(value)
    return number if abs(number) < 2**63 else None


def narrow(numbers: Int64) -> Int32:
    """Ids as int32. One that does not fit is folded to a negative one, the same wherever it occurs."""
    fits = (numbers > -(2**31)) & (numbers < 2**31)
    return np.where(fits, numbers, -2 - numbers % (2**31 - 3)).astype(np.int32)
