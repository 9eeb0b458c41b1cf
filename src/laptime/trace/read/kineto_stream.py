"""A Kineto file from end to end, in memory that does not grow with it: blocks in, batches of columns out.

A large plain file is read in two halves, each by a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from laptime.data.finding import Finding
from laptime.errors import LaptimeError, NoTraceError
from laptime.trace.read.kineto_bytes import blocks, is_gzip, stretch
from laptime.trace.read.kineto_columns import Batch, columns_of
from laptime.trace.read.kineto_events import (
    BETWEEN,
    LIST_KEY,
    Header,
    cut,
    decode,
    devices_of,
    header_of,
    listed,
    take_apart,
)
from laptime.trace.read.kineto_plain import decode_plain, plain_columns
from laptime.trace.read.kineto_tail import behind_list
from laptime.trace.read.rank_files import stated_rank
from laptime.trace.read.second_process import available, elsewhere
from laptime.trace.read.tables import whole_number
from laptime.trace.read.timeline import Card

LARGEST_EVENT_BYTES = 32 << 20
LARGEST_HEADER_BYTES = 64 << 20
HEADER_TRIES = 16
"""How often the list's key may turn up where it opens no list (inside a string, say) before the file is given up."""


class Ending(msgspec.Struct, frozen=True):
    """How the event list ended.

    `complete`: with its closing bracket. `cut`: the file ended before. `broken`: it stopped being JSON.
    `at_byte` counts unpacked bytes; `unreadable` events were whole but not valid and were left out.
    """

    how: Literal["complete", "cut", "broken"]
    at_byte: int
    unreadable: int
    schema_version: str | None = None
    rank: int | None = None
    world_size: int | None = None
    cards: tuple[Card, ...] = ()
    tail: bytes = b""  # what stands behind the list
    behind: tuple[Finding, ...] = ()  # what of it is no part of the list's object


def read_whole(text: bytes, *, details: bool) -> tuple[Batch, int] | None:
    """A list of events as columns, and how many were unreadable; None when it is not exactly that."""
    plain = decode_plain(text)
    batch = None if plain is None else plain_columns(plain, details=details)
    if batch is not None:
        return batch, 0
    decoded = decode(text)
    return None if decoded is None else (columns_of(decoded[0], details=details), decoded[1])


def read_batches(path: Path, *, details: bool = True) -> tuple[list[Batch], Ending]:
    """Read a file's events as columns; the halves of a large plain file in two processes. `details`: as `columns_of`.

    Raises:
        LaptimeError: when there is no event list or its gzip data is damaged.
    """
    where = meeting(path)
    read = None if where is None else _in_halves(path, where, details)
    if read is not None:
        return read
    with closing(blocks(path)) as source:
        pending, header, gone, more = _open_list(path, source)
        batches, ending = _rest(source, pending, gone, more, details)
    return batches, _with_header(ending, header)


def _in_halves(path: Path, where: Meeting, details: bool) -> tuple[list[Batch], Ending] | None:
    """Read both halves at once; None when the file isn't whole events up to where they meet."""

    def second() -> list[Batch | Ending]:
        batches, ending = _rest(stretch(path, where.start), b"", where.start, True, details)
        return [*batches, ending]

    with elsewhere(second, Batch, Ending) as fetch, closing(stretch(path, 0, where.stop)) as source:
        try:
            pending, header, _, more = _open_list(path, source)
        except LaptimeError:
            return None
        first = _whole_events(source, pending, more, details)
        results = None if first is None else fetch()
    if first is None or results is None:
        return None
    batches, unreadable = first
    ending = results.pop()
    assert isinstance(ending, Ending)
    batches += [batch for batch in results if isinstance(batch, Batch)]
    return batches, _with_header(replace(ending, unreadable=ending.unreadable + unreadable), header)


def _with_header(ending: Ending, header: Header | None) -> Ending:
    behind = _BEHIND_EVENTS.search(ending.tail)
    listed = bytes(header.devices) if header is not None else b""
    if not listed and behind is not None:
        listed = behind["list"]
    cards = tuple(
        Card(number, device.name, whole_number(device.memory_bytes), whole_number(device.compute_major))
        for device in devices_of(listed)
        if device.name and (number := whole_number(device.id)) is not None
    )
    whole = header is None and ending.how == "cut" and not ending.tail.strip(b" \t\r\n,")
    strange = tuple(behind_list(ending.tail)) if header is not None and ending.how == "complete" else ()
    ending = replace(ending, cards=cards, tail=b"", behind=strange)
    if header is None:  # a list alone, which may lack its last bracket: Chrome's format leaves it out as it likes
        return replace(ending, how="complete") if whole else ending
    schema = None if header.schema is None else str(header.schema)
    run = header.distributed
    if run is None:
        return replace(ending, schema_version=schema)
    rank, size = whole_number(run.rank), whole_number(run.world_size)
    return replace(ending, schema_version=schema, rank=stated_rank(rank), world_size=size)


def _whole_events(source: Iterator[bytes], pending: bytes, more: bool, details: bool) -> tuple[list[Batch], int] | None:
    """Events to the very end of the source, and how many were unreadable; None when they don't end just there."""
    batches: list[Batch] = []
    unreadable = 0
    while len(pending) <= LARGEST_EVENT_BYTES:
        end, behind = cut(pending) if more else (len(pending), len(pending))
        read = read_whole(listed(pending, end), details=details)
        if read is None:
            return None
        batches.append(read[0])
        unreadable += read[1]
        if not more:
            return batches, unreadable
        block, more = _next(source, 0 if behind else len(pending))
        pending = pending[behind:] + block
    return None


def _rest(source: Iterator[bytes], pending: bytes, gone: int, more: bool, details: bool) -> tuple[list[Batch], Ending]:
    """Events up to the list's end. `pending` follows the `gone` bytes that were used up."""
    batches: list[Batch] = []
    unreadable = 0
    while True:
        end, behind = cut(pending)
        read, closed = read_whole(listed(pending, end), details=details), False
        if read is not None:
            batch, dropped, used = *read, behind
        else:
            events, dropped, used, closed = take_apart(pending)
            batch = columns_of(events, details=details)
        batches.append(batch)
        unreadable, gone, pending = unreadable + dropped, gone + used, pending[used:]
        if closed:
            return batches, Ending("complete", gone, unreadable, tail=_tail(pending, source))
        if not more or len(pending) > LARGEST_EVENT_BYTES:
            # What is left holds the last event and the list's end, or is cut, or is no JSON.
            events, dropped, used, closed = take_apart(pending)
            batches.append(columns_of(events, details=details))
            how: Literal["complete", "cut", "broken"] = "complete" if closed else "broken" if more else "cut"
            return batches, Ending(how, gone + used, unreadable + dropped, tail=pending[used:][:_TAIL_BYTES])
        # An event larger than a block is tried again when twice as much is there, so that trying stays linear.
        block, more = _next(source, 0 if used else len(pending))
        pending += block


_TAIL_BYTES = 1 << 18
_BEHIND_EVENTS = re.compile(rb'"deviceProperties"\s{0,9}:\s{0,9}(?P<list>\[[^\[\]]{0,100000}\])')
"""Some writers put the header's entries behind the events."""


def _tail(pending: bytes, source: Iterator[bytes]) -> bytes:
    """What stands behind the list, or the beginning of it."""
    while len(pending) < _TAIL_BYTES and (block := next(source, b"")):
        pending += block
    return pending[:_TAIL_BYTES]


def _next(source: Iterator[bytes], least: int = 0) -> tuple[bytes, bool]:
    """The next block, or blocks of at least `least` bytes, and whether more may come."""
    parts: list[bytes] = []
    size = 0
    try:
        while not parts or size < least:
            parts.append(next(source))
            size += len(parts[-1])
    except StopIteration:
        return b"".join(parts), False
    return b"".join(parts), True


MARK_BYTES = 4096
"""Within how many bytes another program's file says what it is."""

OTHER_FORMATS: dict[bytes, str] = {
    rb'"schema"\s*:\s*"\d[^"]*"(?s:.*)"nodes"\s*:\s*\[': "an execution trace (Chakra's nodes), which holds"
    " no times of the device; give the profiler's trace of the same run, from prof.export_chrome_trace()",
    rb'^\s*\{"Type":\s*\d+|^\s*\{"(?:Cuda|Nvtx|TraceProcess)Event"': "Nsight Systems' JSON lines, which laptime"
    " doesn't read; nsys export --type sqlite",
    rb"^SQLite format 3\0": "a packed SQLite file; unpack it first with gunzip",
    rb"(?s)^.{257}ustar": "an archive; laptime trace and laptime.read_ranks read archives",
    rb'^\s*\{\s*"rocprofiler-sdk-tool"': "rocprofv3's own JSON, which laptime doesn't read; trace with"
    " torch.profiler, and export with prof.export_chrome_trace()",
}
"""JSON of other programs, and what to do about it."""


def _open_list(path: Path, source: Iterator[bytes]) -> tuple[bytes, Header | None, int, bool]:
    """Read up to the first event: (what follows, header, bytes gone by, whether more may come)."""
    head, more, searched, tries = b"", True, 0, 0
    while more and len(head) < LARGEST_HEADER_BYTES:
        block, more = _next(source, len(head))
        head += block
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
        if start.startswith(b"[") and start[1:].lstrip().startswith(b"["):
            raise NoTraceError(
                f"{path}: a list of lists, such as a memory timeline of torch.profiler, and no list of events; "
                "export the trace with prof.export_chrome_trace()"
            )
        if start.startswith(b"["):
            return start[1:].lstrip(), None, len(head) - len(start) + 1, more
        if start and not start.startswith(b"{"):
            break
        for key in LIST_KEY.finditer(head, searched):
            header = header_of(head[: key.end()])
            if header is not None:
                return head[key.end() :].lstrip(), header, key.end(), more
            searched = key.end()
            tries += 1
            if tries == HEADER_TRIES:
                more = False
                break
    for mark, what in OTHER_FORMATS.items():
        if re.search(mark, head[:MARK_BYTES]):
            raise NoTraceError(f"{path}: {what}")
    raise NoTraceError(
        f"{path}: no traceEvents list in {f'its first {len(head)} bytes' if more else 'it'}: not a whole PyTorch"
        " profiler file; export one with prof.export_chrome_trace()"
    )


LEAST_BYTES = 8 << 20
"""A smaller file is read before a second process would have started to pay."""

_WINDOW_BYTES = 1 << 20

_FIRST_SHARE = 0.46
"""Operators stand first in a file and are shorter than kernels: of as many bytes the first part has more events."""


class Meeting(msgspec.Struct, frozen=True):
    """The first half ends before byte `stop`, the second one begins at `start`; a comma lies between."""

    stop: int
    start: int


def meeting(path: Path) -> Meeting | None:
    """Where a file's halves seem to meet, between two events; None when it is better read in one go."""
    size = path.stat().st_size
    if size < LEAST_BYTES or not available() or is_gzip(path):
        return None
    middle = int(size * _FIRST_SHARE)
    with path.open("rb") as file:
        file.seek(middle)
        between = BETWEEN.search(file.read(_WINDOW_BYTES))
    return None if between is None else Meeting(middle + between.start() + 1, middle + between.end())
