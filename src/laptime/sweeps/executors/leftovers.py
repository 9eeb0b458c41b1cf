"""Ends what a driver's own Ray cluster leaves behind. It runs as a process of its own, and needs nothing but Python.

    python leftovers.py NAME VALUE FOLDER

It waits until its standard input is closed: the driver closed it, or died, even by SIGKILL. Then it ends every process
of this user that has NAME=VALUE in its environment, until there is none, and removes their folder. Ray's processes
inherit the driver's environment, and some of them go on without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

PATIENCE_S = 10.0
"""How long processes may go on to start others."""
QUIET_S = 1.0
"""After so long without any such process there will be none."""


def processes_with(mark: bytes) -> list[int]:
    """The processes of this user that have this in their environment, but for this one. Linux only."""
    marked: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - no Path is made for thousands of names
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                if mark in file.read().split(b"\0"):
                    marked.append(int(name))
    return marked


def end_all(mark: bytes) -> None:
    """End all such processes, also those that start meanwhile."""
    until, quiet_since = time.monotonic() + PATIENCE_S, time.monotonic()
    while time.monotonic() < until and time.monotonic() - quiet_since < QUIET_S:
        for process in processes_with(mark):
            quiet_since = time.monotonic()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def main() -> None:
    """Wait for the driver's end, then end what is left of its cluster."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what stops the driver must not stop this
    name, value, folder = sys.argv[1:4]
    while os.read(0, 4096):
        pass
    end_all(f"{name}={value}".encode())
    until = time.monotonic() + PATIENCE_S
    while os.path.exists(folder) and time.monotonic() < until:  # noqa: PTH110 - nothing but Python is needed
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
