"""Nsight Systems' other forms as the .sqlite that the reader knows: a folder of Parquet tables, a report."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laptime.errors import LaptimeError
from laptime.trace.read.nsight_names import is_read
from laptime.trace.read.sqlite_columns import quoted

EXPORT_SECONDS = 600
_ROWS = 100_000


@contextmanager
def from_parquet(folder: Path) -> Iterator[Path]:
    """A .sqlite with the tables of a Parquet export, for as long as this is open.

    Raises:
        LaptimeError: a table can't be read.
    """
    import polars

    with tempfile.TemporaryDirectory(prefix="laptime-") as place:
        path = Path(place) / "export.sqlite"
        with sqlite3.connect(path) as db:
            for file in sorted(folder.glob("*.parquet")):
                if not is_read(file.stem):
                    continue
                try:
                    table = polars.read_parquet(file)
                except (polars.exceptions.PolarsError, OSError) as error:
                    reason = " ".join(str(error).split())[:120]
                    raise LaptimeError(f"{file}: not readable as Parquet ({reason}); export it again") from None
                plain = [name for name, kind in table.schema.items() if kind.is_integer() or kind == polars.String]
                if not plain:
                    continue
                columns = ", ".join(quoted(name) for name in plain)
                db.execute(f"CREATE TABLE {quoted(file.stem)} ({columns})")
                marks = ", ".join("?" * len(plain))
                for piece in table.select(plain).iter_slices(_ROWS):
                    db.executemany(f"INSERT INTO {quoted(file.stem)} VALUES ({marks})", piece.iter_rows())  # noqa: S608
        db.close()
        yield path


@contextmanager
def exported(report: Path) -> Iterator[Path]:
    """A report as .sqlite, exported by the nsys on the PATH, for as long as this is open.

    Raises:
        LaptimeError: there is no nsys, or it can't export the file.
    """
    nsys = shutil.which("nsys")
    mend = f"nsys export --type sqlite {report.name}"
    if nsys is None:
        raise LaptimeError(f"{report}: an Nsight Systems report; export it where nsys is installed: {mend}")
    with tempfile.TemporaryDirectory(prefix="laptime-") as place:
        path = Path(place) / "export.sqlite"
        command = [nsys, "export", "--type", "sqlite", "--output", str(path), str(report.resolve())]
        try:
            done = subprocess.run(command, capture_output=True, timeout=EXPORT_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LaptimeError(f"{report}: nsys could not export it ({type(error).__name__}); try: {mend}") from None
        if done.returncode != 0 or not path.is_file():
            raise LaptimeError(f"{report}: nsys could not export it (exit code {done.returncode}); try: {mend}")
        yield path
