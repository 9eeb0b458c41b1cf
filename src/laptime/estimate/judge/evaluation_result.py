"""An evaluation as a value: scores for each way of holding out, beside the ceiling. JSON: laptime.evaluation/1."""

from __future__ import annotations

import msgspec

from laptime.estimate.judge.ceiling import Ceiling
from laptime.estimate.judge.outliers import Filtered

METRICS = ("mae_ms", "rmse_ms", "mape", "relative_error", "r2", "bias", "coverage", "width", "width_median",
           "pinball_ms")  # fmt: skip


class Spread(msgspec.Struct, frozen=True):
    """One figure over several seeds or held-out levels: its mean, standard deviation and ends."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


class GroupScores(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one group, over all splits of a kind."""

    group: str
    rows: int
    mape: float | None
    coverage: float | None
    width: float | None
    abstained: int


class SplitScores(msgspec.Struct, frozen=True, kw_only=True):
    """All splits of one kind."""

    kind: str
    details: list[str]  # what was held out, one for each split
    train_rows: int  # of the first split; 0 when the estimator had been fitted before
    test_rows: int
    metrics: dict[str, Spread]  # by METRICS; a figure that no split has is absent
    reachable_r2: Spread | None  # the R2 that a perfect predictor of configurations would have on the test rows
    abstained: float  # share of the test rows without a finite bound
    support: dict[str, int]  # test rows inside, near, outside the training domain
    groups: list[GroupScores]


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """Single predictions of held-out rows, to look at: columns of one length."""

    kind: list[str]
    group: list[str]
    support: list[str]
    actual_ms: list[float]
    median_ms: list[float]
    bound_ms: list[float | None]
    features: dict[str, list[float]]  # numeric features only


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How far a target can be predicted, and how far it is. JSON: laptime.evaluation/1."""

    schema: str = "laptime.evaluation/1"
    source: str
    target: str
    q: float  # the coverage asked of the bound
    rows: int
    configurations: int  # distinct combinations of the features
    grouped_by: list[str]  # columns of `SplitScores.groups`
    ceiling: Ceiling | None  # over all rows; None without repeats
    ceiling_of: list[str]  # the columns whose combinations were taken for configurations
    splits: list[SplitScores]
    filtered: Filtered | None = None
    unfiltered: list[SplitScores] | None = None  # the same splits fitted on all rows, when outliers were left out
    points: Points
    notes: list[str] = []
