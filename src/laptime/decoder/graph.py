"""A step that is captured once and replayed: one launch for all its kernels, no Python between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from laptime.errors import LaptimeError

WARM_UPS = 2
"""Runs before a capture. They compile kernels and let libraries allocate what they need at their first use."""


@dataclass(frozen=True, eq=False)
class CapturedStep:
    """A step ready for replay: calling it launches the whole graph."""

    graph: Any

    def __call__(self) -> None:
        self.graph.replay()


def capture(step: Callable[[], object], noise: torch.Generator | None = None, *, pool: Any = None) -> CapturedStep:
    """Run `step` until it is warm, then capture it. It must work on buffers that stay where they are.

    cuBLAS gets its workspace inside the capture, from the graph's own memory. Graphs of others (Inductor's) free the
    shared workspaces, and a replay would then write to freed memory.

    noise: the generator that the step draws from, so that every replay draws new numbers.
    pool: memory that the graph shares with others (torch.cuda.graph_pool_handle()). They must run one after the other.

    Raises LaptimeError with the reason when the device refuses the capture.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    if noise is not None:
        graph.register_generator_state(noise)
    try:
        _forget_cublas_workspaces()
        with torch.cuda.graph(graph, stream=side, pool=pool):
            step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LaptimeError(f"the step could not be captured in a CUDA graph: {str(error).splitlines()[0]}") from error
    finally:
        _forget_cublas_workspaces()
    torch.cuda.synchronize()
    return CapturedStep(graph)


def _forget_cublas_workspaces() -> None:
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        torch.cuda.synchronize()
        clear()
