"""Workers as Ray actors, with a GPU or a share of the cores each: on a cluster of this machine's own, or a real one.

Every finished sample comes to the driver at once, which alone writes. An actor that dies, or whose node does, is
replaced where there is room; what it had not measured goes to another.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.executors.processes import Patience
from laptime.sweeps.ledger import Ledger
from laptime.sweeps.plan import PreparedSweep, decode_prepared, encode_prepared
from laptime.sweeps.schedule import Hire, Visit, VisitEnd, decode_message, decode_order, encode

REACH_S = 5.0
NICENESS = "RAY_worker_niceness"
"""What Ray starts workers with: 15 unless told otherwise, so that everything else on the machine goes before them."""
ROOM_PATIENCE_S = 120.0
"""So long is room for a worker waited for when none is working."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connected to the cluster at `address`, or to one of this machine's own, on the loopback, without dashboard.

    Raises LaptimeError when Ray isn't installed or the cluster can't be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        os.environ.setdefault(NICENESS, "0")
    try:
        import ray
    except ImportError:
        raise LaptimeError("ray is not installed; pip install 'laptime[ray]', or use --executor local") from None
    _check_reachable(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            ray.init("local", num_cpus=cores, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LaptimeError(f"--ray-address {address or 'local'}: no Ray cluster there ({first[:200]})") from None
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
        raise LaptimeError(f"--ray-address {address}: no Ray cluster there ({error})") from None


class Seat:
    """An actor's body: one worker. Values cross as MessagePack, errors for the user as a line."""

    def __init__(self) -> None:
        self._worker: Any = None

    def place(self) -> tuple[str, int]:
        """The node that it is on, and how far other processes there go before it (0: not at all, 19: always)."""
        import ray

        return str(ray.get_runtime_context().get_node_id()), os.nice(0) if hasattr(os, "nice") else 0

    def prepare(self, sweep_config: bytes) -> bytes:
        """The sweep's configuration resolved on this node's device."""

        def work() -> bytes:
            from laptime.sweeps.prepare import prepare

            return encode_prepared(prepare(msgspec.msgpack.decode(sweep_config, type=SweepConfig)))

        return _answered(work)

    def hire(self, hire: bytes) -> bytes:
        """Become this worker."""

        def work() -> bytes:
            from laptime.sweeps.worker import Worker

            order = decode_order(hire)
            assert isinstance(order, Hire)
            self._worker = Worker(order)
            return encode(self._worker.started())

        return _answered(work)

    def visit(self, visit: bytes) -> Iterator[bytes]:
        """A visit's messages, each as soon as there is one."""
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
    """The actors of a sweep, as many as asked for, wherever the cluster has room."""

    def __init__(self, device: str, workers: int) -> None:
        """Ask the cluster for room. Raises LaptimeError when it has not enough."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        self.on_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
        if self.on_gpu:
            if workers > gpus:
                raise LaptimeError(f"--workers {workers}: the cluster has {gpus} GPUs, and a worker takes one")
            options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0}
            self.per_node = workers
        else:
            cores = [int(node.get("CPU", 0)) for node in nodes]
            share = next((n for n in range(max(cores, default=0), 0, -1) if sum(c // n for c in cores) >= workers), 0)
            if share == 0:
                raise LaptimeError(f"--workers {workers}: the cluster has {sum(cores)} cores, and a worker takes one")
            options = {"num_cpus": share}
            self.per_node = max(1, max(cores) // share)
        self._class = ray.remote(**options, max_restarts=0)(Seat)
        self.device = "cuda" if self.on_gpu else "cpu"

    def new(self) -> Any:
        """A new actor; it starts when there is room."""
        return self._class.remote()


class _Post:
    """One worker's place: its actor, and the answer that is waited for."""

    def __init__(self, worker: str, actor: Any) -> None:
        self.worker, self.actor = worker, actor
        self.answer: Any = actor.place.remote()
        self.node: str | None = None
        self.slot = 0
        self.hired = False
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
    """Work until nothing is left. Raises LaptimeError when no worker can be kept alive, or none can do the work."""
    crew = _RayWorkers(ledger, sweep_config, actors, say)
    try:
        crew.work(min(workers, max(1, ledger.waiting)))
    finally:
        crew.dismiss()


class _RayWorkers:
    def __init__(self, ledger: Ledger, sweep_config: SweepConfig, actors: Actors, say: Callable[[str], None]) -> None:
        self._ledger, self._sweep_config, self._actors, self._say = ledger, sweep_config, actors, say
        self._patience = Patience(ledger, say)
        self._posts: list[_Post] = []
        self._polite = False  # whether it has been said that workers give way

    def work(self, workers: int) -> None:
        import ray

        for number in range(workers):
            self._posts.append(_Post(f"ray-{number}", self._actors.new()))
        last = time.monotonic()
        while self._posts:
            if not self._ledger.waiting and not any(post.visit for post in self._posts):
                return  # those that still wait for room are not needed
            ready, _ = ray.wait([post.answer for post in self._posts], num_returns=1, timeout=1.0)
            if ready or any(post.visit for post in self._posts):
                last = time.monotonic()
            elif time.monotonic() - last > ROOM_PATIENCE_S:
                raise LaptimeError(
                    f"the Ray cluster has had no room for a worker for {ROOM_PATIENCE_S:.0f} s; what was finished is "
                    "kept: go on with --resume"
                )
            for answer in ready:
                post = next(p for p in self._posts if p.answer is answer or p.answer == answer)
                self._hear(post)

    def dismiss(self) -> None:
        import ray

        for post in self._posts:
            with suppress(Exception):
                ray.kill(post.actor)
        self._posts.clear()

    def _hear(self, post: _Post) -> None:
        import ray

        try:
            message = ray.get(post.answer if post.visit is None else next(post.answer))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError) as error:
            self._bury(post, _how(error))
            return
        except StopIteration:
            self._bury(post, "ended its visit too early")
            return
        except ray.exceptions.RayTaskError as error:
            raise LaptimeError(f"worker {post.worker} failed: {_first_line(error.cause)}") from error
        if post.node is None:
            self._seat(post, *message)
        else:
            self._read(post, _checked(message))

    def _seat(self, post: _Post, node: str, niceness: int) -> None:
        """Its node is known: give it cores that no other worker there has."""
        if niceness > 0 and not self._polite:
            self._polite = True
            self._say(
                f"this Ray cluster's workers run at niceness {niceness}: all else on their machines goes first, so "
                f"they look slower than they are; start its nodes with {NICENESS}=0"
            )
        taken = {other.slot for other in self._posts if other.node == node}
        post.node, post.slot = node, next(n for n in range(len(taken) + 1) if n not in taken)
        hire = Hire(
            worker=post.worker,
            sweep_config=self._sweep_config,
            device=self._actors.device,
            share=post.slot,
            shares=self._actors.per_node,
        )
        post.answer = post.actor.hire.remote(encode(hire))

    def _read(self, post: _Post, raw: bytes) -> None:
        message = decode_message(raw)
        self._ledger.write(post.worker, message)
        if post.visit is None:
            self._next(post)
        elif isinstance(message, VisitEnd):
            self._ledger.finished(post.visit)
            post.visit = None
            self._patience.lived(post.worker)
            if message.broken:
                self._bury(post, "lost its GPU to an error")
            else:
                self._next(post)

    def _next(self, post: _Post) -> None:
        import ray

        post.visit = self._ledger.take()
        if post.visit is None:
            self._posts.remove(post)
            ray.kill(post.actor)
            return
        method = post.actor.visit.options(num_returns="streaming")
        post.answer = method.remote(encode(post.visit))

    def _bury(self, post: _Post, how: str) -> None:
        import ray

        self._posts.remove(post)
        with suppress(Exception):
            ray.kill(post.actor)
        again = self._patience.may_start_again(post.worker, post.visit, how)
        if again and self._ledger.waiting:
            self._posts.append(_Post(post.worker, self._actors.new()))
        elif not self._posts and self._ledger.waiting:
            raise LaptimeError(
                f"no worker is left (worker {post.worker} {how}); what was finished is kept: go on with --resume"
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
