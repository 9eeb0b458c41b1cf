"""`laptime report PATH`: one self-contained HTML file of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError


def report(
    path: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default PATH/report.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The run's summary as JSON on stdout; no page.")] = False,
) -> int:
    """One self-contained HTML file of a run; works offline.

    Example: laptime report runs/demo
    """
    from laptime.run_folder import write_atomically
    from laptime.runs import load_run, profile_json

    run = load_run(path)
    if as_json:
        typer.echo(profile_json(run).decode())
        return 0
    from laptime.report.profile_page import profile_page

    target = out if out is not None else path / "report.html"
    try:
        write_atomically(target, profile_page(run).encode())
    except OSError as error:
        raise LaptimeError(f"{target}: {error.strerror}; choose another --out") from error
    typer.echo(str(target))
    return 0
