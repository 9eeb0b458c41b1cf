"""`laptime report PATH`: one self-contained HTML file of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError


def report(
    path: Annotated[Path, typer.Argument(help="A run folder, or a .parquet or .csv table of samples.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default PATH/report.html, for a table its name with .html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The run's summary as JSON on stdout; no page.")] = False,
) -> int:
    """One self-contained HTML file of a run; works offline.

    A run of one configuration becomes a page of its samples, a sweep one of its configurations.

    Example: laptime report runs/demo
    """
    from laptime.audits import read_measurements
    from laptime.report.sweep.view import failures_of, several_configs, sweep_view

    measured, failures = read_measurements(path), failures_of(path)
    if measured.info is not None and not several_configs(measured, failures):
        return _profile(path, out, as_json=as_json)

    from laptime.report.sweep.page import sweep_page
    from laptime.report.sweep.view import sweep_json

    view = sweep_view(measured, failures)
    if as_json:
        typer.echo(sweep_json(view).decode())
        return 0
    return _write(_target(path, out), sweep_page(view))


def _profile(path: Path, out: Path | None, *, as_json: bool) -> int:
    from laptime.data.run_folder import load_run, profile_json

    run = load_run(path)
    if as_json:
        typer.echo(profile_json(run).decode())
        return 0
    from laptime.report.profile.page import profile_page

    return _write(_target(path, out), profile_page(run))


def _target(path: Path, out: Path | None) -> Path:
    if out is not None:
        return out
    return path / "report.html" if path.is_dir() else path.with_suffix(".html")


def _write(target: Path, page: str) -> int:
    from laptime.data.run_folder import write_atomically

    try:
        write_atomically(target, page.encode())
    except OSError as error:
        raise LaptimeError(f"{target}: {error.strerror}; choose another --out") from error
    typer.echo(str(target))
    return 0
