"""A CSV table as somebody wrote it: other separators and encodings, decimal commas, blanks, words for "missing".

What can be read in one way only is read so. What can't is refused with the place and the mend.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from laptime.data.outside import open_regular, read_regular, table_errors
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

SEPARATORS = ",;\t|"
KIND = "a table with a first line of column names"
CHUNK_BYTES = 1 << 20
ROWS_LOOKED_AT = 50
LINE_END = re.compile(r"\r\n|\r|\n")
LONE_RETURN = re.compile(r"\r(?![\n])(?=.)", re.DOTALL)
QUOTED = re.compile(r'"[^"]*"')
SEPARATOR_LINE = re.compile(r'^("?)sep=(.)\1$', re.IGNORECASE)


@dataclass(frozen=True)
class WrittenTable:
    """A table's cells as they are written, null where a cell is empty.

    comma_separates: whether a comma is what separates the columns.
    """

    cells: polars.DataFrame
    comma_separates: bool


def read_written(place: Path) -> WrittenTable:
    """The cells of a CSV file, whatever separates them, in UTF-8 or in UTF-16 with a byte order mark.

    Raises LaptimeError for a file of another encoding, and for lines with more values than names. Raises OSError.
    """
    import polars

    first = _first_lines(place)
    if twice := next((name for name in first.names if name and first.names.count(name) > 1), None):
        raise LaptimeError(f"{place}: column {twice} is there twice; keep one of them, or rename one")
    source = place if first.plain else BytesIO(LINE_END.sub("\n", _text(place, first)).encode())
    try:
        with table_errors(place, KIND):
            cells = polars.read_csv(source, infer_schema=False, separator=first.separator, skip_lines=first.skipped)
    except LaptimeError as error:
        raise LaptimeError(_open_quote(place, first) or _longer_line(place, first) or str(error)) from error
    names = [name.strip() for name in cells.columns]
    if len(set(names)) == len(names):
        cells = cells.rename(dict(zip(cells.columns, names, strict=True)))
    return WrittenTable(_rows_with_something(cells), comma_separates=first.separator == ",")


def _rows_with_something(cells: polars.DataFrame) -> polars.DataFrame:
    """The rows but those of lines without anything: no values, or nothing but blanks. A written "" is something."""
    import polars

    rows = polars.Series(range(cells.height), dtype=polars.Int64)
    for column in cells:
        rows = rows.filter(column.gather(rows).str.contains(r"^\s+$").fill_null(value=True))
        if not rows.len():
            return cells
    return cells.filter(~polars.int_range(cells.height, eager=True).is_in(rows.implode()))


@dataclass(frozen=True)
class _Head:
    """How a file is written: its encoding, the lines before its names, and what separates those.

    plain: UTF-8, with lines that end in a line feed.
    """

    encoding: str
    plain: bool
    skipped: int
    separator: str
    names: tuple[str, ...]


def _first_lines(place: Path) -> _Head:
    """How a file is to be read. Raises LaptimeError if any byte of it is of no encoding that is read."""
    with open_regular(place) as file:
        head = file.read(CHUNK_BYTES)
        encoding = "utf-16" if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
        decode, lines, text = getincrementaldecoder(encoding)(), 1, ""
        chunk = head
        while True:
            try:
                decoded = decode.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line = lines + chunk[: max(0, error.start)].count(b"\n")
                raise LaptimeError(f"{place}, line {line}: no UTF-8 text; save the table as UTF-8") from error
            text = text or decoded
            if not chunk:
                break
            lines += chunk.count(b"\n")
            chunk = file.read(CHUNK_BYTES)
    there = LINE_END.split(text)
    lone_return = "\r" in text and LONE_RETURN.search(QUOTED.sub("", text)) is not None
    plain = encoding != "utf-16" and not lone_return
    skipped, told = _lines_before_names(there), _told_separator(there[0], place)
    names = there[skipped] if skipped < len(there) else ""
    if "\0" in names:
        raise LaptimeError(f"{place}: holds zero bytes, as UTF-16 text does; save the table as UTF-8")
    if told is None or told not in names:
        told = _separator(there[skipped : skipped + ROWS_LOOKED_AT])
    return _Head(encoding, plain, skipped, told, _names(there[skipped:], told))


def _told_separator(line: str, place: Path) -> str | None:
    """What a first line `sep=;` says, as spreadsheets are told. Raises LaptimeError for what can't separate."""
    told = SEPARATOR_LINE.match(line)
    if told and (not told[2].isascii() or told[2] == '"'):
        raise LaptimeError(f"{place}, line 1: {told[2]} can't separate columns; write sep=, or sep=; there")
    return told[2] if told else None


def _names(lines: list[str], separator: str) -> tuple[str, ...]:
    """The names of the columns, as they are written; none where their line can't be read."""
    try:
        return tuple(name.strip() for name in next(csv.reader(lines, delimiter=separator), []))
    except csv.Error:
        return ()


def _lines_before_names(lines: list[str]) -> int:
    """How many lines stand before the names: `sep=;`, remarks, and lines without anything.

    A remark begins with # and has other separators than the next line.
    """
    count = 1 if SEPARATOR_LINE.match(lines[0]) else 0
    while count + 1 < len(lines):
        if lines[count].startswith("#"):
            after = [line for line in lines[count + 1 :] if line.strip() and not line.startswith("#")]
            separator = _separator(after[:ROWS_LOOKED_AT])
            if after and lines[count].count(separator) == after[0].count(separator):
                break
        elif lines[count].strip():
            break
        count += 1
    return count


def _separator(lines: list[str]) -> str:
    """What separates the names and the rows below: what gives most rows as many values as there are names.

    Where several do, what separates more; a comma where nothing does.
    """

    def agreement(separator: str) -> tuple[float, int]:
        try:
            counts = [len(values) for values in csv.reader(lines, delimiter=separator) if values]
        except csv.Error:  # a very long value
            return (0.0 if separator in lines[0] else -1.0), 0
        if not counts or counts[0] == 1:
            return -1.0, 0
        same = sum(count == counts[0] for count in counts[1:]) / max(1, len(counts) - 1)
        return same, counts[0] if same else 0

    return max(SEPARATORS, key=agreement)


def _text(place: Path, head: _Head) -> str:
    """All of the file, without a byte order mark."""
    return read_regular(place).removeprefix(BOM_UTF8).decode(head.encoding.removesuffix("-sig"))


def _open_quote(place: Path, head: _Head) -> str | None:
    """Which line has a quote without a second one, in words."""
    odd = [n for n, line in enumerate(_text(place, head).splitlines(), start=1) if line.count('"') % 2]
    if len(odd) % 2 == 0:
        return None
    where = f"line {odd[0]} holds" if len(odd) == 1 else f"line {odd[0]}, or one after it, holds"
    return f'{place}: {where} a quote (") that is not closed; close it, or write "" for a quote in a text'


def _longer_line(place: Path, head: _Head) -> str | None:
    """Which line has more values than the line of names has, in words."""
    lines = csv.reader(StringIO(_text(place, head), newline=""), delimiter=head.separator)
    try:
        for _ in range(head.skipped):
            next(lines, None)
        names = len(next(lines, []))
        for values in lines:
            if len(values) > names:
                return (
                    f"{place}: line {lines.line_num} has {len(values)} values, but the first line names {names}; "
                    "give each column a name there, and each line one value a column"
                )
    except csv.Error:
        return None
    return None
