"""The summary of a sweep: figures of each configuration, effects of the knobs, ranges, the front, the drift.

All times are milliseconds. A ratio is a factor against a base: 1.2 takes 20 % longer, 0.5 half as long.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from laptime.data.record import Interval, Scalar
from laptime.data.stats import AccuracyMethod

Over = Literal["samples", "repeats"]
"""What an interval rests on: inputs (it holds for inputs of this kind), or repeats of these few inputs (for them)."""

VisitNoiseKnown = Literal["estimated", "bounded by settings", "not shared", "unknown"]
"""Where the noise of visits in an interval comes from (laptime.sweeps.summary.visit_noise).

estimated: from several visits to the same configurations. bounded by settings: there was one visit to each, so the
noise is at most what the knobs leave unexplained. not shared: no two inputs were measured in one visit, so their spread
shows it. unknown: nothing shows it, and the interval does not hold it.
"""


class ConfigRow(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration. Medians are over the samples used, one value a sample (its repeats' median)."""

    config_id: str
    config: dict[str, Scalar]  # without the knobs that are None
    samples: int  # calls used; 0 when every one failed
    left_out: int  # calls measured but flagged, the warm-up's included
    warm_ups: int = 0  # of `left_out`: the warm-up calls
    flags: dict[str, int] = {}  # flag -> samples that carry it, warm-up calls apart
    all_flagged: bool = False  # nothing was clean: flagged calls are used, and this says so
    compared: bool = True  # it has calls of the grade by which all are compared; else it is in no effect and no front
    failures: int
    inputs: int = 0  # different sample ids among the calls used
    visits: int = 0  # stays of a worker at it among the calls used
    over: Over = "samples"  # repeats: too few inputs for an interval, so it speaks of these inputs only
    stages: dict[str, Interval]  # vision, prefill, decode, other, total: medians; a stage that never ran is absent
    p95_ms: dict[str, float]  # the same stages, 95th percentile of all calls used
    ttft_ms: Interval | None
    tpot_ms: Interval | None
    decode_per_token_ms: Interval | None
    output_tokens_mean: float | None
    crops_mean: float | None
    image_tokens_mean: float | None
    memory_peak_bytes: int | None  # the largest
    energy_j: Interval | None
    accuracy: Interval | None  # mean score, one value a sample; n = scored samples
    accuracy_method: AccuracyMethod | None = None


class KnobLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a knob against the base, with the same samples and the same values of all other knobs."""

    value: Scalar
    ratio: Interval  # n: the samples (or repeats) it rests on
    pairs: int  # pairs of (settings of the other knobs, sample) on both sides
    lowest: float | None = None  # the ratio at those settings of the other knobs where it is smallest
    highest: float | None = None  # and where it is largest


class KnobEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a knob does to a stage, averaged evenly over the settings of the other knobs."""

    knob: str
    stage: str
    base: Scalar
    levels: list[KnobLevel]  # without the base
    over: Over = "samples"
    visit_noise: VisitNoiseKnown = "unknown"


class RatioAt(msgspec.Struct, frozen=True, kw_only=True):
    """A knob's ratio at one value of another knob."""

    value: Scalar
    ratio: Interval


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio that depends on the value of another knob, so that one figure for the knob would mislead."""

    stage: str
    knob: str
    level: Scalar
    base: Scalar
    other: str
    at: list[RatioAt]  # the ratio level / base at each value of the other knob
    change: Interval  # the largest of these over the smallest, matched
    visit_noise: VisitNoiseKnown = "unknown"


class VisitNoise(msgspec.Struct, frozen=True, kw_only=True):
    """How much visits to one configuration differ in a stage, beyond the noise of their calls: a relative sd."""

    stage: str
    known: VisitNoiseKnown
    sd: float | None  # of the logarithm, 0.01 is 1 %; of a bound the bound; None where nothing is known
    pairs: int = 0  # of visits to one configuration that it rests on
    outlying: list[str] = []  # config_ids with a visit that differs far more than the others


class StageRange(msgspec.Struct, frozen=True, kw_only=True):
    """Where one stage's times lie for one image tier, over all configurations. n: calls."""

    tier: str
    stage: str
    n: int
    low_ms: float  # 5th percentile
    median_ms: float
    high_ms: float  # 95th percentile
    min_ms: float
    max_ms: float


class DriftPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the run: the median of total / its configuration's median, as a ratio."""

    start_s: float  # of measuring, after the first call of the run
    end_s: float
    ratio: Interval


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How times moved over the run. `trend`: the factor from the run's start to its end along a straight line."""

    points: list[DriftPoint]
    trend: Interval | None  # None with too few points for a line
    span_s: float  # of measuring: pauses are cut down
    sessions: int = 1  # stretches of measuring without a long pause


class SweepSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole summary. Lists are empty and values None where nothing is known."""

    schema: str = "laptime.sweep/1"
    knobs: dict[str, list[Scalar]]  # the knobs that vary, with their values in order (None, numbers, then text)
    tied: dict[str, str] = {}  # a knob that moves only with another one -> that one; it has no effect of its own
    rows: list[ConfigRow]
    effects: list[KnobEffect]
    interactions: list[Interaction] = []  # strongest first
    ranges: list[StageRange]  # by tier
    crop_ranges: list[StageRange] = []  # by the number of crops; `tier` is that number
    pareto: list[str]  # config_ids on the accuracy/latency front, fastest first; empty without accuracies
    near_pareto: list[str] = []  # not on it, but no other configuration is surely better in both
    drift: Drift | None
    visit_noise: list[VisitNoise] = []  # by stage; empty without samples
