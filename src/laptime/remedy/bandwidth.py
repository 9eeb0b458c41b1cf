"""The copy bandwidth of the device: what a step that reads every weight once is held against."""

from __future__ import annotations

from time import perf_counter

import torch

GPU_BYTES, CPU_BYTES = 1 << 30, 1 << 27
REPEATS = 5


def copy_gb_per_s(device: torch.device) -> float | None:
    """Bytes read and written a second by a large copy, in GB/s: the best of a few. None when there is no room."""
    size = GPU_BYTES if device.type == "cuda" else CPU_BYTES
    try:
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
    except RuntimeError:  # out of memory, by whatever name
        return None
    best = 0.0
    for _ in range(REPEATS):
        seconds = _copy_seconds(source, target, device)
        best = max(best, 2 * size / seconds / 1e9)
    return round(best, 1)


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
