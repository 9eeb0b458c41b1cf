"""Kineto's events out of a stretch of JSON text: all at once when it is well-formed, one by one when it is not.

A stretch is cut behind what seems a whole event. That it decodes proves the cut right, since JSON reads in one way from
a known start. One that does not decode (the list's end, a damaged or unusual event) is taken apart event by event.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import TypeVar

import msgspec

Number = int | float | str | None


ABSENT = msgspec.Raw()
"""What a field holds that an event lacks."""


class Details(msgspec.Struct, gc=False):
    """What most files lack in an event's `args`: shapes, autograd's numbers, a launch's kernel, process groups
    and what a collective is given."""

    dims: msgspec.Raw = msgspec.field(default=ABSENT, name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=ABSENT, name="Input type")
    strides: msgspec.Raw = msgspec.field(default=ABSENT, name="Input Strides")
    inputs: msgspec.Raw = msgspec.field(default=ABSENT, name="Concrete Inputs")
    sequence: Number = msgspec.field(default=None, name="Sequence number")
    forward_thread: Number = msgspec.field(default=None, name="Fwd thread id")
    kernel: msgspec.Raw = ABSENT
    group: msgspec.Raw = msgspec.field(default=ABSENT, name="Process Group Name")
    ranks: msgspec.Raw = msgspec.field(default=ABSENT, name="Process Group Ranks")
    collective: msgspec.Raw = msgspec.field(default=ABSENT, name="Collective name")
    elements: Number = msgspec.field(default=None, name="In msg nelems")
    dtype: msgspec.Raw = ABSENT


class Args(Details, gc=False):
    """What is used of an event's `args`. The later fields are an allocation's."""

    correlation: Number = None
    external: Number = msgspec.field(default=None, name="External id")
    device: Number = None
    stream: Number = None
    graph_node: Number = msgspec.field(default=None, name="graph node id")
    bytes: Number = None
    changed: Number = msgspec.field(default=None, name="Bytes")
    allocated: Number = msgspec.field(default=None, name="Total Allocated")
    reserved: Number = msgspec.field(default=None, name="Total Reserved")
    address: Number = msgspec.field(default=None, name="Addr")
    device_id: Number = msgspec.field(default=None, name="Device Id")
    device_type: Number = msgspec.field(default=None, name="Device Type")


class Event(msgspec.Struct, gc=False):
    """What is used of an event. Times stay text: they must not pass through a float."""

    ph: str | None = None
    cat: str | None = None
    name: str | None = None
    pid: Number = None
    tid: Number = None
    ts: msgspec.Raw = msgspec.Raw()
    dur: msgspec.Raw = msgspec.Raw()
    args: Args | None = None


class Distributed(msgspec.Struct):
    """What is used of a header's `distributedInfo`."""

    rank: Number = None
    world_size: Number = None


class DeviceProperties(msgspec.Struct):
    """What is used of one of a header's `deviceProperties`."""

    id: Number = None
    name: str | None = None
    memory_bytes: Number = msgspec.field(default=None, name="totalGlobalMem")
    compute_major: Number = msgspec.field(default=None, name="computeMajor")


class Header(msgspec.Struct):
    devices: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw, name="deviceProperties")
    distributed: Distributed | None = msgspec.field(default=None, name="distributedInfo")
    schema: int | float | str | None = msgspec.field(default=None, name="schemaVersion")
    events: list[int] | None = msgspec.field(default=None, name="traceEvents")


class _Phase(msgspec.Struct):
    ph: object = None


_WHOLE = msgspec.json.Decoder(list[msgspec.Raw])
_EVENT = msgspec.json.Decoder(Event)
_PHASE = msgspec.json.Decoder(_Phase)
_HEADER = msgspec.json.Decoder(Header)
_DEVICES = msgspec.json.Decoder(list[DeviceProperties])

LIST_KEY = re.compile(rb'"traceEvents"\s{0,64}:\s{0,64}\[')
BETWEEN = re.compile(rb'\}\s{0,64},\s{0,64}(?=\{\s{0,64}(?:"(?:ph|name|cat|args|pid|ts)"|\}))')
# A string ends at its quote or, damaged, at the line's end: JSON has no raw line breaks in strings, so the next line
# is read right again.
_TOKEN = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|[{}\[\]]')
_LAST = re.compile(rb'\}\s{0,64}(?=\]\s{0,64}(?:\}\s{0,64}\Z|,\s{0,64}"[^"\n]{1,200}"\s{0,64}:))')
"""The end of the list's last event, by what follows."""

_BEHIND = re.compile(rb"\s{0,64}(?:[,\]}\s]|\Z)")
"""What follows a whole event."""

_LIST_END = re.compile(rb'\s{0,64}(?:\Z|\}|,\s{0,64}(?:\Z|"(?:[^"\n]{1,200}(?:\Z|"\s{0,64}(?::|\Z))|\Z)))')
"""What can follow the list's bracket, as far as it is there."""

_COMMA = re.compile(rb"\s{0,64},\s{0,64}")
_NOT_JSON = re.compile(rb'(?<=":)(\s{0,64})-?(?:nan|inf(?:inity)?)(?=\s{0,64}[,}])', re.IGNORECASE)
_NEAR_BYTES = (1 << 12, 1 << 15)
"""At how much of a stretch's end its last event is looked for, before all of it is searched."""

_LOOK_BEHIND = 512
"""Characters behind an event's last bracket that are looked at for the start of the next one."""

_LONG_EVENT = 4_096
"""Characters after which an open event is looked at: if it is damaged, what follows must not be searched to its end."""

_CUT = "Input data was truncated"
"""What msgspec says of text that is JSON as far as it goes."""


def header_of(prefix: bytes) -> Header | None:
    """The header, if its text really ends inside the outermost object's list of events."""
    text = prefix.lstrip(b"\xef\xbb\xbf \t\r\n") + b"]}"
    header = _as_it_is_or_mended(_HEADER, text)
    return header if header is not None and header.events == [] else None


def devices_of(text: bytes | msgspec.Raw) -> list[DeviceProperties]:
    """The devices in the text of a `deviceProperties` list; none where it is no such list."""
    return _as_it_is_or_mended(_DEVICES, text) or []


_Value = TypeVar("_Value")


def _as_it_is_or_mended(decoder: msgspec.json.Decoder[_Value], text: bytes | msgspec.Raw) -> _Value | None:
    """What a text holds; None where it can't be read even when it is mended."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decoder.decode(text)
    with suppress(msgspec.DecodeError, RecursionError):
        return decoder.decode(_mended(text))
    return None


def cut(pending: bytes) -> tuple[int, int]:
    """Where the last event that seems whole ends, and where what is left begins: nothing stands between but a comma."""
    for near in (*_NEAR_BYTES, len(pending)):
        between = deque(BETWEEN.finditer(pending, max(0, len(pending) - near)), maxlen=1)
        if between:
            return between[0].start() + 1, between[0].end()
    return 0, 0


def listed(pending: bytes, end: int) -> bytes:
    """A comma-separated run of events, up to `end`, as a list."""
    return b"".join((b"[", memoryview(pending)[:end], b"]"))


def decode(text: bytes) -> tuple[list[Event], int] | None:
    """The events of a list and how many of them were unreadable, or None when it is not exactly that."""
    try:
        return _general().decode(text), 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _readable(_WHOLE.decode(_mended(text)))
    except (msgspec.DecodeError, RecursionError):
        return None


@cache
def _general() -> msgspec.json.Decoder[list[Event]]:
    """Most files need it for no stretch."""
    return msgspec.json.Decoder(list[Event])


def _mended(text: bytes | msgspec.Raw) -> str:
    """What writers are known to get wrong, put right: NaN and Infinity as values, names that are not UTF-8."""
    return _NOT_JSON.sub(rb"\1null", bytes(text)).decode("utf-8", "replace")


def _readable(texts: Sequence[bytes | msgspec.Raw]) -> tuple[list[Event], int]:
    """Those events that can be decoded, one at a time, and how many can't."""
    events, unreadable = [], 0
    for text in texts:
        event = _decode_one(text)
        if event is not None:
            events.append(event)
        elif _is_span(text):
            unreadable += 1
    return events, unreadable


def take_apart(pending: bytes) -> tuple[list[Event], int, int, bool]:
    """Decode one event at a time.

    Returns:
        the events; how many whole ones were unreadable; how many bytes they all took; whether the list was closed.
    """
    events: list[Event] = []
    used = unreadable = position = 0
    closed, sound = False, True
    while True:
        depth = start = 0
        again: int | None = None
        looked = False  # whether the event was asked for damage, once it was longer than events are
        for token in _TOKEN.finditer(pending, position):
            byte = token.group()
            if byte == b"{" or byte == b"[":
                if depth == 0:
                    start, looked = token.start(), False
                elif not looked and token.start() - start > _LONG_EVENT:
                    looked, again = True, _behind_damage(pending, start, token.start())
                    if again is not None:
                        break
                depth += 1
            elif byte == b"}" or byte == b"]":
                if depth == 0:
                    # The list's own bracket, if the event before it is whole; else damage, as a brace here is.
                    closed = byte == b"]" and sound and _LIST_END.match(pending, token.end()) is not None
                    used = token.end()
                    if closed:
                        break
                    unreadable += 1
                    continue
                depth -= 1
                if depth == 0:
                    text = pending[start : token.end()]
                    event = _decode_one(text)
                    if event is None:
                        again = _behind_damage(pending, start, token.end())
                    elif _BEHIND.match(pending, token.end()) is None:  # a name's own bracket seemed to end it
                        text, event = b"{", None
                        again = _behind_damage(pending, start, token.end())
                    if again is not None:
                        break
                    used = token.end()
                    sound = event is not None or _is_json(text)
                    if event is not None:
                        events.append(event)
                    elif _is_span(text):
                        unreadable += 1
        if again is None and depth > 0:
            again = _behind_damage(pending, start, len(pending))
        if again is None:
            break
        # One event is damaged so that its brackets don't pair: it alone is lost, and the next one starts anew.
        unreadable, used, position, sound = unreadable + 1, again, again, True
    behind = None if closed else _COMMA.match(pending, used)
    return events, unreadable, behind.end() if behind else used, closed


def _behind_damage(pending: bytes, start: int, end: int) -> int | None:
    """Where the next event begins, if the one at `start` is no JSON even before that; else None."""
    behind = BETWEEN.search(pending, start, end + _LOOK_BEHIND) or _LAST.search(pending, start, end + _LOOK_BEHIND)
    if behind is None:
        return None
    try:
        _PHASE.decode(_mended(pending[start : behind.start() + 1]))
    except (msgspec.DecodeError, RecursionError) as error:
        return None if str(error) == _CUT else behind.end()
    return None


def _decode_one(text: bytes | msgspec.Raw) -> Event | None:
    """One event, mended if it must be, or None."""
    return _as_it_is_or_mended(_EVENT, text)


def _is_json(text: bytes) -> bool:
    try:
        _WHOLE.decode("[" + _mended(text) + "]")
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _is_span(text: bytes | msgspec.Raw) -> bool:
    """Whether an unreadable event would have counted: only complete ("X") events are used."""
    try:
        return _PHASE.decode(_mended(text)).ph == "X"
    except (msgspec.DecodeError, RecursionError):
        return True
