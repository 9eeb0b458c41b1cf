"""What a comparison says: frozen values, and its JSON (schema laptime.compare/1)."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from laptime.data.finding import Finding
from laptime.data.record import Interval
from laptime.data.shown import Shown

SCHEMA = "laptime.compare/1"

Verdict = Literal["faster", "slower", "same", "inconclusive"]

UNKNOWN_NOISE = "between-run noise unknown"
NOT_CLEAN = "a run has no clean sample"
INTERRUPTED = "interrupted"


class StageComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of B over the same stage of A. Ratios above 1 mean that B takes longer."""

    stage: str
    verdict: Verdict
    ratio: Interval  # B / A; n counts the independent values behind it: pairs, or the smaller run's inputs
    confidence: float  # of this interval, after the correction for several stages
    paired: bool
    block: int  # neighbouring values that were merged into one, as they were not independent; 1 when they were
    a_median_ms: float
    b_median_ms: float
    more_samples: int | None  # inconclusive: about how many more in each run would decide; None when no number would
    within_run: Verdict | None = None  # what the interval `ratio` alone would say; None where `verdict` says it
    decides: bool = True  # False: below 1 % of the call in both runs, so it never decides
    between: Interval | None = None  # B / A with the noise between runs in it, n runs of A; `verdict` is its word
    odds: float | None = None  # measured in turns: the odds against "B takes as long as A" (laptime.comparisons.odds)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One run's part in a comparison."""

    run: str
    samples: int
    used: int
    left_out: dict[str, int]  # flag -> samples that carry it and were left out
    unpaired: int  # usable, but without a partner in the other run, so not used
    warm_ups: int = 0  # of `samples`: the warm-up calls, which are always left out
    measured_left_out: dict[str, int] = {}  # `left_out` without the warm-up calls
    all_flagged: bool = False  # no sample was clean, so those `used` are flagged ones


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a comparison in turns."""

    number: int
    side: Literal["A", "B"]
    folder: str
    used: int  # samples that were judged; 0 when none was clean
    flags: dict[str, int] = {}  # why no sample was clean: each flag, and how many measured samples carry it


class Comparison(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """B against A. `verdict` is slower when any stage is, else faster when any is, else same when all are.

    Stages that don't decide have no part in it.
    """

    ROWS: ClassVar[str] = "stages"

    schema: str = SCHEMA
    verdict: Verdict
    a: Side
    b: Side
    min_effect: float
    confidence: float  # that none of the verdicts faster and slower is wrong, taken together
    stages: list[StageComparison]
    findings: list[Finding]
    reason: str | None = None  # inconclusive: why, where it isn't that the interval is too wide
    turns: list[Turn] = []  # measured in turns: every process, in the order in which they ran
