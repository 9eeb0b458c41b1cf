"""The floor of a decode step: its bytes over the copy bandwidth that the device reaches.

A step reads every weight that it uses and the whole cache once. Nothing that computes the same step is faster than a
copy of these bytes, so every remedy is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch

from laptime.decoder.plan import DecodePlan
from laptime.remedy.remedies import Subject

GPU_BYTES, CPU_BYTES = 1 << 30, 1 << 27
REPEATS = 5


@dataclass(frozen=True)
class StepFloor:
    """What a step reads and how fast the device can. None stands for what isn't known.

    weight_bytes, cache_bytes: read in one step; the cache as it is in the middle of the call.
    copy_gb_per_s: bytes read and written by a large copy.
    """

    weight_bytes: int | None
    cache_bytes: int | None
    copy_gb_per_s: float | None

    @property
    def read_bytes(self) -> int | None:
        if self.weight_bytes is None or self.cache_bytes is None:
            return None
        return self.weight_bytes + self.cache_bytes

    @property
    def ms(self) -> float | None:
        """The least time of a step in ms."""
        if self.read_bytes is None or self.copy_gb_per_s is None:
            return None
        return round(self.read_bytes / self.copy_gb_per_s / 1e6, 4)


def step_floor(plan: DecodePlan | None, subject: Subject, bandwidth: float | None) -> StepFloor:
    """The floor of this call's steps. plan: None for a model whose step isn't known. bandwidth: GB/s."""
    if plan is None:
        return StepFloor(None, None, bandwidth)
    middle = int(subject.inputs["input_ids"].shape[1]) + subject.most_tokens // 2
    return StepFloor(plan.weight_bytes(subject.batch), plan.cache_bytes(middle, subject.batch), bandwidth)


def copy_gb_per_s(device: torch.device) -> float | None:
    """Bytes that a large copy reads and writes, in GB/s: the best of a few copies. None when memory is too small."""
    size = GPU_BYTES if device.type == "cuda" else CPU_BYTES
    try:
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
    except RuntimeError:  # out of memory; its class differs between devices
        return None
    best = min(_copy_seconds(source, target, device) for _ in range(REPEATS))
    return round(2 * size / best / 1e9, 1)


def _copy_seconds(source: torch.Tensor, target: torch.Tensor, device: torch.device) -> float:
    if device.type != "cuda":
        began = perf_counter()
        target.copy_(source)
        return perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    target.copy_(source)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
