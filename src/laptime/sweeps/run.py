"""A sweep from its configuration to its last sample: open the folder, let an executor work, say how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from laptime.data.run_folder import check_free
from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.executors import processes, ray_actors, torchrun
from laptime.sweeps.ledger import Ledger, Standing
from laptime.sweeps.opening import opened
from laptime.sweeps.plan import PreparedSweep, decode_prepared, encode_prepared
from laptime.sweeps.schedule import Hire, VisitEnd


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a sweep runs; none of this changes what is measured."""

    executor: Literal["local", "torchrun", "ray"] = "local"
    workers: int = 1
    ray_address: str | None = None
    resume: bool = False
    retry_failures: bool = False


class Reporting(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running sweep speaks to its user."""

    show: Callable[[Standing], None] = lambda standing: None
    say: Callable[[str], None] = lambda line: None


class SweepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a sweep ended, or this rank's part of it: `missing` keys are neither measured nor failed."""

    measured: int
    failed: int
    missing: int
    timed_out: bool


def sweep(
    sweep_config: SweepConfig, folder: Path, execution: Execution, reporting: Reporting, argv: Sequence[str] = ()
) -> SweepOutcome:
    """Measure what is missing of `sweep_config` in `folder`.

    Raises LaptimeError: a folder that holds something else, a configuration that was changed since, another sweep
    writing there, no worker that can be kept alive. KeyboardInterrupt on Ctrl-C or SIGTERM, with all finished kept.
    """
    open_ = partial(
        opened,
        folder,
        sweep_config,
        retry_failures=execution.retry_failures,
        argv=argv,
        session={"executor": execution.executor, "workers": execution.workers},
        show=reporting.show,
    )
    if execution.executor == "torchrun":
        return _rank(sweep_config, folder, execution, open_)
    check_free(folder, resume=execution.resume)
    if execution.executor == "ray":
        with ray_actors.cluster(execution.ray_address):
            actors = ray_actors.Actors(sweep_config.device, execution.workers)
            with open_(lambda: ray_actors.prepared_there(actors, sweep_config), resume=execution.resume) as ledger:
                if ledger.waiting:
                    ray_actors.run(ledger, sweep_config, actors, execution.workers, reporting.say)
        return _outcome(ledger)
    if execution.workers == 1:
        with open_(lambda: prepared(sweep_config), resume=execution.resume) as ledger:
            if ledger.waiting:
                run_here(ledger, Hire(worker="0", sweep_config=sweep_config, device=sweep_config.device))
        return _outcome(ledger)
    hires = processes.hires(sweep_config, execution.workers)
    with open_(lambda: prepared(sweep_config, in_a_copy=True), resume=execution.resume) as ledger:
        if ledger.waiting:
            processes.run(ledger, hires, reporting.say)
    return _outcome(ledger)


def prepared(sweep_config: SweepConfig, *, in_a_copy: bool = False) -> PreparedSweep:
    """The sweep's plan, checked on the model.

    in_a_copy: ask the model in a copy of this process. This one then never uses a device, and can be copied again.
    """

    def work() -> bytes:
        from laptime.sweeps.prepare import prepare

        return encode_prepared(prepare(sweep_config))

    return decode_prepared(processes.in_a_copy(work) if in_a_copy else work())


def _rank(
    sweep_config: SweepConfig,
    folder: Path,
    execution: Execution,
    open_: Callable[..., AbstractContextManager[Ledger]],
) -> SweepOutcome:
    """This process's part of a sweep that torchrun started. The first rank makes the folder; the others wait for it."""
    rank = torchrun.this_rank()
    processes.die_with_parent()
    resume = execution.resume or rank.restarted
    if rank.rank == 0:
        check_free(folder, resume=resume)
    else:
        torchrun.wait_for_plan(folder, rank, resume=resume)
    hire = torchrun.hire(rank, sweep_config)
    with open_(
        lambda: prepared(sweep_config),
        resume=resume or rank.rank > 0,
        session={"executor": "torchrun", "workers": rank.world, "launch": rank.launch},
        part=partial(torchrun.part_of, rank=rank.rank, world=rank.world),
        shared=True,
    ) as ledger:
        if ledger.waiting:
            run_here(ledger, hire)
    return _outcome(ledger)


def _outcome(ledger: Ledger) -> SweepOutcome:
    standing = ledger.standing
    return SweepOutcome(
        measured=standing.measured,
        failed=standing.failed,
        missing=standing.of - standing.measured - standing.failed,
        timed_out=ledger.timed_out,
    )


def run_here(ledger: Ledger, hire: Hire) -> None:
    """Work until nothing is left. Raises LaptimeError when the GPU is in a state that this process can't leave."""
    from laptime.sweeps.worker import Worker

    worker = Worker(hire)
    ledger.write(worker.name, worker.started())
    while (visit := ledger.take()) is not None:
        for message in worker.visit(visit):
            ledger.write(worker.name, message)
            broken = isinstance(message, VisitEnd) and message.broken
        ledger.finished(visit)
        if broken:
            raise LaptimeError(
                "the GPU reported an error that this process can't recover from; the configuration is recorded as "
                "failed and what was finished is kept: go on with --resume"
            )
