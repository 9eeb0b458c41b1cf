"""What needs no GPU of the monitor: its judgements. Its readings are tested in tests/gpu."""

import os
from types import SimpleNamespace

import pytest
import torch

from laptime.measure.gpu_monitor import GpuMonitor


class Driver:
    """The few functions of NVML that the monitor calls, with given answers."""

    NVMLError = RuntimeError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = range(3)

    def __init__(self, pids=(), reasons=0):
        self.pids, self.reasons = pids, reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self.reasons

    def nvmlDeviceGetPowerUsage(self, handle):
        raise RuntimeError("not supported")


def test_there_is_none_without_a_cuda_device():
    assert GpuMonitor.open(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("pids", "foreign"),
    [
        ((), 0),
        ((os.getpid(),), 0),
        ((os.getpid(), 2**22 + 1), 1),
        ((2**22 + 1,), 0),  # a container's own process under the host's number
        ((2**22 + 1, 2**22 + 2), 1),
    ],
)
def test_other_processes_are_counted_also_from_inside_a_container(pids, foreign):
    assert GpuMonitor(Driver(pids=pids), None).foreign_processes() == foreign


def test_throttling_is_told_from_idling():
    idle, locked = 0x1, 0x2
    state = GpuMonitor(Driver(reasons=idle | locked | 0x4 | 0x40), None).state()
    assert state.throttle == ["sw-power-cap", "hw-thermal"]
    assert GpuMonitor(Driver(reasons=idle), None).state().throttle == []


def test_what_the_gpu_does_not_tell_is_none():
    state = GpuMonitor(Driver(), None).state()
    assert (state.power_w, state.sm_mhz) == (None, None)


def test_energy_of_a_call_too_short_for_the_counter_is_none():
    assert GpuMonitor.meaningful_energy_j(1000, 151_000, 0.6) == 150.0
    assert GpuMonitor.meaningful_energy_j(1000, 151_000, 0.3) is None
    assert GpuMonitor.meaningful_energy_j(None, 5, 1.0) is None
