"""Statistics by ranks, for the rules that can be wrong by chance: trends, shifts, and how often chance does as much.

Every rule that judges by chance takes ERROR for itself, divided further among what it looks at. There are five of
them (decode-per-token-by-N where nothing was divided, cold-start, clock-drift, rank-skew, bimodal), so that sound
measurements raise any of them in at most 5 % of all runs (benchmarks/audit_false_alarms.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp
from statistics import NormalDist

import numpy as np

from laptime.data.stats import Floats, t_share

ERROR = 0.01
"""How often one rule may be wrong about sound measurements."""

BINS = 200
"""A long run is cut into this many pieces, each the median of its samples, before all pairs of pieces are compared."""


@dataclass(frozen=True)
class Trend:
    """How values change along x: Sen's slope, its interval, and how likely chance trends as much (Mann and Kendall)."""

    slope: float
    low: float
    high: float
    p: float
    x: Floats  # the pieces that were compared
    y: Floats


def trend(x: Floats, y: Floats, confidence: float) -> Trend | None:
    """Theil's and Sen's slope with the interval by Sen (1968); None for fewer than eight pieces or no spread of x.

    The variance of Kendall's S is widened by (1 + r)/(1 - r) where neighbouring residuals correlate by r > 0: a slowly
    wandering clock is no trend.
    """
    x, y = binned(x, y)
    n = len(x)
    if n < 8 or x[0] == x[-1]:
        return None
    i, j = np.triu_indices(n, 1)
    steps = x[j] - x[i]
    rise = y[j] - y[i]
    s = float(np.sign(rise[steps > 0]).sum())
    slopes = np.sort(rise[steps > 0] / steps[steps > 0])
    slope = float(np.median(slopes))
    residual = y - slope * x
    residual = residual - residual.mean()
    power = float((residual**2).sum())
    r = float((residual[1:] * residual[:-1]).sum() / power) if power > 0 else 0.0
    variance = n * (n - 1) * (2 * n + 5) / 18 * max(1.0, (1 + r) / max(1e-3, 1 - r))
    z = max(0.0, abs(s) - 1) / variance**0.5
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    below = int(max(0, np.floor((len(slopes) - reach) / 2)))
    above = int(min(len(slopes) - 1, np.ceil((len(slopes) + reach) / 2)))
    return Trend(slope, float(slopes[below]), float(slopes[above]), 2 * (1 - NormalDist().cdf(z)), x, y)


SURROGATES = 400
"""Simulated wanderings from which the spread of their slopes is taken."""


WANDERING_FREEDOM = 6
"""A slow wandering has few independent swings in a run, so its spread is known as badly as from about six values."""


NARROW, WIDE, LONG = 0.65, 0.85, 40
"""The spectrum's power is fitted on so many of the lowest frequencies, n to one of these powers; of LONG places on
to the larger one. On few frequencies the power is uncertain by a third, and a steady drift of 5 % in 360 calls passes
for wandering in one run of four; of short runs the higher ones say that noise wanders less than it does."""


def wandering_p(seen: Trend) -> float:
    """How likely noise that wanders as these residuals do has such a slope: noise with a spectrum of c / f^b.

    b is fitted to the periodogram of the residuals (Geweke and Porter-Hudak 1983), and enlarged by its standard error;
    the line took the slowest wandering out of them. White noise has b = 0, 1/f noise 1, a random walk 2.
    """
    n = len(seen.x)
    place = (seen.x - seen.x.mean()) / float(np.ptp(seen.x))
    slope, level = np.polyfit(place, seen.y, 1)
    residual = seen.y - slope * place - level
    power = np.abs(np.fft.rfft(residual)) ** 2 / n
    lowest = np.arange(1, max(5, int(n ** (WIDE if n >= LONG else NARROW))) + 1)
    lowest = lowest[lowest < len(power)]
    x, y = np.log(lowest / n), np.log(np.maximum(power[lowest], 1e-30))
    spread = float(((x - x.mean()) ** 2).sum())
    b = float(-((x - x.mean()) * (y - y.mean())).sum() / spread) + float(np.sqrt(np.pi**2 / 6 / spread))
    b = float(np.clip(b, 0.0, 1.8))
    frequencies = np.fft.rfftfreq(4 * n)[1:]
    rng = np.random.default_rng(n)
    size = (SURROGATES, len(frequencies))
    noise = (rng.normal(size=size) + 1j * rng.normal(size=size)) * frequencies ** (-b / 2)
    walks = np.fft.irfft(np.concatenate([np.zeros((SURROGATES, 1)), noise], axis=1))[:, :n]
    walks = walks - walks.mean(axis=1, keepdims=True)
    slopes = walks @ place / float(place @ place)
    left = walks - np.multiply.outer(slopes, place)
    relative = slopes / left.std(axis=1)  # in units of what is left when the line is taken out, as here
    z = abs(slope) / max(1e-12, float(residual.std())) / float(np.sqrt((relative**2).mean()))
    return 2 * t_share(WANDERING_FREEDOM, -z)


def binned(x: Floats, y: Floats, bins: int = BINS) -> tuple[Floats, Floats]:
    """Values in the order of x, in at most `bins` pieces of equal count: the medians of each."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if len(x) <= bins:
        return x, y
    cuts = np.linspace(0, len(x), bins + 1).astype(int)
    pieces = list(pairwise(cuts))
    return np.array([np.median(x[a:b]) for a, b in pieces]), np.array([np.median(y[a:b]) for a, b in pieces])


def shift(one: Floats, other: Floats) -> tuple[float, float]:
    """How much larger `one` is, by the medians, and how likely chance does as much (Mann and Whitney)."""
    together = np.concatenate([one, other])
    ranks = midranks(together)
    n, m = len(one), len(other)
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    _, ties = np.unique(together, return_counts=True)
    size = n + m
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (size * (size - 1)) if size > 1 else 0.0
    variance = n * m / 12 * (size + 1 - tied)
    if variance <= 0:
        return 0.0, 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / variance**0.5
    return float(np.median(one) - np.median(other)), 2 * (1 - NormalDist().cdf(z))


def signed_shift(differences: Floats) -> tuple[float, float]:
    """The median of paired differences, and how likely chance puts it as far from 0 (Wilcoxon's signed ranks)."""
    values = differences[differences != 0]
    n = len(values)
    if n < 6:
        return 0.0, 1.0
    ranks = midranks(np.abs(values))
    above = float(ranks[values > 0].sum())
    variance = float((ranks**2).sum()) / 4
    z = max(0.0, abs(above - ranks.sum() / 2) - 0.5) / variance**0.5
    return float(np.median(differences)), 2 * (1 - NormalDist().cdf(z))


def midranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def poisson_tail(count: int, expected: float) -> float:
    """How likely at least `count` rare, independent events are when `expected` are expected."""
    if count <= 0:
        return 1.0
    term = below = exp(-expected)
    for k in range(1, count):
        term *= expected / k
        below += term
    return max(0.0, 1.0 - below)
