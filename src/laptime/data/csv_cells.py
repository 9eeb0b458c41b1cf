"""A frame as CSV and back, without a cell that a spreadsheet would run as a formula; any other CSV as a frame.

A text that begins with = + - @, a tab, a line break or an apostrophe gets an apostrophe before it, which spreadsheets
take for "this is text". So does a knob's text that would read as a number or as true. Reading takes one apostrophe off
again. Numbers are written as numbers, whatever they begin with; no value is an empty cell, an empty text is "".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import KNOB, frame_types
from laptime.data.number_texts import comma_columns, numbers_of, without_missing
from laptime.data.written_table import read_written
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

ACTIVE = r"^[=+\-@\t\r\n']"
"""What makes a spreadsheet take a cell for more than text, and the apostrophe itself."""

ESCAPED = r"^'"

LIST_SEPARATOR = ";"

MOST_COLUMNS = 10_000
"""Each column is typed by itself, in about a millisecond."""

NUMBER = r"^\s*[+\-]?(\d+\.?\d*|\.\d+)([eE][+\-]?\d+)?\s*$|^(?i:true|false|nan|[+\-]?inf(inity)?)$"
WHOLE = r"^-?\d{1,18}$"


def to_csv(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame with every column writable and every text safe in a spreadsheet."""
    import polars
    from polars import col, concat_str, lit, when

    frame = frame.with_columns(
        polars.Series(column.name, list(map(_as_text, column.to_list())), dtype=polars.String)
        for column in frame
        if column.dtype == polars.Binary or (column.dtype.is_nested() and not _is_plain_list(column.dtype))
    )
    columns = []
    for name, type_ in frame.schema.items():
        if isinstance(type_, polars.List):
            columns.append(col(name).cast(polars.List(polars.String)).list.join(LIST_SEPARATOR).alias(name))
        elif type_ == polars.String:
            active = col(name).str.contains(ACTIVE)
            if name not in frame_types():
                active = active | col(name).str.contains(NUMBER)
            columns.append(when(active).then(concat_str(lit("'"), col(name))).otherwise(col(name)).alias(name))
        else:
            columns.append(col(name))
    return frame.select(columns)


def _is_plain_list(type_: polars.DataType) -> bool:
    import polars

    return isinstance(type_, polars.List) and not type_.inner.is_nested()


def _as_text(value: Any) -> str | None:
    """Another program's bytes or nested value, which no cell can hold as it is."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return msgspec.json.encode(value, enc_hook=str).decode()


def read_csv(file: Path, *, of_samples: bool) -> polars.DataFrame:
    """A CSV file with every column typed: those of a frame by their names if it is one, others by what they hold.

    Cells of a frame's column that hold no number stay texts: laptime.data.frame.complete says which.
    Raises LaptimeError for a file that is no table, or a too wide one. Raises OSError.
    """
    import polars

    types = frame_types() if of_samples else {}
    written = read_written(file)
    if written.cells.width > MOST_COLUMNS:
        raise LaptimeError(
            f"{file}: has {written.cells.width:,} columns, and at most {MOST_COLUMNS:,} are read from CSV; "
            "leave some out, or save it as Parquet"
        )
    numbers = (column for column in written.cells if types.get(column.name) != polars.String)
    commas, mostly = comma_columns(numbers, comma_separates=written.comma_separates, place=file)
    typed = []
    for column in written.cells:
        type_ = types.get(column.name)
        comma = column.name in commas or (mostly and isinstance(type_, polars.List))
        typed.append(_typed(column, type_, decimal_comma=comma))
    return polars.DataFrame(typed)


def _typed(
    cells: polars.Series, type_: polars.DataType | type[polars.DataType] | None, *, decimal_comma: bool
) -> polars.Series:
    import polars

    if type_ == polars.String:
        return _text(cells)
    if isinstance(type_, polars.List):
        return _lists(cells, decimal_comma=decimal_comma)
    if type_ is not None:
        return _numbers(cells, type_, decimal_comma=decimal_comma)
    return _guessed(cells, decimal_comma=decimal_comma)


def _numbers(
    cells: polars.Series, type_: polars.DataType | type[polars.DataType], *, decimal_comma: bool
) -> polars.Series:
    """A column of numbers by its name: as numbers if every cell holds one or none, else as it is."""
    import polars

    bare = _series(cells.str.strip_chars().replace("", None))
    for number in () if decimal_comma else (type_, polars.Float64):
        numbers: polars.Series = bare.cast(number, strict=False)
        if numbers.null_count() == bare.null_count():
            return numbers
    return numbers_of(without_missing(bare), decimal_comma=decimal_comma)


def _lists(cells: polars.Series, *, decimal_comma: bool) -> polars.Series:
    """Lists of numbers as laptime writes them, 1.5;2.5, and as Python and JSON do: [1.5, 2.5]."""
    import polars

    filled = polars.element().filter(polars.element() != "")
    bracketed = cells.str.contains(r"^\s*\[").any()
    bare = cells.str.replace_all(r"[\[\]\s]", "") if bracketed else cells
    if bracketed:
        bare = bare.str.replace_all(",", LIST_SEPARATOR, literal=True)
    elif decimal_comma:
        bare = bare.str.replace_all(",", ".", literal=True)
    return _series(bare.str.split(LIST_SEPARATOR).list.eval(filled))


def _guessed(cells: polars.Series, *, decimal_comma: bool) -> polars.Series:
    """A knob's or a foreign column: true or false, whole, real, else text. A knob's texts stay as they are."""
    import polars

    present = cells.drop_nulls()
    if not present.len():
        return cells
    if present.is_in(["true", "false"]).all():
        return cells == "true"
    knob = cells.name.startswith(KNOB)
    if not knob:
        present = present.str.strip_chars()
    if present.str.contains(WHOLE).all():
        return _series(cells.str.strip_chars().cast(polars.Int64))
    if decimal_comma:
        numbers = numbers_of(cells, decimal_comma=True)
        return _text(cells) if numbers.dtype == polars.String else numbers
    real = present.cast(polars.Float64, strict=False)
    if real.null_count() == 0 and not present.str.contains(ESCAPED).any():
        return _series(cells.str.strip_chars().cast(polars.Float64))
    numbers = cells if knob else numbers_of(cells)
    return _text(cells) if numbers.dtype == polars.String else numbers


def _series(value: Any) -> polars.Series:
    """What the text functions of a column give: their annotations say nothing."""
    import polars

    assert isinstance(value, polars.Series)
    return value


def _text(cells: polars.Series) -> polars.Series:
    """The texts with the apostrophe of `to_csv` taken off."""
    import polars
    from polars import col, when

    frame = cells.alias("cell").to_frame()
    bare = when(col("cell").str.contains(ESCAPED)).then(col("cell").str.slice(1)).otherwise(col("cell"))
    return frame.select(bare.cast(polars.String)).to_series().alias(cells.name)
