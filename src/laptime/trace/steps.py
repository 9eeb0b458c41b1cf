"""Steady steps of a device and the modal one among them, measured on the device's own timeline.

A step lasts from its first kernel's start to the next step's first kernel's start, so steps tile the time and
the wait between two steps belongs to the earlier one. A step that no other follows ends with its last kernel;
such edge steps are counted but never chosen as the modal one while there are others.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from laptime.trace.attention_kinds import attention_kinds
from laptime.trace.causes import GapCauses, cause_times
from laptime.trace.completeness import kernel_launches, unanswered
from laptime.trace.durations import overlong
from laptime.trace.few_steps import by_forward, by_optimizer, by_tokens, by_two, by_waits
from laptime.trace.gaps import DeviceGaps, covered_ns, union_ns
from laptime.trace.graph_cuts import by_graph, replays, side_by_side
from laptime.trace.layers import find_layers
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activities, Activity, GpuTimeline, Int32, Int64
from laptime.trace.repeats import WINDOW, RepeatRun, levels
from laptime.trace.result import SURE, UNEVEN, Steps
from laptime.trace.step_cuts import LEAST_STEPS, MOSTLY, Cuts, by_period
from laptime.trace.step_ranges import LOADER, PROFILER_STEP, by_compiled, by_loader, by_ranges

WARM_UP = 1.5
"""Leading steps that last longer than this multiple of the median are warm-up."""


LONG_WAIT, RARE = 5, 0.15
"""A wait longer than so many usual steps, after fewer of them than this share, parts bursts of steps."""

LONG_NS = 1_000_000
"""Waits outside the steps of which the causes are kept."""

LEAST_SHARE = 0.2
"""Steps that hold less of the device's kernels than this are an episode of the trace, not its steady state."""


class StepFrame(msgspec.Struct, frozen=True, eq=False):
    """The steps as instants on the device, and the modal one's rows. Columns have one entry per step."""

    steps: Steps
    start_ns: Int64
    end_ns: Int64
    modal_rows: Int32  # indices into Activities: everything that began in the modal step
    layer_run: RepeatRun | None  # over the modal step's kernels


class DeviceView(msgspec.Struct, frozen=True, eq=False):
    """One device's gaps, causes and steps in columns: what the answer is made from, and what exports draw."""

    gaps: DeviceGaps
    causes: GapCauses
    launched: Int64  # for each activity of the timeline the index of its call, -1 without one
    frame: StepFrame  # NONE for all devices but the one that worked most


NONE = StepFrame(
    Steps(method="none", confidence=0.0),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.int32),
    None,
)


def find_steps(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, causes: GapCauses) -> StepFrame:
    """The steady steps of one device; `NONE` when the trace shows none.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity the index of its call, -1 without one.
        causes: the causes of the device's gaps.
    """
    activities = timeline.activities
    kind = activities.kind[gaps.rows]
    kernels = gaps.rows[(kind == Activity.KERNEL) | (kind == Activity.GRAPH)]
    if len(kernels) < 3:
        many = f"only {len(kernels)} kernel{'' if len(kernels) == 1 else 's'}" if len(kernels) else "no kernel"
        return _none(f"{many} ran{_captured(timeline)}")
    cuts = _cuts(timeline, kernels, launched)
    if cuts is None:
        if side_by_side(replays(activities, kernels), least=MOSTLY):
            return _none("kernels of one launch run between those of another: where a step would begin is not known")
        lost = len(unanswered(timeline, launched, kernel_launches(timeline)))
        hidden = f"; {lost} launch{'' if lost == 1 else 'es'} without a kernel may hide what repeats" if lost else ""
        return _none(_why_none(activities.name[kernels].astype(np.int64)) + hidden)
    if cuts.method == "period" or (cuts.name or "").startswith(LOADER):
        cuts = by_optimizer(cuts, activities.name[kernels].astype(np.int64), timeline.strings)
    if cuts.method in ("period", "forward") and (several := _processes(activities, kernels)) > 1:
        return _none(f"kernels of {several} processes run in turns: what repeats is no step of one program")
    inside = int((cuts.stop - cuts.start).sum())
    if inside < LEAST_SHARE * len(kernels):
        return _none(f"what looks like steps holds only {inside / len(kernels) * 100:.0f} % of the kernels")
    return measured(timeline, gaps, launched, causes, kernels, cuts)


def _processes(activities: Activities, kernels: Int64) -> int:
    """How many processes have a tenth of the kernels or more."""
    process = activities.process[kernels]
    _, counts = np.unique(process[process >= 0], return_counts=True)
    return int(np.count_nonzero(counts >= 0.1 * len(kernels)))


def _none(reason: str) -> StepFrame:
    return replace(NONE, steps=Steps(method="none", confidence=0.0, reason=reason))


def _captured(timeline: GpuTimeline) -> str:
    """What a trace with hardly any kernels shows instead, where that is a capture of graphs."""
    capturing = np.array([bool(_CAPTURE.search(name)) for name in timeline.strings], dtype=bool)
    names = timeline.calls.name
    return "; the host captured graphs, which runs no kernel" if len(names) and capturing[names].any() else ""


_CAPTURE = re.compile(r"BeginCapture|EndCapture|GraphInstantiate|StreamIsCapturing|GetCaptureInfo", re.IGNORECASE)


ITSELF = 0.9
"""A kernel that follows itself this often fits any period: no repetition is known by it."""


def _why_none(tokens: Int64) -> str:
    """What stands against steps in a sequence of kernels."""
    known = levels(tokens)
    same = int(np.count_nonzero(tokens[1:] == tokens[:-1])) + 1
    covered = max((level.covered for level in known), default=0)
    if 2 * same > len(tokens) and (same > covered or same >= ITSELF * len(tokens)):
        return (
            f"one kernel follows itself in {same - 1} of {len(tokens) - 1} cases: where a step would begin is not known"
        )
    if not known:
        return "no range names a step, no graph holds one, and no sequence of kernels comes three times in a row"
    most = max(known, key=lambda level: level.covered)
    unit = "one kernel" if most.period == 1 else f"{most.period} kernels"
    share = most.covered / min(len(tokens), WINDOW)
    return (
        f"the longest repetition is of {unit}, holds {share * 100:.0f} % of all, and has"
        " neither layers nor an embedding or a sampled token: it may be a part of a step"
    )


def _cuts(timeline: GpuTimeline, kernels: Int64, launched: Int64) -> Cuts | None:
    activities = timeline.activities
    tokens = activities.name[kernels].astype(np.int64)
    named = by_ranges(timeline, kernels, launched[kernels], strict=True)
    certain = named is not None and (named.confidence >= 0.5 or (named.name or "").startswith(PROFILER_STEP))
    if certain and named is not None and len(named.start) >= LEAST_STEPS:
        return named
    # One or two ranges may each hold many steps: what repeats inside them says it better.
    replay = replays(activities, kernels)
    reach = np.maximum.accumulate(activities.end_ns[kernels])
    before = np.concatenate([[0], np.maximum(activities.start_ns[kernels][1:] - reach[:-1], 0)])
    graphed = by_graph(replay, tokens, before)
    if graphed is not None and not (certain and len(graphed.start) < LEAST_STEPS):
        return graphed
    periodic = by_period(tokens, timeline.strings, before)
    if periodic is not None and np.any(np.diff(replay[periodic.start]) == 0) and replay[periodic.start].max() >= 0:
        periodic = None  # what repeats inside one graph replay is a layer, not a step
    if periodic is not None and int((periodic.stop - periodic.start).sum()) < LEAST_SHARE * len(kernels):
        periodic = None
    if certain:
        if periodic is not None and periodic.confidence >= SURE:
            return periodic
        return by_compiled(timeline, kernels, launched[kernels]) or named
    told = None
    if periodic is not None:
        periodic = _corroborated(timeline, periodic)
        if int((periodic.stop - periodic.start).sum()) < MOSTLY * len(kernels):
            told = by_tokens(tokens, timeline.strings)
        if told is not None or periodic.confidence >= SURE:
            return told or periodic
    loaded = by_loader(timeline, kernels, launched[kernels])
    waited = None if loaded is not None else by_waits(tokens, before, _copies_ns(activities, kernels))
    told = None if loaded is not None or waited is not None else by_tokens(tokens, timeline.strings)
    if loaded is not None or waited is not None or told is not None or periodic is not None:
        return loaded or waited or told or periodic
    return (
        by_ranges(timeline, kernels, launched[kernels], strict=False)
        or by_two(tokens)
        or by_forward(tokens, timeline.strings, before)
    )


def _corroborated(timeline: GpuTimeline, cuts: Cuts) -> Cuts:
    """An optimizer's step in each repetition makes it a training step, whatever its kernels are."""
    if cuts.confidence >= SURE:
        return cuts
    optimizer = np.array([name.startswith("Optimizer.step") for name in timeline.strings])
    counted = int(np.count_nonzero(optimizer[timeline.ranges.name])) if len(optimizer) else 0
    if abs(counted - len(cuts.start)) > 1:
        return cuts
    return Cuts(cuts.method, round(1 - 1 / (2 + len(cuts.start)), 3), cuts.start, cuts.stop, cuts.name)


def _copies_ns(activities: Activities, kernels: Int64) -> Int64:
    """For each kernel what the copies took that began on its device since the kernel before it."""
    own = (activities.kind == Activity.MEMCPY) & (activities.device == activities.device[kernels[0]])
    lasts = np.maximum(activities.end_ns[own] - activities.start_ns[own], 1)
    so_far = np.searchsorted(activities.start_ns[own], activities.start_ns[kernels], side="right")
    return np.diff(np.concatenate([[0], np.cumsum(lasts)])[so_far], prepend=0)


def _between_bursts(start: Int64, own_end: Int64, followed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """After which steps a wait follows that is no part of them: long and rare, as between the requests to an engine."""
    wait = np.zeros(len(start), dtype=np.int64)
    wait[:-1] = np.where(followed[:-1], start[1:] - own_end[:-1], 0)
    usual = float(np.median((own_end - start + wait)[followed])) if followed.any() else 0.0
    long: npt.NDArray[np.bool_] = wait > LONG_WAIT * usual
    return long if long.any() and long.sum() < RARE * followed.sum() else np.zeros(len(start), dtype=np.bool_)


def _spoiled(timeline: GpuTimeline, start: Int64, end: Int64) -> npt.NDArray[np.bool_]:
    """Which steps work of impossible duration reaches into: none of them is the one to show.

    Work that was cut spoils all that its recorded duration holds; where that is every step, its own alone.
    """
    activities, cut = timeline.activities, dict(timeline.cut)
    spoiled, own = np.zeros((2, len(start)), dtype=np.bool_)
    for row in overlong(timeline).tolist():
        began, ended = activities.start_ns[row], activities.end_ns[row]
        own |= (start < ended) & (end > began)
        spoiled |= (start < max(ended, began + cut.get(row, 0))) & (end > began)
    return own if spoiled.all() else spoiled


def _idle_before(gaps: DeviceGaps, activities: Activities, kernels: Int64) -> Int64:
    """How long a device did nothing between each of some kernels and the ones before it."""
    start, reach = activities.start_ns[kernels], np.maximum.accumulate(activities.end_ns[kernels])
    if len(gaps.gap_start_ns) == 0:
        return np.zeros(len(start), dtype=np.int64)
    until = np.concatenate([start[:1], np.minimum(reach[:-1], start[1:])])
    return covered_ns(gaps.gap_start_ns, gaps.gap_end_ns, until, start)


def _rows_of(activities: Activities, gaps: DeviceGaps, window_ns: tuple[int, int], kernels: Int64) -> Int32:
    """What began in a step: its own kernels, though others begin in the same instant, and all else in its time."""
    low, high = np.searchsorted(activities.start_ns[gaps.rows], window_ns)
    first, last = (int(np.flatnonzero(gaps.rows == kernels[end])[0]) for end in (0, -1))
    rows = gaps.rows[low : max(high, last + 1)]
    place = np.arange(low, low + len(rows))
    kind = activities.kind[rows]
    kernel = (kind == Activity.KERNEL) | (kind == Activity.GRAPH)
    own: Int32 = rows[np.where(kernel, (place >= first) & (place <= last), place < high)]
    return own


def _apart(start: Int64, end: Int64) -> tuple[Int64, Int64]:
    """(begin, end) of what each step adds to those before it: steps of several streams can overlap."""
    stops = np.maximum.accumulate(end)
    return np.maximum(start, np.concatenate([start[:1], stops[:-1]])), stops


def measured(
    timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, causes: GapCauses, kernels: Int64, cuts: Cuts
) -> StepFrame:
    """The steps of these cuts, measured on the device. Arguments as in `find_steps`; kernels: the device's."""
    activities = timeline.activities
    start = activities.start_ns[kernels[cuts.start]]
    # The next step's start, where it follows directly; else the end of the step's own kernels.
    reach = np.maximum.accumulate(activities.end_ns[kernels])
    own_end = reach[cuts.stop - 1]
    followed = np.zeros(len(start), dtype=bool)
    followed[:-1] = cuts.start[1:] == cuts.stop[:-1]
    followed &= ~_between_bursts(start, own_end, followed)
    end = own_end.copy()
    end[:-1][followed[:-1]] = start[1:][followed[:-1]]
    wall = end - start
    size = cuts.stop - cuts.start

    median = float(np.median(wall))
    steady = followed.copy()
    warm_up = 0  # leading steps only
    while warm_up < len(wall) and wall[warm_up] > WARM_UP * median:
        warm_up += 1
    steady[:warm_up] = False
    spoiled = _spoiled(timeline, start, end)
    if spoiled.all():
        return _none("every step has work whose recorded duration can't be")
    steady &= ~spoiled
    if not steady.any():
        steady[:], warm_up = ~spoiled, 0
    usual = int(np.bincount(size[steady]).argmax())
    eligible = np.flatnonzero(steady & (size == usual))
    modal = int(eligible[np.argsort(wall[eligible], kind="stable")[(len(eligible) - 1) // 2]])
    p10, p90 = np.quantile(wall[steady], [0.1, 0.9], method="nearest")
    if p90 > UNEVEN * p10:  # the middle of few unlike steps depends on which are left out: the last one counts too
        middle = np.median(wall[size == usual])
        modal = int(eligible[np.argmin(np.abs(wall[eligible] - middle))])

    low, high = int(start[modal]), int(end[modal])
    if high <= low:
        return NONE  # no time was measured: nothing happens in such a step, and no share of it means anything
    step_kernels = kernels[cuts.start[modal] : cuts.stop[modal]]
    rows = _rows_of(activities, gaps, (low, high), step_kernels)
    in_step = np.arange(len(gaps.gap_start_ns))[(gaps.gap_start_ns >= low) & (gaps.gap_end_ns <= high)]
    idle = int((gaps.gap_end_ns[in_step] - gaps.gap_start_ns[in_step]).sum())
    begins, stops = _apart(start[warm_up:], end[warm_up:])
    in_steps = covered_ns(gaps.gap_start_ns, gaps.gap_end_ns, begins, stops) if gaps.idle_ns else 0
    own = np.searchsorted(start[warm_up:], gaps.gap_start_ns, side="right") - 1
    out = (own < 0) | (gaps.gap_end_ns > stops[np.maximum(own, 0)])
    out &= gaps.gap_end_ns - gaps.gap_start_ns >= LONG_NS
    pure = step_kernels[activities.kind[step_kernels] == Activity.KERNEL]
    hidden = len(pure) != len(step_kernels)  # a whole graph is one row
    kinds = [] if hidden else attention_kinds(activities.name[pure], timeline.strings)
    waits = _idle_before(gaps, activities, step_kernels)
    layers = None if hidden else find_layers(activities.name[pure].astype(np.int64), timeline.strings, waits)
    call = launched[rows]
    linked = call >= 0
    launches = len(each_once(call[linked])) if linked.mean() >= 0.95 else None
    wall_ns = high - low
    steps = Steps(
        method=cuts.method,
        confidence=cuts.confidence,
        device=gaps.device,
        name=cuts.name,
        count=len(start),
        cut=int(len(start) - steady.sum()),
        warm_up=warm_up,
        modal=modal,
        kernels_per_step=None if hidden else len(pure),
        launches_per_step=launches,
        start_ns=low,
        wall_ns=wall_ns,
        busy_ns=wall_ns - idle,
        kernel_ns=None if hidden else union_ns(activities.start_ns[pure], activities.end_ns[pure]),
        gap_ns=idle,
        utilisation=round((wall_ns - idle) / wall_ns, 6) if wall_ns else None,
        wall_p10_ns=int(p10),
        wall_p90_ns=int(p90),
        causes=cause_times(causes, in_step),
        layers=layers[0] if layers else None,
        outside_ns=gaps.span_ns - int((stops - begins).sum()),
        outside_idle_ns=gaps.idle_ns - int(np.sum(in_steps)),
        outside_causes=cause_times(causes, np.flatnonzero(out)),
        attention_kernels=kinds[0].kernels if kinds else None,
        attention_kinds=kinds,
    )
    return StepFrame(steps, start, end, rows, layers[1] if layers else None)
