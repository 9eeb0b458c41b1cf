"""What happened around a call and could change its time: collections, compiles, retries, memory, energy."""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import NamedTuple

import msgspec
import torch

from laptime.data.record import Flag, GpuState
from laptime.data.usable import BUSY_CORES
from laptime.measure.gpu_monitor import GpuMonitor

GC_PAUSE_SHARE = 0.01
"""A call is flagged when the garbage collector took more than this share of it."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What was true around one call."""

    started_unix_ms: float
    memory_peak_bytes: int | None
    energy_j: float | None
    gpu: GpuState | None
    gc_pause_ms: float
    flags: list[Flag]


class Watch:
    """Looks at the machine before and after a call, never during it. `circumstances` is set on exit.

    energy: read the energy counter too. NVML takes milliseconds for it and microseconds for everything else.
    memory: read the peak memory too. It resets the process's own counter of peak memory.
    Where something can't be read, the call's result goes first: `circumstances` stays None.
    """

    def __init__(
        self, device: torch.device, monitor: GpuMonitor | None = None, *, energy: bool = False, memory: bool = False
    ) -> None:
        self._device = device
        self._monitor = monitor
        self._energy = energy
        self._peak = memory
        self.circumstances: Circumstances | None = None

    def __enter__(self) -> Watch:
        self._started_unix_ms = time.time() * 1e3
        self._gc_ns = 0
        self._gc_began = 0
        self._throttle = set(self._monitor.throttle()) if self._monitor else set()
        self._compiled = compiled_graphs()
        self._retries = _retries(self._device)
        if self._peak:
            _reset_memory_peak(self._device)
        self._cpu = processor_reading() if self._device.type == "cpu" else None
        self._energy_mj = self._monitor.energy_mj() if self._monitor and self._energy else None
        gc.callbacks.append(self._on_gc)
        self._begin_ns = perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        elapsed_s = (perf_counter_ns() - self._begin_ns) / 1e9
        gc.callbacks.remove(self._on_gc)
        if error is None:
            with suppress(Exception):
                self.circumstances = self._look(elapsed_s)

    def _look(self, elapsed_s: float) -> Circumstances:
        # The GPU first: its clocks fall once it idles.
        gpu = self._monitor.state() if self._monitor else None
        energy_mj = self._monitor.energy_mj() if self._monitor and self._energy else None
        flags: list[Flag] = []
        if compiled_graphs() > self._compiled:
            flags.append("recompiled")
        if _retries(self._device) > self._retries:
            flags.append("allocator-retry")
        if self._gc_ns / 1e9 > GC_PAUSE_SHARE * elapsed_s:
            flags.append("gc-pause")
        if gpu is not None and (self._throttle | set(gpu.throttle)):
            flags.append("throttled")
        if self._foreign(elapsed_s):
            flags.append("foreign-process")
        return Circumstances(
            started_unix_ms=self._started_unix_ms,
            memory_peak_bytes=_memory_peak_bytes(self._device) if self._peak else None,
            energy_j=GpuMonitor.meaningful_energy_j(self._energy_mj, energy_mj, elapsed_s),
            gpu=gpu,
            gc_pause_ms=self._gc_ns / 1e6,
            flags=flags,
        )

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        now = perf_counter_ns()
        if phase == "start":
            self._gc_began = now
        elif self._gc_began:
            self._gc_ns += now - self._gc_began

    def _foreign(self, elapsed_s: float) -> bool:
        if self._monitor is not None:
            return self._monitor.foreign_processes() > 0
        if self._cpu is None or elapsed_s < 0.1:  # /proc/stat counts in hundredths of a second
            return False
        before, after = foreign_cpu_s(self._cpu), foreign_cpu_s(processor_reading())
        return before is not None and after is not None and (after - before) / elapsed_s > BUSY_CORES


def _retries(device: torch.device) -> int:
    """How often the device's allocator has freed its cache and tried again, since the process began."""
    if device.type != "cuda":
        return 0
    # memory_stats() flattens and sorts this: 0.1 ms more
    return int(torch.cuda.memory_stats_as_nested_dict(device)["num_alloc_retries"])


def _memory_peak_bytes(device: torch.device) -> int | None:
    """The peak since the last reset: the allocator's on a GPU, the process's resident one on a Linux CPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_stats_as_nested_dict(device)["allocated_bytes"]["all"]["peak"])
    if device.type == "cpu":
        with suppress(OSError, ValueError, IndexError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    return None


def _reset_memory_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):  # Linux: 5 resets this process's VmHWM
            Path("/proc/self/clear_refs").write_text("5")


def compiled_graphs() -> int:
    """How many graphs torch.compile has built in this process; torch keeps no other counter of it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    return int(dynamo.counters["stats"].get("unique_graphs", 0))


class ProcessorReading(NamedTuple):
    """What the kernel counts of the processor, not taken apart yet: that takes longer than reading it."""

    stat: bytes  # /proc/stat
    own_s: float  # CPU time of this process and its children


def processor_reading() -> ProcessorReading | None:
    """Read it now; None where it can't be read."""
    with suppress(OSError):
        with Path("/proc/stat").open("rb", buffering=0) as file:
            stat = file.readall()
        own = os.times()
        return ProcessorReading(stat, own.user + own.system + own.children_user + own.children_system)
    return None


def foreign_cpu_s(reading: ProcessorReading | None = None) -> float | None:
    """Seconds of CPU time that other processes have used since boot, by a reading or now; None where it isn't known.

    Only the cores that this process may use count. Work on other cores does not disturb it.
    """
    reading = processor_reading() if reading is None else reading
    with suppress(OSError, ValueError, IndexError):
        if reading is None:
            return None
        lines = [line.split() for line in reading.stat.decode().split("\n") if line.startswith("cpu")]
        own_cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        busy = sum(_busy_ticks(fields) for name, *fields in lines if name in own_cores) / os.sysconf("SC_CLK_TCK")
        return busy - reading.own_s
    return None


def _busy_ticks(fields: list[str]) -> int:
    """The busy time in one core's line of /proc/stat: user, nice, system, irq and softirq."""
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[:7])
    return user + nice + system + irq + softirq
