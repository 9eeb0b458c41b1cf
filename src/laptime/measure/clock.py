"""Clocks: they take marks on the device's stream and on the host, and resolve them all after the call.

A mark on a device is an event. Recording it waits for nothing; its time is read after one synchronize at the end.
Events are created and recorded once before the call, because the first record of an event also creates it, which
takes longer. On a CPU the program itself is the timeline, and both readings are perf_counter_ns.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Protocol

import torch

from laptime.data.record import Mark

REANCHOR_MS = 500.0
"""elapsed_time is a float32 of milliseconds, and below 512 ms its steps are at most 31 ns. In a longer call a later
event becomes the anchor, so that its marks are as fine as those of a short call."""


class Clock(Protocol):
    """Takes the marks of one call at a time."""

    def start(self) -> None:
        """Forget earlier marks, wait until the device is idle, take the mark "start"."""

    def mark(self, kind: str) -> None:
        """Take a mark."""

    def remark(self, kind: str) -> None:
        """Move the newest mark to now if it is of this kind, else take one: only the last of many is kept."""

    def resolve(self) -> list[Mark]:
        """Wait for the last mark and return all marks, in ns after the first. This is the only wait of a call."""

    def reserve(self, count: int) -> None:
        """Prepare at least `count` marks, so that no event is created during a call."""


def clock_for(device: torch.device, capacity: int = 64) -> Clock:
    """The clock of a device: events where it has a stream, the host's counter on a CPU."""
    return HostClock() if device.type == "cpu" else EventClock(device, capacity)


class HostClock:
    """perf_counter_ns, for devices that compute while the host waits."""

    def __init__(self) -> None:
        self._kinds: list[str] = []
        self._host_ns: list[int] = []

    def start(self) -> None:
        self._kinds.clear()
        self._host_ns.clear()
        self.mark("start")

    def mark(self, kind: str) -> None:
        self._kinds.append(kind)
        self._host_ns.append(perf_counter_ns())

    def remark(self, kind: str) -> None:
        if self._kinds[-1] == kind:
            self._host_ns[-1] = perf_counter_ns()
        else:
            self.mark(kind)

    def resolve(self) -> list[Mark]:
        origin = self._host_ns[0]
        return [Mark(kind, ns - origin, ns - origin) for kind, ns in zip(self._kinds, self._host_ns, strict=True)]

    def reserve(self, count: int) -> None:
        """There is nothing to prepare: a mark is two list entries."""


class EventClock:
    """Events of the device's current stream, through the device-generic torch.Event."""

    def __init__(self, device: torch.device, capacity: int = 64) -> None:
        self._device = device
        self._stream = torch.accelerator.current_stream(device)
        self._events: list[torch.Event] = []
        self._kinds: list[str] = []
        self._host_ns: list[int] = []
        self._grow(capacity)

    def start(self) -> None:
        self._kinds.clear()
        self._host_ns.clear()
        self._stream = torch.accelerator.current_stream(self._device)
        torch.accelerator.synchronize(self._device)
        self.mark("start")

    def mark(self, kind: str) -> None:
        slot = len(self._kinds)
        if slot == len(self._events):
            self._grow(slot)
        self._events[slot].record(self._stream)
        self._host_ns.append(perf_counter_ns())
        self._kinds.append(kind)

    def remark(self, kind: str) -> None:
        if self._kinds[-1] != kind:
            self.mark(kind)
            return
        self._events[len(self._kinds) - 1].record(self._stream)
        self._host_ns[-1] = perf_counter_ns()

    def resolve(self) -> list[Mark]:
        self._events[len(self._kinds) - 1].synchronize()
        marks: list[Mark] = []
        anchor, anchor_ns, latest = self._events[0], 0, 0
        for kind, event, host_ns in zip(self._kinds, self._events, self._host_ns, strict=False):
            elapsed_ms = anchor.elapsed_time(event) if event is not anchor else 0.0
            latest = max(latest, anchor_ns + round(elapsed_ms * 1e6))
            marks.append(Mark(kind, latest, host_ns - self._host_ns[0]))
            if elapsed_ms > REANCHOR_MS:
                anchor, anchor_ns = event, latest
        return marks

    def reserve(self, count: int) -> None:
        if count > len(self._events):
            self._grow(count - len(self._events))

    def _grow(self, count: int) -> None:
        events = [torch.Event(self._device, enable_timing=True) for _ in range(max(count, 1))]
        for event in events:
            event.record(self._stream)
        self._events += events
