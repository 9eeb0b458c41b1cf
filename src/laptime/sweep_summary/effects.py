"""What each knob does to each stage, and where one figure for it would mislead."""

from __future__ import annotations

from math import comb, exp, log

import numpy as np

from laptime.record import Interval, Scalar
from laptime.sweep_summary.calls import JUDGED, Codes, Reals
from laptime.sweep_summary.intervals import CONFIDENCE, factor_interval
from laptime.sweep_summary.knobs import Knobs
from laptime.sweep_summary.matched import Grid, Pairs, levels_against_base, pairs_of, unit_values
from laptime.sweep_summary.result import Interaction, KnobEffect, Level, RatioAt

WORTH_SAYING = 1.10
"""A ratio that changes by this factor between values of another knob is reported."""


def knob_effects(grid: Grid, knobs: Knobs) -> list[KnobEffect]:
    """For each knob and stage every level against the base, the knob's first value.

    Matched: a pair shares the input and the value of every other knob. The logarithms of the pairs' ratios are
    averaged evenly over the settings of the other knobs, which gives one value for each input; the ratio is the
    geometric mean of these, with its t interval. So the interval is about inputs: how far the figure would move with
    other inputs of this kind. The settings are taken as they are; how much the ratio differs among them is `lowest`
    and `highest`, and interactions().

    Why a mean: it is one figure for any number of inputs and settings, and a knob's steps multiply to its whole. Why
    t: it holds for inputs that react differently, where an interval over all pairs does not, and for eight inputs,
    where a bootstrap does not (benchmarks/sweep_intervals.py).
    """
    found = []
    for knob, values in knobs.levels.items():
        pairs = [(level, pairs_of(grid, knob, base, level)) for base, level in levels_against_base(values)]
        for stage in JUDGED:
            levels = [made for code, p in pairs if (made := _level(grid, stage, values[code], p)) is not None]
            if levels:
                found.append(KnobEffect(knob=knob, stage=stage, base=values[0], levels=levels, over=grid.over))
    return found


def interactions(grid: Grid, knobs: Knobs) -> list[Interaction]:
    """The ratios that differ by more than WORTH_SAYING between two values of another knob, surely, strongest first.

    Surely: the interval of the change, matched as the ratio is, leaves out 1. It is at 1 - 5 % / m, for the m pairs of
    values that the largest change is chosen from (Bonferroni). Of the two ways to tell it (A at each B, B at each A)
    and of a knob's levels only the strongest is told for each stage.
    """
    strongest: dict[tuple[str, frozenset[str]], Interaction] = {}
    for knob, values in knobs.levels.items():
        for base, level in levels_against_base(values):
            pairs = pairs_of(grid, knob, base, level)
            for other, its in knobs.levels.items():
                if other == knob:
                    continue
                for stage in JUDGED:
                    found = _interaction(grid, stage, (knob, values[level], values[base]), pairs, other, its)
                    key = (stage, frozenset((knob, other)))
                    if found and (key not in strongest or found.change.value > strongest[key].change.value):
                        strongest[key] = found
    return sorted(strongest.values(), key=lambda i: -i.change.value)


def _level(grid: Grid, stage: str, value: Scalar, pairs: Pairs) -> Level | None:
    differences = _differences(grid, stage, pairs)
    ratio = _factor(differences)
    if ratio is None:
        return None
    present = ~np.isnan(differences)
    some = present.any(axis=1)
    settings = np.where(present, differences, 0).sum(axis=1)[some] / present.sum(axis=1)[some]
    return Level(
        value=value,
        ratio=ratio,
        pairs=int(present.sum()),
        lowest=exp(settings.min()) if len(settings) > 1 else None,
        highest=exp(settings.max()) if len(settings) > 1 else None,
    )


def _interaction(
    grid: Grid, stage: str, asked: tuple[str, Scalar, Scalar], pairs: Pairs, other: str, its: list[Scalar]
) -> Interaction | None:
    """The ratio at each value of `other`, if it surely changes."""
    knob, level, base = asked
    kept = [name for name in grid.knobs if name != knob].index(other)
    codes = pairs.others[:, kept]
    differences = _differences(grid, stage, pairs)
    centres = _centres(differences, codes, len(its))
    if np.isnan(centres).sum() > len(its) - 2:
        return None
    low, high = int(np.nanargmin(centres)), int(np.nanargmax(centres))
    if centres[high] - centres[low] < log(WORTH_SAYING):
        return None
    rest = np.delete(pairs.others, kept, axis=1)
    where = {tuple(rest[i].tolist()): i for i in np.flatnonzero(codes == low)}
    beside = [(where[key], i) for i in np.flatnonzero(codes == high) if (key := tuple(rest[i].tolist())) in where]
    rows = np.array(beside, dtype=np.int64).reshape(-1, 2)
    confidence = 1 - (1 - CONFIDENCE) / comb(len(its), 2)
    change = _factor(differences[rows[:, 1]] - differences[rows[:, 0]], confidence)
    if change is None or change.low is None or change.low <= 1 or change.value < WORTH_SAYING:
        return None
    ratios = ((value, _factor(differences[codes == code])) for code, value in enumerate(its))
    at = [RatioAt(value=value, ratio=ratio) for value, ratio in ratios if ratio is not None]
    return Interaction(stage=stage, knob=knob, level=level, base=base, other=other, at=at, change=change)


def _differences(grid: Grid, stage: str, pairs: Pairs) -> Reals:
    """ln(level / base), (pairs, columns)."""
    return np.asarray(grid.logs[stage][pairs.level] - grid.logs[stage][pairs.base])


def _centres(differences: Reals, codes: Codes, values: int) -> Reals:
    """The mean difference at each value of another knob; NaN where there is none."""
    present = ~np.isnan(differences)
    sums = np.bincount(codes, weights=np.where(present, differences, 0).sum(axis=1), minlength=values)
    counts = np.bincount(codes, weights=present.sum(axis=1), minlength=values)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)


def _factor(differences: Reals, confidence: float = CONFIDENCE) -> Interval | None:
    """The ratio of these differences; None when there are none."""
    values = unit_values(differences)
    return factor_interval(values, confidence) if len(values) else None
