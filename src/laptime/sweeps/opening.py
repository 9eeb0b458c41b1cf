"""Opens a run folder for a sweep: a new one, with its description and plan, or an old one to go on with."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from laptime.data.files import FolderLock
from laptime.data.record import Scalar
from laptime.data.run_folder import RunFolder, check_free, new_info, read_info
from laptime.errors import LaptimeError, Stopped
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.ledger import Ledger, LedgerOptions, Standing, read_keys
from laptime.sweeps.plan import (
    PreparedSweep,
    SweepPlan,
    check_blocks_named,
    check_described,
    check_same,
    plan_digest,
    read_plan,
    write_plan,
)
from laptime.sweeps.schedule import Visit, visits

LOCK_PATIENCE_S = 5.0
"""How long to wait for another writer: the copies of a sweep that was killed a moment ago may not have ended yet."""


PUTTING_IN_ORDER_S = 3.0
"""For so long after a signal another one is left aside: workers are being ended and files closed."""


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
    """The ledger of a sweep in `folder`. While it is open nobody else can write there.

    prepare: makes the plan, if the folder has none. A plan that is there stays as it is.
    Inside, Ctrl-C, SIGTERM and SIGHUP raise Stopped (a KeyboardInterrupt), never in the middle of a line.
    Raises LaptimeError: the folder holds something else or another configuration's run, or another process writes it.
    """
    plan = read_plan(folder) if how.resume else None
    if plan is None:
        if how.resume and (folder / "run.json").exists() and not _holds_sweep(folder):
            raise LaptimeError(f"{folder}: holds a run that is no sweep's; choose another folder (`out`)")
        before = read_info(folder) if how.resume and (folder / "run.json").exists() else None
        ready = prepare()
        plan = ready.plan
        if before is not None:
            check_described(folder, before, plan, set().union(*read_keys(folder)))
        info = before or new_info(how.argv, plan.common, ready.environment, {**how.session, **_settings(plan)})
    else:
        check_same(folder, plan, sweep_config)
        check_blocks_named(folder, plan)
        info = read_info(folder)
    with Interrupts() as interrupts, FolderLock(folder, shared=how.shared, patience_s=LOCK_PATIENCE_S) as lock:
        check_free_for_sweep(folder, resume=how.resume)
        with RunFolder(folder, info, resume=how.resume, lock=lock) as run_folder:
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
        raise LaptimeError(
            f"{folder}: already holds a sweep; add `resume` to go on with it, or choose another folder (`out`)"
        )
    check_free(folder, resume=resume)


def _holds_sweep(folder: Path) -> bool:
    return "rounds" in read_info(folder).session


def _settings(plan: SweepPlan) -> dict[str, Scalar]:
    return {
        "method": "direct",
        "per_token": plan.sweep_config.measure.per_token,
        "repeats": plan.repeats,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "configurations": len(plan.configs),
        "plan": plan_digest(plan),
    }


class Interrupts:
    """While entered, SIGINT, SIGTERM and SIGHUP raise Stopped, a KeyboardInterrupt; during `shield` once that is over.

    A second signal within PUTTING_IN_ORDER_S doesn't disturb what the first one set off. A signal that was ignored
    before (nohup) stays so.
    """

    def __init__(self) -> None:
        self._shielded = False
        self._pending: int | None = None
        self._stopped_at: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def shield(self, work: Callable[[], None]) -> None:
        """Do `work` undisturbed, then let a signal that came meanwhile through."""
        self._shielded = True
        try:
            work()
        finally:
            self._shielded = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            self._stop(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._shielded:
            self._pending = self._pending or number
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        now = time.monotonic()
        if self._stopped_at is None or now - self._stopped_at > PUTTING_IN_ORDER_S:
            self._stopped_at = now
            raise Stopped(number)
