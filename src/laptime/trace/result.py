"""TraceAnalysis: what a trace says, as one frozen value. Its JSON is the contract `laptime.trace/1`.

All `*_ns` are integer nanoseconds. `None` means that the file can't support the figure; a finding says why.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from laptime.data.finding import Finding
from laptime.data.shown import Shown
from laptime.trace.launch_result import LaunchedBy
from laptime.trace.memory_result import DeviceMemory

SCHEMA = "laptime.trace/1"

SURE = 0.7
"""Steps of less confidence are spoken of with a hedge."""

MANY = 5
"""Of fewer steps all are spoken of, of more four of five."""

UNEVEN = 1.5
"""Where long steps last longer than this multiple of short ones, no single step stands for all."""


UNEXPLAINED = 0.1
"""By how much a replay may differ from the step before nothing is promised of it."""


def unexplained(wall_ns: int, replay_ns: int) -> bool:
    """Whether a replay lasts so differently that the dependencies in it don't explain what was traced."""
    return abs(replay_ns - wall_ns) > UNEXPLAINED * wall_ns


class TraceSource(msgspec.Struct, frozen=True):
    """The file that was read."""

    format: str  # kineto | nsys-sqlite
    file: str
    schema_version: str | None
    rank: int | None = None  # of a distributed run, where the file says it


class Integrity(msgspec.Struct, frozen=True):
    """What may be asked of the file."""

    verdict: str  # ok | partial | unsupported
    findings: list[Finding]


class HistogramBin(msgspec.Struct, frozen=True):
    """Gaps of lo_ns <= duration < hi_ns; hi_ns is None for the last bin."""

    lo_ns: int
    hi_ns: int | None
    count: int
    total_ns: int


class CauseTime(msgspec.Struct, frozen=True):
    """Gap time by what the launching thread was doing. Over all causes total_ns sums to idle_ns exactly."""

    cause: str
    gaps: int  # gaps of which this is the main cause
    total_ns: int  # gap time spent in it, in any gap


class HostTime(msgspec.Struct, frozen=True):
    """Gap time that the launching thread spent in one operator or Python frame (innermost, API calls left out)."""

    name: str
    total_ns: int


class LargeGap(msgspec.Struct, frozen=True, kw_only=True):
    """One long wait."""

    start_ns: int
    duration_ns: int
    before: str
    after: str
    before_short: str
    after_short: str
    cause: str
    cause_ns: int  # how much of the gap the cause covers
    api: str | None  # the API call that the launching thread was in for longest during the gap
    host: str | None  # the operator or Python frame that it was in for longest; None where it was in none for longer
    shares: list[CauseTime]  # the whole gap by cause


class Gaps(msgspec.Struct, frozen=True, kw_only=True):
    """All maximal idle intervals of a device."""

    count: int
    median_ns: int | None  # the lower middle one; None without gaps
    histogram: list[HistogramBin]
    large: list[LargeGap]
    causes: list[CauseTime]
    host: list[HostTime]


class BusyTime(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of work took of a device's busy time. Over all kinds share_ns sums to busy_ns exactly."""

    kind: str  # compute | communication | copy | memset
    count: int
    sum_ns: int  # plain sum of durations
    busy_ns: int  # union
    exposed_ns: int  # of the union: with no compute beside it; of compute: with nothing else beside it
    share_ns: int  # of the union: not under a kind that stands before it in this list


class CopyTime(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of one direction, or memsets."""

    direction: str  # host to device | device to host | device to device | peer to peer | … | memset | unknown
    memory: str | None  # of the host: pageable | pinned | managed; None where the file does not say
    count: int
    sum_ns: int
    busy_ns: int
    bytes: int | None  # None unless the file has the size of each
    bytes_per_second: float | None  # over sum_ns


class ProcessTime(msgspec.Struct, frozen=True, kw_only=True):
    """One of several processes that worked on the same device."""

    process: int
    busy_ns: int  # union
    alone_ns: int  # of it: with no other process beside it


class DeviceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One device over all its streams: span = busy + idle."""

    device: int
    start_ns: int
    span_ns: int
    busy_ns: int  # union of kernels, copies, memsets and whole graphs
    idle_ns: int
    kernel_busy_ns: int | None  # union of kernels; None when graphs hide kernels
    kernel_sum_ns: int | None  # plain sum of kernel durations
    memcpy_ns: int  # plain sums
    memset_ns: int
    graph_ns: int  # graph replays recorded as one interval each
    kernels: int | None
    launches: int | None  # API calls in the trace that made this device work; None when calls or links are missing
    launched_before: int = 0  # activities that were launched before the capture began
    gaps: Gaps
    busy: list[BusyTime] = []
    copies: list[CopyTime] = []
    processes: list[ProcessTime] = []  # empty where one process worked on the device


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel name on one device."""

    device: int
    name: str
    short_name: str
    family: str
    count: int
    total_ns: int
    mean_ns: int
    share: float  # of the device's busy time; kernels that run together part each instant evenly
    per_step: int | None  # launches of it in the modal step
    p50_ns: int  # durations that occur: half and 95 % of all launches last no longer
    p95_ns: int
    max_ns: int
    step_ns: int | None = None  # its time in a step: per_step times its mean in usual steps
    flop_per_second: float | None = None  # where the shapes of all its launches were recorded
    bytes_per_second: float | None = None  # of what must move at least
    of_peak: float | None = None  # the least time by the card's peaks over the measured time


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """The repeated layer inside a step: count * kernels_per_layer + outside = kernels of the step."""

    count: int
    kernels_per_layer: float  # a whole number unless a period of several unlike layers divides unevenly
    outside: int
    period_kernels: int  # the repeated unit of the kernel sequence
    period_layers: int  # layers in that unit (2 where even and odd layers differ)
    identical: int  # units whose kernel counts equal the usual unit's
    known: bool = True  # a unit multiplies, attends or normalises; else it may be any equal part of a step


class AttentionKind(msgspec.Struct, frozen=True):
    """An attention kernel of a step; `linear`: a state space or the delta rule, without attention's square."""

    name: str
    kernels: int  # a step
    linear: bool = False


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Steady steps: decode, training, diffusion, serving. wall_ns … utilisation are those of one real step, the modal
    one."""

    method: str  # nvtx | annotation | graph | period | forward (the only step, known by its layers) | none
    confidence: float  # 0..1
    device: int | None = None
    name: str | None = None  # of the range, when ranges cut the steps
    count: int = 0  # complete steps of the steady pattern
    cut: int = 0  # steps at the edge or in the warm-up left out of the choice of the modal step
    warm_up: int = 0  # of them: leading steps that last far longer than the others
    modal: int | None = None  # index of the modal step among the count
    kernels_per_step: int | None = None
    launches_per_step: int | None = None
    start_ns: int | None = None
    wall_ns: int | None = None  # first kernel to the next step's first kernel
    busy_ns: int | None = None
    kernel_ns: int | None = None  # union of kernels
    gap_ns: int | None = None  # wall - busy
    utilisation: float | None = None  # busy / wall
    wall_p10_ns: int | None = None
    wall_p90_ns: int | None = None
    causes: list[CauseTime] = []  # of the modal step's gaps
    busy: list[BusyTime] = []  # of the modal step
    layers: Layers | None = None
    outside_ns: int | None = None  # the device's span before, between and after the steps, and its warm-up steps
    outside_idle_ns: int | None = None  # of it: in which the device did nothing
    outside_causes: list[CauseTime] = []  # of the gaps of 1 ms and more that are no step's
    host_work_ns: int | None = None  # gap time in which the host worked on something else than launching
    host_waits: int | None = None  # how many launches of the step the host made after a wait for the device
    attention_kernels: int | None = None  # how often a step runs its most frequent attention kernel
    attention_kinds: list[AttentionKind] = []  # most frequent first; of kernels that run equally often the first
    tokens: list[int] | None = None  # the dimensions of the tokens that the modal step embeds, from recorded shapes
    reason: str | None = None  # why there are no steps
    replay_ns: int | None = None  # what a replay of the modal step's dependency graph takes; None without its launches
    maybe_waiting_ns: int | None = None  # in communication of the modal step, beyond what a fast link takes
    carried_ns: int | None = None  # busy time of the modal step in which only work runs that began before it
    loads_data: bool = False  # host work of the modal step lies in ranges that are named as a data loader's

    @property
    def unexplained(self) -> bool:
        """Whether a replay of the step's dependencies lasts so differently that they don't explain the step."""
        return self.wall_ns is not None and self.replay_ns is not None and unexplained(self.wall_ns, self.replay_ns)

    @property
    def uneven(self) -> bool:
        """Whether the steps last so differently that none stands for all."""
        low, high = self.wall_p10_ns, self.wall_p90_ns
        return self.count > 1 and low is not None and high is not None and high > UNEVEN * low


class ApiCall(msgspec.Struct, frozen=True):
    """One API function over all threads, version suffix folded."""

    name: str
    count: int
    total_ns: int
    cause: str | None  # what its time counts as


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The modal step under one remedy (or several: `a+b`), as a range with what it assumes."""

    remedy: str  # untraced | buffers | fusion | graph | graph+fusion
    step_ns_low: int
    step_ns_high: int
    speedup_low: float
    speedup_high: float
    assumptions: list[str]
    floor_ns: int | None = None  # what no remedy of this kind goes below
    outside_ns: int | None = None  # of a graph: what is added where it holds the layers alone


class TracedPass(msgspec.Struct, frozen=True, kw_only=True):
    """A pass before decoding: the middle one by time of those of its stage. It lasts from its first kernel to its
    last one."""

    stage: str  # vision | encoder (what kind isn't known) | prefill
    method: str  # range | module | layers: what says which kernels are its own
    name: str | None  # of the range or the module
    count: int  # passes of this stage in the trace
    start_ns: int
    wall_ns: int
    busy_ns: int
    gap_ns: int  # wall - busy
    kernels: int | None
    launches: int | None
    layers: Layers | None
    causes: list[CauseTime]  # of its gaps
    host_work_ns: int | None  # gap time in which the host worked on something else than launching
    replay_ns: int | None  # what a replay of its dependency graph takes
    whatif: list[WhatIf]
    unsure: bool = False  # which kernels are its own is a guess by its layers
    products_ns: int | None = None  # sum of its products, convolutions, attention
    attention_kernels: int | None = None
    merged_kernels: int | None = None  # if every run of small kernels were one kernel
    merged_ns: int | None = None  # and these take together, such a run as long as its longest kernel
    lost_kernels: int = 0  # launches in it without a kernel, where these are more than a few of them
    advice: str = ""

    @property
    def unexplained(self) -> bool:
        """Whether a replay of its dependencies lasts so differently that they don't explain it."""
        return self.replay_ns is not None and unexplained(self.wall_ns, self.replay_ns)


class StepDrawing(msgspec.Struct, frozen=True, kw_only=True):
    """The modal step to scale, in columns; times in ns after the step's start. For pages."""

    wall_ns: int
    start_ns: list[int]
    duration_ns: list[int]
    stream: list[int]
    name: list[int]  # index into names
    names: list[str]  # short names
    families: list[str]  # of names
    layer: list[int]  # index of the layer unit each belongs to, -1 outside
    gap_start_ns: list[int]
    gap_duration_ns: list[int]
    gap_cause: list[str]
    truncated: int = 0  # activities left out


class TraceAnalysis(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    ROWS: ClassVar[str] = "kernels"

    schema: str = SCHEMA
    headline: str
    advice: str
    source: TraceSource
    integrity: Integrity
    devices: list[DeviceTimes]
    kernels: list[Kernel]
    steps: Steps
    api: list[ApiCall]
    whatif: list[WhatIf]
    modal_step: StepDrawing | None = None
    passes: list[TracedPass] = []  # before decoding: vision and prefill
    launched_by: LaunchedBy | None = None  # of the device that worked most; None where the trace names nobody
    memory: list[DeviceMemory] = []  # empty unless the profiler recorded it

    def to_json(self) -> bytes:
        """The contract's JSON."""
        return msgspec.json.encode(self)
