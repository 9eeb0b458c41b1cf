"""What lies at a place that a verb can't use, and which verb takes it: one clause for the end of an error."""

from __future__ import annotations

from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from laptime.data.outside import is_there, open_regular
from laptime.errors import LaptimeError

LOOKED_AT_BYTES = 1 << 16
"""How much of a file is read to know a trace by its list of events."""

FOLDERS = {
    "run.json": "it is a run, which laptime audit, compare and report take",
    "estimator.json": "it is an estimator, which laptime predict and evaluate take",
}
"""Folders that laptime wrote, by a file that each kind holds."""

TRACE = "it is a trace, which laptime trace takes"


def what_it_is(place: Path) -> str:
    """What is there and which verbs take it; "" where nothing that laptime knows is there."""
    for name, words in FOLDERS.items():
        if is_there(place / name):
            return words
    return TRACE if b'"traceEvents"' in _start(place) else ""


def _start(file: Path) -> bytes:
    """The first bytes of a file, unpacked; none where it can't be read."""
    with suppress(OSError, LaptimeError), open_regular(file) as opened:
        packed = opened.peek(2)[:2] == b"\x1f\x8b"
        return _unpacked(opened) if packed else opened.read(LOOKED_AT_BYTES)
    return b""


def _unpacked(file: BufferedReader) -> bytes:
    import gzip  # for packed files only: start-up counts
    import zlib

    with suppress(EOFError, zlib.error), gzip.GzipFile(fileobj=file) as unpacked:
        return unpacked.read(LOOKED_AT_BYTES)
    return b""
