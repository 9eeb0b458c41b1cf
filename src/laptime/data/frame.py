"""Measurements as one data frame, wherever they lie: a run folder, a Parquet or CSV table, the older JSON files.

Every frame has the same columns (laptime.data.columns.ORDER, and one `config.NAME` for each knob), typed, null
where something wasn't recorded. So what is written over a frame works on all of them.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from laptime.data.columns import (
    BULKY_COLUMNS,
    KNOB,
    ORDER,
    STAGE_COLUMNS,
    BulkySample,
    SampleColumns,
    SlimSample,
    decode_per_token,
    frame_types,
    ordered,
)
from laptime.data.csv_cells import read_csv
from laptime.data.legacy import read_legacy
from laptime.data.record import SCHEMA_VERSION, Sample, config_id
from laptime.data.run_folder import FILES, read_info
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars


TABLES: dict[str, str] = {".parquet": "Parquet", ".pq": "Parquet", ".csv": "CSV"}


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


BLOCK_BYTES = 1 << 20
"""Lines are decoded in blocks of this size: their objects stay in the processor's cache until they are columns."""

WORTH_SHARING = 64 << 20
"""Fewer bytes are read here alone: the second process takes a fifth of a second to start."""

Decoder = msgspec.json.Decoder[SlimSample] | msgspec.json.Decoder[Sample]


class Part(NamedTuple):
    """Whole lines of one file: the bytes from `begin` to `end`."""

    file: str
    begin: int
    end: int


def whole_parts(files: Sequence[Path]) -> list[Part]:
    """Each file up to its last newline: a half-written line after it is left out."""
    return [Part(str(file), 0, _line_end(file, file.stat().st_size)) for file in files]


def halves(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The parts for this process and for a second one, which gets none unless it is worth it."""
    size = sum(part.end - part.begin for part in parts)
    if size < WORTH_SHARING or len(_processors()) < 2 or not sys.executable:
        return list(parts), []
    mine: list[Part] = []
    others: list[Part] = []
    left = size // 2
    for part in parts:
        cut = part.begin if left <= 0 else min(part.end, part.begin + left)
        if part.begin < cut < part.end:
            cut = _line_end(Path(part.file), cut)
        left -= part.end - part.begin
        mine += [part._replace(end=cut)] if cut > part.begin else []
        others += [part._replace(begin=cut)] if cut < part.end else []
    return mine, others


def read_parts(parts: Sequence[Part], columns: SampleColumns, *, bulky: bool) -> None:
    """Append these lines to the columns. Raises LaptimeError for a damaged one, by its file and number."""
    decoder = msgspec.json.Decoder(BulkySample if bulky else SlimSample)
    with _collector_off():
        for part in parts:
            for block in _blocks(part):
                try:
                    samples = decoder.decode_lines(block)
                    if max([s.schema_version for s in samples], default=0) > SCHEMA_VERSION:
                        raise OverflowError("lines of a newer schema")
                    columns.add(samples)
                except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:  # noqa: PERF203 - a block at a time
                    raise damage([part], decoder) or LaptimeError(f"{part.file}: {error}; upgrade laptime") from error


@contextmanager
def reading_elsewhere(parts: Sequence[Part], *, bulky: bool) -> Iterator[Callable[[], bytes | None]]:
    """Have a second process read these parts. Yields a function that waits for its columns; None when it failed."""
    if not parts:
        yield lambda: None
        return
    job = msgspec.json.encode((bulky, [tuple(part) for part in parts])).decode()
    # Its modules come from where this process has its own, never from the folder it happens to be started in.
    program = f"import sys; sys.path[:] = {sys.path!r}; from laptime.data.frame import main; main()"
    try:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-c", program, job], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    except OSError:
        yield lambda: None
        return

    output = process.stdout
    assert output is not None

    def received() -> bytes | None:
        packed = output.read()
        return packed if process.wait() == 0 else None

    try:
        yield received
    finally:
        process.kill()
        output.close()
        process.wait()


def main() -> None:
    """The second process's whole life."""
    bulky, parts = msgspec.json.decode(sys.argv[1], type=tuple[bool, list[tuple[str, int, int]]])
    columns = SampleColumns(bulky=bulky)
    read_parts([Part(*part) for part in parts], columns, bulky=bulky)
    sys.stdout.buffer.write(columns.packed())


def damage(parts: Sequence[Part], decoder: Decoder) -> LaptimeError | None:
    """What to say of files that can't be read: the first bad line, by its number. None when there is none."""
    for part in parts:
        number = 0
        for block in _blocks(part._replace(begin=0)):
            for line in bytes(block).split(b"\n")[:-1]:
                number += 1
                if (said := _complaint(line, decoder)) is not None:
                    return LaptimeError(f"{part.file}, line {number}: {said}")
    return None


def _complaint(line: bytes, decoder: Decoder) -> str | None:
    if not line.strip():
        return None
    try:
        sample = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not a record of laptime ({error}); remove that line"
    version = getattr(sample, "schema_version", 0)
    if version > SCHEMA_VERSION:
        return f"schema version {version}, this laptime reads up to {SCHEMA_VERSION}; upgrade laptime"
    values = [getattr(sample, name) for name in sample.__struct_fields__]
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        return "a whole number beyond 64 bits; remove that line"
    return None


def _blocks(part: Part) -> Iterator[memoryview]:
    """The part in blocks of whole lines, each good until the next is asked for."""
    buffer, held, left = bytearray(BLOCK_BYTES), 0, part.end - part.begin
    with Path(part.file).open("rb") as opened:
        opened.seek(part.begin)
        while read := opened.readinto(memoryview(buffer)[held : held + left]):
            left -= read
            filled = held + read
            end = buffer.rfind(b"\n", 0, filled) + 1
            if end:
                yield memoryview(buffer)[:end]
            held = filled - end
            if held == len(buffer):
                buffer = buffer + bytes(len(buffer))  # one line longer than a block
            elif end:
                buffer[:held] = buffer[end:filled]


def _line_end(file: Path, place: int) -> int:
    """Where the last line that ends at or before this place ends; 0 when none does."""
    with file.open("rb") as opened:
        while place > 0:
            begin = max(0, place - BLOCK_BYTES)
            opened.seek(begin)
            newline = opened.read(place - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            place = begin
    return 0


def _processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return set(range(os.cpu_count() or 1))


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection meanwhile: millions of short-lived objects in no cycle would be searched for some."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
