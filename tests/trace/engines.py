"""Made-up inference engines: decode steps with known layers, gaps and host calls, as plain rows.

`published_engine` is the engine of the launch-overhead note (RTX 5070 Ti, Qwen3-4B bf16), built from what its
authors published: a traced step of 15.2 ms, 11.971 ms of it kernels, 400 launches, 3.229 ms of gaps; 5.2 µs on
average in cudaLaunchKernel; about as many cuMemAllocAsync and cuMemFreeAsync calls as kernels; kernel means and
counts that fit 36 layers of 11 kernels and 4 outside. How the rest of a gap (2.87 µs) splits into allocation,
free and the engine's own code was not published; 0.3 µs of own code is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

Kernels = Sequence[tuple[str, int]]


@dataclass
class Rows:
    """What an engine did."""

    activities: list[ActivityRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)
    ranges: list[RangeRow] = field(default_factory=list)

    @property
    def all(self) -> tuple[list[ActivityRow], list[CallRow], list[RangeRow]]:
        return self.activities, self.calls, self.ranges


def host_bound(
    steps: Sequence[Kernels],
    *,
    host: Sequence[tuple[str | None, int]] = ((None, 2_000),),
    launch_ns: int = 5_000,
    between_ns: int = 0,
    start_ns: int = 1_000_000,
    annotate: str | None = None,
    graph: bool = False,
) -> Rows:
    """Steps whose kernels wait for the host: after each kernel the host goes through `host` and then launches.

    Args:
        steps: for each step its kernels as (name, duration ns).
        host: calls between two launches as (API name, duration ns); None is the engine's own code.
        launch_ns: the launch call's duration; the kernel starts as it returns.
        between_ns: host code between steps.
        start_ns: when the first call begins.
        annotate: the name of a range around each step's host work; `{}` is the step's number.
        graph: one graph launch per step; its kernels are 1 µs apart.
    """
    rows = Rows()
    now, correlation = start_ns, 1
    for number, kernels in enumerate(steps):
        began = now
        if graph:
            rows.calls.append(CallRow(now, now + launch_ns, "cudaGraphLaunch_v10000", correlation))
            now += launch_ns
            for node, (name, duration) in enumerate(kernels):
                rows.activities.append(ActivityRow(now, now + duration, name, correlation=correlation, graph_node=node))
                now += duration + 1_000
            correlation += 1
        else:
            for name, duration in kernels:
                for api, spent in host:
                    if api is not None:
                        rows.calls.append(CallRow(now, now + spent, api, 0))
                    now += spent
                rows.calls.append(CallRow(now, now + launch_ns, "cudaLaunchKernel_v7000", correlation))
                now += launch_ns
                rows.activities.append(ActivityRow(now, now + duration, name, correlation=correlation))
                now += duration
                correlation += 1
        if annotate is not None:
            rows.ranges.append(RangeRow(began, now, annotate.format(number)))
        now += between_ns
    return rows


def decoder(layers: int, layer: Kernels, before: Kernels = (), after: Kernels = ()) -> list[tuple[str, int]]:
    """One forward: `before`, then the layer `layers` times, then `after`."""
    return [*before, *(kernel for _ in range(layers) for kernel in layer), *after]


LAYER: Kernels = (
    ("rms_norm", 3_400),
    ("gemvx_q", 26_000),
    ("gemvx_k", 26_000),
    ("gemvx_v", 26_000),
    ("fused_gqa_attention", 12_000),
    ("gemvx_o", 26_000),
    ("add", 900),
    ("rms_norm", 3_400),
    ("fused_mlp_intermediate", 125_000),
    ("fused_mlp_output", 85_000),
    ("add", 900),
)

PUBLISHED_STEP_NS, PUBLISHED_KERNEL_NS = 15_200_000, 11_971_000
PUBLISHED_UNTRACED_MS, PUBLISHED_BUFFERS_MS, PUBLISHED_GRAPH_MS = 14.63, 13.58, 12.29
PUBLISHED_FUSION_SHARE = 0.009


def published_step() -> list[tuple[str, int]]:
    """One decode step of the published engine: 36 × 11 + 4 kernels that last 11.971 ms together."""
    step = decoder(36, LAYER, [("copy_embedding", 800)], [("rms_norm", 3_400), ("gemvx_head", 0), ("copy_token", 800)])
    scale = (PUBLISHED_KERNEL_NS - 200_000) / sum(duration for _, duration in step)
    scaled = [(name, round(duration * scale)) for name, duration in step]
    rest = PUBLISHED_KERNEL_NS - sum(duration for _, duration in scaled)
    return [(name, rest if name == "gemvx_head" else duration) for name, duration in scaled]


def published_engine(steps: int = 12) -> Rows:
    """The published engine for some steps: 8.07 µs from one kernel's end to the next one's start."""
    gap, launch = (PUBLISHED_STEP_NS - PUBLISHED_KERNEL_NS) // 400, 5_200
    own = 300
    allocation = (gap - launch - own) // 2
    host = [("cuMemFreeAsync", allocation), (None, own), ("cuMemAllocAsync", gap - launch - own - allocation)]
    rest = PUBLISHED_STEP_NS - PUBLISHED_KERNEL_NS - 400 * gap
    return host_bound([published_step()] * steps, host=host, launch_ns=launch, between_ns=rest)
