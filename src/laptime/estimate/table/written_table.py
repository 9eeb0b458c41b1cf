"""A CSV table as somebody wrote it: other separators, percent signs, blanks around numbers, words for "missing".

What can be read in one way only is read so. What can't is refused with the place and the mend.
"""

from __future__ import annotations

import csv
import re
from codecs import getincrementaldecoder
from pathlib import Path

import polars

from laptime.data.outside import open_regular, table_errors
from laptime.errors import LaptimeError

SEPARATORS = ",;\t|"
MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "-")
"""What stands for no value in a column whose other values are numbers, in any case."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
PERCENT = r"^[+-]?(\d+\.?\d*|\.\d+) ?%$"
THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})*(\.\d+)?$"
KIND = "a table with a first line of column names"
CHUNK_BYTES = 1 << 20


def read_written(place: Path) -> polars.DataFrame:
    """A CSV file as a frame: numbers as numbers, whatever separates and surrounds them.

    Raises LaptimeError for a file that is no UTF-8 text, and for lines with more values than names. Raises OSError.
    """
    first, second = _first_lines(place)
    separator = _separator(first)
    decimal_comma = separator != "," and re.search(r"\d,\d", second) is not None
    try:
        with table_errors(place, KIND):
            frame = polars.read_csv(
                place, infer_schema_length=None, separator=separator, decimal_comma=decimal_comma, encoding="utf8"
            )
    except LaptimeError as error:
        raise LaptimeError(_longer_line(place, separator) or str(error)) from error
    names = [name.strip() for name in frame.columns]
    if len(set(names)) == len(names):
        frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    return frame.with_columns(numbers_of(column) for column in frame if column.dtype == polars.String)


def numbers_of(texts: polars.Series) -> polars.Series:
    """A column of texts as numbers, where every value that isn't missing is one; else as it is.

    A percent sign is taken off and the number kept: 85 % is 85.
    """
    bare = texts.str.strip_chars()
    frame = bare.to_frame("text").with_columns(
        polars.when(polars.col("text").str.to_lowercase().is_in(MISSING))
        .then(None)
        .otherwise(polars.col("text"))
        .alias("text")
    )
    present = frame["text"].drop_nulls()
    if not present.len():
        return texts
    for pattern, taken_off in ((NUMBER, None), (PERCENT, r" ?%"), (THOUSANDS, ",")):
        if present.str.contains(pattern).all():
            digits = frame["text"] if taken_off is None else frame["text"].str.replace_all(taken_off, "")
            numbers: polars.Series = digits.cast(polars.Float64).rename(texts.name)
            return numbers
    return texts


def is_number_text(texts: polars.Series) -> polars.Series:
    """Which texts are numbers, (n,) true or false."""
    return texts.str.strip_chars().str.contains(NUMBER)


def _first_lines(place: Path) -> tuple[str, str]:
    """The first two lines that hold something. Raises LaptimeError if any byte of the file is no UTF-8."""
    decode = getincrementaldecoder("utf-8-sig")()
    head, at = "", 0
    with open_regular(place) as file:
        while chunk := file.read(CHUNK_BYTES):
            try:
                text = decode.decode(chunk)
            except UnicodeDecodeError as error:
                raise LaptimeError(
                    f"{place}: byte {at + error.start} is no UTF-8 text; save the table as UTF-8"
                ) from error
            if "\0" in text:
                raise LaptimeError(f"{place}: holds zero bytes, as UTF-16 text does; save the table as UTF-8")
            head = head or text
            at += len(chunk)
    lines = [line for line in head.splitlines() if line.strip()] + ["", ""]
    return lines[0], lines[1]


def _separator(line: str) -> str:
    """What separates a line of names: a comma where there is one outside quotes, else what else is there."""
    bare = re.sub(r'"[^"]*"', "", line)
    return next((one for one in SEPARATORS if one in bare), ",")


def _longer_line(place: Path, separator: str) -> str | None:
    """Which line has more values than the first line has names, in words."""
    with place.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = csv.reader(file, delimiter=separator)
            names = len(next(lines, []))
            for values in lines:
                if len(values) > names:
                    return (
                        f"{place}: line {lines.line_num} has {len(values)} values, but the first line names "
                        f"{names}; give each column a name in the first line, and each line one value a column"
                    )
        except csv.Error:
            return None
    return None
