"""`laptime sweep CONFIG.yaml`: where does generate() spend its time, over a grid of knobs?"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.errors import LaptimeError, require_torch

if TYPE_CHECKING:
    from laptime.sweeps.config import SweepConfig
    from laptime.sweeps.run import Execution


class Executor(str, Enum):
    """Who runs the workers."""

    local = "local"
    torchrun = "torchrun"
    ray = "ray"


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep's configuration, YAML.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and an estimate of its time.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Measure what is missing, nothing twice.")] = False,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Also try what failed again.")] = False,
    executor: Annotated[Executor, typer.Option(help="Who runs the workers.")] = Executor.local,
    workers: Annotated[int, typer.Option(min=1, help="Workers: a GPU each, or a share of the cores.")] = 1,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster; default one of its own.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda; instead of the configuration's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON (laptime.sweep/1) on stdout.")] = False,
) -> int:
    """Where does generate() spend its time, over a grid of knobs? In interleaved rounds, resumable at any instant.

    Example: laptime sweep examples/sweep.yaml --out runs/sweep
    """
    import msgspec

    from laptime.sweeps.config_reading import read_sweep_config

    sweep_config = read_sweep_config(config)
    if device is not None:
        sweep_config = msgspec.structs.replace(sweep_config, device=device)
    folder = out or (Path(sweep_config.out) if sweep_config.out else Path("runs") / config.stem)
    require_torch()
    from laptime.sweeps.run import Execution

    execution = Execution(
        executor=executor.value,
        workers=workers,
        ray_address=ray_address,
        resume=resume,
        retry_failures=retry_failures,
    )
    if dry_run:
        return _plan(sweep_config, folder, execution, as_json=as_json)
    return _run(sweep_config, folder, execution, as_json=as_json)


def _plan(sweep_config: SweepConfig, folder: Path, execution: Execution, *, as_json: bool) -> int:
    from laptime.data.run_folder import readable_json
    from laptime.sweeps.dry_run import dry_run

    planned = dry_run(sweep_config, folder, execution)
    if as_json:
        typer.echo(readable_json(planned).decode().rstrip())
    else:
        from rich.console import Console

        from laptime.report.sweep.terminal import sweep_plan_report

        Console().print(sweep_plan_report(planned))
    return 0


def _run(sweep_config: SweepConfig, folder: Path, execution: Execution, *, as_json: bool) -> int:
    from laptime.cli.sweep_progress import sweep_progress
    from laptime.sweeps.run import Reporting, sweep

    with sweep_progress() as (show, say):
        outcome = sweep(sweep_config, folder, execution, Reporting(show=show, say=say), sys.argv)
    if execution.executor != "torchrun" or _complete(folder):  # of several ranks the last one shows the whole
        _faces(folder, as_json=as_json)
    if outcome.missing:
        again = "the time limit was reached" if outcome.timed_out else "workers were given up"
        print(f"laptime: {outcome.missing} samples are missing ({again}): go on with --resume", file=sys.stderr)  # noqa: T201
    return 1 if outcome.missing or not outcome.measured else 0


def _complete(folder: Path) -> bool:
    from laptime.sweeps.ledger import read_keys
    from laptime.sweeps.plan import read_plan

    plan = read_plan(folder)
    measured, failed = read_keys(folder)
    return plan is not None and plan.keys() <= measured | failed


def _faces(folder: Path, *, as_json: bool) -> None:
    """summary.json, report.html, and what the user reads now."""
    from laptime.data.run_folder import write_atomically
    from laptime.report.sweep.page import sweep_page
    from laptime.report.sweep.view import read_sweep_view, sweep_json

    view = read_sweep_view(folder)
    try:
        write_atomically(folder / "summary.json", sweep_json(view) + b"\n")
        write_atomically(folder / "report.html", sweep_page(view).encode())
    except OSError as error:
        raise LaptimeError(
            f"{folder}: {error.strerror}; every sample is kept: mend that, then laptime report {folder}"
        ) from error
    if as_json:
        sys.stdout.write(sweep_json(view).decode() + "\n")
        return
    from rich.console import Console

    from laptime.report.sweep.terminal import sweep_report

    Console().print(sweep_report(view))
    typer.echo(f"page: {folder / 'report.html'}")
