"""What stands behind a file's list of events: the rest of its object, or what belongs to no trace."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from laptime.data.finding import Finding
from laptime.trace.read.kineto_events import LIST_KEY

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]]', re.DOTALL)
_SECOND = re.compile(LIST_KEY.pattern + rb"\s{0,64}\{")
_NOTHING = b" \t\r\n\0\x1a,;"
"""What pads a file."""


def behind_list(tail: bytes) -> Iterator[Finding]:
    """What stands behind the list of events, where it is no part of its object.

    tail: the beginning of it, from the list's closing bracket on.
    """
    if _SECOND.search(tail):
        yield Finding(
            code="second-trace",
            severity="severe",
            message="a second list of events (traceEvents) stands behind the first one, as where two traces were put"
            " into one file: only the first one's events are counted; part them, and give each by itself",
        )
    elif (end := _object_end(tail)) is not None and tail[end:].strip(_NOTHING):
        yield Finding(
            code="trailing-bytes",
            severity="warning",
            message="what stands in the file behind the trace's end is no part of it, and isn't read",
        )


def _object_end(tail: bytes) -> int | None:
    """Where the object around the list ends; None where that isn't here, or isn't plain JSON up to there."""
    depth = 1
    for token in _TOKEN.finditer(tail):
        byte = token.group()
        depth += (byte in (b"{", b"[")) - (byte in (b"}", b"]"))
        if depth == 0:
            try:
                msgspec.json.decode(b'{"":[]' + tail[: token.end()], type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None
            return token.end()
    return None
