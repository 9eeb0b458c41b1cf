"""What a comparison says: frozen values, and its JSON (schema laptime.compare/1)."""

from __future__ import annotations

from typing import Literal

import msgspec

from laptime.data.record import Finding, Interval

SCHEMA = "laptime.compare/1"

Verdict = Literal["faster", "slower", "same", "inconclusive"]


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


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One run's part in a comparison."""

    run: str
    samples: int
    used: int
    left_out: dict[str, int]  # flag -> samples that carry it and were left out
    unpaired: int  # usable, but without a partner in the other run, so not used


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """B against A. `verdict` is slower when any stage is, else faster when any is, else same when all are."""

    schema: str = SCHEMA
    verdict: Verdict
    a: Side
    b: Side
    min_effect: float
    confidence: float  # that none of the verdicts faster and slower is wrong, taken together
    stages: list[StageComparison]
    findings: list[Finding]
