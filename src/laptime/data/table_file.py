"""A table in a file, Parquet or CSV, as a frame with the columns that it has; every verb reads tables through here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from laptime.data.columns import KNOB, possible
from laptime.data.csv_cells import read_csv
from laptime.data.outside import open_regular, table_errors
from laptime.data.written_table import KIND
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

CSV, PARQUET = (".csv", ".tsv"), (".parquet", ".pq")


def is_table(place: Path) -> bool:
    """Whether a file's name says that it is a table."""
    return place.suffix.lower() in (*CSV, *PARQUET) and not place.is_dir()


def read_table_file(file: Path, *, of_samples: bool) -> polars.DataFrame:
    """All columns of a table.

    of_samples: type a CSV table's columns by their names, where a sample has such a column, and not by what they hold.
    Raises LaptimeError for a file that can't be read as a table.
    """
    import polars

    is_csv = file.suffix.lower() in CSV
    try:
        open_regular(file).close()  # a pipe would keep polars waiting
        with table_errors(file, KIND if is_csv else "a Parquet table"):
            return read_csv(file, of_samples=of_samples) if is_csv else polars.read_parquet(file)
    except FileNotFoundError:
        raise LaptimeError(f"{file}: no such file") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror or error}") from error


def of_type(column: polars.Series, type_: Any, source: str) -> polars.Series:
    """A column of a table as one of its type.

    Raises LaptimeError with the row of a value that is none: row 1 is the first below the names. A time or a list is no
    number, whatever it casts to, and half a token is none.
    """
    import polars

    if column.dtype.is_temporal() or (column.dtype.is_nested() and not isinstance(type_, polars.List)):
        raise LaptimeError(f"{source}, column {column.name}: not {type_} (it holds {column.dtype})")
    if column.dtype.is_float() and type_ == polars.Int64:
        column = possible(column, "")
        if (halves := column != column.round()).any():
            row = int(halves.arg_max() or 0)
            raise LaptimeError(f"{source}, column {column.name}, row {row + 1}: {column[row]} is no whole number")
    with table_errors(f"{source}, column {column.name}", str(type_)):
        cast: polars.Series = column.cast(type_, strict=False)
        lost = cast.is_null() & column.is_not_null()
        if isinstance(type_, polars.List):
            lost |= (cast.list.eval(polars.element().is_null()).list.sum() > 0).fill_null(value=False)
        if not lost.any():
            return cast
        row, others = int(lost.arg_max() or 0), int(lost.sum()) - 1
        more = f", and {others} more" if others else ""
        kind = "text" if type_ == polars.String else "list of numbers" if column.dtype.is_nested() else "number"
        value = column.cast(polars.String, strict=False)[row] if not column.dtype.is_nested() else column[row].to_list()
        raise LaptimeError(
            f"{source}, column {column.name}, row {row + 1}: {str(value)[:60]!r} is no {kind}{more}; write the number "
            "alone, or nothing"
        )


def plain_column(column: polars.Series, source: str) -> polars.Series:
    """A knob, or a column of another program: as text where it is neither a number, true or false, nor text."""
    import polars

    type_ = column.dtype
    if column.name.startswith(KNOB) and (type_.is_nested() or type_ in (polars.Binary, polars.Object)):
        raise LaptimeError(f"{source}, column {column.name}: a knob is one value, not {type_}; leave it out")
    if type_.is_decimal():
        column = column.cast(polars.Float64)
    elif type_ == polars.Duration:
        column = column.cast(polars.Int64)
    elif type_.is_temporal() or type_ in (polars.Categorical, polars.Enum, polars.Null):
        column = column.cast(polars.String)
    return column
