"""Whether a trace holds all that happened: launches against kernels, ranks in one, processes.

Like integrity's own checks, each is one function from a timeline to findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from laptime.data.finding import Finding
from laptime.trace.kernel_names import communicates
from laptime.trace.lanes import by_lane
from laptime.trace.name_marks import marked
from laptime.trace.read.distinct import each_once
from laptime.trace.read.launch_links import launches_kernel
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64, RangeKind

FEW = 0.05
"""Up to this share of launches may lack a kernel before figures are called unsupported."""

SHORT_SPAN = 0.05
"""A device that worked within so small a share of the traced time is said to."""

LEFT_OUT = ("unreadable-events", "untimed-events", "negative-durations", "zero-timestamps")
"""What readers note where they leave events out."""

IDLE_NS = 100_000
"""A stream that runs nothing for longer than this has nothing queued."""

_BEGIN, _END = re.compile(r"begincapture", re.IGNORECASE), re.compile(r"endcapture", re.IGNORECASE)


def kernel_launches(timeline: GpuTimeline) -> Int64:
    """Indices of the calls that launch one kernel each, those that a graph capture recorded instead left out."""
    return _launches(timeline)[0]


def captured_launches(timeline: GpuTimeline) -> Iterator[Finding]:
    """Launch calls that ran nothing, because a capture recorded them into a graph."""
    count = len(_launches(timeline)[1])
    if count:
        yield Finding(
            code="captured-launches",
            severity="info",
            message="kernel launches were recorded into a CUDA graph by a capture: they ran no kernel by themselves",
            count=count,
        )


def _launches(timeline: GpuTimeline) -> tuple[Int64, Int64]:
    """Indices of the calls that launch one kernel each: those that run it, and those that a capture records."""
    calls = timeline.calls
    if len(calls.start_ns) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    names = timeline.strings
    found = np.flatnonzero(marked(calls.name, names, launches_kernel))
    begins = np.flatnonzero(marked(calls.name, names, lambda name: bool(_BEGIN.search(name))))
    ends = np.flatnonzero(marked(calls.name, names, lambda name: bool(_END.search(name))))
    if len(begins) == 0 and len(ends) == 0:
        return found, found[:0]
    captured = np.zeros(len(found), dtype=np.bool_)
    for process in each_once(calls.process[np.concatenate([begins, ends])]).tolist():
        own = calls.process[found] == process
        at = calls.start_ns[found]
        opened = np.searchsorted(calls.start_ns[begins[calls.process[begins] == process]], at, side="right")
        closed = np.searchsorted(calls.start_ns[ends[calls.process[ends] == process]], at, side="right")
        late = max(0, int((calls.process[ends] == process).sum()) - int((calls.process[begins] == process).sum()))
        captured |= own & (opened + late > closed)
    return found[~captured], found[captured]


def unanswered(timeline: GpuTimeline, launched: Int64, found: Int64) -> Int64:
    """Those of some launch calls that no device activity answers.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
        found: indices of the launch calls.
    """
    calls, activities = timeline.calls, timeline.activities
    ran = np.zeros(len(calls.start_ns), dtype=np.bool_)
    ran[launched[launched >= 0]] = True
    found = found[~ran[found]]
    if len(found) == 0:
        return found
    known = _keys(activities.process, activities.correlation)
    unknown = activities.correlation[activities.process < 0]
    answered = np.isin(_keys(calls.process[found], calls.correlation[found]), known)
    if len(unknown):
        answered |= np.isin(calls.correlation[found], unknown)
    missing: Int64 = found[~answered & (calls.correlation[found] >= 0)]
    return missing


def launches_without_kernels(timeline: GpuTimeline, launched: Int64) -> Iterator[Finding]:
    """Launch calls that no device activity answers. `launched`: each activity's call, as `launches` gives it."""
    found = kernel_launches(timeline)
    failed = sum(finding.count for finding in timeline.findings if finding.code == "failed-launches")
    count, total = len(unanswered(timeline, launched, found)) - failed, len(found) - failed
    if count > 0:
        left_out = any(finding.code in LEFT_OUT for finding in timeline.findings)
        damaged = "their records are damaged, " if left_out else ""
        yield Finding(
            code="launches-without-kernels",
            severity="severe" if count > FEW * total else "warning",
            message=f"{count} of {total} kernel launches have no kernel: {damaged}the profiler lost records, or the"
            " capture ended before they ran. Busy time, kernels and gaps are those of the kernels that are there",
            count=count,
        )


def incomplete_step(timeline: GpuTimeline, launched: Int64, rows: Int32, until_ns: int | None) -> Iterator[Finding]:
    """A step of which more than FEW of the launches, of kernels or of graphs, have no work.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
        rows: the step's activities.
        until_ns: when the next step's first kernel was launched; None for the last one.
    """
    calls, own = timeline.calls, launched[rows]
    own = own[own >= 0]
    if len(own) == 0:
        return
    launching = marked(calls.name, timeline.strings, lambda name: "GraphLaunch" in name)
    launching[kernel_launches(timeline)] = True
    found = np.flatnonzero(launching)
    last = int(calls.start_ns[own].max())
    begun = calls.start_ns[found]
    inside = (begun >= calls.start_ns[own].min()) & (begun <= last if until_ns is None else begun < max(until_ns, last))
    found = found[inside & np.isin(calls.thread[found], each_once(calls.thread[own]))]
    count = len(unanswered(timeline, launched, found))
    if count > FEW * len(found):
        yield Finding(
            code="step-incomplete",
            severity="severe",
            message=f"{count} of the {len(found)} launches in the step shown have no kernel: how long the GPU works in"
            " it isn't known, nor what a remedy would leave of it",
            count=count,
        )


def launched_before(timeline: GpuTimeline, launched: Int64) -> npt.NDArray[np.bool_]:
    """Activities without a launch that come before all launched ones of their stream: a capture began between the two.

    Streams run their work in the order of its launches. One that had nothing to do for a while when the capture ran
    already was waiting for a launch, which the capture then lacks.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
    """
    activities = timeline.activities
    result = np.zeros(len(launched), dtype=np.bool_)
    alone = launched < 0
    if alone.all() or not alone.any():
        return result
    begin_ns = int(timeline.calls.start_ns.min())
    order, same = by_lane(activities, np.arange(len(launched)))
    edges = np.flatnonzero(np.concatenate([[True], ~same, [True]])).tolist()
    for first, stop in pairwise(edges):
        rows = order[first:stop]
        linked = np.flatnonzero(~alone[rows])
        if len(linked) == 0 or linked[0] == 0:
            continue
        rows = rows[: linked[0]]
        start, end = activities.start_ns[rows], activities.end_ns[rows]
        idle = np.r_[False, start[1:] - np.maximum.accumulate(end)[:-1] > IDLE_NS] & (start > begin_ns)
        result[rows[: int(np.argmax(idle)) if idle.any() else len(rows)]] = True
    damaged = sum(finding.count for finding in timeline.findings if finding.code in LEFT_OUT)
    # Where as many events were left out, these may have been the launches.
    return result & False if np.count_nonzero(result) <= damaged else result


def _keys(process: npt.NDArray[np.int32], correlation: Int64) -> Int64:
    return (process.astype(np.int64) << 40) ^ correlation


def _ms(time_ns: int) -> str:
    """Milliseconds in three digits, or all of them before the point."""
    return f"{time_ns / 1e6:.0f}" if time_ns >= 100_000_000 else f"{time_ns / 1e6:.3g}"


def _small_percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share >= 1e-5 else "under 0.001 %"


def short_device_span(timeline: GpuTimeline) -> Iterator[Finding]:
    """A device that worked within a small part of what was traced."""
    traced, device = traced_span_ns(timeline), device_span_ns(timeline)
    if traced > 0 and device < SHORT_SPAN * traced:
        yield Finding(
            code="short-device-span",
            severity="warning",
            message=f"the GPU's work lies within {_ms(device)} ms of the {_ms(traced)} ms that were traced"
            f" ({_small_percent(device / traced)}): idle time and gaps are those within its work",
        )


def traced_span_ns(timeline: GpuTimeline) -> int:
    """From the first to the last time in the trace, host and device, the profiler's own ranges left out."""
    ranges = timeline.ranges
    own = ranges.kind != RangeKind.PROFILER
    starts = (timeline.activities.start_ns, timeline.calls.start_ns, ranges.start_ns[own])
    ends = (timeline.activities.end_ns, timeline.calls.end_ns, ranges.end_ns[own])
    return max(int(end.max()) for end in ends if len(end)) - min(int(start.min()) for start in starts if len(start))


def device_span_ns(timeline: GpuTimeline) -> int:
    """From the first start to the last end of device work."""
    return int(timeline.activities.end_ns.max() - timeline.activities.start_ns.min())


OR_RANKS = ", or are ranks merged into this file, each with a GPU of its own under that number"
"""What else several processes on one device may be, where the file can't tell."""


def several_processes(timeline: GpuTimeline) -> Iterator[Finding]:
    """Processes that work on one device at the same time."""
    a = timeline.activities
    if a.process.min() == a.process.max():
        return
    others = OR_RANKS if timeline.source.format == "kineto" else ""  # which has one process to a file before merging
    for device in each_once(a.device).tolist():
        process = each_once(a.process[(a.device == device) & (a.process >= 0)])
        if len(process) > 1:
            yield Finding(
                code="several-processes",
                severity="info",
                message=f"{len(process)} processes worked on GPU {device} (MPS, or taking turns){others}: busy and idle"
                " time are those of all of them together",
                count=len(process),
            )


def gpus_as_ranks(timeline: GpuTimeline) -> Iterator[Finding]:
    """GPUs of one file that run collectives: ranks of one run."""
    activities = timeline.activities
    if activities.device.min() == activities.device.max():
        return
    used = each_once(activities.name[activities.kind == Activity.KERNEL]).tolist()
    collectives = [i for i in used if communicates(timeline.strings[i])]
    gpus = len(each_once(activities.device[np.isin(activities.name, collectives)])) if collectives else 0
    if gpus > 1:
        message = f"{gpus} GPUs of this file run collectives: laptime trace FILE --ranks says who waits for whom"
        yield Finding(code="gpus-as-ranks", severity="info", message=message, count=gpus)
