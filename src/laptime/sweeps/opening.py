"""Opens a run folder for a sweep: a new one, with its description and plan, or an old one to go on with."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from laptime.data.record import Scalar
from laptime.data.run_folder import RunFolder, check_free, new_info, read_info
from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.interrupts import Interrupts
from laptime.sweeps.ledger import Ledger, LedgerOptions, Standing
from laptime.sweeps.plan import PreparedSweep, SweepPlan, check_same, read_plan, write_plan
from laptime.sweeps.schedule import Visit, visits

LOCK_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Opening:
    """How a run folder is opened.

    resume: go on with a sweep that is there. retry_failures: measure again what failed before.
    argv, session: what run.json says of this run. show: called after every record with how far the sweep is.
    part: which of the visits this process makes. shared: other processes of the same sweep write there too, under
    their own workers' names.
    """

    resume: bool = False
    retry_failures: bool = False
    argv: Sequence[str] = ()
    session: Mapping[str, Scalar] = field(default_factory=dict)
    show: Callable[[Standing], None] = lambda standing: None
    part: Callable[[list[Visit], SweepPlan], list[Visit]] = lambda order, plan: order
    shared: bool = False


@contextmanager
def opened(
    folder: Path, sweep_config: SweepConfig, prepare: Callable[[], PreparedSweep], how: Opening
) -> Iterator[Ledger]:
    """The ledger of a sweep in `folder`. While it is open no other sweep can write there.

    prepare: makes the plan, if the folder has none. A plan that is there stays as it is.
    Inside, Ctrl-C and SIGTERM raise KeyboardInterrupt, never in the middle of a line.
    Raises LaptimeError: the folder holds something else, or another configuration's run, or another sweep is writing.
    """
    plan = read_plan(folder) if how.resume else None
    if plan is None:
        if how.resume and (folder / "run.json").exists() and not _holds_sweep(folder):
            raise LaptimeError(f"{folder}: holds a run that is no sweep's; choose another --out")
        ready = prepare()
        plan = ready.plan
        info = new_info(how.argv, plan.common, ready.environment, {**how.session, **_settings(plan)})
    else:
        check_same(folder, plan, sweep_config)
        info = read_info(folder)
    with Interrupts() as interrupts, _locked(folder, shared=how.shared) as lock:
        check_free_for_sweep(folder, resume=how.resume)
        with RunFolder(folder, info, resume=how.resume) as run_folder:
            run_folder.begin()
        if read_plan(folder) is None:
            write_plan(folder, plan)
        options = LedgerOptions(
            lock=lock,
            retry_failures=how.retry_failures,
            time_limit_s=sweep_config.measure.time_limit_s,
            shield=interrupts.shield,
            show=how.show,
        )
        ledger = Ledger(folder, info, plan, how.part(visits(plan), plan), options)
        try:
            yield ledger
        finally:
            ledger.close()


def check_free_for_sweep(folder: Path, *, resume: bool) -> None:
    """Raise LaptimeError when a sweep can't write to `folder`. Worth knowing before long work."""
    if not resume and (folder / "run.json").exists() and _holds_sweep(folder):
        raise LaptimeError(f"{folder}: already holds a sweep; add --resume to go on with it, or choose another --out")
    check_free(folder, resume=resume)


def _holds_sweep(folder: Path) -> bool:
    return "rounds" in read_info(folder).session


@contextmanager
def _locked(folder: Path, *, shared: bool) -> Iterator[int]:
    """Keep other sweeps out of the folder. A sweep killed a moment ago is waited for, as its copies may still end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaptimeError(f"{folder}: {error.strerror}; choose another --out") from error
    try:
        until = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise LaptimeError(f"{folder}: another sweep is writing it; wait for it or stop it") from None
                time.sleep(0.05)
        yield lock
    finally:
        os.close(lock)


def _settings(plan: SweepPlan) -> dict[str, Scalar]:
    return {
        "method": "direct",
        "per_token": plan.sweep_config.measure.per_token,
        "repeats": plan.repeats,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "configurations": len(plan.configs),
    }
