"""`laptime env`: what measurements on this machine belong to, and what looking costs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from laptime.cli.declared import option
from laptime.cli.options import MEASURING, Device, Json
from laptime.cli.output import print_json, print_report
from laptime.errors import require_torch

if TYPE_CHECKING:
    from laptime.data.record import Environment, Overhead


def env(
    overhead: Annotated[
        bool,
        option(
            "--overhead",
            help="Measure what a mark, a synchronize and each way of marking cost here.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Show the environment that measurements on this machine belong to.

    Put its output into a report of an error. It works without torch, and it holds no paths, names or secrets.

    Example: laptime env --overhead

    Exit codes: 0 done, 2 usage, or torch is not installed and --overhead was asked.
    """
    from laptime.measure.host import described_packages

    packages = described_packages()
    if overhead or "torch" in packages:
        require_torch()
        environment, costs = _with_torch(device, overhead)
    else:
        from laptime.measure.host import describe_host

        environment, costs = describe_host(), None
    if as_json:
        print_json(
            {
                "schema": "laptime.env/1",
                "fingerprint": environment.fingerprint(),
                "environment": environment,
                "packages": packages,
                "overhead": costs,
            }
        )
        return 0
    from laptime.report.profile.terminal import environment_table, overhead_table

    print_report(environment_table(environment, packages=packages), *([] if costs is None else [overhead_table(costs)]))
    return 0


def _with_torch(device: str, overhead: bool) -> tuple[Environment, Overhead | None]:
    from laptime.measure.environment import describe
    from laptime.measure.overhead import measure_overhead
    from laptime.models.loading import resolve_device

    where = resolve_device(device)
    return describe(where), measure_overhead(where) if overhead else None
