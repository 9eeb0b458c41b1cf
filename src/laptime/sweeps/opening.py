"""Opening a run folder for a sweep: a new one with its description and plan, or an old one to go on with."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from laptime.data.record import Scalar
from laptime.data.run_folder import RunFolder, check_free, new_info, read_info
from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.ledger import Ledger, Standing
from laptime.sweeps.plan import PreparedSweep, SweepPlan, check_same, read_plan, write_plan
from laptime.sweeps.schedule import Visit, visits

LOCK_PATIENCE_S = 5.0


@contextmanager
def opened(
    folder: Path,
    sweep_config: SweepConfig,
    prepare: Callable[[], PreparedSweep],
    *,
    resume: bool,
    retry_failures: bool,
    argv: Sequence[str],
    session: Mapping[str, Scalar],
    show: Callable[[Standing], None],
    part: Callable[[list[Visit], SweepPlan], list[Visit]] = lambda order, plan: order,
    shared: bool = False,
) -> Iterator[Ledger]:
    """The ledger of a sweep in `folder`, while nobody else sweeps there.

    prepare: makes the plan where there is none; one that is there is taken as it stands. part: which visits this
    ledger is for. shared: others of the same sweep write there too, under other workers' names.
    Inside, Ctrl-C and SIGTERM raise KeyboardInterrupt, never in the middle of a line.
    Raises LaptimeError: a folder that holds something else, another configuration's run, another sweep writing.
    """
    plan = read_plan(folder) if resume else None
    if plan is None:
        if resume and (folder / "run.json").exists() and "rounds" not in read_info(folder).session:
            raise LaptimeError(f"{folder}: holds a run that is no sweep's; choose another --out")
        ready = prepare()
        plan = ready.plan
        info = new_info(argv, plan.common, ready.environment, {**session, **_settings(plan)})
    else:
        check_same(folder, plan, sweep_config)
        info = read_info(folder)
    with Interrupts() as interrupts, _locked(folder, shared=shared) as lock:
        check_free(folder, resume=resume)
        with RunFolder(folder, info, resume=resume) as run_folder:
            run_folder.begin()
        if read_plan(folder) is None:
            write_plan(folder, plan)
        ledger = Ledger(
            folder,
            info,
            plan,
            part(visits(plan), plan),
            lock=lock,
            retry_failures=retry_failures,
            time_limit_s=sweep_config.measure.time_limit_s,
            shield=interrupts.shield,
            show=show,
        )
        try:
            yield ledger
        finally:
            ledger.close()


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


class Interrupts:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt; during `shield` only once that is over."""

    def __init__(self) -> None:
        self._shielded = False
        self._pending = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._shielded:
            self._pending = True
        else:
            raise KeyboardInterrupt
