"""Steps by the ranges that a program or its profiler named: a kernel belongs to the range that it was launched in."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int32, Int64, RangeKind
from laptime.trace.repeats import longest_run
from laptime.trace.result import SURE
from laptime.trace.step_cuts import ALIKE, LEAST_STEPS, MOST, MOSTLY, Cuts

_STEP_WORDS = re.compile(r"step|decode|token(?!i)|iteration|iter(?![a-z])|generation|forward|execute", re.IGNORECASE)
_PART_WORDS = re.compile(r"layer|block|attention|attn|mlp|expert|norm|optimizer|backward", re.IGNORECASE)
"""A range with such a word in its name is a part of a step, whatever else the name says."""

PROFILER_STEP = "ProfilerStep"

_COMPILED = "CompiledFxGraph"

LOADER = "enumerate(DataLoader)"
"""What torch.profiler calls asking a data loader: such a range begins a step, and holds none."""

TOUCHING_NS = 20_000
"""Ranges that overlap by less follow one another: times of the file are rounded."""

_OWN_SHARE = 0.1
"""Share of the launches in a range that must come from the range's own thread."""

_FOLLOWS = 0.9
"""Share of the ranges after which the same work must come, for it to belong to their steps."""

_LESS = 0.5
"""How much of a range's own kernels may follow it and belong to its step."""

_NUMBER = re.compile(r"\d+")


def names_steps(label: str) -> bool:
    """Whether a range's name says that it is a step."""
    return label.startswith(PROFILER_STEP) or bool(_STEP_WORDS.search(label) and not _PART_WORDS.search(label))


def by_ranges(timeline: GpuTimeline, rows: Int64, launched: Int64, *, strict: bool) -> Cuts | None:
    """Steps by named host ranges: kernels belong to the range that their launch lies in.

    Names are compared without their numbers. Ranges of one name must follow one another on a thread, launch
    kernels, and cover at least half of the device's. Among several, the longest with a step-like name is taken.
    `ProfilerStep` ranges are what the profiler's user called a step: they win, and one of them is enough.

    Args:
        timeline: the trace.
        rows: the device's kernels, in start order.
        launched: for each of them the index of its call, -1 without one.
        strict: whether only step-like names count (step, decode, token, iteration, forward, …).
    """
    ranges, strings = timeline.ranges, timeline.strings
    profiler_steps = np.array([name.startswith(PROFILER_STEP) for name in strings])  # an operator in 2021's format
    marked = (ranges.kind == RangeKind.NVTX) | profiler_steps[ranges.name]
    named = np.flatnonzero(marked & (ranges.end_ns > ranges.start_ns))
    if len(named) == 0 or np.count_nonzero(launched >= 0) < 0.5 * len(rows) or len(rows) == 0:
        return None
    launchers = each_once(timeline.calls.process[launched[launched >= 0]])
    named = named[np.isin(ranges.process[named], launchers)]  # another rank's steps aren't this device's
    plain: dict[str, int] = {}
    group_of = {
        int(i): plain.setdefault(_NUMBER.sub("N", strings[i]), len(plain)) for i in each_once(ranges.name[named])
    }
    group = np.array([group_of[int(i)] for i in ranges.name[named]])
    method = "annotation" if timeline.source.format == "kineto" else "nvtx"
    best: tuple[float, Cuts] | None = None
    for label, number in plain.items():
        certain = label.startswith(PROFILER_STEP)
        if strict and not names_steps(label):
            continue
        own = _one_after_another(timeline, named[group == number])
        if own is None or (len(own) < LEAST_STEPS and not strict):
            continue
        cuts = _cuts_of(timeline, rows, launched, own, any_thread=certain)
        if cuts is None:
            continue
        inside = int((cuts.stop - cuts.start).sum())
        if inside < (0.5 if certain or len(own) >= LEAST_STEPS else MOST) * len(rows):
            continue
        if certain:
            return Cuts(method, cuts.confidence, cuts.start, cuts.stop, label)
        score = float(np.median(cuts.stop - cuts.start)) * cuts.confidence
        if best is None or score > best[0]:
            best = (score, Cuts(method, cuts.confidence, cuts.start, cuts.stop, label))
    if best is None:
        return None
    cuts = best[1]
    return cuts if strict else Cuts(method, cuts.confidence / 2, cuts.start, cuts.stop, cuts.name)


def by_compiled(timeline: GpuTimeline, rows: Int64, launched: Int64) -> Cuts | None:
    """Steps as calls of one compiled graph of torch.compile, three or more, that hold most kernels and layers.

    One range of the profiler's user can hold a whole image: its denoising passes are such calls. Arguments as in
    `by_ranges`.
    """
    ranges = timeline.ranges
    compiled = np.array([_COMPILED in name for name in timeline.strings], dtype=bool)
    if not compiled.any():
        return None
    best: Cuts | None = None
    for name in each_once(ranges.name[compiled[ranges.name] & (ranges.kind == RangeKind.NVTX)]).tolist():
        own = _one_after_another(timeline, np.flatnonzero(ranges.name == name))
        cuts = (
            None if own is None or len(own) < LEAST_STEPS else _cuts_of(timeline, rows, launched, own, any_thread=True)
        )
        if cuts is None or len(cuts.start) < LEAST_STEPS or int((cuts.stop - cuts.start).sum()) < 0.5 * len(rows):
            continue
        middle = len(cuts.start) // 2
        unit = timeline.activities.name[rows[cuts.start[middle] : cuts.stop[middle]]].astype(np.int64)
        if (best is None or len(cuts.start) < len(best.start)) and longest_run(unit) is not None:
            best = Cuts("annotation", cuts.confidence, cuts.start, cuts.stop, timeline.strings[name])
    return best


def by_loader(timeline: GpuTimeline, rows: Int64, launched: Int64) -> Cuts | None:
    """Steps as what a program does from one batch of its data loader to the next; None for fewer than three batches.

    torch.profiler marks each time that a loader is asked. Arguments as in `by_ranges`.
    """
    ranges = timeline.ranges
    loads = np.array([name.startswith(LOADER) for name in timeline.strings], dtype=bool)
    asked = np.flatnonzero(loads[ranges.name]) if loads.any() else np.zeros(0, dtype=np.intp)
    if len(asked) < LEAST_STEPS or len(rows) == 0 or np.count_nonzero(launched >= 0) < 0.5 * len(rows):
        return None
    names, counts = np.unique(ranges.name[asked], return_counts=True)
    name = int(names[np.argmax(counts)])
    own = _one_after_another(timeline, asked[ranges.name[asked] == name])
    if own is None or len(own) < LEAST_STEPS:
        return None
    cuts = _cuts_of(timeline, rows, launched, own, any_thread=True, to_next=True)
    if cuts is None or len(cuts.start) < LEAST_STEPS or cuts.confidence < SURE:
        return None
    if int((cuts.stop - cuts.start).sum()) < MOSTLY * len(rows):
        return None
    return Cuts("annotation", cuts.confidence, cuts.start, cuts.stop, timeline.strings[name])


def _one_after_another(timeline: GpuTimeline, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """The ranges on the thread that has most of them; None where they overlap."""
    ranges = timeline.ranges
    threads, counts = np.unique(ranges.thread[chosen], return_counts=True)
    own = chosen[ranges.thread[chosen] == threads[int(np.argmax(counts))]]
    # Some versions of the profiler write a range twice, as an operator too.
    again = np.ones(max(len(own) - 1, 0), dtype=np.bool_)
    for column in (ranges.name, ranges.start_ns, ranges.end_ns):
        again &= np.abs(np.diff(column[own].astype(np.int64))) <= (0 if column is ranges.name else TOUCHING_NS)
    own = own[np.concatenate([[True], ~again])] if again.any() else own
    # Written in whole microseconds, one may seem to begin a little before the last one ends.
    overlap = ranges.end_ns[own][:-1] - ranges.start_ns[own][1:]
    return None if np.any(overlap > TOUCHING_NS) else own


def _cuts_of(
    timeline: GpuTimeline,
    rows: Int64,
    launched: Int64,
    own: npt.NDArray[np.intp],
    *,
    any_thread: bool,
    to_next: bool = False,
) -> Cuts | None:
    """The kernels of each range as one stretch of the sequence; with `to_next` from one range to the next.

    A stream runs its work in the order of its launches, so steps do not mix on the stream with the most kernels: its
    first kernel of a range begins the step. Prefetched copies and collectives of other streams lie where they ran.
    """
    ranges, calls, activities = timeline.ranges, timeline.calls, timeline.activities
    start, end = ranges.start_ns[own], ranges.end_ns[own]
    end[:-1] = start[1:] if to_next else np.minimum(end[:-1], start[1:])
    if to_next:
        end[-1] = np.iinfo(np.int64).max
    linked = np.flatnonzero(launched >= 0)
    streams, counts = np.unique(activities.stream[rows[linked]], return_counts=True)
    position = linked[activities.stream[rows[linked]] == streams[int(np.argmax(counts))]]
    call = launched[position]
    at = np.searchsorted(start, calls.start_ns[call], side="right") - 1
    inside = (at >= 0) & (calls.start_ns[call] < end[np.maximum(at, 0)])
    inside &= calls.process[call] == ranges.process[own[0]]
    by_owner = calls.thread[call] == ranges.thread[own[0]]
    # A backward pass is launched by a thread of its own, while the thread of the ranges waits for it.
    if not any_thread and np.count_nonzero(inside & by_owner) < _OWN_SHARE * len(position):
        return None
    position, owner = position[inside], at[inside]
    if len(position) == 0:
        return None
    owner = np.maximum.accumulate(owner)  # two threads' launches may swap by a little
    first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    begin, last = position[first], position[np.r_[first[1:] - 1, len(position) - 1]]
    stop = last + 1
    # What other streams run between two steps belongs to the earlier one, unless the main stream ran other work there.
    between = np.searchsorted(position, begin[1:]) - np.searchsorted(position, stop[:-1])
    stray = np.isin(np.arange(len(rows)), position, invert=True) & (activities.stream[rows] == streams[counts.argmax()])
    strays = np.concatenate([[0], np.cumsum(stray)])
    follows = (between == 0) & (strays[begin[1:]] == strays[stop[:-1]])
    stop[:-1][follows] = begin[1:][follows]
    _add_what_follows(timeline.activities.name[rows], begin, stop)
    sizes = stop - begin
    regular = max(float(np.mean(np.abs(sizes - one) <= 0.02 * one)) for one in each_once(sizes).tolist())
    return Cuts("range", round(regular, 3), begin.astype(np.int64), stop.astype(np.int64))


def _add_what_follows(names: Int32, begin: npt.NDArray[np.intp], stop: npt.NDArray[np.intp]) -> None:
    """Move the stops to the next begins where the same work follows each range: an engine samples after its forward."""
    if len(begin) < LEAST_STEPS:
        return
    between = begin[1:] - stop[:-1]
    usual = int(np.median(between))
    if not 0 < usual <= _LESS * np.median(stop - begin) or np.mean(between == usual) <= 0.5:
        return  # more work than the range's own is steps of another kind
    known = np.flatnonzero(stop + usual <= len(names))
    tails = names[stop[known][:, None] + np.arange(usual)]
    alone = np.flatnonzero(between == usual)
    middle = tails[alone[len(alone) // 2]]
    alike = known[(tails == middle).mean(axis=1) >= ALIKE]
    if len(alike) < _FOLLOWS * len(between):
        return
    # What comes behind that, before the next range of this name, are steps of another kind.
    stop[alike] += usual
    little = between <= 2 * usual
    stop[:-1][little] = begin[1:][little]
