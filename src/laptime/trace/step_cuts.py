"""Where steps begin and end in a device's kernel sequence: by named ranges, by graph launches, by its period.

A cut is a half-open range of kernel positions. Nothing here measures time; `steps` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import GpuTimeline, Int64, RangeKind
from laptime.trace.repeats import WINDOW, RepeatLevel, Tokens, cyclic_run, intervals, levels, longest_run

ALIKE = 0.95
"""Share of a step's kernels that must stand where the usual step has them."""

_STEP_WORDS = re.compile(r"step|decode|token(?!i)|iteration|iter(?![a-z])|generation|forward|execute", re.IGNORECASE)
_PART_WORDS = re.compile(r"layer|block|attention|attn|mlp|expert|norm|optimizer|backward", re.IGNORECASE)
"""A range with such a word in its name is a part of a step, whatever else the name says."""

_TOKEN_WORDS = re.compile(
    r"arg_?max|sampl|multinomial|embedding|index_?select|vectorized_gather|top_?[kp](?!_?gating)|logits|lm_head",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, eq=False, slots=True)
class Cuts:
    """Steps as positions [start, stop) among the device's kernels, in order."""

    method: str
    confidence: float
    start: Int64
    stop: Int64
    name: str | None = None


def by_period(tokens: Tokens, strings: tuple[str, ...], before_ns: Int64) -> Cuts | None:
    """Steps by the period of the kernel sequence alone; None when it shows no step.

    A period is a step when its unit is made of repeated layers. A trace has at most three such levels: layers,
    steps, requests; the shortest layered one is the step, unless it lacks what each token needs once (an
    embedding, a choice of the next token) and a longer one has it. A period without layers inside may be a layer
    itself: it counts only when it has that mark, and with less confidence.

    Args:
        tokens: name id of each kernel in start order.
        strings: the names.
        before_ns: idle time right before each kernel; the longest wait outside the layers begins a step.
    """
    chosen = _step_level(tokens, strings)
    if chosen is None:
        return None
    period, layered, marked = chosen
    spans = intervals(tokens, period, repeats=3)
    if not spans:
        return None
    a, b = max(spans, key=lambda span: span[1] - span[0])
    repeats = (b - a) // period
    middle = a + (repeats // 2) * period
    unit = tokens[middle : middle + period]
    waits = np.median(before_ns[a : a + repeats * period].reshape(repeats, period), axis=0)
    run = cyclic_run(unit) if layered else None
    if run is not None:
        inside = (np.arange(run.start + 1, run.start + run.period * run.count)) % period
        if len(np.unique(inside)) < period:
            waits[inside] = -1.0
    phase = int(np.argmax(waits))
    template = np.roll(unit, -phase)
    starts = _where_alike(tokens, template, spans, (middle - a + phase) % period)
    if len(starts) < 3:
        return None
    same = float(np.mean([np.mean(tokens[s : s + period] == template) for s in starts[:50].tolist()]))
    confidence = same * (1 - 1 / (1 + len(starts))) * (1.0 if layered else 0.6) * (1.0 if marked else 0.9)
    return Cuts("period", round(confidence, 3), starts, starts + period)


def _step_level(tokens: Tokens, strings: tuple[str, ...]) -> tuple[int, bool, bool] | None:
    """(period, layered, marked) of the step level, None when no level can be one."""
    candidates = levels(tokens)
    marks = np.array([bool(_TOKEN_WORDS.search(name)) for name in strings]) if candidates else np.zeros(0, dtype=bool)
    judged: list[tuple[RepeatLevel, bool, bool]] = []
    for level in candidates:
        start, stop = max(level.intervals, key=lambda span: span[1] - span[0])
        unit = _unit(tokens, start, stop, level.period)
        run = cyclic_run(unit) if level.period >= 12 else None
        judged.append((level, run is not None, bool(marks[unit].any())))
    for want_mark in (True, False):
        for level, layered, marked in judged:
            if layered and (marked or not want_mark):
                return level.period, True, marked
    flat = [(level, marked) for level, layered, marked in judged if marked and level.covered >= 0.3 * len(tokens)]
    return (flat[0][0].period, False, True) if flat else None


def _unit(tokens: Tokens, start: int, stop: int, period: int) -> Tokens:
    if len(tokens) > WINDOW:  # levels are those of the middle of the sequence
        shift = (len(tokens) - WINDOW) // 2
        start, stop = start + shift, stop + shift
    middle = start + ((stop - start) // period // 2) * period
    return tokens[middle : middle + period]


def _where_alike(tokens: Tokens, template: Tokens, spans: tuple[tuple[int, int], ...], offset: int) -> Int64:
    """Positions where a whole step like the template stands: each span's grid, a step beyond each end."""
    period, n = len(template), len(tokens)
    starts: list[int] = []
    reference = spans[int(np.argmax([b - a for a, b in spans]))]
    for a, b in spans:
        first = a + offset if (a, b) == reference else _phase_in(tokens, template, a, b)
        for start in range(first - 2 * period, b + period, period):
            if start < 0 or start + period > n or (starts and start < starts[-1] + period):
                continue
            if np.count_nonzero(tokens[start : start + period] == template) >= ALIKE * period:
                starts.append(start)
    return np.array(starts, dtype=np.int64)


def _phase_in(tokens: Tokens, template: Tokens, a: int, b: int) -> int:
    """Where in [a, b) the template fits best: rare kernels of the template propose, the whole template decides."""
    names, first, counts = np.unique(template, return_index=True, return_counts=True)
    rare = int(np.argmin(counts))
    window = tokens[a : min(a + 2 * len(template), b)]
    best, best_score = a, -1
    for at in np.flatnonzero(window == names[rare]).tolist()[:64]:
        start = a + at - int(first[rare])
        if start < 0 or start + len(template) > len(tokens):
            continue
        score = int(np.count_nonzero(tokens[start : start + len(template)] == template))
        if score > best_score:
            best, best_score = start, score
    return best


def by_graph(graph: Int64, tokens: Tokens) -> Cuts | None:
    """Steps by graph launches: one step per launch, when the same graph (or several alike) runs most kernels.

    Args:
        graph: for each kernel its graph launch (an id that grows with time), -1 for kernels outside graphs.
        tokens: name id of each kernel.
    """
    inside = np.flatnonzero(graph >= 0)
    if len(inside) == 0 or len(inside) < 0.5 * len(tokens):
        return None
    change = np.flatnonzero(np.r_[True, graph[inside[1:]] != graph[inside[:-1]]])
    starts = inside[change]
    sizes = np.diff(np.r_[change, len(inside)])
    if len(starts) < 3:
        return None
    # One whole-step graph per step: the launches' sizes agree. Many small graphs per step do not make steps.
    usual = int(np.bincount(sizes).argmax())
    alike = np.abs(sizes - usual) <= 0.02 * usual
    if alike.mean() < 0.6 or (usual > 1 and _one_of_several(tokens, starts, sizes, usual)):
        return None
    stops = np.r_[starts[1:], len(tokens)]  # kernels between two graphs belong to the step before them
    last_end = inside[-1] + 1
    if alike[-1]:
        stops[-1] = last_end
    chosen = alike
    return Cuts("graph", round(float(alike.mean()), 3), starts[chosen].astype(np.int64), stops[chosen].astype(np.int64))


def _one_of_several(tokens: Tokens, starts: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp], usual: int) -> bool:
    """Whether the graph is a piece of a step, as with one graph per layer: it holds no repeated layer itself."""
    at = starts[int(np.flatnonzero(sizes == usual)[0])]
    return usual < 100 and longest_run(tokens[at : at + usual]) is None


def by_ranges(timeline: GpuTimeline, rows: Int64, launched: Int64, *, strict: bool) -> Cuts | None:
    """Steps by named host ranges: kernels belong to the range that their launch lies in.

    Names are compared without their numbers. Ranges of one name must follow one another on a thread, launch
    kernels, and cover at least half of the device's. Among several, the longest with a step-like name is taken.

    Args:
        timeline: the trace.
        rows: the device's kernels, in start order.
        launched: for each of them the index of its call, -1 without one.
        strict: whether only step-like names count (step, decode, token, iteration, forward, …).
    """
    ranges, strings = timeline.ranges, timeline.strings
    profiler_steps = np.array([name.startswith("ProfilerStep") for name in strings])  # an operator in 2021's format
    marked = (ranges.kind == RangeKind.NVTX) | profiler_steps[ranges.name]
    named = np.flatnonzero(marked & (ranges.end_ns > ranges.start_ns))
    linked = np.flatnonzero(launched >= 0)
    if len(named) < 3 or len(linked) < 0.5 * len(rows) or len(rows) == 0:
        return None
    plain: dict[str, int] = {}
    group_of = {
        int(i): plain.setdefault(_NUMBER.sub("N", strings[i]), len(plain)) for i in np.unique(ranges.name[named])
    }
    group = np.array([group_of[int(i)] for i in ranges.name[named]])
    call = launched[linked]
    called_at, thread = timeline.calls.start_ns[call], timeline.calls.thread[call]
    best: tuple[float, Cuts] | None = None
    for label, number in plain.items():
        step_like = bool(_STEP_WORDS.search(label)) and not _PART_WORDS.search(label)
        if strict and not step_like:
            continue
        own_ranges = named[group == number]
        threads, counts = np.unique(ranges.thread[own_ranges], return_counts=True)
        if len(own_ranges) < 3:
            continue
        owner = threads[int(np.argmax(counts))]
        own_ranges = own_ranges[ranges.thread[own_ranges] == owner]
        start, end = ranges.start_ns[own_ranges], ranges.end_ns[own_ranges]
        if len(own_ranges) < 3 or np.any(start[1:] < end[:-1]):
            continue
        at = np.searchsorted(start, called_at, side="right") - 1
        inside = (at >= 0) & (called_at < end[np.maximum(at, 0)]) & (thread == owner)
        cuts = _cuts_of(linked[inside], at[inside], label)
        if cuts is None or int((cuts.stop - cuts.start).sum()) < 0.5 * len(rows):
            continue
        score = float(np.median(cuts.stop - cuts.start)) * cuts.confidence
        if best is None or score > best[0]:
            best = (score, cuts)
    if best is None:
        return None
    method = "annotation" if timeline.source.format == "kineto" else "nvtx"
    cuts = best[1]
    return Cuts(method, cuts.confidence if strict else cuts.confidence / 2, cuts.start, cuts.stop, cuts.name)


def _cuts_of(position: npt.NDArray[np.intp], owner: npt.NDArray[np.intp], label: str) -> Cuts | None:
    """The kernels of each range as one stretch of the sequence; None when ranges' kernels interleave."""
    if len(position) == 0:
        return None
    order = np.argsort(owner, kind="stable")
    position, owner = position[order], owner[order]
    first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    start = np.minimum.reduceat(position, first)
    stop = np.maximum.reduceat(position, first) + 1
    if len(start) < 3 or np.any(start[1:] < stop[:-1]):
        return None
    sizes = stop - start
    usual = int(np.median(sizes))
    regular = float(np.mean(np.abs(sizes - usual) <= 0.02 * usual))
    return Cuts("range", round(regular, 3), start.astype(np.int64), stop.astype(np.int64), label)
