"""Where steps begin and end in a device's kernel sequence by its period alone.

A cut is a half-open range of kernel positions. Nothing here measures time; `steps` does.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.kernel_names import family
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int64
from laptime.trace.repeats import (
    EXACT,
    LEAST_COUNT,
    WINDOW,
    RepeatLevel,
    Tokens,
    cyclic_run,
    intervals,
    levels,
)

ALIKE = 0.95
"""Share of a step's kernels that must stand where the usual step has them."""

_TOKEN_WORDS = re.compile(
    r"arg_?max|(?<!up)(?<!up_)(?<!down)(?<!down_)(?<!sub)(?<!re)(?<!grid)(?<!grid_)sampl|multinomial"
    r"|(?<!rotary)(?<!rotary_)(?<!rotary_pos_)embedding|index_?select|vectorized_gather|top_?[kp](?!_?gating)|logits"
    r"|lm_head",
    re.IGNORECASE,
)
_ONCE_A_STEP = re.compile(r"multi_?tensor|adam|adagrad|sgd|lamb(?!da)|nll_loss|cross_?entropy|mse_?loss", re.IGNORECASE)
"""An optimizer's kernel or a loss: a training step runs it, and a layer doesn't."""

_OPTIMIZER = re.compile(r"adam|adagrad|sgd|lamb(?!da)", re.IGNORECASE)
"""An optimizer's kernel. Those of multi_tensor alone also copy what layers gather from other ranks."""

LEAST_STEPS = 3
"""Fewer repetitions than this need a better reason to be called steps."""

MOST = 0.8
"""Share of a device's kernels that one or two steps must hold, when only their name or their graph speaks for them."""

THROUGHOUT = 0.95
"""Share of a device's kernels that passes of a convolutional net must hold: little comes before or after them."""

MOSTLY = 0.5
"""Share of the kernels that steps must hold, when only their layers speak for them."""

MANY_ANCHORS = 256
"""Places between two known steps at which another one is looked for."""

LEAST_FLAT = 8
"""The fewest kernels of a step that has no layers and no mark of a token."""

LONG_UNIT = 400
"""A repeated unit of this many kernels is no layer. It is a denoising step of a U-Net, or a training step."""

APART = 3
"""A wait that begins each repetition, and is this many times as long as any other in it, parts steps."""


class Cuts(msgspec.Struct, frozen=True, eq=False):
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
        if len(each_once(inside)) < period:
            waits[inside] = -1.0
    phase = int(np.argmax(waits))
    parted = False
    if len(tokens) % period == 0 and _holds_throughout(tokens, period):
        phase = (-middle) % period  # the capture holds whole steps and nothing else
        parted = period > 1 and waits[phase] > APART * np.delete(waits, phase).max()
    template = np.roll(unit, -phase)
    starts = _where_alike(tokens, template, spans, (middle - a + phase) % period)
    if len(starts) < 3:
        return None
    same = float(np.mean([np.mean(tokens[s : s + period] == template) for s in starts[:50].tolist()]))
    whole = layered or parted or period >= LONG_UNIT or _optimizes(unit, strings)
    confidence = same * (1 - 1 / (1 + len(starts))) * (1.0 if whole else 0.6) * (1.0 if marked else 0.9)
    return Cuts("period", round(confidence, 3), starts, starts + period)


def _step_level(tokens: Tokens, strings: tuple[str, ...]) -> tuple[int, bool, bool] | None:
    """(period, layered, marked) of the step level, None when no level can be one."""
    candidates = levels(tokens)
    marks = _with_words(tokens if candidates else tokens[:0], strings, _TOKEN_WORDS)
    judged: list[tuple[RepeatLevel, bool, bool]] = []
    for level in candidates:
        start, stop = max(level.intervals, key=lambda span: span[1] - span[0])
        unit = _unit(tokens, start, stop, level.period)
        run = cyclic_run(unit) if level.period >= 12 else None
        marked = bool(marks[unit].any())
        # Three convolutions with their norms, five times in a pass, are blocks: only more layers in most of the kernels
        # make a step of what has no token.
        whole = level.covered >= MOSTLY * min(len(tokens), WINDOW)
        layered = run is not None and (marked or (run.count > LEAST_COUNT and whole))
        judged.append((level, layered, marked))
    for want_mark in (True, False):
        fitting = [(level, marked) for level, layered, marked in judged if layered and (marked or not want_mark)]
        if fitting:
            level = _more_often(fitting[0][0], [level for level, _ in fitting[1:]])
            return level.period, True, {one.period: marked for one, marked in fitting}[level.period]
    flat = [(level, marked) for level, layered, marked in judged if marked and level.covered >= 0.3 * len(tokens)]
    if flat:
        return flat[0][0].period, False, True
    once = _with_words(tokens if candidates else tokens[:0], strings, _ONCE_A_STEP)
    for level in candidates:
        start, stop = max(level.intervals, key=lambda span: span[1] - span[0])
        unit = _unit(tokens, start, stop, level.period)
        if level.covered >= MOST * min(len(tokens), WINDOW) and once[unit].any():
            return level.period, False, True
    for level in candidates:
        if (
            level.period >= LONG_UNIT
            and level.repeats >= LEAST_STEPS
            and level.covered >= 0.5 * min(len(tokens), WINDOW)
        ):
            return level.period, False, False
    passes = [level for level in candidates if _is_pass(level, candidates, tokens, strings)]
    if passes:  # a pass may hold three alike parts, which its other kernels part from the next three
        return min(passes, key=lambda level: len(level.intervals)).period, True, False
    exact = [
        level.period for level in candidates if level.period >= LEAST_FLAT and _holds_throughout(tokens, level.period)
    ]
    return (exact[0], False, False) if exact else None


def _more_often(level: RepeatLevel, longer: list[RepeatLevel]) -> RepeatLevel:
    """The level itself, or a longer one that holds elsewhere, twice as often: not a prefill's chunks, but tokens."""
    for other in longer:
        both = sum(max(min(b, d) - max(a, c), 0) for a, b in level.intervals for c, d in other.intervals)
        if both < (1 - MOST) * level.covered and other.repeats >= 2 * level.repeats and other.covered >= level.covered:
            level = other
    return level


def _with_words(tokens: Tokens, strings: tuple[str, ...], words: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    """For each name whether a kernel bears it and it holds one of these words."""
    marks = np.zeros(len(strings), dtype=np.bool_)
    for name in each_once(tokens).tolist():
        marks[name] = words.search(strings[name]) is not None
    return marks


def _optimizes(unit: Tokens, strings: tuple[str, ...]) -> bool:
    """Whether a unit multiplies matrices and then runs an optimizer by name: a training step, whatever is in it."""
    names = [strings[name] for name in each_once(unit).tolist()]
    families = {family(name) for name in names}
    return bool(families & {"GEMM", "convolution"}) and any(_OPTIMIZER.search(name) for name in names)


def _is_pass(level: RepeatLevel, levels: list[RepeatLevel], tokens: Tokens, strings: tuple[str, ...]) -> bool:
    """Whether a period of nearly all kernels is a pass of a convolutional net: blocks come again within each of them.

    A layer holds no such blocks, and an embedding or a head stands outside layers. Layers that attend may hold
    convolutions, of tokens; a U-Net that attends also enlarges its images again.
    """
    if level.repeats < LEAST_STEPS or level.covered < THROUGHOUT * min(len(tokens), WINDOW):
        return False
    start, stop = max(level.intervals, key=lambda span: span[1] - span[0])
    families = {family(strings[name]) for name in each_once(_unit(tokens, start, stop, level.period)).tolist()}
    if "convolution" not in families or ("attention" in families and "resize" not in families):
        return False
    return any(
        3 * part.period <= level.period and part.covered >= 0.5 * level.covered and len(part.intervals) >= level.repeats
        for part in levels
    )


def _holds_throughout(tokens: Tokens, period: int) -> bool:
    """Whether the whole trace, to both ends, is one sequence that comes again and again.

    A forward pass of many layers is not: an embedding or a head stands outside its layers.
    """
    same = tokens[:-period] == tokens[period:]
    return bool(same.mean() >= EXACT and same[:3].all() and same[-3:].all())


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
    return np.array(sorted([*starts, *_single(tokens, template, starts)]), dtype=np.int64)


def _single(tokens: Tokens, template: Tokens, starts: list[int]) -> list[int]:
    """Where else a whole step like the template stands: fewer than three in a row, as between two prefills."""
    if not starts:
        return []
    period = len(template)
    names, first, counts = np.unique(template, return_index=True, return_counts=True)
    rare = int(np.argmin(counts))
    if counts[rare] > LEAST_STEPS:
        return []  # nothing in it says where it begins
    anchors = np.flatnonzero(tokens == names[rare]) - int(first[rare])
    found: list[int] = []
    edges = [(0, starts[0]), *zip([start + period for start in starts], [*starts[1:], len(tokens)], strict=True)]
    for begin, end in edges:
        at = begin
        low, high = np.searchsorted(anchors, (begin, max(end - period, begin - 1) + 1))
        for start in anchors[low:high].tolist()[:MANY_ANCHORS]:
            if start >= at and np.count_nonzero(tokens[start : start + period] == template) >= ALIKE * period:
                found.append(start)
                at = start + period
    return found


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
