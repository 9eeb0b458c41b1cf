"""Measurements as one data frame, wherever they lie: a run folder, a Parquet or CSV table, the older JSON files.

Every frame has the same columns (laptime.data.columns.ORDER, and one `config.NAME` for each knob), typed, null
where something wasn't recorded. So what is written over a frame works on all of them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import (
    DECODE_PER_TOKEN,
    KEY,
    KNOB,
    ON_REQUEST,
    ORDER,
    STAGE_COLUMNS,
    SampleColumns,
    decode_per_token,
    frame_types,
    line_type,
    ordered,
    possible,
)
from laptime.data.legacy import read_legacy
from laptime.data.legacy_own import read_own
from laptime.data.outside import DAMAGE, open_regular
from laptime.data.record import SCHEMA_VERSION, Sample, config_id
from laptime.data.run_folder import FILES, read_info
from laptime.data.table_file import is_table, of_type, plain_column, read_table_file
from laptime.data.usable import REPEATED_KEY
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


def read_frame(path: str | Path, *, bulky: bool = False) -> polars.DataFrame:
    """One row a sample, columns as in laptime.data.columns.ORDER, then the knobs as `config.NAME`.

    Args:
        path: a run folder, a .parquet or .csv file with these columns (fewer will do: the others are null), a file of
            the older JSON format or a folder of them (laptime.data.legacy).
        bulky: read the gaps between tokens (`itl_ms`) and the texts too; without it these two columns are absent.

    Raises LaptimeError for anything else, a damaged line (with its file and number), a newer schema, or a table
    without a single stage's time.
    """
    place = Path(path)
    if is_table(place):
        return _read_table(place, bulky=bulky)
    if place.is_dir() and not (place / "run.json").exists() and any(place.glob("*.json")):
        return _read_older(place, bulky=bulky)
    if place.suffix.lower() == ".json" and not place.is_dir():
        return _read_older(place, bulky=bulky)
    return _read_run(place, bulky=bulky)


def _read_run(folder: Path, *, bulky: bool) -> polars.DataFrame:
    """The samples of a run folder. A half-written last line is left out, as laptime.data.run_folder.load_run does."""
    read_info(folder)
    files = sorted(folder.glob(f"{FILES[Sample]}-*.jsonl"))
    columns = SampleColumns(bulky=bulky)
    with _collector_off():
        for file in files:
            _read_lines(file, columns, msgspec.json.Decoder(line_type(bulky=bulky)))
    try:
        return with_repeated_keys_flagged(columns.frame())
    except DAMAGE as error:  # in a configuration: only now are they looked into
        raise _damage(files, msgspec.json.Decoder(Sample)) or LaptimeError(f"{folder}: {error}") from error


def _read_older(place: Path, *, bulky: bool) -> polars.DataFrame:
    """Files that laptime itself wrote have known fields, and are read in a third of the time."""
    files = [place] if not place.is_dir() else sorted(place.glob("*.json"))
    frame = read_own(files, bulky=bulky)
    return read_legacy(place, bulky=bulky) if frame is None else frame


def _read_table(file: Path, *, bulky: bool) -> polars.DataFrame:
    frame = read_table_file(file, of_samples=True)
    if not frame.width:
        raise LaptimeError(f"{file}: empty; a table begins with a line of column names, then a line a sample")
    return complete(frame, str(file), bulky=bulky)


def complete(frame: polars.DataFrame, source: str, *, bulky: bool = False) -> polars.DataFrame:
    """A table with some of the columns as a frame with all of them, typed; other columns stay as they are.

    Raises LaptimeError when it has no stage's time at all, or a column that is not of its type.
    """
    import polars

    if not any(name in frame.columns for name in STAGE_COLUMNS):
        raise LaptimeError(f"{source}: {_no_times(frame)}")
    types = frame_types()
    wanted = [name for name in ORDER if bulky or name not in ON_REQUEST]
    columns: list[polars.Series] = []
    for name in wanted:
        if name not in frame.columns:
            columns.append(polars.Series(name, [None] * frame.height, dtype=types[name]))
            continue
        columns.append(possible(of_type(frame[name], types[name], source), name))
    others = [possible(plain_column(frame[name], source), name) for name in frame.columns if name not in ORDER]
    completed = polars.DataFrame([*columns, *others])
    if DECODE_PER_TOKEN not in frame.columns:
        completed = completed.with_columns(decode_per_token().alias(DECODE_PER_TOKEN))
    return with_repeated_keys_flagged(ordered(_with_config_ids(completed)))


def _with_config_ids(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame with an id for each configuration, by its knobs, if no id was recorded."""
    import polars

    names = knobs(frame)
    if not names or frame["config_id"].null_count() < frame.height:
        return frame
    kinds = frame.select(names).unique(maintain_order=True)
    ids = [config_id({n.removeprefix(KNOB): v for n, v in row.items()}) for row in kinds.iter_rows(named=True)]
    named = kinds.with_columns(polars.Series("config_id", ids, dtype=polars.String))
    return frame.drop("config_id").join(named, on=names, how="left", nulls_equal=True, maintain_order="left")


def with_repeated_keys_flagged(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame with the flag repeated-key on each row whose key an earlier row has, so that every key counts once."""
    import polars

    keys = frame.select(KEY)
    if (
        not frame.height
        or any(column.null_count() == frame.height for column in keys)
        or not keys.is_duplicated().any()
    ):
        return frame
    known = polars.all_horizontal(polars.col(name).is_not_null() for name in KEY)
    again = known & ~polars.struct(KEY).is_first_distinct()
    flags = polars.col("flags").fill_null("")
    more = polars.when(flags == "").then(polars.lit(REPEATED_KEY)).otherwise(flags + f",{REPEATED_KEY}")
    flagged = polars.when(again & ~flags.str.contains(REPEATED_KEY, literal=True)).then(more)
    return frame.with_columns(flagged.otherwise(polars.col("flags")).alias("flags"))


_STAGES = [name.removesuffix("_ms") for name in dict.fromkeys((*STAGE_COLUMNS, "total_ms"))]
_UNITS = {"_s": "* 1000", "_us": "/ 1000", "_ns": "/ 1e6", "_min": "* 60000"}
"""The ends of columns in another unit, and how such a time becomes ms."""


def _no_time(column: polars.Series) -> bool:
    """Whether a column holds yes and no or counts, by its name or its values: then it holds no times."""
    import polars

    if column.dtype.is_nested() or column.name.startswith(_FLAG_STARTS) or column.name.endswith(_COUNT_ENDS):
        return True
    values = {str(value).lower() for value in column.drop_nulls().unique().head(3).cast(polars.String, strict=False)}
    return len(values) == 2 and values <= _FLAG_VALUES


_WHOLE_CALL = ("e2e", "latency", "total", "duration", "elapsed")
"""What names of columns hold that are the time of a whole call."""
_FLAG_VALUES = {"true", "false", "yes", "no", "0", "1", "0.0", "1.0"}
_FLAG_STARTS = ("is_", "has_")
_COUNT_ENDS = ("_size", "_count", "_tokens", "_length")


def _no_times(frame: polars.DataFrame) -> str:
    columns = frame.columns
    others = [
        f"{name}_ms = {name}{end} {how}" for name in _STAGES for end, how in _UNITS.items() if name + end in columns
    ]
    if others:
        return f"no column in ms, which laptime reads; make {', '.join(others)}"
    times = [name for name in columns if name not in ORDER and not _no_time(frame[name])]
    near = {name: get_close_matches(name, times, n=1, cutoff=0.6) for name in STAGE_COLUMNS}
    if whole := [name for name in times if any(word in name.lower() for word in _WHOLE_CALL)]:
        near["total_ms"] = whole[:1]
    guesses = [f"{names[0]!r} should perhaps be {name}" for name, names in near.items() if names]
    hint = f" ({'; '.join(guesses)})" if guesses else ""
    there = dict.fromkeys((*STAGE_COLUMNS, "total_ms"))
    return f"no column {' or '.join(there)}{hint}; rename the columns that hold stage times, in ms"


def knobs(frame: polars.DataFrame) -> list[str]:
    """The names of the knob columns, `config.` included."""
    return [name for name in frame.columns if name.startswith(KNOB)]


BLOCK_BYTES = 1 << 20
"""Lines are decoded in blocks of this size: their objects stay in the processor's cache until they are columns."""

Decoder = msgspec.json.Decoder[Any]


def _read_lines(file: Path, columns: SampleColumns, decoder: Decoder) -> None:
    """Append a file's lines to the columns. Raises LaptimeError for a damaged one, with its number."""
    for block in read_blocks(file):
        try:
            samples = decoder.decode_lines(block)
            if max((sample.schema_version for sample in samples), default=0) > SCHEMA_VERSION:
                raise OverflowError("lines of a newer schema")
            columns.add(samples)
        except (*DAMAGE, OverflowError) as error:  # noqa: PERF203 - once a block
            raise _damage([file], decoder) or LaptimeError(f"{file}: {error}; upgrade laptime") from error


def _damage(files: Sequence[Path], decoder: Decoder) -> LaptimeError | None:
    """What is wrong with files that can't be read: the first bad line, by its number. None if no line is bad."""
    for file in files:
        number = 0
        for block in read_blocks(file):
            for line in bytes(block).split(b"\n")[:-1]:
                number += 1
                if (complaint := _complaint(line, decoder)) is not None:
                    return LaptimeError(f"{file}, line {number}: {complaint}")
    return None


def _complaint(line: bytes, decoder: Decoder) -> str | None:
    if not line.strip():
        return None
    try:
        sample = decoder.decode(line)
    except DAMAGE as error:
        return f"not a record of laptime ({error}); remove that line"
    version = getattr(sample, "schema_version", 0)
    if version > SCHEMA_VERSION:
        return f"schema version {version}, this laptime reads up to {SCHEMA_VERSION}; upgrade laptime"
    return None


def read_blocks(file: Path) -> Iterator[memoryview]:
    """A file in blocks of whole lines, each good until the next is asked for. A half-written last line is left out."""
    buffer, held = bytearray(BLOCK_BYTES), 0
    with _opened(file) as opened:
        while read := opened.readinto(memoryview(buffer)[held:]):
            filled = held + read
            end = buffer.rfind(b"\n", 0, filled) + 1
            if end:
                yield memoryview(buffer)[:end]
            held = filled - end
            if held == len(buffer):
                buffer = buffer + bytes(len(buffer))  # one line longer than a block
            elif end:
                buffer[:held] = buffer[end:filled]


@contextmanager
def _opened(file: Path) -> Iterator[BufferedReader]:
    """The file, open to be read. Raises LaptimeError when that fails, also in the middle."""
    try:
        with open_regular(file) as opened:
            yield opened
    except OSError as error:
        raise LaptimeError(f"{file}: can't be read: {error.strerror or error}") from None


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection in this block: it would search millions of short-lived objects that are in no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
