"""What each knob does to each stage, and where the ratio depends on another knob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, exp, log

import numpy as np

from laptime.data.record import Interval, Scalar
from laptime.data.stats import CONFIDENCE, Floats, factor_interval
from laptime.sweeps.summary.calls import JUDGED, Codes
from laptime.sweeps.summary.knobs import VaryingKnobs
from laptime.sweeps.summary.matched import Grid, Pairs, levels_against_base, pairs_of, unit_values
from laptime.sweeps.summary.result import Interaction, KnobEffect, KnobLevel, RatioAt, VisitNoiseKnown
from laptime.sweeps.summary.visit_noise import Noise
from laptime.sweeps.summary.visits import Shared

WORTH_SAYING = 1.10
"""A ratio that changes by this factor between values of another knob is reported."""


@dataclass(frozen=True)
class VisitShare:
    """What visits add to a stage's intervals. `variance`: for each configuration, of its mean over units."""

    known: VisitNoiseKnown
    variance: Floats
    freedom: float


def visit_shares(
    shared: Shared, noises: Mapping[str, Noise], *, of_interactions: bool = False
) -> dict[str, VisitShare]:
    """What visits add to each stage's intervals.

    of_interactions: for judging interactions. A bound that holds the interactions themselves can't judge them, so the
    noise counts as unknown then.
    """
    shares = {}
    for stage, noise in noises.items():
        blind = of_interactions and noise.holds_interactions
        variance = shared.covariance * (0.0 if blind else noise.variance)
        shares[stage] = VisitShare(known="unknown" if blind else noise.known, variance=variance, freedom=noise.freedom)
    return shares


def knob_effects(grid: Grid, knobs: VaryingKnobs, shares: Mapping[str, VisitShare]) -> list[KnobEffect]:
    """For each knob and stage the ratio of every level to the base, which is the knob's first value.

    The ratio is matched: the two calls of a pair share the input and the values of all other knobs. The logarithms of
    the pairs' ratios are averaged evenly over the settings of the other knobs. That gives one value for each input. The
    ratio is the geometric mean of these values, with its t interval. So the interval says how far the ratio would move
    with other inputs of this kind, measured in other visits. It says nothing of other settings; `lowest`, `highest` and
    interactions() show how much the ratio differs among them.

    Why a mean: it is one figure for any number of inputs and settings, and the steps of a knob multiply to the whole.
    Why t: it keeps its coverage when inputs react differently, where an interval over all pairs does not, and for eight
    inputs, where a bootstrap does not (benchmarks/sweep_intervals.py).
    """
    effects = []
    for knob, values in knobs.levels.items():
        pairs = [(level, pairs_of(grid, knob, base, level)) for base, level in levels_against_base(values)]
        for stage in JUDGED:
            share = shares[stage]
            of_stage = [_level(grid, stage, values[code], p, share) for code, p in pairs]
            levels = [level for level in of_stage if level is not None]
            if levels:
                effects.append(
                    KnobEffect(
                        knob=knob,
                        stage=stage,
                        base=values[0],
                        levels=levels,
                        over=grid.over,
                        visit_noise=share.known,
                    )
                )
    return effects


def interactions(grid: Grid, knobs: VaryingKnobs, shares: Mapping[str, VisitShare]) -> list[Interaction]:
    """The ratios that differ by more than WORTH_SAYING between two values of another knob, surely, strongest first.

    A change is sure when its interval doesn't hold 1. The change is matched like a ratio. Its interval is at
    1 - 5 % / m, for all m changes of a stage that could have been reported (Bonferroni): of every pair of knobs, every
    level, every pair of the other knob's values. An interaction of A and B can be stated as A at each value of B, or
    the reverse, and for each level: only the strongest is returned for each stage. None is returned for a stage whose
    noise of visits is unknown: a slow visit to one configuration looks like an interaction.
    """
    confidence = 1 - (1 - CONFIDENCE) / max(1, _changes([len(values) for values in knobs.levels.values()]))
    strongest: dict[tuple[str, frozenset[str]], Interaction] = {}
    for knob, values in knobs.levels.items():
        for base, level in levels_against_base(values):
            pairs = pairs_of(grid, knob, base, level)
            for other, its in knobs.levels.items():
                if other == knob:
                    continue
                for stage in [one for one in JUDGED if shares[one].known != "unknown"]:
                    asked = (knob, values[level], values[base])
                    interaction = _interaction(grid, stage, asked, pairs, (other, its), shares[stage], confidence)
                    key = (stage, frozenset((knob, other)))
                    if interaction is None:
                        continue
                    if key not in strongest or interaction.change.value > strongest[key].change.value:
                        strongest[key] = interaction
    return sorted(strongest.values(), key=lambda i: -i.change.value)


def _changes(levels: Sequence[int]) -> int:
    """How many different changes of a ratio there are, over all pairs of knobs with these numbers of levels.

    Of A against its base at two values of B there are (a - 1) b (b - 1) / 2; stated the other way round there are
    (b - 1) a (a - 1) / 2, of which (a - 1) (b - 1) are the same ones.
    """
    return sum((a - 1) * comb(b, 2) + (b - 1) * comb(a, 2) - (a - 1) * (b - 1) for a, b in combinations(levels, 2))


def _level(grid: Grid, stage: str, value: Scalar, pairs: Pairs, share: VisitShare) -> KnobLevel | None:
    differences = _differences(grid, stage, pairs)
    ratio = _factor(differences, _rows(grid, pairs), share)
    if ratio is None:
        return None
    present = ~np.isnan(differences)
    some = present.any(axis=1)
    settings = np.where(present, differences, 0).sum(axis=1)[some] / present.sum(axis=1)[some]
    return KnobLevel(
        value=value,
        ratio=ratio,
        pairs=int(present.sum()),
        lowest=exp(settings.min()) if len(settings) > 1 else None,
        highest=exp(settings.max()) if len(settings) > 1 else None,
    )


def _interaction(
    grid: Grid,
    stage: str,
    asked: tuple[str, Scalar, Scalar],
    pairs: Pairs,
    other: tuple[str, list[Scalar]],
    share: VisitShare,
    confidence: float,
) -> Interaction | None:
    """The ratio at each value of another knob; None unless it surely changes.

    asked: the knob, its level and its base. other: the other knob and its levels. confidence: of the change's interval.
    """
    (knob, level, base), (name, its) = asked, other
    kept = [one for one in grid.knobs if one != knob].index(name)
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
    configs = _rows(grid, pairs)
    change = _factor(
        differences[rows[:, 1]] - differences[rows[:, 0]],
        np.hstack([configs[rows[:, 1]], configs[rows[:, 0]]]),
        share,
        confidence,
    )
    if change is None or change.low is None or change.low <= 1 or change.value < WORTH_SAYING:
        return None
    ratios = (
        (value, _factor(differences[codes == code], configs[codes == code], share)) for code, value in enumerate(its)
    )
    at = [RatioAt(value=value, ratio=ratio) for value, ratio in ratios if ratio is not None]
    return Interaction(
        stage=stage,
        knob=knob,
        level=level,
        base=base,
        other=name,
        at=at,
        change=change,
        visit_noise=share.known,
    )


def _differences(grid: Grid, stage: str, pairs: Pairs) -> Floats:
    """ln(level / base), (pairs, columns)."""
    return np.asarray(grid.logs[stage][pairs.level] - grid.logs[stage][pairs.base])


def _centres(differences: Floats, codes: Codes, values: int) -> Floats:
    """The mean difference at each value of another knob; NaN where there is none."""
    present = ~np.isnan(differences)
    sums = np.bincount(codes, weights=np.where(present, differences, 0).sum(axis=1), minlength=values)
    counts = np.bincount(codes, weights=present.sum(axis=1), minlength=values)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)


def _rows(grid: Grid, pairs: Pairs) -> Codes:
    """The configurations of each pair, (pairs, 2)."""
    return np.stack([grid.configs[pairs.base], grid.configs[pairs.level]], axis=1)


def _factor(differences: Floats, configs: Codes, share: VisitShare, confidence: float = CONFIDENCE) -> Interval | None:
    """The ratio of these differences, (settings, units), with what visits add; None when there are none.

    configs: the codes of the configurations behind each setting's differences, (settings, 2 or 4). Each configuration
    has visits of its own, so each adds its own noise. One that stands in several rows carries their weights together.
    """
    values = unit_values(differences)
    if len(values) == 0:
        return None
    present = ~np.isnan(differences).all(axis=1)
    weights = np.bincount(configs[present].ravel(), minlength=len(share.variance)) / present.sum()
    shared = float((weights**2 * share.variance).sum())
    return factor_interval(values, confidence, shared, share.freedom)
