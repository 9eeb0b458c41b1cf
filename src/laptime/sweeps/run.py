"""A sweep from its configuration to its last sample: open the run folder, let an executor work, say how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from laptime.errors import LaptimeError, require_torch
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.config_reading import as_sweep_config
from laptime.sweeps.executors import processes, ray_actors, torchrun
from laptime.sweeps.ledger import Ledger, Standing
from laptime.sweeps.opening import Opening, check_free_for_sweep, opened
from laptime.sweeps.plan import PreparedSweep, decode_prepared, encode_prepared, ruined
from laptime.sweeps.schedule import VisitEnd, WorkerSetup

# Whatever imports torch is imported in functions: the driver of several workers must not open a device, and reading
# a configuration or refusing a folder works without torch.


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a sweep runs. None of this changes what is measured."""

    executor: Literal["local", "torchrun", "ray"] = "local"
    workers: int = 1
    ray_address: str | None = None  # None: a cluster of this machine's own
    resume: bool = False  # measure only what the folder lacks
    retry_failures: bool = False  # with resume: also what failed before


class Reporting(msgspec.Struct, frozen=True, kw_only=True):
    """Functions that a running sweep calls; by default it is silent."""

    show: Callable[[Standing], None] = lambda standing: None  # after every record: how far the sweep is
    say: Callable[[str], None] = lambda line: None  # a line for the user, e.g. that a worker died


ONE_WORKER = Execution()
SILENT = Reporting()


class SweepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a sweep ended, or this rank's part of it. `missing` keys are neither measured nor failed."""

    measured: int
    failed: int
    missing: int
    timed_out: bool


Opener = Callable[[Callable[[], PreparedSweep], Opening], AbstractContextManager[Ledger]]
"""`opened` with the folder and the configuration already given."""


def sweep(
    config: str | Path | Mapping[str, Any] | SweepConfig,
    folder: str | Path,
    execution: Execution = ONE_WORKER,
    reporting: Reporting = SILENT,
    argv: Sequence[str] = (),
) -> SweepOutcome:
    """Measure a grid of configurations and write every sample to `folder`.

    config: a YAML file, or a mapping with the same fields. Paths in it are relative to the file, or, in a mapping, to
    the current folder.
    argv: the command that run.json records.
    Raises LaptimeError: torch is missing, the configuration is wrong or has changed since, the folder holds something
    else or another sweep is writing there, or no worker stays alive. Raises KeyboardInterrupt on Ctrl-C and SIGTERM;
    every finished sample is kept.
    """
    require_torch()
    sweep_config, folder = as_sweep_config(config), Path(folder)
    how = Opening(
        resume=execution.resume,
        retry_failures=execution.retry_failures,
        argv=argv,
        session={"executor": execution.executor, "workers": execution.workers},
        show=reporting.show,
    )
    open_folder = partial(opened, folder, sweep_config)
    if execution.executor == "torchrun":
        return _run_rank(sweep_config, folder, how, open_folder)
    check_free_for_sweep(folder, resume=execution.resume)
    if execution.executor == "ray":
        return _run_on_ray(sweep_config, execution, reporting, how, open_folder)
    if execution.workers == 1:
        with open_folder(lambda: prepared(sweep_config), how) as ledger:
            _warn(ledger, reporting)
            if ledger.waiting:
                _run_here(ledger, WorkerSetup(worker="0", sweep_config=sweep_config, device=sweep_config.device))
        return _outcome(ledger)
    setups = processes.worker_setups(sweep_config, execution.workers)
    with open_folder(lambda: prepared(sweep_config, in_child=True), how) as ledger:
        _warn(ledger, reporting)
        if ledger.waiting:
            processes.run(ledger, setups, reporting.say)
    return _outcome(ledger)


def prepared(sweep_config: SweepConfig, *, in_child: bool = False, with_weights: bool = True) -> PreparedSweep:
    """The sweep's plan, checked on the model.

    with_weights: as in laptime.sweeps.prepare. in_child: ask the model in a forked process, so that this one never
    opens a device and can be forked again.
    """

    def work() -> bytes:
        from laptime.sweeps.prepare import prepare

        return encode_prepared(prepare(sweep_config, with_weights=with_weights))

    return decode_prepared(processes.in_child_process(work) if in_child else work())


def _run_on_ray(
    sweep_config: SweepConfig, execution: Execution, reporting: Reporting, how: Opening, open_folder: Opener
) -> SweepOutcome:
    with ray_actors.cluster(execution.ray_address):
        actors = ray_actors.Actors(sweep_config.device, execution.workers)
        with open_folder(lambda: ray_actors.prepared_there(actors, sweep_config), how) as ledger:
            _warn(ledger, reporting)
            if ledger.waiting:
                ray_actors.run(ledger, sweep_config, actors, execution.workers, reporting.say)
    return _outcome(ledger)


def _run_rank(sweep_config: SweepConfig, folder: Path, how: Opening, open_folder: Opener) -> SweepOutcome:
    """This process's part of a sweep that torchrun started. The first rank makes the folder; the others wait for it."""
    rank = torchrun.this_rank()
    processes.die_with_parent()
    resume = how.resume or rank.restarted
    if rank.rank == 0:
        check_free_for_sweep(folder, resume=resume)
    else:
        torchrun.wait_for_plan(folder, rank, resume=resume)
    setup = torchrun.worker_setup(rank, sweep_config)
    how = replace(
        how,
        resume=resume or rank.rank > 0,
        session={"executor": "torchrun", "workers": rank.world, "launch": rank.launch},
        part=partial(torchrun.part_of, rank=rank.rank, world=rank.world),
        shared=True,
    )
    with open_folder(lambda: prepared(sweep_config), how) as ledger:
        if ledger.waiting:
            _run_here(ledger, setup)
    return _outcome(ledger)


def _warn(ledger: Ledger, reporting: Reporting) -> None:
    """Say before the first sample which configurations leave too much out."""
    for line in ruined(ledger.plan.agreement):
        reporting.say(line)


def _run_here(ledger: Ledger, setup: WorkerSetup) -> None:
    """One worker, in this process. Raises LaptimeError when the GPU is in a state that this process can't leave."""
    from laptime.sweeps.worker import Worker

    worker = Worker(setup)
    ledger.write(worker.name, worker.started())
    while (visit := ledger.take()) is not None:
        broken = False
        for message in worker.visit(visit):
            ledger.write(worker.name, message)
            broken = isinstance(message, VisitEnd) and message.broken
        ledger.finished(visit)
        if broken:
            raise LaptimeError(
                "the GPU reported an error that this process can't recover from; the configuration is recorded as "
                "failed and what was finished is kept: go on with `resume`"
            )


def _outcome(ledger: Ledger) -> SweepOutcome:
    standing = ledger.standing
    return SweepOutcome(
        measured=standing.measured,
        failed=standing.failed,
        missing=standing.of - standing.measured - standing.failed,
        timed_out=ledger.timed_out,
    )
