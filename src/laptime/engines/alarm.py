"""A wait that ends on time: asyncio's own timers round up to whole milliseconds, Linux's timerfd doesn't."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from types import TracebackType

CLOCK_MONOTONIC = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Setting(ctypes.Structure):
    """Linux's `itimerspec`: an interval of 0 rings once."""

    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Wakes one task of the running loop at a time. Where the system has no timerfd, asyncio's timer does it."""

    def __enter__(self) -> Alarm:
        self._loop = asyncio.get_running_loop()
        self._rings: asyncio.Future[None] | None = None
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._file = -1
        if self._libc is not None:
            self._file = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            self._loop.add_reader(self._file, self._rang)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    async def until(self, due_ns: int) -> None:
        """Wait until an instant of perf_counter_ns; not at all if it is over."""
        wait_ns = due_ns - time.perf_counter_ns()
        if wait_ns <= 0:
            return
        if self._file < 0 or self._libc is None:
            await asyncio.sleep(wait_ns / 1e9)
            return
        self._rings = self._loop.create_future()
        setting = _Setting(_Timespec(0, 0), _Timespec(*divmod(wait_ns, 1_000_000_000)))
        self._libc.timerfd_settime(self._file, 0, ctypes.byref(setting), None)
        await self._rings

    def _rang(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew between its ringing and here
            return
        if self._rings is not None and not self._rings.done():
            self._rings.set_result(None)
