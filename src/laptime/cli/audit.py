"""`laptime audit PATH`: which of these measurements are not valid, and why?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError


def audit(
    path: Annotated[
        Path, typer.Argument(help="A run folder, a .parquet or .csv table of samples, or the older JSON files.")
    ],
    html: Annotated[Path | None, typer.Option("--html", help="Write the findings as one self-contained page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The audit as JSON (laptime.audit/1) on stdout.")] = False,
) -> int:
    """Which of these measurements are not valid, and why? Example: laptime audit runs/demo --html audit.html

    Exit codes: 0 no severe finding, 1 a severe one, 2 usage or unreadable input.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices
    from laptime.audits import audit as judge
    from laptime.data.run_folder import readable_json

    report = judge(path)
    if html is not None:
        from laptime.data.files import write_whole
        from laptime.report.audit.page import audit_page

        try:
            write_whole(html, audit_page(report).encode())
        except OSError as error:
            raise LaptimeError(f"{html}: {error.strerror}; choose another --html") from error
    if as_json:
        typer.echo(readable_json(report).decode().rstrip())
    else:
        from rich.console import Console

        from laptime.report.audit.terminal import audit_report

        Console().print(audit_report(report))
        if html is not None:
            typer.echo(str(html), err=True)
    return 1 if report.severe else 0
