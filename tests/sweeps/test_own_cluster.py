"""laptime's own Ray cluster listens on the loopback only, wants its token, and is gone when its driver is killed.

Its files are in a folder that no other user can enter.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laptime.sweeps.executors.leftovers import processes_with

SECOND_ADDRESS = "10.77.0.1"
DRIVER = """
import fcntl, json, os, socket, struct, subprocess, sys, time, urllib.request
from pathlib import Path

def second_address():
    # the loopback device up, with a second address: another machine's view of this one
    with socket.socket() as one:
        for name, address in ((b"lo", "127.0.0.1"), (b"lo:1", sys.argv[1])):
            packed = struct.pack("16sH2s4s8s", name, socket.AF_INET, b"", socket.inet_aton(address), b"")
            fcntl.ioctl(one, 0x8916, packed)  # SIOCSIFADDR
            fcntl.ioctl(one, 0x8914, struct.pack("16sh14s", name, 0x1 | 0x40, b""))  # SIOCSIFFLAGS: up, running

def listening():
    places = set()
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(file).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.split(":")
                places.add((address, int(port, 16)))
    return sorted(places)

def told(port):
    # whether it answers whoever asks
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).status == 200
    except Exception:
        return False

def reached(address, port):
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True

second_address()
from laptime.sweeps.executors.own_cluster import MARK
from laptime.sweeps.executors.ray_actors import Actors, cluster
with cluster(None):
    import ray
    actor = Actors("cpu", 1).new()
    _, niceness = ray.get(actor.place.remote())
    mark = os.environ[MARK]
    places = listening()
    other = subprocess.run(
        [sys.executable, "-c", "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR')",
         ray.get_runtime_context().gcs_address],
        env={**os.environ, "RAY_AUTH_TOKEN": "0" * 64}, capture_output=True, text=True, timeout=120)
    print(json.dumps({
        "niceness": niceness - os.nice(0), "places": places, "mark": mark,
        "beyond": [port for _, port in places if reached(sys.argv[1], port)],
        "within": [port for _, port in places if reached("127.0.0.1", port)],
        "told": [port for _, port in places if told(port)],
        "folder": ray._private.worker.global_worker.node.get_session_dir_path(),
        "other": other.returncode, "other_said": (other.stdout + other.stderr)[-2000:],
    }), flush=True)
    time.sleep(600)
"""


def alone() -> list[str]:
    """The words that start a command in a network of its own; skipped where the system doesn't allow it."""
    words = ["unshare", "--user", "--map-root-user", "--net", "--"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here (unshare --user --net)")
    return words


def test_loopback_only_by_token_and_nothing_left_after_kill_9():
    pytest.importorskip("ray")
    driver = subprocess.Popen(
        [*alone(), sys.executable, "-c", DRIVER, SECOND_ADDRESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    line = driver.stdout.readline()
    assert line, driver.stderr and driver.stderr.read()
    seen = json.loads(line)
    mark = f"LAPTIME_RAY_CLUSTER={seen['mark']}".encode()
    assert len(processes_with(mark)) >= 3  # GCS, raylet, a worker
    folder = Path(seen["folder"])
    assert (folder / "logs").is_dir()
    private = folder.parents[1]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700, "Ray lets everybody write below it"
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    until = time.monotonic() + 60
    while ((left := processes_with(mark)) or private.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left
    assert not private.exists()
    assert seen["niceness"] == 0, "Ray's own default lets all else on the machine go first"
    assert len(seen["places"]) >= 3
    assert {address[-8:] for address, _ in seen["places"]} == {"0100007F"}
    assert seen["within"]
    assert seen["beyond"] == []
    assert seen["told"] == [], "what it serves, it serves to whoever has the token"
    assert seen["other"] != 0
    assert "token" in seen["other_said"].lower() or "auth" in seen["other_said"].lower(), seen["other_said"]
