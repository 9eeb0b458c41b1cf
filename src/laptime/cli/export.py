"""`laptime export RUN`: the samples as a table, or as the older JSON files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

FORMATS = ("parquet", "csv", "legacy-json")


def export(
    path: Annotated[Path, typer.Argument(help="A run folder, or anything else that `laptime audit` reads.")],
    format_: Annotated[str, typer.Option("--format", help="parquet, csv or legacy-json.")] = "parquet",
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write (for legacy-json the folder). Default: the run's name beside it."),
    ] = None,
) -> int:
    """The samples as a table, knobs as columns. Example: laptime export runs/demo --format csv --out demo.csv"""
    if format_ not in FORMATS:
        raise LaptimeError(f"--format {format_}: one of {', '.join(FORMATS)}")
    from laptime.data.frame import read_frame

    frame = read_frame(path, bulky=True)
    target = out or _beside(path, format_)
    if format_ == "legacy-json":
        from laptime.data.legacy import legacy_files

        for name, content in legacy_files(frame).items():
            _write(target / name, content)
    else:
        _write(target, _table(frame, format_))
    typer.echo(str(target))
    return 0


def _beside(path: Path, format_: str) -> Path:
    whole = path.resolve()
    name = whole.name if whole.is_dir() else whole.stem
    return path.parent / (f"{name}-legacy" if format_ == "legacy-json" else f"{name}.{format_}")


def _table(frame: polars.DataFrame, format_: str) -> bytes:
    from laptime.data.csv_cells import to_csv

    written = io.BytesIO()
    if format_ == "csv":
        to_csv(frame).write_csv(written)
    else:
        frame.write_parquet(written)
    return written.getvalue()


def _write(file: Path, content: bytes) -> None:
    """Write a new file whole; never over something else."""
    from laptime.data.run_folder import write_atomically

    if file.exists():
        raise LaptimeError(f"{file} is already there; choose another --out or remove it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}; choose another --out") from error
