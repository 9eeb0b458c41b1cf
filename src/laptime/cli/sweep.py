"""`laptime sweep CONFIG.yaml`: where does generate() spend its time, over a grid of knobs?"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from laptime.cli.declared import argument, option
from laptime.cli.options import MEASURING, MODEL, OUTPUT, ForcePage, Html, Json
from laptime.cli.output import give, say
from laptime.data.files import check_new_file

if TYPE_CHECKING:
    from laptime.sweeps.config import SweepConfig
    from laptime.sweeps.run import Execution

WORKERS = "Workers"


class Executor(str, Enum):
    """Who runs the workers."""

    local = "local"
    torchrun = "torchrun"
    ray = "ray"


def sweep(
    config: Annotated[Path, argument(help="The sweep's configuration, YAML.", metavar="CONFIG.yaml")],
    out: Annotated[
        Path | None,
        option(
            "--out",
            metavar="FOLDER",
            help="The folder to write; default runs/CONFIG.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, option("--dry-run", help="Show the plan and how long it takes.", rich_help_panel=MEASURING)
    ] = False,
    resume: Annotated[
        bool, option("--resume", help="Go on: measure only what is missing.", rich_help_panel=MEASURING)
    ] = False,
    retry_failures: Annotated[
        bool,
        option("--retry-failures", help="With --resume: try again what failed.", rich_help_panel=MEASURING),
    ] = False,
    device: Annotated[
        str | None,
        option(
            "--device",
            metavar="DEVICE",
            help="auto, cpu or cuda; default the configuration's.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    executor: Annotated[
        Executor, option("--executor", help="Who starts the workers.", rich_help_panel=WORKERS)
    ] = Executor.local,
    workers: Annotated[
        int,
        option(
            "--workers",
            min=1,
            metavar="N",
            help="Workers: a GPU each, or a share of the cores.",
            rich_help_panel=WORKERS,
        ),
    ] = 1,
    ray_address: Annotated[
        str | None,
        option(
            "--ray-address",
            metavar="HOST:PORT",
            help="A Ray cluster; default: one on this machine.",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
    html: Html = None,
    force: ForcePage = False,
    as_json: Json = False,
) -> int:
    """Where does generate() spend its time, over a grid of knobs?

    All configurations are measured in interleaved rounds, so that a machine
    that becomes slower can't look like a slow configuration. Ctrl-C or a crash
    loses no finished sample; --resume goes on. The folder gets the samples,
    summary.json and report.html.

    Example: laptime sweep examples/sweep.yaml --out runs/sweep

    Exit codes: 0 done, 1 samples are missing or none could be measured, 2 usage
    or unreadable input.
    """  # fmt: skip
    import msgspec

    from laptime.sweeps.config_reading import read_sweep_config
    from laptime.sweeps.run import Execution

    sweep_config = read_sweep_config(config)
    if device is not None:
        sweep_config = msgspec.structs.replace(sweep_config, device=device)
    folder = out or (Path(sweep_config.out) if sweep_config.out else Path("runs") / config.stem)
    execution = Execution(
        executor=executor.value,
        workers=workers,
        ray_address=ray_address,
        resume=resume,
        retry_failures=retry_failures,
    )
    if dry_run:
        from laptime.sweeps.dry_run import dry_run as plan_sweep

        give(plan_sweep(sweep_config, folder, execution), as_json=as_json)
        return 0
    check_new_file(html, "--html", force=force)
    return _run(sweep_config, folder, execution, html=html, force=force, as_json=as_json)


def _run(
    sweep_config: SweepConfig, folder: Path, execution: Execution, *, html: Path | None, force: bool, as_json: bool
) -> int:
    from laptime.cli.progress import sweep_progress
    from laptime.sweeps.ledger import is_complete
    from laptime.sweeps.run import Reporting, sweep

    with sweep_progress() as (show, say):
        outcome = sweep(sweep_config, folder, execution, Reporting(show=show, say=say), sys.argv)
    if execution.executor != "torchrun" or is_complete(folder):  # of several ranks the last one shows the whole
        _give(folder, html=html, force=force, as_json=as_json)
    if outcome.missing:
        why = "the time limit was reached" if outcome.timed_out else "workers were given up"
        print(f"laptime: {outcome.missing} samples are missing ({why}): go on with --resume", file=sys.stderr)  # noqa: T201
    return 1 if outcome.missing or not outcome.measured else 0


def _give(folder: Path, *, html: Path | None, force: bool, as_json: bool) -> None:
    """Write the folder's summary.json and report.html, then show the sweep."""
    from laptime.report.sweep.page import write_sweep_report

    view = write_sweep_report(folder)
    give(view, as_json=as_json, html=html, force=force)
    if not as_json:
        say(f"page: {folder / 'report.html'}")
