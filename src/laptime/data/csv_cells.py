"""A frame as CSV and back, without a cell that a spreadsheet would run as a formula.

A text that begins with = + - @, a tab, a line break or an apostrophe gets an apostrophe before it, which spreadsheets
take for "this is text". So does a knob's text that would read as a number or as true. Reading takes one apostrophe off
again. Numbers are written as numbers, whatever they begin with; no value is an empty cell, an empty text is "".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import KNOB, frame_types

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

ACTIVE = r"^[=+\-@\t\r\n']"
"""What makes a spreadsheet take a cell for more than text, and the apostrophe itself."""

ESCAPED = r"^'"

LIST_SEPARATOR = ";"

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


def read_csv(file: Path) -> polars.DataFrame:
    """A CSV file with every column typed: those of a frame by their names, others by what they hold.

    Raises what polars raises for a file that is no table.
    """
    import polars

    types = frame_types()
    raw = polars.read_csv(file, infer_schema=False)
    return polars.DataFrame([_typed(raw[name], types.get(name)) for name in raw.columns])


def _typed(cells: polars.Series, type_: polars.DataType | type[polars.DataType] | None) -> polars.Series:
    import polars

    if type_ == polars.String:
        return _text(cells)
    if isinstance(type_, polars.List):
        filled = polars.element().filter(polars.element() != "")
        return _series(cells.str.split(LIST_SEPARATOR).list.eval(filled).cast(type_))
    if type_ is not None:
        return _series(
            cells.str.strip_chars().replace("", None)
        )  # laptime.data.frame.complete casts, and says what doesn't fit
    return _guessed(cells)


def _guessed(cells: polars.Series) -> polars.Series:
    """A knob's or a foreign column: true or false, whole, real, else text."""
    import polars

    present = cells.drop_nulls()
    if not present.len():
        return cells
    if present.is_in(["true", "false"]).all():
        return cells == "true"
    if not cells.name.startswith(KNOB):
        present = present.str.strip_chars()
    if present.str.contains(WHOLE).all():
        return _series(cells.str.strip_chars().cast(polars.Int64))
    real = present.cast(polars.Float64, strict=False)
    if real.null_count() == 0 and not present.str.contains(ESCAPED).any():
        return _series(cells.str.strip_chars().cast(polars.Float64))
    return _text(cells)


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
