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
    source = place if first.plain else BytesIO(_text(place, first).replace("\r", "\n").encode())
    try:
        with table_errors(place, KIND):
            cells = polars.read_csv(source, infer_schema=False, separator=first.separator, skip_lines=first.skipped)
    except LaptimeError as error:
        raise LaptimeError(_longer_line(place, first) or str(error)) from error
    names = [name.strip() for name in cells.columns]
    if len(set(names)) == len(names):
        cells = cells.rename(dict(zip(cells.columns, names, strict=True)))
    if cells.width > 1:  # a line without anything is no row
        cells = cells.filter(~polars.all_horizontal(polars.all().is_null()))
    return WrittenTable(cells, comma_separates=first.separator == ",")


@dataclass(frozen=True)
class _Head:
    """How a file is written: its encoding, the lines before its names, and what separates those.

    plain: UTF-8, with lines that end in a line feed.
    """

    encoding: str
    plain: bool
    skipped: int
    separator: str


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
    plain = encoding != "utf-16" and not ("\r" in text and "\n" not in text)
    there = text.splitlines()
    skipped = _lines_before_names(there)
    if skipped and (told := re.match(r"^sep=(.)$", there[0], re.IGNORECASE)):  # how spreadsheets are told
        return _Head(encoding, plain, skipped, told[1])
    names = next((line for line in there[skipped:] if line.strip()), "")
    if "\0" in names:
        raise LaptimeError(f"{place}: holds zero bytes, as UTF-16 text does; save the table as UTF-8")
    return _Head(encoding, plain, skipped, _separator(names))


def _lines_before_names(lines: list[str]) -> int:
    """How many lines stand before the names: `sep=;`, and remarks that begin with # and have other separators."""
    count = 1 if lines and re.match(r"^sep=.$", lines[0], re.IGNORECASE) else 0
    while count + 1 < len(lines) and lines[count].startswith("#"):
        after = next((line for line in lines[count + 1 :] if not line.startswith("#")), "")
        separator = _separator(after)
        if lines[count].count(separator) == after.count(separator):
            break
        count += 1
    return count


def _separator(line: str) -> str:
    """What separates a line of names: a comma where there is one outside quotes, else what else is there."""
    bare = re.sub(r'"[^"]*"', "", line)
    return next((one for one in SEPARATORS if one in bare), ",")


def _text(place: Path, head: _Head) -> str:
    """All of the file, without a byte order mark."""
    return read_regular(place).removeprefix(BOM_UTF8).decode(head.encoding.removesuffix("-sig"))


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
