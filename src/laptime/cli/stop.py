"""Signals that ask the command to end: Ctrl-C, SIGTERM and SIGHUP are one line and one exit code, at any instant.

While laptime starts, and imports what it needs, there is nothing to put in order: it ends at once. Later the verb is
interrupted (laptime.errors.Stopped) and puts its files in order. Another signal within a few seconds changes nothing;
after that it ends laptime at once. A line that is finished is on the disk already, so nothing is lost either way.

This file imports only what Python has loaded by itself: a signal may come before anything else is there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

LINE = b"laptime: stopped; what was written is kept\n"
ORDERLY_S = 3.0
"""For so long after the first signal a verb may put its files in order."""

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopState:
    """What this process was asked. `number`: of the first signal, None before it."""

    def __init__(self) -> None:
        self.running = False
        self.number: int | None = None
        self.since = 0.0
        self.said = False
        self.process = os.getpid()

    def begin(self) -> None:
        """Forget an earlier command of this process."""
        self.number, self.said, self.process = None, False, os.getpid()

    def say(self) -> None:
        """Print the line, once."""
        if not self.said:
            self.said = True
            try:  # noqa: SIM105 - contextlib may not be loaded
                os.write(2, LINE)
            except OSError:  # a full disk: the exit code says it too
                pass

    def end_at_once(self, number: int) -> None:
        """Leave without putting anything in order."""
        if os.getpid() == self.process:
            self.say()
        os._exit(128 + number)


STATE = StopState()


def watch_signals() -> None:
    """From now on a signal that asks the process to end is handled here. One that is ignored stays so (nohup)."""
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


def leave_signals() -> None:
    """The command is over: a signal that comes while Python puts itself away changes nothing of its exit code."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def was_asked() -> bool:
    """Whether a signal asked this command to end."""
    return STATE.number is not None


def exit_code() -> int:
    """The exit code of a command that was stopped: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."""
    return 128 + (STATE.number or signal.SIGINT)


def _on_signal(number: int, frame: FrameType | None) -> None:
    first, now = STATE.number is None, time.monotonic()
    if first:
        STATE.number, STATE.since = number, now
    if not STATE.running or os.getpid() != STATE.process or (not first and now - STATE.since > ORDERLY_S):
        STATE.end_at_once(STATE.number or number)
    elif first:
        _interrupt(frame)


LOADED_S = 0.01
"""How long until it is looked again whether a library is loaded."""


def _interrupt(frame: FrameType | None) -> None:
    """Raise Stopped in the verb, but not while a library written in C is being loaded: a little later then.

    What such a library imports may fail unseen: msgspec, interrupted in its import of datetime, went on without it, and
    ended the process later by SIGSEGV (21 of 553 tries at that moment).
    """
    number = STATE.number or signal.SIGINT
    if not STATE.running:
        STATE.end_at_once(number)
    if _loads_a_library(frame) and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda _, later: _interrupt(later))
        signal.setitimer(signal.ITIMER_REAL, LOADED_S)
        return
    from laptime.errors import Stopped

    raise Stopped(number)


def _loads_a_library(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in ("create_module", "exec_module"):
            loader = frame.f_locals.get("self")
            if type(loader).__name__ == "ExtensionFileLoader":
                return True
        frame = frame.f_back
    return False


def _on_unraisable(unraisable: Any) -> None:
    """An exception where none can be raised, as in a destructor: if it was the signal's, end all the same."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        STATE.end_at_once(STATE.number or signal.SIGINT)
    sys.__unraisablehook__(unraisable)
