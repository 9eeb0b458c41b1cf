"""The repeated layers inside one step: how many there are and how many kernels each has."""

from __future__ import annotations

import numpy as np

from laptime.trace.kernel_names import family
from laptime.trace.repeats import RepeatRun, Tokens, longest_run
from laptime.trace.result import Layers


def find_layers(step: Tokens, strings: tuple[str, ...]) -> tuple[Layers, RepeatRun] | None:
    """The layers of one step's kernel names (ids into strings), or None when they can't be proven."""
    run = longest_run(step)
    if run is None:
        return None
    run = _aligned(step, run)
    units = step[run.start : run.start + run.period * run.count].reshape(run.count, run.period)
    identical = _identical_units(units)
    if identical < 0.8 * run.count:
        return None
    outside = len(step) - run.period * run.count
    per_unit = layers_per_unit(units[run.count // 2], strings)
    count = run.count * per_unit
    layers = Layers(
        count=count,
        kernels_per_layer=run.period / per_unit,
        outside=outside,
        period_kernels=run.period,
        period_layers=per_unit,
        identical=identical,
    )
    return layers, run


def _aligned(step: Tokens, run: RepeatRun) -> RepeatRun:
    """The same run shifted so that most of its units have the same counts of each kernel.

    Any shift of a periodic run fits about as well, except at its ends, where a kernel outside may look like the
    unit's own. The shift with the most identical units, the earliest on a tie, is taken.
    """
    slack = min(len(step) - (run.start + run.period * run.count), run.period - 1)
    best, best_identical = run, -1
    for shift in range(-min(run.start, 2), min(slack, 2) + 1):
        start = run.start + shift
        units = step[start : start + run.period * run.count].reshape(run.count, run.period)
        identical = _identical_units(units)
        if identical > best_identical or (identical == best_identical and shift == 0):
            best, best_identical = RepeatRun(run.period, run.count, start), identical
    return best


def _identical_units(units: Tokens) -> int:
    """How many units have the same count of every kernel as the usual unit."""
    ordered = np.sort(units, axis=1)
    _, counts = np.unique(ordered, axis=0, return_counts=True)
    return int(counts.max())


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
