"""Measurements as one data frame, wherever they lie: a run folder, a Parquet or CSV table, the older JSON files.

Every frame has the same columns (laptime.data.sample_columns.ORDER, and one `config.NAME` for each knob), typed, null
where something wasn't recorded. So what is written over a frame works on all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from laptime.data.columns import SampleColumns
from laptime.data.csv_cells import read_csv
from laptime.data.legacy import read_legacy
from laptime.data.record import Sample, config_id
from laptime.data.run_folder import FILES, read_info
from laptime.data.sample_columns import (
    BULKY_COLUMNS,
    KNOB,
    ORDER,
    STAGE_COLUMNS,
    decode_per_token,
    frame_types,
    ordered,
)
from laptime.data.sample_lines import damage, halves, read_parts, reading_elsewhere, whole_parts
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

TABLES: dict[str, str] = {".parquet": "Parquet", ".pq": "Parquet", ".csv": "CSV"}


def read_frame(path: str | Path, *, bulky: bool = False) -> polars.DataFrame:
    """One row a sample, columns as in laptime.data.sample_columns.ORDER, then the knobs as `config.NAME`.

    Args:
        path: a run folder, a .parquet or .csv file with these columns (fewer will do: the others are null), a file of
            the older JSON format or a folder of them (laptime.data.legacy).
        bulky: read the gaps between tokens (`itl_ms`) and the texts too; without it these two columns are absent.

    Raises LaptimeError for anything else, a damaged line (with its file and number), a newer schema, or a table
    without a single stage's time.
    """
    place = Path(path)
    suffix = place.suffix.lower()
    if suffix in TABLES and not place.is_dir():
        return _read_table(place, TABLES[suffix], bulky=bulky)
    if place.is_dir() and not (place / "run.json").exists() and any(place.glob("*.json")):
        return read_legacy(place, bulky=bulky)
    if suffix == ".json" and not place.is_dir():
        return read_legacy(place, bulky=bulky)
    return read_run_frame(place, bulky=bulky)


def read_run_frame(folder: Path, *, bulky: bool = False) -> polars.DataFrame:
    """The samples of a run folder. A half-written last line is left out, as laptime.data.run_folder.load_run does."""
    read_info(folder)
    parts = whole_parts(sorted(folder.glob(f"{FILES[Sample]}-*.jsonl")))
    columns = SampleColumns(bulky=bulky)
    mine, others = halves(parts)
    with reading_elsewhere(others, bulky=bulky) as received:
        read_parts(mine, columns, bulky=bulky)
        packed = received()
    if packed is None:
        read_parts(others, columns, bulky=bulky)
    else:
        columns.absorb(packed)
    try:
        return columns.frame()
    except msgspec.DecodeError as error:  # a configuration that is none: only now are they looked into
        raise damage(parts, msgspec.json.Decoder(Sample)) or LaptimeError(f"{folder}: {error}") from error


def _read_table(file: Path, kind: str, *, bulky: bool) -> polars.DataFrame:
    import polars

    read: Callable[[Path], polars.DataFrame] = polars.read_parquet if kind == "Parquet" else read_csv
    try:
        frame = read(file)
    except FileNotFoundError:
        raise LaptimeError(f"{file}: no such file") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror or error}") from error
    except polars.exceptions.NoDataError:
        raise LaptimeError(
            f"{file}: empty; a table of samples has a line of column names and one line a sample"
        ) from None
    except polars.exceptions.PolarsError as error:
        raise LaptimeError(f"{file}: not a {kind} table ({str(error).splitlines()[0]})") from error
    return complete(frame, str(file), bulky=bulky)


def complete(frame: polars.DataFrame, source: str, *, bulky: bool = False) -> polars.DataFrame:
    """A table with some of the columns as a frame with all of them, typed; other columns stay as they are.

    Raises LaptimeError when it has no stage's time at all, or a column that is not of its type.
    """
    import polars

    if not any(name in frame.columns for name in STAGE_COLUMNS):
        raise LaptimeError(f"{source}: {_no_times(frame.columns)}")
    types = frame_types()
    wanted = [name for name in ORDER if bulky or name not in BULKY_COLUMNS]
    columns: list[polars.Series] = []
    for name in wanted:
        if name not in frame.columns:
            columns.append(polars.Series(name, [None] * frame.height, dtype=types[name]))
            continue
        try:
            columns.append(_finite(frame[name]).cast(types[name]))
        except polars.exceptions.PolarsError as error:
            raise LaptimeError(f"{source}, column {name}: not {types[name]} ({str(error).splitlines()[0]})") from error
    others = [_finite(frame[name]) for name in frame.columns if name not in ORDER]
    for column in others:
        if column.name.startswith(KNOB) and column.dtype.is_nested():
            raise LaptimeError(f"{source}, column {column.name}: a knob is one value, not {column.dtype}; leave it out")
    made = polars.DataFrame([*columns, *others])
    if "decode_per_token_ms" not in frame.columns:
        made = made.with_columns(decode_per_token().alias("decode_per_token_ms"))
    return ordered(_with_config_ids(made))


def _with_config_ids(frame: polars.DataFrame) -> polars.DataFrame:
    """Configurations told apart by their knobs where no id was recorded."""
    import polars

    names = knobs(frame)
    if not names or frame["config_id"].null_count() < frame.height:
        return frame
    kinds = frame.select(names).unique(maintain_order=True)
    ids = [config_id({n.removeprefix(KNOB): v for n, v in row.items()}) for row in kinds.iter_rows(named=True)]
    named = kinds.with_columns(polars.Series("config_id", ids, dtype=polars.String))
    return frame.drop("config_id").join(named, on=names, how="left", nulls_equal=True, maintain_order="left")


def _finite(column: polars.Series) -> polars.Series:
    """The column with null for NaN and infinities: other programs write them where there is no value."""
    import polars

    if not column.dtype.is_float():
        return column
    return polars.select(polars.when(column.is_finite()).then(column).alias(column.name)).to_series()


def _no_times(columns: list[str]) -> str:
    near = {name: get_close_matches(name, columns, n=1, cutoff=0.6) for name in STAGE_COLUMNS}
    said = [f"{found[0]!r} should perhaps be {name}" for name, found in near.items() if found]
    hint = f" ({'; '.join(said)})" if said else ""
    return f"no column {', '.join(STAGE_COLUMNS[:-1])} or total_ms{hint}; rename the columns that hold stage times"


def knobs(frame: polars.DataFrame) -> list[str]:
    """The names of the knob columns, `config.` included."""
    return [name for name in frame.columns if name.startswith(KNOB)]
