"""The layers of one step: how many units of what repeats in it are layers, or why none of them is one."""

from __future__ import annotations

import numpy as np

from laptime.trace.kernel_names import family
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int64
from laptime.trace.repeats import EXACT, LEAST_PERIOD, RepeatRun, Tokens, cyclic_run, hashes, longest_run, run_at
from laptime.trace.result import Layers

LEAST_PASS = 6
"""A unit that holds this many layers, each with its attention, is a pass."""

LAYERS_HOLD = frozenset({"GEMM", "GEMV", "attention", "convolution", "moe", "norm", "other"})
"""Families of which a layer has one: it multiplies, or its kernels are not known."""

PARTING_NS, TIMES_WITHIN = 200_000, 5
"""A wait that is longer than this, and so many times as long as any other in a unit, comes before no layer."""

EDGE_LAYERS = 2
"""Repeated units at a step's ends that may differ from the others and are layers all the same."""


def alternates(step: Tokens, run: RepeatRun) -> bool:
    """Whether the run only repeats one, two or three kernels: too few to be a layer, whatever multiple it has."""
    part = step[run.start : run.start + run.period * run.count]
    lags = range(1, LEAST_PERIOD)
    return any(np.count_nonzero(part[:-lag] == part[lag:]) >= EXACT * (len(part) - lag) for lag in lags)


def find_layers(
    step: Tokens, strings: tuple[str, ...], idle_ns: Int64 | None = None
) -> tuple[Layers | None, RepeatRun] | None:
    """The layers of one step's kernel names, or None when nothing in it repeats.

    Layers are None beside their run when the step's attention kernels say that it has layers of several kinds: the
    longest run of equal ones is not their number. Or when the run has too few kernels to be a layer's, or long waits
    part its units.

    Args:
        step: each kernel's name, an index into strings.
        strings: the names.
        idle_ns: how long the device was idle right before each kernel, where that is known.
    """
    run = longest_run(step)
    if run is None:
        return None
    run = _aligned(step, run)
    if alternates(step, run) or (idle_ns is not None and _parted(run, idle_ns)):
        return None, run
    part = step[run.start : run.start + run.period * run.count]
    identical = _identical_units(part, run.period)
    if identical < 0.8 * run.count:
        return None
    unit = part.reshape(run.count, run.period)[run.count // 2]
    families = {family(strings[name]) for name in each_once(unit).tolist()}
    if not families & LAYERS_HOLD:
        return None, run  # copies and sums in a loop are equal parts of a step, and no layers
    if "convolution" in families and "attention" not in families:
        return None, run  # blocks of a convolutional net: the equal ones among them are not their number
    inner = cyclic_run(unit)
    if (inner is not None and inner.period * inner.count < len(unit)) or _holds_passes(unit, strings):
        return None, run  # what repeats is itself made of layers and more: a whole pass, and no layer
    per_unit = layers_per_unit(unit, strings)
    more = _beside(step, run, unit)
    count = (run.count + more) * per_unit
    by_attention = _layers_by_attention(step, unit, per_unit, strings)
    if by_attention > count:
        # The first and the last layers may differ in a kernel or two; more of them are layers of another kind.
        if by_attention - count > EDGE_LAYERS * per_unit or by_attention * run.period > per_unit * len(step):
            return None, run
        count = by_attention
    kernels_per_layer = run.period / per_unit
    layers = Layers(
        count=count,
        kernels_per_layer=kernels_per_layer,
        outside=len(step) - round(count * kernels_per_layer),
        period_kernels=run.period,
        period_layers=per_unit,
        identical=identical + more,
        known=bool(families & LAYERS_HOLD - {"other"}),
    )
    return layers, run


def _holds_passes(unit: Tokens, strings: tuple[str, ...]) -> bool:
    """Whether a repeated unit holds many layers with attention, forward and backward perhaps: it is one batch of
    several in a step, and no layer."""
    attention = [name for name in each_once(unit).tolist() if family(strings[name]) == "attention"]
    twice = np.concatenate([unit, unit]).astype(np.int32)
    for period in range(LEAST_PERIOD, len(unit) // LEAST_PASS + 1) if attention else ():
        run = run_at(twice, period)
        if run is None or run.count < LEAST_PASS or run.period * run.count > len(unit):
            continue
        if np.isin(twice[run.start : run.start + period], attention).any():
            return True
    return False


def _beside(step: Tokens, run: RepeatRun, unit: Tokens) -> int:
    """How many more units stand before and after the run: a kernel of another stream may have come between them."""
    more = 0
    for part in (step[: run.start], step[run.start + run.period * run.count :]):
        found = run_at(part.astype(np.int32), run.period) if len(part) >= 2 * run.period else None
        if found is not None and np.array_equal(np.sort(part[found.start : found.start + run.period]), np.sort(unit)):
            more += found.count
    return more


def _parted(run: RepeatRun, idle_ns: Int64) -> bool:
    """Whether a long wait comes before each unit, and none within it: whole passes, between which the host works."""
    units = idle_ns[run.start : run.start + run.period * run.count].reshape(run.count, run.period)
    within = np.median(units[:, 1:], axis=0).max(initial=0)
    return bool(np.median(units[1:, 0]) > max(PARTING_NS, TIMES_WITHIN * within))


def _layers_by_attention(step: Tokens, unit: Tokens, per_unit: int, strings: tuple[str, ...]) -> int:
    """How many layers the step has by the attention kernels of its usual layer; 0 when it has none."""
    result = 0
    for name, in_unit in zip(*np.unique(unit, return_counts=True), strict=True):
        if family(strings[name]) == "attention":
            result = max(result, int(np.count_nonzero(step == name)) * per_unit // int(in_unit))
    return result


def _aligned(step: Tokens, run: RepeatRun) -> RepeatRun:
    """The same run shifted so that most of its units have the same counts of each kernel.

    Any shift of a periodic run fits about as well, except at its ends, where a kernel outside may look like the
    unit's own. The shift with the most identical units, the earliest on a tie, is taken.
    """
    slack = min(len(step) - (run.start + run.period * run.count), run.period - 1)
    best, best_identical = run, -1
    for shift in range(-min(run.start, 2), min(slack, 2) + 1):
        start = run.start + shift
        identical = _identical_units(step[start : start + run.period * run.count], run.period)
        if identical > best_identical or (identical == best_identical and shift == 0):
            best, best_identical = RepeatRun(run.period, run.count, start), identical
    return best


def _identical_units(tokens: Tokens, period: int) -> int:
    """How many units have the same count of every kernel as the usual unit: what their kernels' hashes sum to."""
    sums = np.sort(hashes(tokens).reshape(-1, period).sum(axis=1))
    edges = np.flatnonzero(np.concatenate([[True], sums[1:] != sums[:-1], [True]]))
    return int(np.diff(edges).max())


def layers_per_unit(unit: Tokens, strings: tuple[str, ...]) -> int:
    """How many layers one repeated unit holds: more than one where neighbouring layers differ in a kernel.

    A unit of k layers holds nearly every kernel a multiple of k times, has nearly every kernel again about a k-th
    of its length later, and its attention kernels in multiples of k. The largest k up to 8 for which all hold.
    """
    size = len(unit)
    names, dense, counts = np.unique(unit, return_inverse=True, return_counts=True)
    attention = sum(
        c for t, c in zip(names.tolist(), counts.tolist(), strict=True) if family(strings[t]) == "attention"
    )
    for k in range(8, 1, -1):
        if size < 3 * k or attention % k:
            continue
        if float((counts % k).sum()) > 0.2 * size:
            continue
        # Layers of one unit differ in few places: nearly every kernel comes again about size / k later.
        lags = range(max(size // k - 2, 1), -(-size // k) + 3)
        again = np.any([dense == np.roll(dense, -lag) for lag in lags], axis=0)
        if float(np.mean(again)) >= 0.75:
            return k
    return 1
