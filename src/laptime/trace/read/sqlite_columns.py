"""Columns of integers out of SQLite, fast: the database writes each column as one text, numpy reads the text.

That takes a tenth of a microsecond a value and no Python object per row.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from laptime.errors import LaptimeError
from laptime.trace.read.timeline import Int64

WINDOW_ROWS = 1 << 16
MISSING = -1
"""What stands for NULL and for columns that a table lacks."""

_LEAST_ROW_BYTES = 4
_SECONDS, _SECONDS_PER_BYTE = 6.0, 1e-6
_OPERATIONS_PER_LOOK = 1_000_000


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading only, without locks or side files; it may lie on read-only media.

    Raises:
        LaptimeError: when SQLite finds the file damaged, or in no plausible time an end to it.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    late = time.monotonic() + _SECONDS + path.stat().st_size * _SECONDS_PER_BYTE
    try:
        db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            db.text_factory = _text
            db.set_progress_handler(lambda: int(time.monotonic() > late), _OPERATIONS_PER_LOOK)
            yield db
        finally:
            db.close()
    except sqlite3.Error as error:
        # SQLite quotes what it stumbled over, which may be anything.
        reason = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:120]
        raise LaptimeError(f"{path}: not readable as SQLite ({reason}); export it again with nsys export") from None
    except (UnicodeDecodeError, MemoryError):  # such a quotation, not even decoded; a text that claims to be endless
        raise LaptimeError(f"{path}: not readable as SQLite (damaged); export it again with nsys export") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def table_columns(db: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The real tables (no views, which could run anything) and their stored columns."""
    names = [
        str(name)
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    ]
    return {name: tuple(str(row[1]) for row in db.execute(f"PRAGMA table_info({quoted(name)})")) for name in names}


def quoted(name: str) -> str:
    """A name as SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def read_columns(
    path: Path, table: str, wanted: Mapping[str, str | None], *, where: str = "1"
) -> tuple[dict[str, Int64], int]:
    """Read integer columns of a table, in the order of its rows.

    Args:
        path: the database.
        table: the table's name.
        wanted: result name -> SQL of its value, or None for one that is MISSING everywhere. NULL becomes MISSING,
            except in `start_ns` and `end_ns`, without which a row is skipped.
        where: an SQL condition on rows.

    Returns:
        the columns, and how many rows were skipped because they hold something else than integers.

    Raises:
        LaptimeError: when the file is damaged.
    """
    present = {name: _value(name, sql) for name, sql in wanted.items() if sql is not None}
    values = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(present.values()))
    texts = ", ".join(f"CAST(group_concat(c{i}) AS BLOB)" for i in range(len(present)))
    window = f"FROM {quoted(table)} WHERE rowid > ? AND ({where}) ORDER BY rowid LIMIT {WINDOW_ROWS}"
    packed = f"SELECT max(r), count(*), {texts} FROM (SELECT rowid AS r, {values} {window})"  # noqa: S608
    with database(path) as db:
        (rows,) = db.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()  # noqa: S608
        if rows > path.stat().st_size // _LEAST_ROW_BYTES:
            raise sqlite3.DatabaseError("it counts more rows than it can hold")
        columns = {name: np.empty(rows, dtype=np.int64) for name in present}
        done = skipped = 0
        last, count = -(2**63), WINDOW_ROWS
        while count == WINDOW_ROWS:
            high, count, *blobs = db.execute(packed, (last,)).fetchone()
            if not count:
                break
            if high <= last or done + skipped + count > rows:
                raise sqlite3.DatabaseError("its row numbers run in a circle")
            piece = _parse(blobs, count)
            if piece is None:
                piece = _row_by_row(db.execute(f"SELECT {values} {window}", (last,)).fetchall(), list(present))
            kept = len(piece[0])
            for column, part in zip(columns.values(), piece, strict=True):
                column[done : done + kept] = part
            done, skipped, last = done + kept, skipped + count - kept, high
    read = {name: column[:done] for name, column in columns.items()}
    return read | {name: np.full(done, MISSING, dtype=np.int64) for name in wanted if name not in present}, skipped


def _value(name: str, sql: str) -> str:
    return f"ifnull({sql}, 'none')" if name in ("start_ns", "end_ns") else f"ifnull({sql}, {MISSING})"


def _parse(blobs: list[object], count: int) -> list[Int64] | None:
    """Comma-separated integers as arrays, or None when anything else is among them."""
    arrays: list[Int64] = []
    for blob in blobs:
        if not isinstance(blob, bytes) or blob.translate(None, b"0123456789-,"):
            return None
        try:
            array: Int64 = np.fromstring(blob, dtype=np.int64, sep=",")
        except ValueError:
            return None
        if len(array) != count:
            return None
        arrays.append(array)
    return arrays


def _row_by_row(rows: list[tuple[object, ...]], names: list[str]) -> list[Int64]:
    """The same from rows: those without whole times are left out, other odd values are MISSING."""
    times = [i for i, name in enumerate(names) if name in ("start_ns", "end_ns")]
    kept = [
        [value if isinstance(value, int) else MISSING for value in row]
        for row in rows
        if all(isinstance(row[i], int) for i in times)
    ]
    table = np.array(kept, dtype=np.int64).reshape(len(kept), len(names))
    return [table[:, i] for i in range(len(names))]


def read_strings(path: Path, table: str, key: str, text: str, wanted: Int64) -> dict[int, str]:
    """Some texts of a table by their integer keys; keys that it lacks, or has no text for, are left out."""
    keys = set(wanted.tolist())
    texts: dict[int, str] = {}
    with database(path) as db:
        cursor = db.execute(f"SELECT {key}, {quoted(text)} FROM {quoted(table)}")  # noqa: S608
        while rows := cursor.fetchmany(4096):
            texts |= {i: value for i, value in rows if i in keys and isinstance(value, str)}
    return texts
