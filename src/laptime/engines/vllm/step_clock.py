"""Marks of an engine's steps: events on the device's current stream, read when they are over. No step waits for them.

A step's first event is placed on the host's clock where the device was idle before it, since then it is reached at
once. Otherwise the device was still at the step before, and elapsed time from that step's end places it. So a clock
that drifts can't add up, and an event's float32 milliseconds stay short.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter_ns
from typing import Any

import torch


class StepMarks:
    """The marks of one step while they are taken; then its instants. what: whatever the caller keeps with it."""

    __slots__ = ("device_ns", "events", "host_ns", "idle", "what")

    def __init__(self, what: Any, idle: bool) -> None:
        self.what = what
        self.idle = idle
        self.events: dict[str, Any] = {}
        self.host_ns: dict[str, int] = {}
        self.device_ns: dict[str, int] = {}


class StepClock:
    """Takes marks and gives finished steps back in order. device: "cpu" has no stream, and the host's clock is it."""

    def __init__(self, device: torch.device) -> None:
        self._events = device.type != "cpu"
        self._device = device
        self._free: list[Any] = []
        self._open: deque[StepMarks] = deque()
        self._before: tuple[Any, int] | None = None  # the last event that was placed, and where
        self._last: Any = None  # the end of the newest step

    def begin(self, what: Any) -> StepMarks:
        """The first mark of a step."""
        step = StepMarks(what, idle=self._last is None or self._last.query())
        self.mark(step, "begin")
        return step

    def mark(self, step: StepMarks, place: str) -> None:
        """One more mark; the same place again replaces it, so the last of several stays."""
        step.host_ns[place] = perf_counter_ns()
        if self._events:
            event = step.events.get(place) or self._event()
            event.record(torch.accelerator.current_stream(self._device))
            step.events[place] = event

    def first(self, step: StepMarks, place: str) -> None:
        """One more mark, unless there is one at this place already: the first of several stays."""
        if place not in step.host_ns:
            self.mark(step, place)

    def end(self, step: StepMarks) -> None:
        """The last mark of a step. Its instants come later, from `ready`."""
        self.mark(step, "end")
        if self._events:
            self._last = step.events["end"]
        self._open.append(step)

    def ready(self) -> list[StepMarks]:
        """The steps that the device has finished since the last call. It asks, and never waits.

        Another thread than the one that takes marks may call it.
        """
        done: list[StepMarks] = []
        while self._open and (not self._events or self._open[0].events["end"].query()):
            step = self._open.popleft()
            self._place(step)
            done.append(step)
        return done

    def _place(self, step: StepMarks) -> None:
        if not self._events:
            step.device_ns = dict(step.host_ns)
            return
        first = step.events["begin"]
        if step.idle or self._before is None:
            at = step.host_ns["begin"]
            if self._before is not None:  # a device is never at a step before the one before is over
                at = max(at, self._before[1])
        else:
            at = self._before[1] + round(self._before[0].elapsed_time(first) * 1e6)
        for place, event in step.events.items():
            elapsed = 0 if event is first else round(first.elapsed_time(event) * 1e6)
            step.device_ns[place] = at + elapsed
        if self._before is not None:
            self._free.append(self._before[0])
        last = step.events.pop("end")
        self._before = (last, step.device_ns["end"])
        self._free += step.events.values()
        step.events = {}

    def _event(self) -> Any:
        return self._free.pop() if self._free else torch.Event(self._device, enable_timing=True)
