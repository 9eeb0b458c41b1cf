"""The noise of visits: how much visits to one configuration differ, beyond the noise of their calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import erf, exp, inf, pi, sqrt

import numpy as np

from laptime.data.stats import Floats
from laptime.sweeps.summary.calls import JUDGED, Codes
from laptime.sweeps.summary.result import VisitNoiseKnown
from laptime.sweeps.summary.visit_links import (
    NO_LINKS,
    Links,
    Units,
    fitted,
    knob_basis,
    left_by_knobs,
    nested_links,
    paired_links,
    unit_values_of,
)
from laptime.sweeps.summary.visits import Shared

CUT = 2.5
"""A difference of two visits beyond this number of standard deviations counts as an outlier."""
ASTRAY = 4.0
"""Beyond this number the summary names the configuration."""
FEWEST_FREEDOM = 2.0 - 1e-9
"""With fewer degrees of freedom a variance says nothing: with one, t is 12.7 on each side."""
ENOUGH_FREEDOM = 10.0
"""From this number on repeated visits count for all configurations; below, half of them must have some."""
FEWEST_LEFT_BY_TWO = 4
"""Pairs of knobs must leave this many degrees of freedom; else the bound is what single knobs leave."""


@dataclass(frozen=True)
class Noise:
    """One stage's visit noise. `variance`: of a visit's logarithm, by the configuration's code; `pooled`: of most.

    freedom: its degrees of freedom. outlying: codes of the configurations whose visits differ far more than others do.
    pairs: the number of pairs of visits behind it, 0 if it is only bounded. holds_interactions: whether a bound also
    holds what two knobs do together.
    """

    known: VisitNoiseKnown
    variance: Floats
    pooled: float
    freedom: float = inf
    outlying: tuple[int, ...] = ()
    pairs: int = 0
    holds_interactions: bool = False


def visit_noises(shared: Shared, settings: Codes) -> dict[str, Noise]:
    """Each stage's visit noise. settings: (configurations, knobs) codes of the knobs' values.

    With several visits to a configuration it comes from their differences: on the same inputs if they share any. Else
    each round has inputs of its own, and the differences are of logarithms without the knobs' effects on each input.
    With one visit to each configuration, visit and configuration can't be separated. Then what the knobs (and pairs of
    them, with enough settings) don't explain of the configurations' means is a bound: it holds the visit noise, and
    whatever more knobs do together.
    """
    configs = len(settings)
    none = np.zeros(configs)
    if shared.cells is None:
        return {stage: Noise(known="not shared", variance=none, pooled=0.0) for stage in JUDGED}
    several = bool((shared.visits > 1).any())
    paired = paired_links(shared.cells) if several else NO_LINKS
    noises: dict[str, Noise] = {}
    units: Units | None = None
    nested: Links | None = None
    bases: dict[bytes, tuple[Floats, bool] | None] = {}
    for place, stage in enumerate(JUDGED):
        noise = _estimated(paired, place, shared)
        if noise is None:
            units = units or unit_values_of(shared.cells)
            nested = nested or (nested_links(left_by_knobs(units, settings)) if several else NO_LINKS)
            noise = _estimated(nested, place, shared) or _bounded(units, settings, place, bases)
        noises[stage] = noise or Noise(known="unknown", variance=none, pooled=0.0)
    return noises


def robust_variance(apart: Floats, sampling: Floats) -> float:
    """The v >= 0 for which the mean of apart^2 / (2 v + sampling) is 1, where values beyond CUT^2 count as CUT^2.

    Source: Huber's second proposal (1964), an M-estimate of scale that is consistent for normal values. One visit that
    went wrong moves it by a bounded amount.
    """
    expected = _mean_of_cut_square()
    squares = apart**2

    def excess(v: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(squares > 0, squares / (2 * v + sampling), 0.0)
        return float(np.minimum(ratios, CUT**2).mean()) - expected

    low, high = 0.0, float(squares.max())
    if high == 0 or excess(0.0) <= 0:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _estimated(links: Links, place: int, shared: Shared) -> Noise | None:
    """The noise from pairs of visits; None when there are too few of them for the whole sweep."""
    known = ~np.isnan(links.apart[:, place]) & ~np.isnan(links.sampling[:, place])
    config, apart, sampling = links.config[known], links.apart[known, place], links.sampling[known, place]
    freedom = float(links.freedom[known, place].sum())
    widely = 2 * len(np.unique(config)) >= (shared.covariance > 0).sum()
    if freedom < FEWEST_FREEDOM or not (freedom >= ENOUGH_FREEDOM or widely):
        return None
    pooled = robust_variance(apart, sampling)
    variance = np.full(len(shared.covariance), pooled)
    far = np.unique(config[apart**2 > CUT**2 * (2 * pooled + sampling)])
    for code in far:  # a visit that went wrong counts in full where it is, and nowhere else
        own = config == code
        variance[code] = max(pooled, float((apart[own] ** 2 - sampling[own]).mean()) / 2)
    astray = np.unique(config[apart**2 > ASTRAY**2 * (2 * pooled + sampling)])
    return Noise(
        known="estimated",
        variance=variance,
        pooled=pooled,
        freedom=freedom,
        outlying=tuple(astray.tolist()),
        pairs=len(apart),
    )


def _bounded(units: Units, settings: Codes, place: int, bases: dict[bytes, tuple[Floats, bool] | None]) -> Noise | None:
    """The noise bounded by what the knobs leave of the configurations' means; None when they leave too little.

    bases: a cache for the next stages, by the configurations that have the stage.
    """
    table = units.table(place)
    known = ~np.isnan(table).all(axis=1)
    key = known.tobytes()
    if key not in bases:
        bases[key] = _spare_basis(settings[units.codes[known]])
    spare = bases[key]
    if spare is None:
        return None
    basis, two_way = spare
    table = table[known]
    freedom = len(table) - basis.shape[1]
    left = table - fitted(table, basis)
    here = ~np.isnan(left)
    counts = here.sum(axis=1)
    means = np.where(here, left, 0).sum(axis=1) / counts
    within = np.where(here, left - means[:, None], 0)
    noise = (within**2).sum() / max(freedom * (counts.mean() - 1), 1.0)
    pooled = max(0.0, float((means**2).sum() / freedom - noise * (1 / counts).mean()))
    return Noise(
        known="bounded by settings",
        variance=np.full(len(settings), pooled),
        pooled=pooled,
        freedom=freedom,
        holds_interactions=not two_way,
    )


def _spare_basis(settings: Codes) -> tuple[Floats, bool] | None:
    """The basis of pairs of knobs, or of single knobs if pairs leave too little; and whether it is of pairs."""
    for two_way, fewest in ((True, FEWEST_LEFT_BY_TWO), (False, FEWEST_FREEDOM)):
        basis = knob_basis(settings, two_way=two_way) if len(settings) else None
        if basis is not None and len(settings) - basis.shape[1] >= fewest:
            return basis, two_way
    return None


@lru_cache(maxsize=1)
def _mean_of_cut_square() -> float:
    """E min(z^2, CUT^2) of a standard normal z."""
    inside, density = erf(CUT / sqrt(2)), exp(-(CUT**2) / 2) / sqrt(2 * pi)
    return inside - 2 * CUT * density + CUT**2 * (1 - inside)
