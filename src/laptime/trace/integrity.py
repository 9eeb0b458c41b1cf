"""What may be asked of a trace, before any number is taken from it.

Each check is one function from a timeline to at most one finding. `severe` means that some figure is not supported
by the file (the verdict is then partial); `warning`, that figures stand but must be read with care.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from laptime.data.finding import Finding
from laptime.trace.completeness import (
    captured_launches,
    gpus_as_ranks,
    kernel_launches,
    launched_before,
    launches_without_kernels,
    several_processes,
    short_device_span,
)
from laptime.trace.device_time import migrations
from laptime.trace.durations import doubtful_duration, overlong_kernels, untimed, zero_durations
from laptime.trace.name_marks import marked
from laptime.trace.overlaps import overlaps
from laptime.trace.read.distinct import each_once
from laptime.trace.read.launch_links import launches
from laptime.trace.read.timeline import Activities, Activity, GpuTimeline, Int64
from laptime.trace.result import Integrity

TICKS_NS = (1000, 500, 250, 125, 100)
"""What times are rounded to on their way into a file: whole microseconds, or the steps of a float64 that holds them.
Devices themselves tick at 1 to 32 ns."""

SKEW_NS = 10_000
"""Clocks that differ by less shift no cause of a gap that matters."""

_FEW = 0.05
_ENOUGH = 16
_MANY = 1000
_FEW_RESIDUES = 32


def check(timeline: GpuTimeline, launched: Int64 | None = None) -> Integrity:
    """Look at a timeline before it is analysed.

    Args:
        timeline: the trace.
        launched: its `launches`, if they are known already.

    Returns:
        the verdict and what was noticed, the reader's findings first. `unsupported`: there is nothing on a device to
        measure. `partial`: some figures are not supported. `ok`: all are.
    """
    findings = list(timeline.findings)
    if len(timeline.activities.start_ns) == 0:
        return Integrity("unsupported", _no_activity(timeline))
    launched = launches(timeline) if launched is None else launched
    findings += [*_launch_findings(timeline, launched), *launches_without_kernels(timeline, launched)]
    for look in _LOOKS:
        findings += look(timeline)
    return Integrity("partial" if any(finding.severity == "severe" for finding in findings) else "ok", findings)


_REASONS = (
    "truncated-capture",
    "unread-device",
    "legacy-autograd",
    "driver-not-supported",
    "failed-launches",
    "cuda-not-collected",
    "no-device-activity",
)
"""What explains best that a trace has no device activity, in this order: of a cut file the rest isn't known."""


def _no_activity(timeline: GpuTimeline) -> list[Finding]:
    """The findings of a trace without device activity, the reason for that first."""
    launched = len(kernel_launches(timeline))
    message = "no kernel, copy or memset was recorded on any device; was the device traced while it worked?"
    if any(finding.code == "truncated-capture" for finding in timeline.findings):
        message = "no work of a GPU is in what can be read of it"
    elif any(finding.code == "unread-device" for finding in timeline.findings):
        message = "no work of a CUDA or HIP device is in it"
    elif (
        not len(timeline.ranges.start_ns)
        and not launched
        and any(f.code == "untimed-events" for f in timeline.findings)
    ):
        message = "none of its events has a start and a duration that are numbers"
    elif timeline.source.format == "kineto" and len(timeline.ranges.start_ns) and not len(timeline.calls.start_ns):
        message = (
            "only the host's work was traced, and no call to a GPU: this process used none (an engine's front end"
            " doesn't), or its device wasn't traced (activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])"
        )
    elif any(f.code == "failed-launches" and f.count == launched for f in timeline.findings):
        message = "no kernel, copy or memset is in it"
    elif launched:
        traced = "1 kernel launch was" if launched == 1 else f"{launched} kernel launches were"
        message = (
            f"{traced} traced, but no work of a GPU: the profiler got no records from the device (it needs permission"
            " to trace the device, and must be stopped before the program ends)"
        )
    findings = [*timeline.findings, Finding(code="no-device-activity", severity="severe", message=message)]
    place = {code: i for i, code in enumerate(_REASONS)}
    return sorted(findings, key=lambda finding: place.get(finding.code, len(_REASONS)))


def why_unsupported(integrity: Integrity) -> str:
    """Why a file can't support an answer, the first reason first."""
    if not integrity.findings:
        return "it holds no GPU activity"
    first = integrity.findings[0]
    return f"{first.message}, and no work of a GPU is among them" * (first.code == "truncated-capture") or first.message


def _launch_findings(timeline: GpuTimeline, launch: Int64) -> Iterator[Finding]:
    """Links between activities and API calls that are missing or run backwards."""
    if len(timeline.calls.start_ns) == 0:
        if not any(finding.code == "missing-table" and "RUNTIME" in finding.message for finding in timeline.findings):
            message = "no API call was recorded: launches and what the host did in gaps are not known"
            yield Finding(code="no-api-calls", severity="severe", message=message)
        return
    moved = migrations(timeline)  # by the driver, not by a call
    total = len(launch) - int(np.count_nonzero(moved))
    before = launched_before(timeline, launch) & ~moved
    early_work = int(np.count_nonzero(before))
    alone = int(np.count_nonzero((launch < 0) & ~moved & ~before))
    if total < len(launch):
        yield Finding(
            code="unified-memory",
            severity="info",
            message="copies are pages of unified memory, which the driver moves when they are touched or fetched ahead:"
            " no call launches them one by one",
            count=len(launch) - total,
        )
    if early_work:
        yield Finding(
            code="no-launch-record",
            severity="info",
            message=f"{early_work} of {total} device activities were launched before the capture began: they come"
            " before all that the calls in it launched on their streams",
            count=early_work,
        )
    if alone:
        yield Finding(
            code="no-launch-record",
            severity="severe" if alone > _FEW * total else "warning",
            message=f"{alone} of {total} device activities have no API call that launched them (it was not traced, or"
            " its record was lost). Why the GPU waited before them isn't known, nor who launched them",
            count=alone,
        )
    early = timeline.calls.start_ns[launch[launch >= 0]] - timeline.activities.start_ns[launch >= 0]
    count = int(np.count_nonzero(early > 0))
    if count:
        yield Finding(
            code="before-launch",
            severity="severe" if count > _FEW * total and int(early.max()) > SKEW_NS else "warning",
            message=f"activities start before the call that launched them, by up to {int(early.max())} ns: the clocks"
            " of host and device disagree, so causes of gaps are shifted",
            count=count,
        )


def _graph_granularity(timeline: GpuTimeline) -> Iterator[Finding]:
    """Whole replays recorded as one interval."""
    count = int(np.count_nonzero(timeline.activities.kind == Activity.GRAPH))
    if count:
        yield Finding(
            code="graph-granularity",
            severity="severe",
            message="CUDA graph replays are recorded as one interval each, without their kernels; capture with"
            " nsys profile --cuda-graph-trace=node to see them",
            count=count,
        )


def _under_recorded_replays(timeline: GpuTimeline) -> Iterator[Finding]:
    """Graph replays that lack activities which other replays of the same graph have, or have none at all."""
    activities, calls = timeline.activities, timeline.calls
    launched = np.flatnonzero(marked(calls.name, timeline.strings, lambda name: "GraphLaunch" in name))
    empty = 0
    for process in each_once(calls.process[launched]).tolist():
        ran = activities.correlation[activities.process == process]
        wanted = each_once(calls.correlation[launched][calls.process[launched] == process])
        empty += int(np.count_nonzero(~np.isin(wanted, ran)))
    short = _short_replays(activities)
    if empty + short:
        yield Finding(
            code="under-recorded-replays",
            severity="severe",
            message=f"graph replays with activities missing ({empty} have none, {short} fewer than others of the same"
            " graph): the profiler dropped records, or the capture ended before they ran",
            count=empty + short,
        )


def _short_replays(activities: Activities) -> int:
    """How many replays have fewer nodes than the fullest replay of their graph.

    A node belongs to one graph, so replays that share a node are of the same graph.
    """
    nodes = np.flatnonzero(activities.graph_node > 0)
    if len(nodes) == 0:
        return 0
    keys = np.stack([activities.process[nodes], activities.correlation[nodes]], axis=1)
    _, replay, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    replay = replay.reshape(-1)
    owned = np.stack([activities.process[nodes], activities.graph_node[nodes]], axis=1)
    distinct, node = np.unique(owned, axis=0, return_inverse=True)
    node = node.reshape(-1)
    graph = np.arange(len(count))
    while True:
        of_node = np.full(len(distinct), len(count))
        np.minimum.at(of_node, node, graph[replay])
        merged = graph.copy()
        np.minimum.at(merged, replay, of_node[node])
        if np.array_equal(merged, graph):
            break
        graph = merged
    fullest = np.zeros(len(count), dtype=np.int64)
    np.maximum.at(fullest, graph, count)
    return int(np.count_nonzero(count < fullest[graph]))


def _quantised(timeline: GpuTimeline) -> Iterator[Finding]:
    """Times that were rounded on their way into the file."""
    start = timeline.activities.start_ns
    if len(start) < _ENOUGH:
        return
    apart = np.flatnonzero(np.bincount((start - start[0]) % TICKS_NS[0]))  # each tick is a part of the first
    tick = next((tick for tick in TICKS_NS if not (apart % tick).any()), 0)
    few = len(start) >= _MANY and len(apart) <= _FEW_RESIDUES
    if tick or few:
        how = f"multiples of {tick} ns" if tick else "rounded (their fractions of a microsecond repeat)"
        yield Finding(
            code="quantised-timestamps",
            severity="warning",
            message=f"{len(start)} start times of the device are {how}: a shorter gap or kernel isn't measured by"
            " itself, only the sum of many is",
            count=len(start),
        )


def _zero_timestamps(timeline: GpuTimeline) -> Iterator[Finding]:
    """Activities at time 0 in a capture whose clock is far from it: the profiler could not take their times."""
    count = int(np.count_nonzero(untimed(timeline.activities)))
    if count:
        yield Finding(
            code="zero-timestamps",
            severity="severe",
            message="activities have a start of 0, which means not measured: the span and its idle time are not real",
            count=count,
        )


_LOOKS: tuple[Callable[[GpuTimeline], Iterator[Finding]], ...] = (
    captured_launches,
    overlong_kernels,
    doubtful_duration,
    zero_durations,
    short_device_span,
    several_processes,
    gpus_as_ranks,
    _graph_granularity,
    _under_recorded_replays,
    _quantised,
    _zero_timestamps,
    overlaps,
)
