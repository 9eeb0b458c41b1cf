"""Several workers on this machine, each a copy of this process, with a GPU or a share of the cores of its own.

A copy starts at once, as torch is imported already. The parent must not have used a GPU itself: whatever asks a
device goes through `in_a_copy`. A copy that dies is replaced; its visit goes to whoever is free.
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
from laptime.sweeps.schedule import Hire, Visit, VisitEnd, decode_message, decode_order, encode


def in_a_copy(work: Callable[[], bytes]) -> bytes:
    """Do some work in a copy of this process and return its bytes, so that this one never uses a device.

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


def hires(sweep_config: SweepConfig, workers: int) -> list[Hire]:
    """One Hire for each worker on this machine: a GPU each, or a share of the cores.

    Raises LaptimeError for a device that isn't there, and when there are fewer GPUs than workers.
    """
    if not hasattr(os, "fork"):
        raise LaptimeError(f"--workers {workers}: this system can't copy a process; use --executor ray")
    # A library that asks on import whether there is a GPU must not open it here: a copy could not use it then.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import laptime.sweeps.worker  # noqa: F401 - imported once, here: copies have it from the start

    device, gpus = sweep_config.device, 0
    if device != "cpu":
        device, gpus = msgspec.msgpack.decode(in_a_copy(lambda: _device(sweep_config.device)), type=tuple[str, int])
    visible: list[str | None] = [None] * workers
    if gpus:
        if workers > gpus:
            raise LaptimeError(f"--workers {workers}: there are {gpus} GPUs, and a worker takes one alone")
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        visible = list((named.split(",") if named else [str(number) for number in range(gpus)])[:workers])
    return [
        Hire(
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
    """The kind of device, and how many GPUs there are to share out."""
    import torch

    from laptime.models.loading import resolve_device

    kind = resolve_device(asked).type
    return msgspec.msgpack.encode((kind, torch.cuda.device_count() if kind == "cuda" else 0))


def run(ledger: Ledger, hires: Sequence[Hire], say: Callable[[str], None]) -> None:
    """Work until nothing is left, with one worker for each of `hires`.

    Raises LaptimeError when no worker can be kept alive, or when none can do the work.
    """
    crew = _ForkedWorkers(ledger, say)
    try:
        crew.work(hires)
    finally:
        crew.dismiss()


class _Copy:
    """A worker as its parent sees it."""

    def __init__(self, hire: Hire, pid: int, connection: Connection) -> None:
        self.hire, self.pid, self.connection = hire, pid, connection
        self.visit: Visit | None = None
        self.started = False


class _ForkedWorkers:
    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._patience = Patience(ledger, say)
        self._copies: list[_Copy] = []

    def work(self, hires: Sequence[Hire]) -> None:
        for hire in hires[: max(1, self._ledger.waiting)]:
            self._start(hire)
        while self._copies:
            for connection in wait([copy.connection for copy in self._copies]):
                copy = next(c for c in self._copies if c.connection is connection)
                try:
                    answer = copy.connection.recv_bytes()
                except (EOFError, OSError):
                    self._buried(copy)
                    continue
                self._heard(copy, answer)

    def dismiss(self) -> None:
        """End all that are left, and write down what they had sent before."""
        for copy in self._copies:
            os.kill(copy.pid, signal.SIGKILL)
            os.waitpid(copy.pid, 0)
        while self._copies:
            copy = self._copies.pop()
            with suppress(EOFError, OSError, LaptimeError):
                while (answer := copy.connection.recv_bytes())[:1] == b"+":
                    self._ledger.write(copy.hire.worker, decode_message(answer[1:]))
            copy.connection.close()

    def _start(self, hire: Hire) -> None:
        here, there = Pipe()
        pid = os.fork()
        if pid == 0:
            here.close()
            for sibling in self._copies:
                sibling.connection.close()
            self._ledger.forget()
            _become_child()
            _end(there, lambda: _serve(there))
        there.close()
        copy = _Copy(hire, pid, here)
        self._copies.append(copy)
        with suppress(OSError):  # it died at once: the next wait() says so
            here.send_bytes(encode(hire))

    def _heard(self, copy: _Copy, answer: bytes) -> None:
        if answer[:1] == b"-":
            raise LaptimeError(answer[1:].decode())
        message = decode_message(answer[1:])
        self._ledger.write(copy.hire.worker, message)
        if not copy.started:
            copy.started = True
            self._next(copy)
        elif isinstance(message, VisitEnd) and copy.visit is not None:
            self._ledger.finished(copy.visit)
            copy.visit = None
            self._patience.lived(copy.hire.worker)
            if message.broken:
                os.kill(copy.pid, signal.SIGKILL)  # it is buried and replaced like any other
            else:
                self._next(copy)

    def _next(self, copy: _Copy) -> None:
        copy.visit = self._ledger.take()
        if copy.visit is None:
            self._dismissed(copy)
            return
        with suppress(OSError):
            copy.connection.send_bytes(encode(copy.visit))

    def _dismissed(self, copy: _Copy) -> None:
        self._copies.remove(copy)
        copy.connection.close()  # it leaves when nothing can come any more
        os.waitpid(copy.pid, 0)

    def _buried(self, copy: _Copy) -> None:
        self._copies.remove(copy)
        copy.connection.close()
        how = _how_it_ended(os.waitpid(copy.pid, 0)[1])
        again = self._patience.may_start_again(copy.hire.worker, copy.visit, how)
        if again and self._ledger.waiting:
            self._start(copy.hire)
        elif not self._copies and self._ledger.waiting:
            raise LaptimeError(
                f"no worker is left (worker {copy.hire.worker} {how}); what was finished is kept: go on with --resume"
            )


def _serve(connection: Connection) -> None:
    """A copy's life: one Hire, then visits until the parent hangs up."""
    from laptime.sweeps.worker import Worker

    hire = decode_order(connection.recv_bytes())
    assert isinstance(hire, Hire)
    worker = Worker(hire)
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
    """Ctrl-C is the parent's to answer; a parent that dies takes its copies along; stdout is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    os.dup2(2, 1)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _end(connection: Connection, life: Callable[[], Any]) -> NoReturn:
    """Live, say why if it can't, and leave without the parent's cleaning up."""
    code = 1
    try:
        life()
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
"""So often in a row may a worker die before it has measured anything, at its start or within one visit."""


class Patience:
    """Counts deaths without progress."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._starts: dict[str, int] = {}
        self._visits: dict[tuple[str, int], int] = {}

    def lived(self, worker: str) -> None:
        """This worker ended a visit."""
        self._starts.pop(worker, None)

    def may_start_again(self, worker: str, visit: Visit | None, how: str) -> bool:
        """After a death: what it was visiting is passed on or given up. Whether the worker should be replaced."""
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
