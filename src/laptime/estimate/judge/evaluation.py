"""Judge an estimator: errors, bounds and their coverage on rows it has not seen, beside the best that can be reached.

R2 alone says little: a target whose repeats differ by 20 % can't be predicted better than its noise lets it. So every
R2 stands beside the ceiling of exactly the rows that it was computed on (laptime.estimate.judge.ceiling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars

from laptime.data.stats import Floats
from laptime.data.visits import visits_of
from laptime.errors import LaptimeError
from laptime.estimate.in_ms import in_ms
from laptime.estimate.judge.ceiling import ceiling, noise_variance, reachable_r2
from laptime.estimate.judge.evaluation_result import (
    METRICS,
    Evaluation,
    GroupScores,
    Points,
    SplitScores,
    Spread,
    bound_scores,
    point_scores,
)
from laptime.estimate.judge.splits import OutlierFilter, Split, row_labels
from laptime.estimate.judge.weak_part import weak_part
from laptime.estimate.learn.folds import FEW_GROUPS
from laptime.estimate.predictor import Predictor
from laptime.estimate.table.table import require_columns, target_values
from laptime.estimate.table.units import ms_per_unit

POINTS_KEPT = 3000
FEATURE_GROUPS = 30
MOST_GROUPS = 60
"""Scores are not grouped by columns with more levels than this."""


def evaluate(estimator: Predictor, frame: polars.DataFrame, *, q: float = 0.95, source: str = "") -> Evaluation:
    """Judge a fitted estimator on a table that has its columns. Rows it was fitted on make it look better than it is.

    Raises LaptimeError for missing columns or a target that can't be judged.
    """
    if len(frame) == 0:
        raise LaptimeError("the table has no row to judge by")
    judge = _Judge(estimator, frame, q)
    judge.add("given", "every row of the table", 0, np.arange(len(frame)), estimator)
    return judge.result(source)


def cross_evaluate(
    fit: Callable[[polars.DataFrame, int], Predictor],
    frame: polars.DataFrame,
    splits: Iterable[Split],
    *,
    q: float = 0.95,
    source: str = "",
    outliers: OutlierFilter | None = None,
) -> Evaluation:
    """Fit anew on each split's training rows, judge on its held-out rows.

    `fit(rows, seed)` returns a fitted estimator. With `outliers`, training rows that it doesn't keep are left out, and
    every held-out row is judged all the same. Each split is then fitted on all of its rows too, to show what that does.
    Raises LaptimeError as fitting and judging do, and when there is no split.
    """
    judge: _Judge | None = None
    plain: _Judge | None = None
    for split in splits:
        train = split.train if outliers is None else split.train[outliers.keep[split.train]]
        fitted = fit(frame[train], split.seed)
        judge = judge or _Judge(fitted, frame, q)
        judge.add(split.kind, split.detail, len(train), split.test, fitted)
        if outliers is not None:
            plain = plain or _Judge(fitted, frame, q)
            plain.add(split.kind, split.detail, len(split.train), split.test, fit(frame[split.train], split.seed))
    if judge is None:
        raise LaptimeError("there is nothing to hold out: all its rows are alike")
    evaluation = judge.result(source)
    if plain is None or outliers is None:
        return evaluation
    return msgspec.structs.replace(evaluation, filtered=outliers.removed, unfiltered=plain.result(source).splits)


def target_of(frame: polars.DataFrame, name: str) -> Floats:
    """The target column as numbers above 0. Raises LaptimeError as fitting does."""
    require_columns(frame, [name])
    return target_values(frame, name)


def repeat_labels(
    frame: polars.DataFrame, features: Sequence[str], group: Sequence[str]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """What counts as a repeat: rows with equal features; where no two are equal, rows of a group of many.

    Fewer than FEW_GROUPS groups are models or GPUs, whose rows are no repeats.
    Returns a label for each row, and the columns that it stands for. With labels by group, a predictor that sees more
    of a row than its group may exceed the ceiling.
    """
    for columns, fewest in ((list(features), 1), (list(group), FEW_GROUPS)):
        labels = row_labels([frame[name].to_numpy() for name in columns], len(frame))
        if columns and fewest <= len(np.unique(labels)) < len(labels):
            return labels, columns
    return row_labels([frame[name].to_numpy() for name in features], len(frame)), list(features)


def grouping(
    frame: polars.DataFrame, features: Sequence[str], categorical: Sequence[str], group: Sequence[str]
) -> list[str]:
    """The columns to report scores by: categorical ones, or the groups, if there are 2 to MOST_GROUPS of them.

    Otherwise the features with the fewest values, as long as they have at most FEATURE_GROUPS combinations.
    """
    for columns in (list(categorical), list(group)):
        if columns and 2 <= frame.select(columns).n_unique() <= MOST_GROUPS:
            return columns
    chosen: list[str] = []
    for name in sorted(features, key=lambda name: frame[name].n_unique()):
        if frame[name].n_unique() > 1 and frame.select([*chosen, name]).n_unique() <= FEATURE_GROUPS:
            chosen.append(name)
    return chosen


class _Judge:
    """Collects the scores of one table's splits."""

    def __init__(self, estimator: Predictor, frame: polars.DataFrame, q: float) -> None:
        self.frame, self.q, self.target = frame, q, estimator.target
        self.actual = target_of(frame, estimator.target) * ms_per_unit(estimator.target)
        features = list(dict.fromkeys([*estimator.features, *estimator.categorical]))
        group = [name for name in estimator.group if name in frame.columns]
        self.labels, self.label_columns = repeat_labels(frame, features, group)
        self.different = len(np.unique(row_labels([frame[f].to_numpy() for f in features], len(frame))))
        self.visits = visits_of(frame)
        self.noise = noise_variance(self.actual, self.labels, self.visits)
        self.by = grouping(frame, features, estimator.categorical, group)
        numbers = {name for name in self.by if frame[name].dtype.is_numeric()}  # a bare 8 says nothing
        texts = [
            [f"{name} {text}" if name in numbers else text for text in frame[name].cast(str).fill_null("null")]
            for name in self.by
        ]
        self.groups = np.array([", ".join(row) for row in zip(*texts, strict=True)] or [""] * len(frame), dtype=object)
        self.numeric = [name for name in features if frame[name].dtype.is_numeric()]
        self.parts: list[_Part] = []

    def add(self, kind: str, detail: str, train_rows: int, rows: npt.NDArray[np.int64], fitted: Predictor) -> None:
        if len(rows) == 0:
            return
        asked, fitted = self.frame[rows], in_ms(fitted)
        median, bound = fitted.predict(asked), fitted.quantile(asked, self.q)
        where = np.array([one.where for one in fitted.support(asked)], dtype=object)
        self.parts.append(_Part(kind, detail, train_rows, rows, median, bound, where))

    def result(self, source: str) -> Evaluation:
        kinds = list(dict.fromkeys(part.kind for part in self.parts))
        notes = []
        if self.noise is None:
            notes.append("no two rows are alike, so the share of noise in the variance is unknown")
        scores = [self._scores(kind) for kind in kinds]
        return Evaluation(
            source=source,
            target=self.target,
            q=self.q,
            rows=len(self.frame),
            configurations=self.different,
            different_rows=self.different,
            grouped_by=self.by,
            ceiling=ceiling(self.actual, self.labels, visits=self.visits),
            ceiling_of=self.label_columns,
            splits=scores,
            points=self._points(),
            weakest=weak_part(scores, self.q),
            notes=notes,
        )

    def _scores(self, kind: str) -> SplitScores:
        parts = [part for part in self.parts if part.kind == kind]
        figures: dict[str, list[float]] = {name: [] for name in METRICS}
        reachable: list[float] = []
        for part in parts:
            actual = self.actual[part.rows]
            scores = msgspec.structs.asdict(point_scores(actual, part.median))
            scores |= msgspec.structs.asdict(bound_scores(actual, part.bound, self.q))
            for name in METRICS:
                if scores[name] is not None:
                    figures[name].append(scores[name])
            if self.noise is not None:
                best = reachable_r2(actual, self.labels[part.rows], self.noise_of(part.rows))
                reachable += [] if best is None else [best]
        rows = np.concatenate([part.rows for part in parts])
        where = np.concatenate([part.where for part in parts])
        return SplitScores(
            kind=kind,
            details=[part.detail for part in parts],
            train_rows=parts[0].train_rows,
            test_rows=len(parts[0].rows),
            held_rows=len(rows),
            metrics={name: spread(values) for name, values in figures.items() if values},
            reachable_r2=spread(reachable) if reachable else None,
            abstained=float(np.mean(np.concatenate([~np.isfinite(part.bound) for part in parts]))),
            support={str(word): int((where == word).sum()) for word in ("inside", "near", "outside")},
            groups=self._by_group(parts, rows) if self.by else [],
        )

    def noise_of(self, rows: npt.NDArray[np.int64]) -> float:
        """The noise of these rows; of the whole table where none of them repeats."""
        own = noise_variance(self.actual[rows], self.labels[rows], None if self.visits is None else self.visits[rows])
        assert self.noise is not None
        return self.noise if own is None else own

    def _by_group(self, parts: Sequence[_Part], rows: npt.NDArray[np.int64]) -> list[GroupScores]:
        actual, groups = self.actual[rows], self.groups[rows]
        median = np.concatenate([part.median for part in parts])
        bound = np.concatenate([part.bound for part in parts])
        by_group = []
        for name in sorted(set(groups)):
            own = groups == name
            bounds = bound_scores(actual[own], bound[own], self.q)
            by_group.append(
                GroupScores(
                    group=str(name),
                    rows=int(own.sum()),
                    mape=point_scores(actual[own], median[own]).mape,
                    coverage=bounds.coverage,
                    width=bounds.width,
                    abstained=bounds.abstained,
                )
            )
        return by_group

    def _points(self) -> Points:
        share = max(1, len({part.kind for part in self.parts}))
        taken: list[tuple[_Part, npt.NDArray[np.int64]]] = []
        for kind in dict.fromkeys(part.kind for part in self.parts):
            of_kind = [part for part in self.parts if part.kind == kind]
            each = max(1, POINTS_KEPT // share // len(of_kind))
            taken += [(part, _evenly(len(part.rows), each)) for part in of_kind]
        rows = np.concatenate([part.rows[some] for part, some in taken])
        bound = np.concatenate([part.bound[some] for part, some in taken])
        return Points(
            kind=[part.kind for part, some in taken for _ in some],
            group=[str(name) for name in self.groups[rows]],
            support=[str(word) for part, some in taken for word in part.where[some]],
            actual_ms=self.actual[rows].tolist(),
            median_ms=np.concatenate([part.median[some] for part, some in taken]).tolist(),
            bound_ms=[float(b) if np.isfinite(b) else None for b in bound],
            features={f: self.frame[f].cast(float).to_numpy()[rows].tolist() for f in self.numeric},
        )


class _Part(msgspec.Struct, frozen=True):
    kind: str
    detail: str
    train_rows: int
    rows: npt.NDArray[np.int64]
    median: Floats
    bound: Floats
    where: npt.NDArray[Any]


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation (0 for one value), smallest and largest."""
    array = np.asarray(values, dtype=np.float64)
    sd = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Spread(float(array.mean()), sd, float(array.min()), float(array.max()), len(array))


def _evenly(of: int, most: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, of - 1, min(of, most)).round().astype(np.int64))
