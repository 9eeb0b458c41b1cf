"""What NVML knows about the GPU: clocks, temperature, power, throttling, energy, other processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import torch

from laptime.data.record import GpuState

FOREIGN_EVERY_S = 1.0
THROTTLE_HOLDS_S = 0.02
"""A call that begins this soon after the last one's end begins with the throttle reasons read there."""

ENERGY_MIN_S = 0.5
"""Shorter calls have no energy. At 0.5 s the counter's error is at most 4 %."""

THROTTLE_REASONS = {
    0x04: "sw-power-cap",
    0x08: "hw-slowdown",
    0x20: "sw-thermal",
    0x40: "hw-thermal",
    0x80: "hw-power-brake",
}
"""NVML's reasons for lower clocks under load. Idling, user settings and sync boost are no throttling."""


class GpuMonitor:
    """Reads NVML for one torch device. Each reading takes tens of microseconds: read before and after calls."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._foreign = 0
        self._foreign_until = 0.0
        self._throttle: list[str] = []
        self._throttle_until = 0.0

    @classmethod
    def open(cls, device: torch.device) -> GpuMonitor | None:
        """The monitor of a CUDA device; None for other devices and where there is no NVML."""
        if device.type != "cuda":
            return None
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"))
        except pynvml.NVMLError:
            return None

    def throttle(self) -> list[str]:
        """Why the clocks are lower now; empty when they are not. As of the last THROTTLE_HOLDS_S."""
        return self._throttle if time.monotonic() < self._throttle_until else self._ask_throttle()

    def state(self) -> GpuState:
        """Clocks, temperature, power and throttle reasons now; None for what this GPU does not report."""
        nvml, handle = self._nvml, self._handle
        watts = self._ask("nvmlDeviceGetPowerUsage", handle)
        return GpuState(
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if watts is None else watts / 1e3,
            throttle=self._ask_throttle(),
        )

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption", self._handle)

    def foreign_processes(self) -> int:
        """Other processes computing on this GPU, as of the last FOREIGN_EVERY_S (asking takes 0.14 ms).

        In a container NVML may show our own process under another number.
        """
        now = time.monotonic()
        if now >= self._foreign_until:
            self._foreign, self._foreign_until = self._ask_foreign_processes(), now + FOREIGN_EVERY_S
        return self._foreign

    def _ask_throttle(self) -> list[str]:
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle) or 0
        self._throttle = [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]
        self._throttle_until = time.monotonic() + THROTTLE_HOLDS_S
        return self._throttle

    def _ask_foreign_processes(self) -> int:
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", self._handle) or []
        pids = {process.pid for process in processes}
        return len(pids - {os.getpid()}) if os.getpid() in pids else max(0, len(pids) - 1)

    def facts(self) -> dict[str, Any]:
        """What stays the same during a run: driver, power limit, highest clock, persistence mode."""
        nvml, handle = self._nvml, self._handle
        limit_mw = self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)
        persistence = self._ask("nvmlDeviceGetPersistenceMode", handle)
        return {
            "driver": self._ask("nvmlSystemGetDriverVersion"),
            "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1e3,
            "gpu_max_sm_mhz": self._ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
            "gpu_persistence": None if persistence is None else bool(persistence),
        }

    @staticmethod
    def meaningful_energy_j(before_mj: int | None, after_mj: int | None, elapsed_s: float) -> float | None:
        """Joules of a call, or None where the counter is too coarse for so short a call."""
        if before_mj is None or after_mj is None or elapsed_s < ENERGY_MIN_S or after_mj <= before_mj:
            return None
        return (after_mj - before_mj) / 1e3

    def _ask(self, question: str, *arguments: Any) -> Any:
        """NVML's answer; None where this GPU, driver or binding has none."""
        with suppress(self._nvml.NVMLError, AttributeError):
            return getattr(self._nvml, question)(*arguments)
        return None
