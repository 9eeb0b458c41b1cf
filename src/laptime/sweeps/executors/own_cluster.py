"""A Ray cluster of the driver's own on this machine: on the loopback only, for this user only, gone with the driver.

Ray listens on every interface unless it takes the machine for one without clusters. And unless it has a token, anybody
who reaches one of its ports can run code as this user. Both are set here, before Ray is imported. Its files (sockets,
logs, what its workers run) lie where every user may write, so they get a folder of this user's own.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from laptime.errors import LaptimeError

NICENESS = "RAY_worker_niceness"
"""The niceness that Ray starts workers with. Its default is 15: everything else on the machine goes first."""
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where this is 0, Ray's servers listen at 127.0.0.1 only."""
MARK = "LAPTIME_RAY_CLUSTER"
"""By this variable the processes of a cluster are known (laptime.sweeps.executors.leftovers)."""
NO_METRICS = {"AUTOSCALER_METRIC_PORT": "-1"}
"""Ray's monitor serves figures at this port, without a token. There is no such port, so it serves none."""
END_S = 15.0
LONGEST_PLACE = 18
"""Characters of the folder for temporary files. A socket's whole path has at most 107, and Ray adds some 80."""


@contextmanager
def own_cluster() -> Iterator[None]:
    """Start Ray on this machine; when the block ends, or the driver dies, no process of it is left.

    Raises LaptimeError when Ray would listen beyond the loopback. Raises what ray.init raises.
    """
    if "ray" in sys.modules and os.environ.get(ONE_MACHINE) != "0":
        raise LaptimeError(
            "ray was imported before laptime started its cluster, which would listen on all interfaces; set "
            f"{ONE_MACHINE}=0 before importing ray, name the address of a cluster, or use the executor local"
        )
    mark = secrets.token_hex(16)
    settings = {ONE_MACHINE: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), MARK: mark}
    settings |= {NICENESS: os.environ.get(NICENESS, "0"), **NO_METRICS}
    place = tempfile.gettempdir() if len(tempfile.gettempdir()) <= LONGEST_PLACE else "/tmp"  # noqa: S108
    private = tempfile.mkdtemp(prefix="laptime-", dir=place)  # for this user alone
    with _environment(settings), _nothing_left(mark, private):
        import ray

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ray.init(
            "local",
            num_cpus=cores,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=f"{private}/ray",  # Ray lets everybody write to this folder; nobody else comes so far
            logging_level="ERROR",
            log_to_driver=False,
        )
        try:
            if not str(ray.util.get_node_ip_address()).startswith("127."):
                raise LaptimeError("this version of Ray doesn't stay on the loopback; use the executor local")
            yield
        finally:
            ray.shutdown()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if name != ONE_MACHINE:  # Ray read it when it was imported, and a later cluster needs it too
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _nothing_left(mark: str, folder: str) -> Iterator[None]:
    """A process beside this one ends the cluster's processes when the block is over, or this process is.

    Then it removes their folder.
    """
    script = Path(__file__).with_name("leftovers.py")
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    watcher = subprocess.Popen(  # noqa: S603 - laptime's own script
        [sys.executable, "-I", str(script), MARK, mark, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )
    try:
        yield
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            watcher.wait(timeout=END_S)
