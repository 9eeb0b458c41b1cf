"""Several workers on this machine: forked processes, each with a GPU or a share of the cores of its own.

A forked process starts at once, since torch is imported already. The parent must never open a GPU, so whatever asks a
device runs in `in_child_process`. A worker that dies is replaced, and its visit goes to the next free one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import msgspec

from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.ledger import Ledger
from laptime.sweeps.schedule import Visit, VisitEnd, WorkerSetup, decode_message, decode_order, encode


def in_child_process(work: Callable[[], bytes]) -> bytes:
    """Do some work in a forked process and return its bytes, so that this process never opens a device.

    Raises LaptimeError as the work does.
    """
    here, there = Pipe()
    child = os.fork()
    if child == 0:
        here.close()
        _become_child()
        _end(there, lambda: there.send_bytes(b"+" + work()))
    there.close()
    try:
        answer = here.recv_bytes()
    except EOFError:
        raise LaptimeError(f"the preparing process {_how_it_ended(os.waitpid(child, 0)[1])}") from None
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        here.close()
    os.waitpid(child, 0)
    if answer[:1] == b"-":
        raise LaptimeError(answer[1:].decode())
    return answer[1:]


def worker_setups(sweep_config: SweepConfig, workers: int) -> list[WorkerSetup]:
    """The setup of each worker on this machine: a GPU each, or a share of the cores.

    Raises LaptimeError for a device that isn't there, and when there are fewer GPUs than workers.
    """
    if not hasattr(os, "fork"):
        raise LaptimeError(f"`workers` {workers}: this system can't fork a process; use `executor` ray")
    # A library that asks on import whether there is a GPU must not open it here: a forked process could not use it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import laptime.sweeps.worker  # noqa: F401 - imported once, before the fork

    device, gpus = sweep_config.device, 0
    if device != "cpu":
        device, gpus = msgspec.msgpack.decode(
            in_child_process(lambda: _device(sweep_config.device)), type=tuple[str, int]
        )
    visible: list[str | None] = [None] * workers
    if gpus:
        if workers > gpus:
            raise LaptimeError(f"`workers` {workers}: there are {gpus} GPUs, and a worker takes one alone")
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        visible = list((named.split(",") if named else [str(number) for number in range(gpus)])[:workers])
    return [
        WorkerSetup(
            worker=str(number),
            sweep_config=sweep_config,
            device=device,
            share=number,
            shares=workers,
            visible_devices=visible[number],
        )
        for number in range(workers)
    ]


def _device(asked: str) -> bytes:
    """The kind of device, and the number of GPUs, encoded."""
    import torch

    from laptime.models.loading import resolve_device

    kind = resolve_device(asked).type
    return msgspec.msgpack.encode((kind, torch.cuda.device_count() if kind == "cuda" else 0))


def run(ledger: Ledger, setups: Sequence[WorkerSetup], say: Callable[[str], None]) -> None:
    """Work until nothing is left, with one worker for each of `setups`.

    Raises LaptimeError when no worker can be kept alive, or when none can do the work.
    """
    workers = _ForkedWorkers(ledger, say)
    try:
        workers.work(setups)
    finally:
        workers.stop()


class _ForkedWorker:
    """A worker as its parent sees it."""

    def __init__(self, setup: WorkerSetup, pid: int, connection: Connection) -> None:
        self.setup, self.pid, self.connection = setup, pid, connection
        self.visit: Visit | None = None
        self.started = False


class _ForkedWorkers:
    """All workers of a sweep, and what to do with each of their messages."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._deaths = WorkerDeaths(ledger, say)
        self._workers: list[_ForkedWorker] = []

    def work(self, setups: Sequence[WorkerSetup]) -> None:
        for setup in setups[: max(1, self._ledger.waiting)]:
            self._start(setup)
        while self._workers:
            for connection in wait([worker.connection for worker in self._workers]):
                worker = next(w for w in self._workers if w.connection is connection)
                try:
                    answer = worker.connection.recv_bytes()
                except (EOFError, OSError):
                    self._on_death(worker)
                    continue
                self._on_answer(worker, answer)

    def stop(self) -> None:
        """Kill the workers that are left, and write down what they had sent before."""
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        while self._workers:
            worker = self._workers.pop()
            with suppress(EOFError, OSError, LaptimeError):
                while (answer := worker.connection.recv_bytes())[:1] == b"+":
                    self._ledger.write(worker.setup.worker, decode_message(answer[1:]))
            worker.connection.close()

    def _start(self, setup: WorkerSetup) -> None:
        here, there = Pipe()
        pid = os.fork()
        if pid == 0:
            here.close()
            for sibling in self._workers:
                sibling.connection.close()
            self._ledger.forget()
            _become_child()
            _end(there, lambda: _serve(there))
        there.close()
        self._workers.append(_ForkedWorker(setup, pid, here))
        with suppress(OSError):  # it died at once: the next wait() says so
            here.send_bytes(encode(setup))

    def _on_answer(self, worker: _ForkedWorker, answer: bytes) -> None:
        if answer[:1] == b"-":
            raise LaptimeError(answer[1:].decode())
        message = decode_message(answer[1:])
        self._ledger.write(worker.setup.worker, message)
        if not worker.started:
            worker.started = True
            self._send_next(worker)
        elif isinstance(message, VisitEnd) and worker.visit is not None:
            self._ledger.finished(worker.visit)
            worker.visit = None
            self._deaths.forget(worker.setup.worker)
            if message.broken:
                os.kill(worker.pid, signal.SIGKILL)  # it is replaced like any worker that dies
            else:
                self._send_next(worker)

    def _send_next(self, worker: _ForkedWorker) -> None:
        """Send the next visit; without one let the worker end."""
        worker.visit = self._ledger.take()
        if worker.visit is None:
            self._workers.remove(worker)
            worker.connection.close()  # it ends when nothing more can come
            os.waitpid(worker.pid, 0)
            return
        with suppress(OSError):
            worker.connection.send_bytes(encode(worker.visit))

    def _on_death(self, worker: _ForkedWorker) -> None:
        """Replace a dead worker while that makes sense."""
        self._workers.remove(worker)
        worker.connection.close()
        name, how = worker.setup.worker, _how_it_ended(os.waitpid(worker.pid, 0)[1])
        again = self._deaths.may_replace(name, worker.visit, how)
        if again and self._ledger.waiting:
            self._start(worker.setup)
        elif not self._workers and self._ledger.waiting:
            raise LaptimeError(
                f"no worker is left (worker {name} {how}); what was finished is kept: go on with `resume`"
            )


def _serve(connection: Connection) -> None:
    """Run a forked worker: one WorkerSetup, then visits until the parent closes the connection."""
    from laptime.sweeps.worker import Worker

    setup = decode_order(connection.recv_bytes())
    assert isinstance(setup, WorkerSetup)
    worker = Worker(setup)
    connection.send_bytes(b"+" + encode(worker.started()))
    while True:
        try:
            visit = decode_order(connection.recv_bytes())
        except EOFError:
            return
        assert isinstance(visit, Visit)
        for message in worker.visit(visit):
            connection.send_bytes(b"+" + encode(message))


def _become_child() -> None:
    """Leave Ctrl-C and stdout to the parent, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    die_with_parent()
    os.dup2(2, 1)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _end(connection: Connection, work: Callable[[], Any]) -> NoReturn:
    """Do a forked process's work, report an error to the parent, and leave without the parent's cleaning up."""
    code = 1
    try:
        work()
        code = 0
    except LaptimeError as error:
        connection.send_bytes(b"-" + str(error).encode())
    except (BrokenPipeError, EOFError, ConnectionError):
        pass
    except Exception as error:  # a fault of laptime's own: no other worker would fare better
        traceback.print_exc()
        connection.send_bytes(b"-" + f"a worker failed: {type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def _how_it_ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by {signal.Signals(number).name}"
    return f"ended with code {os.waitstatus_to_exitcode(status)}"


DEATHS = 3
"""A worker, or a visit, is given up after this many deaths in a row without a sample."""


class WorkerDeaths:
    """Counts the deaths of workers that measured nothing, and decides who may try again."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._starts: dict[str, int] = {}
        self._visits: dict[tuple[str, int], int] = {}

    def forget(self, worker: str) -> None:
        """Forget earlier deaths of a worker that has just ended a visit."""
        self._starts.pop(worker, None)

    def may_replace(self, worker: str, visit: Visit | None, how: str) -> bool:
        """Whether a dead worker should be replaced. Its visit is passed on or given up.

        visit: what it was at; None at its start. how: it died, for the user ("was killed by SIGKILL").
        """
        if visit is not None:
            self._pass_on(visit, worker, how)
            return True
        self._starts[worker] = self._starts.get(worker, 0) + 1
        if self._starts[worker] < DEATHS:
            return True
        self._say(f"worker {worker} {how}, {DEATHS} times before it measured anything: given up")
        return False

    def _pass_on(self, visit: Visit, worker: str, how: str) -> None:
        at = (visit.config_id, visit.round)
        deaths = self._visits[at] = 1 if self._ledger.measured_of(visit) else self._visits.get(at, 0) + 1
        if deaths < DEATHS:
            self._say(f"worker {worker} {how}; what is left of its visit goes to another")
            self._ledger.give_back(visit)
        else:
            self._say(f"worker {worker} {how}, the {DEATHS}rd time at configuration {visit.config_id}: given up")
            self._ledger.give_up(visit, worker, f"the worker {how}, {DEATHS} times at this configuration")
