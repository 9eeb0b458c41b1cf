"""Hartigan's dip: how far a sample's distribution is from the nearest one with a single mode.

J. A. Hartigan and P. M. Hartigan, The Dip Test of Unimodality, Annals of Statistics 13 (1985), 70-84. The uniform is
the least favourable unimodal distribution: against it the p-value is too large, never too small, for any other.
"""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np

from laptime.data.stats import Floats

MOST = 1000
"""More values than this are thinned to this many: a dip is certain long before."""


def dip(values: Floats) -> float:
    """The dip statistic of at least four values; 0 when all are equal."""
    x = np.sort(values)
    n = len(x)
    if n < 4 or x[0] == x[-1]:
        return 0.0
    lower, upper = _minorant(x), _majorant(x)
    low, high, best = 0, n - 1, 1.0
    while True:
        gcm, lcm = _path(lower, high, low), _path(upper, low, high)
        d, ig, ih = _widest(x, gcm, lcm)
        if d < best:
            break
        best = max(best, _below(x, gcm, ig), _above(x, lcm, ih))
        if (low, high) == (gcm[ig], lcm[ih]):
            break
        low, high = gcm[ig], lcm[ih]
    return best / (2 * n)


def p_value(statistic: float, n: int) -> float:
    """How often n values from a uniform distribution have such a dip, or a larger one (at least 1e-6)."""
    scaled = statistic * sqrt(n)
    sizes = [log(size) for size in _SIZES]
    at = float(np.clip(log(n), sizes[0], sizes[-1]))
    quantiles = np.array([np.interp(at, sizes, column) for column in zip(*_TABLE, strict=True)])
    tails = np.log(np.array(_TAILS))
    if scaled <= quantiles[0]:
        return 1.0
    if scaled <= quantiles[-1]:
        return exp(float(np.interp(scaled, quantiles, tails)))
    steepness = (tails[-1] - tails[-4]) / (quantiles[-1] - quantiles[-4])  # it only gets steeper from here
    return max(1e-6, exp(float(tails[-1] + steepness * (scaled - quantiles[-1]))))


def _minorant(x: Floats) -> list[int]:
    """For each index the one before it on the greatest convex minorant of the distribution up to there."""
    n = len(x)
    links = [0] * n
    for j in range(1, n):
        links[j] = j - 1
        while True:
            a = links[j]
            b = links[a]
            if a == 0 or (x[j] - x[a]) * (a - b) < (x[a] - x[b]) * (j - a):
                break
            links[j] = b
    return links


def _majorant(x: Floats) -> list[int]:
    """For each index the one after it on the least concave majorant of the distribution from there on."""
    n = len(x)
    links = [n - 1] * n
    for k in range(n - 2, -1, -1):
        links[k] = k + 1
        while True:
            a = links[k]
            b = links[a]
            if a == n - 1 or (x[k] - x[a]) * (a - b) < (x[a] - x[b]) * (k - a):
                break
            links[k] = b
    return links


def _path(links: list[int], begin: int, end: int) -> list[int]:
    path = [begin]
    while path[-1] != end:
        path.append(links[path[-1]])
    return path


def _widest(x: Floats, gcm: list[int], lcm: list[int]) -> tuple[float, int, int]:
    """The largest distance between the two hulls, and where on each it lies (gcm runs downwards)."""
    last_g, last_l = len(gcm) - 1, len(lcm) - 1
    ig, ih = last_g, last_l
    if last_g == 1 and last_l == 1:
        return 1.0, ig, ih
    ix, iv, d = last_g - 1, 1, 0.0
    while True:
        g, v = gcm[ix], lcm[iv]
        if g > v:
            g1 = gcm[ix + 1]
            distance = (v - g1 + 1) - (x[v] - x[g1]) * (g - g1) / (x[g] - x[g1])
            iv += 1
            if distance >= d:
                d, ig, ih = float(distance), ix + 1, iv - 1
        else:
            v1 = lcm[iv - 1]
            distance = (x[g] - x[v1]) * (v - v1) / (x[v] - x[v1]) - (g - v1 - 1)
            ix -= 1
            if distance >= d:
                d, ig, ih = float(distance), ix + 1, iv
        ix, iv = max(ix, 0), min(iv, last_l)
        if gcm[ix] == lcm[iv]:
            return d, ig, ih


def _below(x: Floats, gcm: list[int], ig: int) -> float:
    """The largest distance from the distribution down to its convex part."""
    return max((_sag(x, gcm[j + 1], gcm[j], 1.0) for j in range(ig, len(gcm) - 1)), default=0.0)


def _above(x: Floats, lcm: list[int], ih: int) -> float:
    """The largest distance from the distribution up to its concave part."""
    return max((_sag(x, lcm[j], lcm[j + 1], -1.0) for j in range(ih, len(lcm) - 1)), default=0.0)


def _sag(x: Floats, begin: int, end: int, side: float) -> float:
    if end - begin <= 1 or x[begin] == x[end]:
        return 1.0
    steps = np.arange(end - begin + 1)
    line = (x[begin : end + 1] - x[begin]) * ((end - begin) / (x[end] - x[begin]))
    return max(1.0, float((steps + 1 - line).max() if side > 0 else (line - steps + 1).max()))


_TAILS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_SIZES = (20, 30, 50, 100, 200, 500, 1000)
_TABLE = (
    (0.3287, 0.3960, 0.4350, 0.4719, 0.5116, 0.5422, 0.5664, 0.5952, 0.6187),
    (0.3371, 0.4052, 0.4467, 0.4829, 0.5282, 0.5572, 0.5842, 0.6195, 0.6491),
    (0.3450, 0.4139, 0.4573, 0.4955, 0.5404, 0.5745, 0.6033, 0.6294, 0.6493),
    (0.3534, 0.4255, 0.4708, 0.5096, 0.5571, 0.5876, 0.6236, 0.6590, 0.6809),
    (0.3618, 0.4329, 0.4785, 0.5189, 0.5685, 0.6017, 0.6352, 0.6739, 0.6953),
    (0.3691, 0.4442, 0.4907, 0.5333, 0.5817, 0.6174, 0.6538, 0.6889, 0.7216),
    (0.3715, 0.4469, 0.4893, 0.5335, 0.5936, 0.6234, 0.6578, 0.6915, 0.7325),
)
"""Quantiles of dip × sqrt(n) of uniform samples of these sizes: python benchmarks/audit_false_alarms.py --dip-table."""
