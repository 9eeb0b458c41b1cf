"""Which samples of two runs are compared with each other, and the values of a stage that this gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import attrgetter
from statistics import median

import msgspec
import numpy as np

from laptime.data.record import Sample
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

DECODE_PER_TOKEN = "decode_per_token"  # noqa: S105 - a stage's name


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs' samples, in the order in which they were measured. Paired: equal lengths, i beside i."""

    paired: bool
    a: list[Sample]
    b: list[Sample]


class StageLogs(msgspec.Struct, frozen=True, kw_only=True):
    """The logarithms of one stage's times in ms, beside each other when paired."""

    a: Floats
    b: Floats


def match(a: Sequence[Sample], b: Sequence[Sample], fewest: int) -> Matched:
    """Pair by (sample_id, repeat), and by the configuration too when a run has several.

    Paired when that leaves `fewest` pairs, or every sample of the smaller run has a partner; else all samples are
    taken, unpaired. Raises LaptimeError when the runs have several configurations and none in common.
    """
    kinds_a, kinds_b = {s.config_id for s in a}, {s.config_id for s in b}
    single = len(kinds_a) == 1 and len(kinds_b) == 1
    if not single and not kinds_a & kinds_b:
        raise LaptimeError(
            f"nothing is comparable: {len(kinds_a)} and {len(kinds_b)} configurations, none of them in both runs; "
            "compare runs of one configuration, or of the same grid"
        )
    by_key_a, by_key_b = ({_key(s, single): s for s in reversed(run)} for run in (_in_order(a), _in_order(b)))
    pairs = [(s, by_key_b[key]) for key, s in reversed(by_key_a.items()) if key in by_key_b]
    if not single or len(pairs) >= fewest or len(pairs) == min(len(by_key_a), len(by_key_b)):
        return Matched(paired=True, a=[s for s, _ in pairs], b=[s for _, s in pairs])
    return Matched(paired=False, a=_in_order(a), b=_in_order(b))


def times_ms(samples: Iterable[Sample], stage: str) -> Floats:
    """A stage's times; NaN where a sample has none above 0, so that no ratio can be taken."""
    times = np.array(list(map(recorded_ms(stage), samples)), dtype=np.float64)  # None becomes NaN
    return np.where(times > 0, times, np.nan)


def recorded_ms(stage: str) -> Callable[[Sample], float | None]:
    """What a stage's time is read by: one call that stays in C for each of a million samples."""
    return attrgetter("decode_per_token_ms" if stage == DECODE_PER_TOKEN else f"stages.{stage}_ms")


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


def _input_medians(samples: Sequence[Sample], stage: str) -> Floats:
    by_input: dict[str, list[float]] = {}
    for sample, ms in zip(samples, times_ms(samples, stage).tolist(), strict=True):
        if ms == ms:  # no NaN
            by_input.setdefault(sample.sample_id, []).append(ms)
    return np.log(np.array([median(times) for times in by_input.values()], dtype=np.float64))


def _key(sample: Sample, single: bool) -> Hashable:
    return (sample.sample_id, sample.repeat) if single else sample.key


def _in_order(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: s.started_unix_ms)
