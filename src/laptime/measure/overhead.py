"""What measuring costs on this machine: the unit costs, and what each strategy adds to a call."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

from laptime.data.record import Interval, Overhead, StrategyCost
from laptime.data.stats import median_interval
from laptime.measure.clock import EventClock, clock_for

TOKENS = (16, 128, 1024)
MARKS_OF_A_CALL = 8
"""start, vision-begin, vision-end, prefill-begin, first-logits, first-token, decode-begin, end."""

STEP_LAUNCHES = 300
"""Kernel launches in the step whose drain is measured: as many as in a small model's decode step."""


def measure_overhead(device: torch.device, *, batches: int = 40, calls: int = 200) -> Overhead:
    """Unit costs (median of `batches` batches of `calls`, with interval) and what each strategy adds.

    The cost of a strategy is its number of marks and synchronizes times their unit costs. The drain is measured: steps
    of queued kernels with a synchronize at their end, and the same steps without one, in turns.
    """
    clock = clock_for(device)
    clock.start()
    clock.mark("logits")
    host_clock = _unit_us(perf_counter_ns, batches, calls)
    probe = _unit_us(_IdleProbe(), batches, calls)
    mark = _unit_us(lambda: clock.remark("logits"), batches, calls)
    idle = drain = step_us = None
    if isinstance(clock, EventClock):
        torch.accelerator.synchronize(device)
        idle = _unit_us(lambda: torch.accelerator.synchronize(device), batches, calls)
        drain, step_us = _drain(device, batches)
    return Overhead(
        device=str(device),
        host_clock_us=host_clock,
        idle_probe_us=probe,
        mark_us=mark,
        synchronize_idle_us=idle,
        synchronize_drain_us=drain,
        drained_step_us=step_us,
        strategies=_strategies(mark, probe, idle, drain),
    )


class _IdleProbe:
    """The part of a LogitsProcessor call that stays in every decode step: a counter and a comparison."""

    def __init__(self) -> None:
        self.logits = 1
        self.only = -1

    def __call__(self) -> None:
        self.logits += 1
        if self.logits > 1 and (self.only is None or self.logits == self.only):
            raise AssertionError


def _strategies(mark: Interval, probe: Interval, idle: Interval | None, drain: Interval | None) -> list[StrategyCost]:
    rows: list[StrategyCost] = []
    for tokens in TOKENS:
        steps = tokens - 1
        calls_us = tokens * probe.value
        known_us = (MARKS_OF_A_CALL + 1) * mark.value + calls_us
        every_us = (MARKS_OF_A_CALL + steps) * mark.value + calls_us
        rows += [
            StrategyCost("total", tokens, MARKS_OF_A_CALL + 1, 1, known_us / 1e3),
            StrategyCost("total, EOS possible", tokens, MARKS_OF_A_CALL + steps, 1, every_us / 1e3),
            StrategyCost("per token, events", tokens, MARKS_OF_A_CALL + steps, 1, every_us / 1e3),
        ]
        if idle is not None and drain is not None:
            # Two a step, as timing by hand does: before the step, to drain what is queued, and after it.
            waits_us = steps * (drain.value + idle.value)
            rows.append(StrategyCost("per token, synchronize", tokens, 0, 2 * steps, waits_us / 1e3))
    return rows


def _unit_us(call: Callable[[], Any], batches: int, calls: int) -> Interval:
    """Median cost of one call in microseconds, without the loop around it."""
    for _ in range(calls):
        call()
    costs = []
    for _ in range(batches):
        begin = perf_counter_ns()
        for _ in range(calls):
            call()
        middle = perf_counter_ns()
        for _ in range(calls):
            pass
        empty = perf_counter_ns() - middle
        costs.append(max(0, middle - begin - empty) / calls / 1e3)
    return median_interval(costs)


def _drain(device: torch.device, batches: int) -> tuple[Interval, float]:
    """What a synchronize at the end of a step of STEP_LAUNCHES queued kernels adds to it, in microseconds."""
    value = torch.ones(1 << 20, device=device)

    def steps_us(count: int, *, wait: bool) -> float:
        torch.accelerator.synchronize(device)
        begin = perf_counter_ns()
        for _ in range(count):
            for _ in range(STEP_LAUNCHES):
                value.mul_(1.0)
            if wait:
                torch.accelerator.synchronize(device)
        torch.accelerator.synchronize(device)
        return (perf_counter_ns() - begin) / count / 1e3

    steps_us(4, wait=True)
    pairs = np.array([(steps_us(8, wait=True), steps_us(8, wait=False)) for _ in range(batches)])
    return median_interval(pairs[:, 0] - pairs[:, 1]), float(np.median(pairs[:, 1]))
