"""Workers as Ray actors, each with a GPU or a share of the cores, on this machine or on a cluster.

Every finished sample goes to the driver at once, and only the driver writes. An actor that dies, or whose node dies, is
replaced if the cluster has room. What it had not measured goes to another actor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import msgspec

from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.executors.own_cluster import NICENESS, own_cluster
from laptime.sweeps.executors.processes import WorkerDeaths
from laptime.sweeps.ledger import Ledger
from laptime.sweeps.plan import PreparedSweep, decode_prepared, encode_prepared
from laptime.sweeps.schedule import Visit, VisitEnd, WorkerSetup, decode_message, decode_order, encode

REACH_S = 5.0
ROOM_PATIENCE_S = 120.0
"""How long the sweep waits for room when no worker is working."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A connection to the cluster at `address`; None: to a new one on this machine, on the loopback, no dashboard.

    Raises LaptimeError when Ray isn't installed or the cluster can't be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if find_spec("ray") is None:
        raise LaptimeError("ray is not installed; pip install 'laptime[ray]', or use `executor` local")
    _check_reachable(address)
    with ExitStack() as stack:
        try:
            stack.enter_context(own_cluster() if address is None else _cluster_at(address))
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise LaptimeError(f"`ray_address` {address or 'local'}: no Ray cluster there ({first[:200]})") from None
        yield


@contextmanager
def _cluster_at(address: str) -> Iterator[None]:
    """A connection to a cluster that somebody else started."""
    import ray

    ray.init(address, logging_level="ERROR", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Ask the address for a connection: Ray itself tries for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or a cluster of this machine's own
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise LaptimeError(f"`ray_address` {address}: no Ray cluster there ({error})") from None


class WorkerActor:
    """One worker in an actor. Values travel as MessagePack, errors for the user as one line."""

    def __init__(self) -> None:
        self._worker: Any = None

    def place(self) -> tuple[str, int]:
        """The node that it is on, and its niceness (0: as others; 19: all others go first)."""
        import ray

        return str(ray.get_runtime_context().get_node_id()), os.nice(0) if hasattr(os, "nice") else 0

    def prepare(self, sweep_config: bytes) -> bytes:
        """The sweep's configuration resolved on this node's device."""

        def work() -> bytes:
            from laptime.sweeps.prepare import prepare

            return encode_prepared(prepare(msgspec.msgpack.decode(sweep_config, type=SweepConfig)))

        return _answered(work)

    def set_up(self, setup: bytes) -> bytes:
        """Become the worker that the WorkerSetup describes."""

        def work() -> bytes:
            from laptime.sweeps.worker import Worker

            order = decode_order(setup)
            assert isinstance(order, WorkerSetup)
            self._worker = Worker(order)
            return encode(self._worker.started())

        return _answered(work)

    def visit(self, visit: bytes) -> Iterator[bytes]:
        """The messages of a visit, each as soon as there is one."""
        order = decode_order(visit)
        assert isinstance(order, Visit)
        for message in self._worker.visit(order):
            yield b"+" + encode(message)


def _answered(work: Callable[[], bytes]) -> bytes:
    try:
        return b"+" + work()
    except LaptimeError as error:
        return b"-" + str(error).encode()


class Actors:
    """How the actors of a sweep are made: with a GPU each, or with a share of a node's cores."""

    def __init__(self, device: str, workers: int) -> None:
        """Look at the cluster. Raises LaptimeError when it is too small for these workers."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        self.on_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
        if self.on_gpu:
            if workers > gpus:
                raise LaptimeError(f"`workers` {workers}: the cluster has {gpus} GPUs, and a worker takes one")
            options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0}
            self.per_node = workers
        else:
            cores = [int(node.get("CPU", 0)) for node in nodes]
            share = next((n for n in range(max(cores, default=0), 0, -1) if sum(c // n for c in cores) >= workers), 0)
            if share == 0:
                raise LaptimeError(f"`workers` {workers}: the cluster has {sum(cores)} cores, and a worker takes one")
            options = {"num_cpus": share}
            self.per_node = max(1, max(cores) // share)
        self._class = ray.remote(**options, max_restarts=0)(WorkerActor)
        self.device = "cuda" if self.on_gpu else "cpu"

    def new(self) -> Any:
        """Ask for a new actor. It starts when the cluster has room."""
        return self._class.remote()


class _RayWorker:
    """A worker as the driver sees it: its actor, and the answer that the driver waits for."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name, self.actor = name, actor
        self.answer: Any = actor.place.remote()
        self.node: str | None = None
        self.share = 0  # its place among the workers of its node
        self.visit: Visit | None = None


def prepared_there(actors: Actors, sweep_config: SweepConfig) -> PreparedSweep:
    """The sweep's configuration resolved and checked by an actor: the devices are there, and perhaps not here."""
    import ray

    actor = actors.new()
    try:
        answer = ray.get(actor.prepare.remote(msgspec.msgpack.encode(sweep_config)))
    except ray.exceptions.RayError as error:
        raise LaptimeError(f"a Ray worker could not prepare the sweep: {_first_line(error)}") from None
    finally:
        ray.kill(actor)
    return decode_prepared(_checked(answer))


def run(ledger: Ledger, sweep_config: SweepConfig, actors: Actors, workers: int, say: Callable[[str], None]) -> None:
    """Work until nothing is left. Raises LaptimeError when no worker stays alive, or none can do the work."""
    ray_workers = _RayWorkers(ledger, sweep_config, actors, say)
    try:
        ray_workers.work(min(workers, max(1, ledger.waiting)))
    finally:
        ray_workers.stop()


class _RayWorkers:
    """All workers of a sweep, and what to do with each of their messages."""

    def __init__(self, ledger: Ledger, sweep_config: SweepConfig, actors: Actors, say: Callable[[str], None]) -> None:
        self._ledger, self._sweep_config, self._actors, self._say = ledger, sweep_config, actors, say
        self._deaths = WorkerDeaths(ledger, say)
        self._workers: list[_RayWorker] = []
        self._niceness_said = False

    def work(self, workers: int) -> None:
        import ray

        for number in range(workers):
            self._workers.append(_RayWorker(f"ray-{number}", self._actors.new()))
        last = time.monotonic()
        while self._workers:
            if not self._ledger.waiting and not any(worker.visit for worker in self._workers):
                return  # those that still wait for room are not needed
            ready, _ = ray.wait([worker.answer for worker in self._workers], num_returns=1, timeout=1.0)
            if ready or any(worker.visit for worker in self._workers):
                last = time.monotonic()
            elif time.monotonic() - last > ROOM_PATIENCE_S:
                raise LaptimeError(
                    f"the Ray cluster has had no room for a worker for {ROOM_PATIENCE_S:.0f} s; what was finished is "
                    "kept: go on with `resume`"
                )
            for answer in ready:
                self._receive(next(w for w in self._workers if w.answer is answer or w.answer == answer))

    def stop(self) -> None:
        import ray

        for worker in self._workers:
            with suppress(Exception):
                ray.kill(worker.actor)
        self._workers.clear()

    def _receive(self, worker: _RayWorker) -> None:
        import ray

        try:
            message = ray.get(worker.answer if worker.visit is None else next(worker.answer))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError) as error:
            self._on_death(worker, _how(error))
            return
        except StopIteration:
            self._on_death(worker, "ended its visit too early")
            return
        except ray.exceptions.RayTaskError as error:
            raise LaptimeError(f"worker {worker.name} failed: {_first_line(error.cause)}") from error
        if worker.node is None:
            self._set_up(worker, *message)
        else:
            self._on_answer(worker, _checked(message))

    def _set_up(self, worker: _RayWorker, node: str, niceness: int) -> None:
        """Give a worker, once its node is known, cores there that no other worker has."""
        if niceness > max(0, os.nice(0)) and not self._niceness_said:
            self._niceness_said = True
            self._say(
                f"this Ray cluster's workers run at niceness {niceness}: all else on their machines goes first, so "
                f"they look slower than they are; start its nodes with {NICENESS}=0"
            )
        taken = {other.share for other in self._workers if other.node == node}
        worker.node, worker.share = node, next(n for n in range(len(taken) + 1) if n not in taken)
        setup = WorkerSetup(
            worker=worker.name,
            sweep_config=self._sweep_config,
            device=self._actors.device,
            share=worker.share,
            shares=self._actors.per_node,
        )
        worker.answer = worker.actor.set_up.remote(encode(setup))

    def _on_answer(self, worker: _RayWorker, raw: bytes) -> None:
        message = decode_message(raw)
        self._ledger.write(worker.name, message)
        if worker.visit is None:
            self._send_next(worker)
        elif isinstance(message, VisitEnd):
            self._ledger.finished(worker.visit)
            worker.visit = None
            self._deaths.forget(worker.name)
            if message.broken:
                self._on_death(worker, "lost its GPU to an error")
            else:
                self._send_next(worker)

    def _send_next(self, worker: _RayWorker) -> None:
        """Send the next visit; without one end the worker."""
        import ray

        worker.visit = self._ledger.take()
        if worker.visit is None:
            self._workers.remove(worker)
            ray.kill(worker.actor)
            return
        method = worker.actor.visit.options(num_returns="streaming")
        worker.answer = method.remote(encode(worker.visit))

    def _on_death(self, worker: _RayWorker, how: str) -> None:
        """Replace a dead worker while that makes sense."""
        import ray

        self._workers.remove(worker)
        with suppress(Exception):
            ray.kill(worker.actor)
        again = self._deaths.may_replace(worker.name, worker.visit, how)
        if again and self._ledger.waiting:
            self._workers.append(_RayWorker(worker.name, self._actors.new()))
        elif not self._workers and self._ledger.waiting:
            raise LaptimeError(
                f"no worker is left (worker {worker.name} {how}); what was finished is kept: go on with `resume`"
            )


def _checked(answer: bytes) -> bytes:
    if answer[:1] == b"-":
        raise LaptimeError(answer[1:].decode())
    return answer[1:]


def _how(error: Exception) -> str:
    text = " ".join(str(error).split()).lower()
    return "was lost with its node" if "node" in text and "died" in text else "died"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
