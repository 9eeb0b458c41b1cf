"""The passes before decoding, measured, and what remedies would leave of each: by the same functions as for a step."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from laptime.errors import LaptimeError
from laptime.trace.completeness import incomplete_step
from laptime.trace.given_time import check_given
from laptime.trace.kernel_names import family
from laptime.trace.name_marks import marked
from laptime.trace.pass_cuts import PassCut, pass_cuts
from laptime.trace.read.timeline import Activity, GpuTimeline, Int64
from laptime.trace.result import SURE, TracedPass
from laptime.trace.start_up import SOME, first_calls_ns
from laptime.trace.step_changes import FUSABLE, step_changes
from laptime.trace.step_costs import step_costs
from laptime.trace.step_cuts import Cuts
from laptime.trace.steps import DeviceView, StepFrame, measured
from laptime.trace.whatif import SHORTEST, what_if

REMEDIES = ("untraced", "buffers", "fusion", "graph", "graph+fusion", "compile")
"""What can be done for a single pass. Workers and copies made ahead are for what comes again and again."""

PRODUCTS = frozenset({"GEMM", "GEMV", "attention", "convolution", "moe"})
MERGED = FUSABLE | {"reduce"}
"""Families whose runs a compiler makes one kernel of: a norm written out is a reduction among elementwise kernels."""

COMPARED = "compared with the traced pass"
ONE_LENGTH = "a graph is of one length: shorter inputs are filled up to it"


def traced_passes(
    timeline: GpuTimeline, view: DeviceView, stage_ms: Mapping[str, float] | None = None
) -> list[TracedPass]:
    """Of each stage before decoding the middle pass by time; the passes in order of time.

    Args:
        timeline: the trace.
        view: the device's gaps, causes and steps.
        stage_ms: a stage's time without the profiler, of one pass.

    Raises:
        LaptimeError: a time without the profiler is shorter than the pass's GPU work, or far longer than the pass.
    """
    kind = timeline.activities.kind[view.gaps.rows]
    kernels = view.gaps.rows[(kind == Activity.KERNEL) | (kind == Activity.GRAPH)]
    by_stage: dict[str, list[tuple[int, PassCut, StepFrame]]] = {}
    for cut in pass_cuts(timeline, kernels, view.launched, view.frame):
        frame = _measured(timeline, view, kernels, cut)
        if frame.steps.wall_ns is not None:
            by_stage.setdefault(cut.stage, []).append((frame.steps.wall_ns, cut, frame))
    found = []
    for stage, passes in by_stage.items():
        passes.sort(key=lambda one: one[0])
        _, cut, frame = passes[(len(passes) - 1) // 2]
        one = _with_remedies(timeline, view, cut, frame, (stage_ms or {}).get(stage))
        found.append(msgspec.structs.replace(one, count=len(passes)))
    return sorted(found, key=lambda one: one.start_ns)


def _measured(timeline: GpuTimeline, view: DeviceView, kernels: Int64, cut: PassCut) -> StepFrame:
    start, stop = (np.array([place], dtype=np.int64) for place in (cut.start, cut.stop))
    cuts = Cuts(cut.method, cut.confidence, start, stop, cut.name)
    return measured(timeline, view.gaps, view.launched, view.causes, kernels, cuts)


def _with_remedies(
    timeline: GpuTimeline, view: DeviceView, cut: PassCut, frame: StepFrame, untraced_ms: float | None
) -> TracedPass:
    """One pass with its remedies. untraced_ms: its time without the profiler."""
    steps = frame.steps
    wall, busy, gap = steps.wall_ns or 0, steps.busy_ns or 0, steps.gap_ns or 0
    changes = step_changes(timeline, view.gaps, view.launched, frame) if steps.kernels_per_step else None
    costs = step_costs(timeline, view.gaps, view.causes, view.launched, frame, changes)
    untraced = None if untraced_ms is None else round(untraced_ms * 1e6)
    works = busy if costs is None else costs.busy_ns  # without waiting for other ranks
    waits = costs is not None and costs.waits
    if untraced is not None and untraced < SHORTEST * works and not waits:
        raise LaptimeError(
            f"the given time of {cut.stage}, {untraced_ms:g} ms, is shorter than the {works / 1e6:.3f} ms that the GPU "
            "works in that pass of this trace; give the time of the same inputs, measured without the profiler"
        )
    if untraced is not None:
        check_given(cut.stage, untraced, wall, "that pass of this trace takes")
    compared = (
        COMPARED
        if cut.stage == "encoder"
        else f"{COMPARED}; to start from the untraced one, give its time (--{cut.stage}, in Python stage_ms)"
    )
    warm = first_calls_ns(steps.causes) < SOME * wall or untraced is not None
    lost = sum(finding.count for finding in incomplete_step(timeline, view.launched, frame.modal_rows, None))
    rows = what_if(costs, untraced, changes, compared=compared) if costs is not None and warm and not lost else []
    one = TracedPass(
        stage=cut.stage,
        method=cut.method,
        name=cut.name,
        count=1,
        start_ns=steps.start_ns or 0,
        wall_ns=wall,
        busy_ns=busy,
        gap_ns=gap,
        kernels=steps.kernels_per_step,
        launches=steps.launches_per_step,
        layers=steps.layers,
        causes=steps.causes,
        host_work_ns=None if costs is None else costs.kept_ns,
        replay_ns=None if changes is None else changes.explained_ns,
        whatif=[],
        unsure=cut.confidence <= SURE,
        lost_kernels=lost,
    )
    one = _with_work(timeline, frame, one)
    notes = ["which kernels are the pass's own is a guess by its layers"] if one.unsure else []
    if one.unexplained:
        notes.append("launches, waits and streams don't explain how long this pass lasts")
    kept = [
        msgspec.structs.replace(
            row,
            assumptions=[*row.assumptions, *([ONE_LENGTH] if row.remedy.startswith("graph") else []), *notes],
        )
        for row in rows
        if row.remedy in REMEDIES
    ]
    return msgspec.structs.replace(one, whatif=kept)


def _with_work(timeline: GpuTimeline, frame: StepFrame, one: TracedPass) -> TracedPass:
    """The pass with what its products take, and what all of it takes with its small kernels merged."""
    if one.kernels is None:
        return one
    activities, rows = timeline.activities, frame.modal_rows
    rows = rows[activities.kind[rows] == Activity.KERNEL]
    names, strings = activities.name[rows], timeline.strings
    small = marked(names, strings, lambda name: family(name) in MERGED)
    lasts = activities.end_ns[rows] - activities.start_ns[rows]
    begins = np.flatnonzero(np.r_[True, small[1:] != small[:-1]][: len(rows)])  # of runs of small ones, and of others
    together = small[begins]
    longest, whole = (of.reduceat(lasts, begins) if len(rows) else lasts for of in (np.maximum, np.add))
    return msgspec.structs.replace(
        one,
        products_ns=int(lasts[marked(names, strings, lambda name: family(name) in PRODUCTS)].sum()),
        attention_kernels=int(np.count_nonzero(marked(names, strings, lambda name: family(name) == "attention"))),
        merged_kernels=int(np.where(together, 1, np.diff(begins, append=len(rows))).sum()),
        merged_ns=int(np.where(together, longest, whole).sum()),
    )
