"""A large file's second half, read by another process while this one reads the first.

Only where nothing can go wrong by it: two processors, one thread (so that a fork copies no lock), a file that is not
packed. The place where the halves meet is a guess until the first half turns out to be whole events up to there.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

from laptime.trace.kineto_bytes import is_gzip
from laptime.trace.kineto_events import BETWEEN

T = TypeVar("T")

LEAST_BYTES = 8 << 20
"""A smaller file is read before a second process would have started to pay."""

_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Meeting:
    """The first half ends before byte `stop`, the second one begins at `start`; a comma lies between."""

    stop: int
    start: int


def meeting(path: Path) -> Meeting | None:
    """Where a file's halves seem to meet, between two events; None when it's better read in one go."""
    size = path.stat().st_size
    if size < LEAST_BYTES or not _alone_with_processors() or is_gzip(path):
        return None
    with path.open("rb") as file:
        file.seek(size // 2)
        found = BETWEEN.search(file.read(_WINDOW_BYTES))
    return None if found is None else Meeting(size // 2 + found.start() + 1, size // 2 + found.end())


def _alone_with_processors() -> bool:
    """Whether this is Linux, with a processor to spare and no second thread in this process."""
    try:
        return len(os.sched_getaffinity(0)) > 1 and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    except (AttributeError, OSError):
        return False


@contextmanager
def elsewhere(work: Callable[[], Sequence[T]]) -> Iterator[Callable[[], list[T] | None]]:
    """Do some work in a copy of this process.

    Yields:
        a function that waits for the results, None when the work failed. Leaving stops work that isn't done.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(work, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as file:
            yield lambda: _received(file)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _work(work: Callable[[], Sequence[T]], writing: int) -> NoReturn:
    """The copy's life. It ends without cleaning up: files and buffers are its parent's."""
    try:
        with os.fdopen(writing, "wb") as file:
            results = work()
            for result in results:
                pickle.dump(result, file, protocol=5)
            pickle.dump(len(results), file)
    finally:
        os._exit(0)


def _received(file: BinaryIO) -> list[T] | None:
    results: list[T] = []
    try:
        while not isinstance(result := pickle.load(file), int):  # noqa: S301  # from our own child
            results.append(result)
    except (EOFError, pickle.UnpicklingError, MemoryError):
        return None
    return results if result == len(results) else None
