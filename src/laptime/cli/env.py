"""`laptime env`: what measurements on this machine belong to, and what looking costs here."""

from __future__ import annotations

from typing import Annotated

import typer

from laptime.cli.options import MEASURING, Device, Json
from laptime.cli.output import print_json, print_report
from laptime.errors import require_torch


def env(
    overhead: Annotated[
        bool,
        typer.Option(
            "--overhead",
            help="Measure what a mark, a synchronize and each way of marking cost here.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Show the environment that measurements on this machine belong to.

    Example: laptime env --overhead

    Exit codes: 0 done, 2 usage, or torch is not installed.
    """
    require_torch()
    from laptime.measure.environment import describe
    from laptime.measure.overhead import measure_overhead
    from laptime.models.loading import resolve_device

    where = resolve_device(device)
    environment = describe(where)
    costs = measure_overhead(where) if overhead else None
    if as_json:
        print_json(
            {
                "schema": "laptime.env/1",
                "fingerprint": environment.fingerprint(),
                "environment": environment,
                "overhead": costs,
            }
        )
        return 0
    from laptime.report.profile.terminal import environment_table, overhead_table

    print_report(environment_table(environment), *([] if costs is None else [overhead_table(costs)]))
    return 0
