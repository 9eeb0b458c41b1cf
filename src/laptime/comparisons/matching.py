"""Which samples of two runs are compared with each other, and the values of a stage that this gives."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from laptime.comparisons.calls import Calls, joined, places_of_keys
from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError


@dataclass(frozen=True, eq=False)
class Matched:
    """Two runs' samples, in the order in which they were measured. Paired: equal lengths, i beside i."""

    paired: bool
    a: Calls
    b: Calls


class StageLogs(msgspec.Struct, frozen=True, kw_only=True):
    """The logarithms of one stage's times in ms, beside each other when paired."""

    a: Floats
    b: Floats


def match(a: Calls, b: Calls, fewest: int) -> Matched:
    """Pair by (sample_id, repeat), and by the configuration too when a run has several.

    Paired when that leaves `fewest` pairs, or every sample of the smaller run has a partner; else all samples are
    taken, unpaired. Raises LaptimeError when the runs have several configurations and none in common.
    """
    kinds_a, kinds_b = a.kinds(), b.kinds()
    single = len(kinds_a) == 1 and len(kinds_b) == 1
    if not single and not kinds_a & kinds_b:
        raise LaptimeError(
            f"nothing is comparable: {len(kinds_a)} and {len(kinds_b)} configurations, none of them in both runs; "
            "compare runs of one configuration, or of the same grid"
        )
    a, b = a.in_order(), b.in_order()
    both = joined([a, b])
    names = [both.sample_id, both.repeat] if single else [both.config_id, both.sample_id, both.repeat]
    keys = places_of_keys(*names)
    (key_a, row_a), (_, row_b) = _first_rows(keys[: len(a)]), _first_rows(keys[len(a) :])
    place_b = np.full(int(keys.max(initial=-1)) + 1, -1)
    place_b[keys[len(a) :][row_b]] = row_b
    partner = place_b[key_a]
    paired = partner >= 0
    pairs = int(paired.sum())
    if not single or pairs >= fewest or pairs == min(len(row_a), len(row_b)):
        return Matched(paired=True, a=a.take(row_a[paired]), b=b.take(partner[paired]))
    return Matched(paired=False, a=a, b=b)


def _first_rows(keys: Ints) -> tuple[Ints, Ints]:
    """Each different key and its first row, in the order of the keys' last rows."""
    each, first = np.unique(keys, return_index=True)
    last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    order = np.argsort(last)
    return each[order], first[order].astype(np.int64)


def times_ms(calls: Calls, stage: str) -> Floats:
    """A stage's times; NaN where a sample has none above 0, so that no ratio can be taken."""
    times = calls.times[stage]
    return np.where(times > 0, times, np.nan)


def stage_logs(matched: Matched, stage: str) -> StageLogs:
    """One stage's values: of the pairs that both have it; unpaired, one median for each input.

    Repeats of one input are not independent of each other as soon as the other run has other inputs.
    """
    if matched.paired:
        a, b = times_ms(matched.a, stage), times_ms(matched.b, stage)
        both = ~(np.isnan(a) | np.isnan(b))
        return StageLogs(a=np.log(a[both]), b=np.log(b[both]))
    return StageLogs(a=_input_medians(matched.a, stage), b=_input_medians(matched.b, stage))


def merged_until_independent(values: Floats, fewest: int) -> tuple[Floats, int]:
    """Batch means of the values, and how many values went into one.

    Drift that doesn't cancel makes an interval too narrow: a value that repeats the one before is counted as new.
    Therefore neighbours are averaged two by two while the lag-1 correlation of the ranks is above 2/sqrt(n), two
    standard errors, and at least `fewest` values are left.
    """
    block = 1
    while len(values) // 2 >= fewest and _lag_one(values) > 2 / np.sqrt(len(values)):
        values = values[: len(values) // 2 * 2].reshape(-1, 2).mean(axis=1)
        block *= 2
    return values, block


def _lag_one(values: Floats) -> float:
    """Correlation of the ranks with their neighbours' (a rank von Neumann statistic); 0 without any variation."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") - (len(values) - 1) / 2
    if np.ptp(values) == 0:
        return 0.0
    return float(ranks[1:] @ ranks[:-1] / (ranks @ ranks))


def _input_medians(calls: Calls, stage: str) -> Floats:
    """The median of each input's times, in the order in which the inputs came first."""
    times = times_ms(calls, stage)
    known = ~np.isnan(times)
    inputs, times = calls.sample_id[known], times[known]
    _, first, place = np.unique(inputs, return_index=True, return_inverse=True)
    counts = np.bincount(place)
    ordered, start = times[np.lexsort((times, place))], np.cumsum(counts) - counts
    medians = (ordered[start + (counts - 1) // 2] + ordered[start + counts // 2]) / 2
    return np.asarray(np.log(medians[np.argsort(first)]))
