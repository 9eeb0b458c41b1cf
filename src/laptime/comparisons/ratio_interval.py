"""The factor between two sets of times with an exact interval: Hodges and Lehmann's estimate on logarithms.

Times are noisy by factors and have long tails, so everything here works on logarithms and on ranks.

Paired, d_i = ln(B_i / A_i): the estimate is the median of all averages (d_i + d_j) / 2, i <= j; the interval runs
from the k-th smallest to the k-th largest of them, where k - 1 is the largest value that Wilcoxon's signed-rank
statistic stays at or below with a probability of at most (1 - confidence) / 2.
Unpaired, the same with all differences ln(B_j) - ln(A_i) and the Mann-Whitney statistic.
(Hodges and Lehmann 1963; Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, sections 3.2-3.3, 4.2-4.3.)

When B is A with every time multiplied by one factor, the coverage is at least the confidence for every sample size
and every shape of noise: pairs' logarithms are then symmetric about that factor, whatever A's distribution, and two
such runs are exchangeable but for it. Identical code is the factor 1. A bootstrap of twenty samples has no such bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from math import ceil, comb, exp, floor, sqrt
from statistics import NormalDist

import numpy as np

from laptime.data.record import Interval
from laptime.data.stats import Floats

EXACT_PAIRS = 50
"""Up to this many pairs the signed-rank distribution is exact (2^50 fits a float64); above, it is normal."""
EXACT_PRODUCT = 2500
"""Up to this product of sizes the Mann-Whitney distribution is exact; above, it is normal."""
MATERIALISED = 2_000_000
"""At most this many averages or differences are sorted. Order statistics of more are computed by counting."""
RESOLUTION = 1e-9
"""How exactly an order statistic is computed by counting, in logarithms."""
CHORDS = 12
"""At most this many counts bring the two sides of an order statistic together; the halvings make the rest."""


def paired_interval(log_ratios: Floats, confidence: float) -> Interval:
    """The factor B/A from the pairs' ln(B/A). The ends are None when there are too few pairs for one."""
    d = np.sort(log_ratios)
    n = len(d)
    if n * (n + 1) // 2 <= MATERIALISED:
        rows, columns = np.triu_indices(n)  # i <= j
        averages = np.sort((d[rows] + d[columns]) / 2)
        return _interval(averages.__getitem__, len(averages), _signed_rank_depth(n, (1 - confidence) / 2), n)

    def not_above(t: float) -> int:
        ordered = int(np.searchsorted(d, 2 * t - d, side="right").sum())
        return (ordered + int(np.searchsorted(d, t, side="right"))) // 2

    kth = _by_counting(not_above, float(d[0]), float(d[-1]))
    return _interval(kth, n * (n + 1) // 2, _signed_rank_depth(n, (1 - confidence) / 2), n)


def unpaired_interval(log_a: Floats, log_b: Floats, confidence: float) -> Interval:
    """The factor B/A from ln(A) and ln(B), not paired. The ends are None when there are too few values for one."""
    a, b = np.sort(log_a), np.sort(log_b)
    product, fewer = len(a) * len(b), min(len(a), len(b))
    depth = _mann_whitney_depth(len(a), len(b), (1 - confidence) / 2)
    if product <= MATERIALISED:
        return _interval(np.sort(np.subtract.outer(b, a).ravel()).__getitem__, product, depth, fewer)

    def not_above(t: float) -> int:
        return int(np.searchsorted(b, a + t, side="right").sum())

    return _interval(_by_counting(not_above, float(b[0] - a[-1]), float(b[-1] - a[0])), product, depth, fewer)


def fewest_pairs(confidence: float) -> int:
    """The fewest pairs that have an interval at all: 2^-n must not exceed half of what confidence leaves."""
    n = 1
    while _signed_rank_depth(n, (1 - confidence) / 2) == 0:
        n += 1
    return n


def fewest_unpaired(confidence: float) -> int:
    """The fewest values on each side that have an interval without pairs."""
    n = 1
    while _mann_whitney_depth(n, n, (1 - confidence) / 2) == 0:
        n += 1
    return n


def _interval(kth: Callable[[int], float], size: int, depth: int, n: int) -> Interval:
    """The median of `size` ordered values and the depth-th from either end, as factors."""
    middle = (kth((size - 1) // 2) + kth(size // 2)) / 2
    if depth == 0:
        return Interval(exp(middle), None, None, n)
    return Interval(exp(middle), exp(kth(depth - 1)), exp(kth(size - depth)), n)


def _by_counting(not_above: Callable[[float], int], low: float, high: float) -> Callable[[int], float]:
    """Order statistics of values that are never all computed: bisection on how many are not above t.

    Counts grow with t. So most halvings are decided by two counts that were made before, one on either side: these are
    first brought close to the value by following the chord between them (Illinois' false position).
    """
    places, counts = [low - RESOLUTION, high], [0, not_above(high)]

    def counted(t: float) -> int:
        at = bisect_left(places, t)
        if at == len(places) or places[at] != t:
            places.insert(at, t)
            counts.insert(at, not_above(t))
        return counts[at]

    def approach(index: int) -> None:
        wanted, halved = index + 0.5, 0
        for _ in range(CHORDS):
            at = bisect_left(counts, wanted)
            if not 0 < at < len(places) or places[at] - places[at - 1] <= RESOLUTION / 4:
                return
            (under, over), (few, many) = places[at - 1 : at + 1], counts[at - 1 : at + 1]
            below, beyond = wanted - few, many - wanted
            below, beyond = below / (2 if halved > 1 else 1), beyond / (2 if halved < -1 else 1)
            t = under + (over - under) * min(0.999, max(0.001, below / (below + beyond)))
            if not under < t < over:
                return
            halved = min(halved, 0) - 1 if counted(t) > index else max(halved, 0) + 1

    def above(t: float, index: int) -> bool:
        at = bisect_left(places, t)
        if counts[at - 1] > index:
            return True
        if counts[at] <= index:
            return False
        return counted(t) > index

    def kth(index: int) -> float:
        approach(index)
        under, over = low - RESOLUTION, high
        while over - under > RESOLUTION:
            t = (under + over) / 2
            under, over = (under, t) if above(t, index) else (t, over)
        return over

    return kth


@lru_cache(maxsize=4096)
def _signed_rank_depth(n: int, tail: float) -> int:
    """Largest k with P(W <= k - 1) <= tail for Wilcoxon's signed-rank W of n pairs; 0 when there is none."""
    if n > EXACT_PAIRS:
        deviation = sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(0, floor(n * (n + 1) / 4 - NormalDist().inv_cdf(1 - tail) * deviation))
    ways = np.ones(1)
    for rank in range(1, n + 1):  # the generating function: the product of (1 + x^rank)
        shifted = np.concatenate([np.zeros(rank), ways])
        shifted[: len(ways)] += ways
        ways = shifted
    return int(np.searchsorted(np.cumsum(ways), tail * 2.0**n, side="right"))


@lru_cache(maxsize=4096)
def _mann_whitney_depth(n: int, m: int, tail: float) -> int:
    """Largest k with P(U <= k - 1) <= tail for the Mann-Whitney U of n and m values; 0 when there is none."""
    if n * m > EXACT_PRODUCT:
        deviation = sqrt(n * m * (n + m + 1) / 12)
        return max(0, floor(n * m / 2 - NormalDist().inv_cdf(1 - tail) * deviation))
    half = ceil(n * m / 2) + 1
    ways = [1] + [0] * half  # the Gaussian binomial: the product of (1 - x^(n+i)) / (1 - x^i), its lower half
    for i in range(1, m + 1):
        for power in range(half, n + i - 1, -1):
            ways[power] -= ways[power - n - i]
        for power in range(i, half + 1):
            ways[power] += ways[power - i]
    limit, below = tail * comb(n + m, m), 0
    for k, count in enumerate(ways):
        below += count
        if below > limit:
            return k
    return half
