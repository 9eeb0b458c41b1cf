"""Which samples of two runs are compared with each other, and the values of a stage that this gives."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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


def time_ms(sample: Sample, stage: str) -> float | None:
    """A stage's time; None where a sample has none, so that no ratio can be taken."""
    value = sample.decode_per_token_ms if stage == DECODE_PER_TOKEN else sample.stages.stage(stage)
    return value if value is not None and value > 0 else None


def stage_logs(matched: Matched, stage: str) -> StageLogs:
    """One stage's values: of the pairs that both have it; unpaired, one median for each input.

    Repeats of one input are not independent of each other as soon as the other run has other inputs.
    """
    if matched.paired:
        times = [(time_ms(x, stage), time_ms(y, stage)) for x, y in zip(matched.a, matched.b, strict=True)]
        both = np.array([(x, y) for x, y in times if x is not None and y is not None], dtype=np.float64)
        logs = np.log(both.reshape(-1, 2))
        return StageLogs(a=logs[:, 0], b=logs[:, 1])
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
    for sample in samples:
        if (ms := time_ms(sample, stage)) is not None:
            by_input.setdefault(sample.sample_id, []).append(ms)
    return np.log(np.array([median(times) for times in by_input.values()], dtype=np.float64))


def _key(sample: Sample, single: bool) -> Hashable:
    return (sample.sample_id, sample.repeat) if single else sample.key


def _in_order(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: s.started_unix_ms)
