"""Is there a valley between two heaps of times? Finds a small second heap that the dip misses.

Noise of one kind has a density whose logarithm is concave: normal, exponential and everything between. Then no place
between two others is rarer than their geometric mean (Prékopa 1973; it holds for the shares of windows of one width,
too). The times are cut in two where that explains most of their variance, and three windows are counted: around the
median of each part, and half way between. Too few in the middle, and a second heap as narrow as the first, are two
heaps; a long tail isn't narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats, Ints

NEIGHBOURS = 31
"""Samples whose running median is subtracted: a machine that gets slower is no second heap."""

SMALLEST = 0.05
FEWEST_IN_HEAP = 5
WINDOWS = 5.0
"""Each of the three windows that are counted is this part of the distance between the heaps: a wide one would hold
some of the heaps themselves where the middle is."""
NARROW = 2.0
"""The smaller heap's median distance from its middle is at most this many times the larger one's."""
TAILS = 0.75
"""The middle may hold this share of what the law asks: tails are a little heavier than the law's."""


@dataclass(frozen=True)
class Valley:
    """p: how often chance leaves the middle so empty. Heaps as in `modes`, on logarithms."""

    p: float
    apart: float
    upper: float
    cut: float


def away_from_like(deviations: Floats, inputs: Ints, streams: Ints) -> Floats:
    """Each sample's distance from the other repeats of its input, without what its worker and its time add.

    deviations (n,): logarithms, in the order in which they were measured. inputs, streams (n,): which input, and which
    worker, a sample is of. NaN where an input has no other repeat.
    """
    from scipy.ndimage import median_filter  # takes a while to import, and most audits need none

    steady = deviations.copy()
    for stream in np.unique(streams):
        steady[streams == stream] -= np.median(steady[streams == stream])
    steady -= median_filter(steady, size=NEIGHBOURS, mode="nearest")
    away: Floats = steady - _middle_of_others(steady, inputs)
    return away


def _middle_of_others(values: Floats, groups: Ints) -> Floats:
    """For each value the median of the others of its group, of two middle ones the lower; NaN where it is alone.

    Slow calls are the rare ones. The mean of two others, one of them slow, would be a heap of its own.
    """
    order = np.lexsort((values, groups))
    ordered, sizes = values[order], np.bincount(groups)
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    others = np.repeat(sizes - 1, sizes)
    place = np.arange(len(values)) - start
    middle = np.maximum(others - 1, 0) // 2
    found = ordered[np.minimum(start + middle + (middle >= place), len(values) - 1)]
    medians = np.empty(len(values))
    medians[order] = np.where(others > 0, found, np.nan)
    return medians


def valley(away: Floats, independent: float) -> Valley:
    """What lies between the two heaps of these values, in the order of their time; `independent` of them count."""
    x = np.sort(away)
    cut = two_parts(x)
    parts = x[:cut], x[cut:]
    low, high = (float(np.median(part)) for part in parts)
    found = Valley(1.0, high - low, 1 - cut / len(x), float(x[cut - 1] + x[cut]) / 2)
    small, large = sorted(parts, key=len)
    if len(small) < max(FEWEST_IN_HEAP, SMALLEST * len(x)) or _width(small) > NARROW * _width(large):
        return found
    if _in_stretches((away > found.cut) == (small is parts[1])):
        return found
    width = (high - low) / WINDOWS
    share = min(1.0, independent / len(x))
    windows = [share * np.count_nonzero(abs(x - at) <= width / 2) for at in (low, (low + high) / 2, high)]
    first, middle, last = (float(count) for count in windows)
    if min(first, last) < share * FEWEST_IN_HEAP / 2:
        return found
    asked = TAILS * sqrt(first * last)
    spread = sqrt(1 / 4 + asked / 16 * (1 / first + 1 / last))  # of square roots of counts
    p = erfc((sqrt(asked) - sqrt(middle + 3 / 8)) / spread / sqrt(2)) / 2
    return Valley(max(p, 1e-6), found.apart, found.upper, found.cut)


def two_parts(ordered: Floats) -> int:
    """How many of these ascending values belong to the lower part, so that two means explain most of the variance."""
    n = len(ordered)
    sums, sizes = np.cumsum(ordered), np.arange(1, n)
    between = sizes * (n - sizes) * (sums[:-1] / sizes - (sums[-1] - sums[:-1]) / (n - sizes)) ** 2
    return int(np.argmax(between)) + 1


CLUSTERED = 3.0
"""Standard deviations of the number of neighbours above which a heap came in stretches: a machine that was slow for a
while isn't of two kinds."""


def _in_stretches(member: npt.NDArray[np.bool_]) -> bool:
    """Whether members are next to members more often than chance puts them there."""
    count, beside = int(member.sum()), int((member[1:] & member[:-1]).sum())
    usual = count * (count - 1) / len(member)
    return (beside - usual) / sqrt(usual + 1 / 4) > CLUSTERED


def _width(values: Floats) -> float:
    return float(np.median(np.abs(values - np.median(values))))
