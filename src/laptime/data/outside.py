"""What comes from outside: only regular files are read, and damage of every kind becomes one line.

A decoder raises one of DAMAGE for what is no JSON. Libraries written in Rust raise exceptions of their own for a table
that they can't read, and some of them panic; `table_errors` makes a LaptimeError of each.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import msgspec

from laptime.errors import LaptimeError

DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be: also for invalid UTF-8, and for deep nesting."""

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def open_regular(file: Path) -> BufferedReader:
    """Open a file to read it. It never waits for the other end of a pipe.

    Raises OSError, and LaptimeError for what is there and is no file.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise LaptimeError(f"{file}: no name of a file ({error})") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((words for holds, words in _KINDS if holds(mode)), "a device")
        raise LaptimeError(f"{file}: is {kind}, not a file; name a file, or take it out of the folder")
    return open(descriptor, "rb")  # noqa: PTH123


def is_there(place: Path) -> bool:
    """Whether a file or folder of this name is there; not for a name that no file can have."""
    try:
        return place.exists()
    except (OSError, ValueError):  # too long, too many links
        return False


def read_regular(file: Path) -> bytes:
    """The whole content of a file. Raises OSError, and LaptimeError for what is there and is no file."""
    with open_regular(file) as opened:
        return opened.read()


def read_part(file: Path) -> bytes:
    """The content of a file that belongs to a folder of laptime. Raises LaptimeError for whatever prevents it."""
    try:
        return read_regular(file)
    except OSError as error:
        raise LaptimeError(f"{file}: can't be read: {error.strerror or error}") from None


@contextmanager
def table_errors(place: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever polars raises on a table inside the block into a LaptimeError.

    place: the table's file. kind: what it should be, for the message ("a CSV table").
    """
    import polars

    try:
        yield
    except (LaptimeError, KeyboardInterrupt, MemoryError, FileNotFoundError):
        raise
    except polars.exceptions.NoDataError:
        raise LaptimeError(f"{place}: empty; a table begins with a line of column names, then a line a row") from None
    except polars.exceptions.PolarsError as error:
        raise LaptimeError(f"{place}: not {kind} ({_first_line(error)})") from error
    except OSError as error:
        raise LaptimeError(f"{place}: {error.strerror or _first_line(error)}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LaptimeError(f"{place}: not {kind} ({_first_line(error)})") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a panic in Rust becomes; it is no Exception
            raise
        raise LaptimeError(f"{place}: not {kind} (the reader gave up: {_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
