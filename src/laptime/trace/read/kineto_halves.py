"""Where a large file can be cut in two, so that two processes read it.

The place is a guess until the first half turns out to be whole events up to there: JSON reads in one way from a known
start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from laptime.trace.read.kineto_bytes import is_gzip
from laptime.trace.read.kineto_events import BETWEEN
from laptime.trace.read.second_process import available

LEAST_BYTES = 8 << 20
"""A smaller file is read before a second process would have started to pay."""

_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Meeting:
    """The first half ends before byte `stop`, the second one begins at `start`; a comma lies between."""

    stop: int
    start: int


def meeting(path: Path) -> Meeting | None:
    """Where a file's halves seem to meet, between two events; None when it is better read in one go."""
    size = path.stat().st_size
    if size < LEAST_BYTES or not available() or is_gzip(path):
        return None
    with path.open("rb") as file:
        file.seek(size // 2)
        found = BETWEEN.search(file.read(_WINDOW_BYTES))
    return None if found is None else Meeting(size // 2 + found.start() + 1, size // 2 + found.end())
