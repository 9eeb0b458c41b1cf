"""`laptime merge RUN…`: one run from the shards of many workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one sweep (or of one profile).")],
    out: Annotated[Path, typer.Option(help="Folder of the merged run; must be free.")],
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON (laptime.merge/1) on stdout.")] = False,
) -> int:
    """One run from the shards of many workers, by key. Samples are taken over byte for byte; the order doesn't matter.

    Example: laptime merge runs/node0 runs/node1 --out runs/all

    Exit codes: 0 done, 1 merged, but runs disagree about some samples, 2 not shards of one sweep (nothing is written).
    """
    from laptime.data.run_folder import readable_json
    from laptime.report.kit.text import counted
    from laptime.sweeps.merge import merge as merge_runs

    report = merge_runs(runs, out)
    if as_json:
        sys.stdout.write(readable_json(report).decode())
    else:
        missing = f", {report.missing} of the plan missing" if report.missing else ""
        typer.echo(
            f"{report.out}: {counted(report.samples, 'sample')} and {counted(report.failures, 'failure')} "
            f"from {counted(len(runs), 'run')}, {report.overlap} in several of them{missing}"
        )
        if report.conflicts:
            one = report.examples[0]
            typer.echo(
                f"{counted(report.conflicts, 'key')} with different samples, the one measured first was kept: e.g. "
                f"configuration {one.config_id}, sample {one.sample_id}, repeat {one.repeat} "
                f"(kept from {one.kept}, not {one.left})"
            )
    return 1 if report.conflicts else 0
