"""Copies that hold the device up, and the same copies on streams of their own. For whatif_workloads.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step


def uploads() -> tuple[Step, Callable[[], Step]]:
    """Batches in pageable memory, copied before each forward; then pinned, and fetched on a stream of their own."""
    rows, width, deep = (8192, 4096, 24) if not SMALL else (16, 32, 2)
    batches = [torch.randn(rows, width).to(HALF) for _ in range(3)]
    return _copies(batches, width, deep, back=False)


def both_ways() -> tuple[Step, Callable[[], Step]]:
    """Pinned batches there and results back, all on one stream; then copies on streams of their own."""
    rows, width, deep = (16_384, 4096, 12) if not SMALL else (16, 32, 2)
    batches = [torch.randn(rows, width).to(HALF) for _ in range(3)]
    if CUDA:
        batches = [batch.pin_memory() for batch in batches]
    return _copies(batches, width, deep, back=True)


def _copies(batches: list[torch.Tensor], width: int, deep: int, *, back: bool) -> tuple[Step, Callable[[], Step]]:
    weights = [torch.randn(width, width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(deep)]
    results = [torch.empty_like(batches[0], pin_memory=CUDA) for _ in range(2)]
    turn = iter(range(10**9))

    def forward(x: torch.Tensor) -> torch.Tensor:
        for weight in weights:
            x = x @ weight
        return x

    def one_after_another() -> None:
        result = forward(batches[next(turn) % 3].to(DEVICE, non_blocking=True))
        if back:
            results[0].copy_(result, non_blocking=True)

    def remedied() -> Step:
        if not CUDA:
            return one_after_another
        pinned = [batch if batch.is_pinned() else batch.pin_memory() for batch in batches]
        there, home = torch.cuda.Stream(), torch.cuda.Stream()
        places = [torch.empty_like(pinned[0], device=DEVICE) for _ in range(2)]
        arrived, free = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))

        def fetch(i: int) -> None:
            with torch.cuda.stream(there):
                there.wait_event(free[i % 2])
                places[i % 2].copy_(pinned[i % 3], non_blocking=True)
                arrived[i % 2].record()

        for event in free:
            event.record()
        fetch(0)
        count = iter(range(10**9))

        def overlapped() -> None:
            i, here = next(count), torch.cuda.current_stream()
            fetch(i + 1)
            here.wait_event(arrived[i % 2])
            result = forward(places[i % 2])
            free[i % 2].record()
            if back:
                home.wait_stream(here)
                with torch.cuda.stream(home):
                    results[i % 2].copy_(result, non_blocking=True)
                result.record_stream(home)

        return overlapped

    return one_after_another, remedied
