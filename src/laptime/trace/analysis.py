"""From a timeline to the whole answer: each part is a pure function of the timeline; this puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from laptime.data.finding import Finding
from laptime.errors import LaptimeError
from laptime.trace.advice import advice, pass_advice
from laptime.trace.answer_findings import capture_findings, holds_ranks, pass_findings, step_findings
from laptime.trace.api import api_calls
from laptime.trace.causes import GapCauses, cause_times, gap_causes, host_times, large_gaps
from laptime.trace.completeness import incomplete_step, launched_before
from laptime.trace.device_time import busy_times, copy_times, migrations, process_times
from laptime.trace.durations import bounded
from laptime.trace.gaps import DeviceGaps, device_gaps, histogram, median_ns, sum_ns, union_ns
from laptime.trace.given_time import long_step_ns, untraced_ns
from laptime.trace.headline import headline
from laptime.trace.integrity import check
from laptime.trace.kernels import rank
from laptime.trace.launch_result import CaptureMatch, LaunchedBy
from laptime.trace.launch_tree import launch_tree
from laptime.trace.launched_by import launched_by
from laptime.trace.memory import device_memory
from laptime.trace.operator_times import kernel_work, operator_calls, operator_times
from laptime.trace.passes import traced_passes
from laptime.trace.read.distinct import each_once
from laptime.trace.read.launch_links import launches
from laptime.trace.read.reading import read_timeline
from laptime.trace.read.timeline import Activity, GpuTimeline, Int64
from laptime.trace.result import (
    SURE,
    DeviceTimes,
    Gaps,
    Integrity,
    Kernel,
    Steps,
    TraceAnalysis,
    TraceSource,
    WhatIf,
)
from laptime.trace.start_up import SOME, first_calls_ns
from laptime.trace.step_changes import step_changes
from laptime.trace.step_costs import drawing, step_costs
from laptime.trace.step_ranges import names_steps
from laptime.trace.step_tokens import step_tokens
from laptime.trace.steps import NONE, DeviceView, StepFrame, find_steps
from laptime.trace.whatif import what_if


def read_trace(
    path: str | Path,
    *,
    tpot_ms: float | None = None,
    device: int | None = None,
    capture: str | Path | None = None,
    stage_ms: Mapping[str, float] | None = None,
) -> TraceAnalysis:
    """Read a trace file and analyse it: a PyTorch profiler file or an Nsight Systems export.

    Args:
        path: a .json, .json.gz or .sqlite file.
        tpot_ms: time per token of the same configuration without the profiler, for what-if.
        device: look at this device only.
        capture: a trace of the capture of the graphs that `path` replays: it names their kernels.
        stage_ms: the time of vision and of prefill without the profiler, by stage, for what-if.

    Raises:
        LaptimeError: a file can't be read or the question can't be answered.
    """
    beside = None if capture is None else read_timeline(capture)
    return analyse(read_timeline(path), tpot_ms=tpot_ms, device=device, capture=beside, stage_ms=stage_ms)


def views(timeline: GpuTimeline, *, device: int | None = None) -> list[DeviceView]:
    """Each device's view, or that of `device` alone. Steps are looked for on the device that worked most.

    Raises:
        LaptimeError: `device` has no activity.
    """
    all_gaps = device_gaps(timeline.activities) if len(timeline.activities.start_ns) else []
    if device is not None:
        known = [gaps.device for gaps in all_gaps]
        all_gaps = [gaps for gaps in all_gaps if gaps.device == device]
        if not all_gaps:
            raise LaptimeError(f"{timeline.source.file}: no activity on device {device}; it has {known or 'none'}")
    main = max(all_gaps, key=lambda gaps: gaps.busy_ns, default=None)
    launched = launches(timeline) if all_gaps else np.zeros(0, dtype=np.int64)
    result = []
    for gaps in all_gaps:
        causes = gap_causes(timeline, gaps, launched)
        frame = find_steps(timeline, gaps, launched, causes) if gaps is main else NONE
        result.append(DeviceView(gaps, causes, launched, frame))
    return result


def analyse(
    timeline: GpuTimeline,
    *,
    tpot_ms: float | None = None,
    device: int | None = None,
    capture: GpuTimeline | None = None,
    stage_ms: Mapping[str, float] | None = None,
) -> TraceAnalysis:
    """The answer for a timeline. Steps and what-if are those of the device that worked most (or `device`)."""
    timeline = bounded(timeline)
    return answer(timeline, views(timeline, device=device), tpot_ms=tpot_ms, capture=capture, stage_ms=stage_ms)


def answer(
    timeline: GpuTimeline,
    of: list[DeviceView],
    *,
    tpot_ms: float | None = None,
    capture: GpuTimeline | None = None,
    stage_ms: Mapping[str, float] | None = None,
) -> TraceAnalysis:
    """The answer from the devices' views."""
    checked = check(timeline, of[0].launched if of else None)
    devices = [_device(timeline, view.gaps, view.causes, view.launched) for view in of]
    main = max(of, key=lambda view: view.gaps.busy_ns, default=None)
    frame: StepFrame = NONE
    whatif: list[WhatIf] = []
    incomplete: list[Finding] = []
    picture = None
    if main is not None:
        frame = main.frame
        frame = _with_busy_times(timeline, main.gaps, frame)
        tokens = step_tokens(timeline, main.launched, frame)
        frame = replace(frame, steps=msgspec.structs.replace(frame.steps, tokens=tokens))
        picture = drawing(timeline, main.gaps, main.causes, frame)
        changes = step_changes(timeline, main.gaps, main.launched, frame) if frame.steps.kernels_per_step else None
        costs = step_costs(timeline, main.gaps, main.causes, main.launched, frame, changes)
        if costs is not None:
            waiting = costs.waiting_ns if costs.communicates else None
            known = msgspec.structs.replace(
                frame.steps, host_work_ns=costs.kept_ns, maybe_waiting_ns=waiting, carried_ns=costs.carried_ns
            )
            if changes is not None:
                waits, loads = int(np.count_nonzero(changes.graph.waits)), bool(changes.loading.any())
                known = msgspec.structs.replace(
                    known, replay_ns=changes.explained_ns, host_waits=waits, loads_data=loads
                )
            frame = replace(frame, steps=known)
            rows = what_if(costs, untraced_ns(frame.steps, tpot_ms), changes, longest_ns=long_step_ns(frame.steps))
            warm = first_calls_ns(frame.steps.causes) < SOME * (frame.steps.wall_ns or 0)
            incomplete = _incomplete(timeline, main)
            whatif = _hedged(rows, frame.steps) if (warm or tpot_ms is not None) and not incomplete else []
    passes = [] if main is None else traced_passes(timeline, main, stage_ms)
    kernels = []
    for view in of:
        kernels += rank(timeline, view.gaps, frame if view.gaps.device == frame.steps.device else None)
    kernels.sort(key=lambda kernel: (-kernel.total_ns, kernel.device, kernel.name))
    found, match = None, None
    if main is not None:
        found, kernels, match = _launched_by(timeline, main, kernels, capture)
    integrity = Integrity(
        "partial" if incomplete else checked.verdict,
        [
            *checked.findings,
            *incomplete,
            *step_findings(frame, tpot_ms, all_ranks=holds_ranks(checked)),
            *pass_findings(passes, stage_ms or {}),
            *capture_findings(match),
        ],
    )
    return TraceAnalysis(
        headline=headline(integrity, devices, kernels, frame.steps),
        advice=advice(integrity, frame.steps, whatif, devices),
        source=TraceSource(
            timeline.source.format,
            Path(timeline.source.file).name,
            timeline.source.schema_version,
            timeline.source.rank,
        ),
        integrity=integrity,
        devices=devices,
        kernels=kernels,
        steps=frame.steps,
        api=api_calls(timeline.calls, timeline.strings),
        whatif=whatif,
        modal_step=picture,
        passes=[msgspec.structs.replace(one, advice=pass_advice(one, integrity)) for one in passes],
        launched_by=found,
        memory=device_memory(timeline, _step_launches(timeline, main)),
    )


def _incomplete(timeline: GpuTimeline, view: DeviceView) -> list[Finding]:
    """Whether kernels of the step that is shown are missing."""
    modal = view.frame.modal_rows
    begun = view.launched[modal][view.launched[modal] >= 0]
    if len(begun) == 0:
        return []
    at = _step_launches(timeline, view)
    later = at[at > int(timeline.calls.start_ns[begun].max())]
    return list(incomplete_step(timeline, view.launched, modal, int(later[0]) if len(later) else None))


def _step_launches(timeline: GpuTimeline, view: DeviceView | None) -> Int64:
    """When the host launched the first kernel of each step."""
    if view is None or len(view.frame.start_ns) == 0:
        return np.zeros(0, dtype=np.int64)
    rows = view.gaps.rows
    first = rows[np.searchsorted(timeline.activities.start_ns[rows], view.frame.start_ns)]
    calls = view.launched[first]
    return np.sort(timeline.calls.start_ns[calls[calls >= 0]])


def _launched_by(
    timeline: GpuTimeline, view: DeviceView, kernels: list[Kernel], capture: GpuTimeline | None
) -> tuple[LaunchedBy | None, list[Kernel], CaptureMatch | None]:
    """Who launched a device's work, all kernels with the work that they did, where shapes were recorded, and what a
    capture's trace named."""
    gaps, launched = view.gaps, view.launched
    tree, match = launch_tree(timeline, launched[gaps.rows]), None
    if capture is not None:
        from laptime.trace.captured import named_by_capture  # most files have none, and start-up counts

        tree, match = named_by_capture(timeline, gaps.rows, launched, tree, capture)
    found = launched_by(timeline, gaps, launched, tree)
    if found is not None:
        found = msgspec.structs.replace(found, capture=match)
    calls = operator_calls(timeline, gaps, tree)
    if found is None or calls is None:
        return found, kernels, match
    work, left_out = operator_times(timeline, gaps, calls)
    done = {timeline.strings[i]: one for i, one in kernel_work(timeline, gaps, launched, calls).items()}
    kernels = [
        msgspec.structs.replace(
            kernel,
            flop_per_second=done[kernel.name].flop_per_second,
            bytes_per_second=done[kernel.name].bytes_per_second,
            of_peak=done[kernel.name].of_peak,
        )
        if kernel.device == gaps.device and kernel.name in done
        else kernel
        for kernel in kernels
    ]
    return msgspec.structs.replace(found, work=work, work_left_out=left_out), kernels, match


def _hedged(rows: list[WhatIf], steps: Steps) -> list[WhatIf]:
    """The rows with what must be said of the step that they start from."""
    if steps.confidence < SURE:
        named = steps.name and names_steps(steps.name)
        note = "the steps hold unlike numbers of kernels" if named else "the step itself is a guess"
    elif steps.uneven:
        note = "steps differ: this is said of the one that is shown"
    elif steps.unexplained:
        note = "launches, waits and streams don't explain how long this step lasts"
    else:
        return rows
    return [msgspec.structs.replace(row, assumptions=[*row.assumptions, note]) for row in rows]


def _with_busy_times(timeline: GpuTimeline, gaps: DeviceGaps, frame: StepFrame) -> StepFrame:
    """The frame with what the busy time of its modal step went to."""
    steps = frame.steps
    if steps.start_ns is None or steps.wall_ns is None:
        return frame
    busy = busy_times(timeline, gaps, (steps.start_ns, steps.start_ns + steps.wall_ns))
    return replace(frame, steps=msgspec.structs.replace(steps, busy=busy))


def _device(timeline: GpuTimeline, gaps: DeviceGaps, causes: GapCauses, launched: Int64) -> DeviceTimes:
    activities, rows = timeline.activities, gaps.rows
    kind = activities.kind[rows]
    kernels = rows[kind == Activity.KERNEL]
    hidden = bool((kind == Activity.GRAPH).any())  # graphs recorded whole: their kernels are not known
    length = gaps.gap_end_ns - gaps.gap_start_ns
    calls = launched[rows]
    unlinked = calls < 0
    early = launched_before(timeline, launched)[rows] if unlinked.any() else unlinked
    moved = migrations(timeline)[rows] if unlinked.any() else unlinked
    return DeviceTimes(
        device=gaps.device,
        start_ns=gaps.start_ns,
        span_ns=gaps.span_ns,
        busy_ns=gaps.busy_ns,
        idle_ns=gaps.idle_ns,
        kernel_busy_ns=None if hidden else union_ns(activities.start_ns[kernels], activities.end_ns[kernels]),
        kernel_sum_ns=None if hidden else sum_ns(activities, rows, Activity.KERNEL),
        memcpy_ns=sum_ns(activities, rows, Activity.MEMCPY),
        memset_ns=sum_ns(activities, rows, Activity.MEMSET),
        graph_ns=sum_ns(activities, rows, Activity.GRAPH),
        kernels=None if hidden else len(kernels),
        launches=len(each_once(calls[~unlinked])) if (early | moved | ~unlinked).all() else None,
        launched_before=int(np.count_nonzero(early & ~moved)),
        gaps=Gaps(
            count=len(length),
            median_ns=median_ns(length),
            histogram=histogram(length),
            large=large_gaps(timeline, gaps, causes),
            causes=cause_times(causes),
            host=host_times(causes, timeline.strings),
        ),
        busy=busy_times(timeline, gaps),
        copies=copy_times(timeline, gaps),
        processes=process_times(timeline, gaps),
    )
