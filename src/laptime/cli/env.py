"""`laptime env`: the environment fingerprint, and what looking costs here."""

from __future__ import annotations

from typing import Annotated

import typer

from laptime.errors import require_torch


def env(
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Measure what a mark, a synchronize and each strategy cost here.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> int:
    """The environment that measurements here belong to.

    Example: laptime env --overhead
    """
    require_torch()
    import msgspec

    from laptime.measure.environment import describe
    from laptime.measure.overhead import measure_overhead
    from laptime.models.loading import resolve_device

    where = resolve_device(device)
    environment = describe(where)
    costs = measure_overhead(where) if overhead else None
    if as_json:
        value = {
            "schema": "laptime.env/1",
            "fingerprint": environment.fingerprint(),
            "environment": environment,
            "overhead": costs,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
        return 0
    from rich.console import Console

    from laptime.report.profile.terminal import environment_table, overhead_table

    console = Console()
    console.print(environment_table(environment))
    if costs is not None:
        console.print(overhead_table(costs))
    return 0
