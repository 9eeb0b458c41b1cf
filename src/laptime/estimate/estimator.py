"""Predict a time from a configuration, with bounds that hold: fit on a table, ask about rows that were never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.basis import bases
from laptime.estimate.files import estimator_folder, load_estimator, save_estimator
from laptime.estimate.judge.evaluation import evaluate
from laptime.estimate.judge.evaluation_result import Evaluation
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.learn.conformal import CalibratedRegressor, check_level
from laptime.estimate.learn.domain import NEAR, only_column, unseen_levels
from laptime.estimate.learn.fitting import FitSettings, Fitted, fit_table, one_thread
from laptime.estimate.learn.folds import Question
from laptime.estimate.learn.growth import reach
from laptime.estimate.learn.named_numbers import unmeasured
from laptime.estimate.outside import outside_reasons
from laptime.estimate.roofline.work import Work
from laptime.estimate.table.row_marks import row_marks, share_seen
from laptime.estimate.table.table import UNSEEN, Encoded, as_polars, encode, group_codes, other_constants
from laptime.estimate.unpromised import unpromised_reasons


class Support(msgspec.Struct, frozen=True):
    """How the training table supports one row.

    `where` is "inside", "near" (up to a quarter beyond the sizes) or "outside". `question` says which held-out rows its
    bound was calibrated on: other configurations ("inside"), the largest sizes ("beyond"), held-out groups ("group",
    "sibling") or levels ("level"), or none ("unknown": no bound is given). `group` is the row's own group where it was
    seen in training, else None.
    """

    where: str
    question: Question
    distance: float
    group: str | None


class Estimator:
    """A latency estimator of one target column.

        est = laptime.Estimator(target="tpot_ms", features=["batch", "context"], categorical=["gpu"]).fit(frame)
        est.predict(frame), est.quantile(frame, 0.95), est.probability_within(frame, 40.0)

    Times are in the target's own unit. `group` names columns whose rows belong together (a configuration, a model, a
    GPU): they are held out together, and an unseen one gets the bounds of groups that were held out. `work` says which
    work to compute of a row (laptime.estimate.roofline.work): it is used where that helped on held-out rows. Frames
    are polars or pandas, or paths; results are numpy arrays of the frame's length. The same seed and table give the
    same results.
    """

    def __init__(
        self,
        *,
        target: str,
        features: Sequence[str] = (),
        categorical: Sequence[str] = (),
        group: Sequence[str] = (),
        work: Work | None = None,
        seed: int = 0,
    ) -> None:
        self.target = target
        self.features = list(features)
        self.categorical = list(categorical)
        self.group = list(group)
        self.work = work
        self.seed = seed
        self._fitted: Fitted | None = None

    def fit(self, frame: Any, *, threads: int = 0, notes: Sequence[str] = ()) -> Estimator:
        """Choose, fit and calibrate on a table; returns itself.

        threads: 0 for as many as help. notes: what the card is to say of the table, before its own notes.

        Raises LaptimeError for a table that can't be learnt from: missing columns, text, missing or non-positive
        targets, constant features only, fewer than 20 rows, one group only, seconds beside milliseconds.
        """
        with one_thread():
            self._fitted = fit_table(as_polars(frame), self._settings(), threads=threads, before=notes)
        return self

    @property
    def card(self) -> ModelCard:
        """What the estimator learnt from, and every candidate's score."""
        return self.fitted.card

    @property
    def constants(self) -> dict[str, str]:
        """What had one value only in training, as text: nothing is known of any other."""
        return self.fitted.schema.constants

    @property
    def positive(self) -> dict[str, bool]:
        """Numeric features that were never negative in training; True: never 0 either. No other value is a size."""
        fitted = self.fitted
        kinds = zip(fitted.schema.numeric, fitted.domain.kinds, strict=False)  # what is computed of a row comes after
        return {name: kind == "log" for name, kind in kinds if kind != "plain"}

    @property
    def fitted(self) -> Fitted:
        """The parts that predictions are made of. Raises LaptimeError before `fit`."""
        if self._fitted is None:
            raise LaptimeError("this estimator is not fitted yet; call fit(table) or Estimator.load(folder)")
        return self._fitted

    def predict(self, frame: Any) -> Floats:
        """The median time of each row, (n,)."""
        asked = self._ask(frame)
        return np.exp(asked.log_ms)

    def quantile(self, frame: Any, q: float | Sequence[float]) -> Floats:
        """An upper bound that holds with probability q: (n,) for one level, (n, levels) for several.

        Infinite where nothing can be promised: a level above n / (n + 1) of the n held-out residuals, or an unseen
        level of a column none of whose levels could be held out.
        """
        levels = np.atleast_1d(np.asarray(q, dtype=np.float64))
        check_level(levels)
        asked = self._ask(frame)
        log_bounds = np.empty((len(asked.log_ms), len(levels)))
        for calibrated, rows in asked.calibrated_rows:
            log_bounds[rows] = calibrated.log_bounds(
                asked.log_ms[rows], asked.distances[rows], levels, asked.above[rows], asked.local[rows]
            )
        bounds: Floats = np.exp(log_bounds)
        return bounds[:, 0] if np.ndim(q) == 0 else bounds

    def probability_within(self, frame: Any, budget_ms: float | npt.ArrayLike) -> Floats:
        """P(time <= budget) of each row, (n,); `budget_ms` is one number or one per row, in the target's unit."""
        asked = self._ask(frame)
        budget = np.broadcast_to(np.asarray(budget_ms, dtype=np.float64), asked.log_ms.shape)
        if not (budget > 0).all():
            raise LaptimeError("a budget is above 0")
        log_budget = np.log(budget)
        share = np.empty(len(log_budget))
        for calibrated, rows in asked.calibrated_rows:
            share[rows] = calibrated.within(
                asked.log_ms[rows], asked.distances[rows], log_budget[rows], asked.above[rows], asked.local[rows]
            )
        return share

    def support(self, frame: Any) -> list[Support]:
        """How the training table supports each row."""
        asked = self._ask(frame, only_support=True)
        return [
            Support(_where(question, distance), question, float(distance), group)
            for question, distance, group in zip(asked.questions, asked.distances, asked.groups, strict=True)
        ]

    def unpromised(self, frame: Any) -> list[str | None]:
        """For each row why no bound rests on anything that was checked, else None.

        `quantile` answers such rows too, from what times did nearest to them.
        """
        asked = self._ask(frame, only_support=True)
        return unpromised_reasons(self.fitted, as_polars(frame), asked.rows, asked.questions)

    def bases(self, frame: Any) -> list[str | None]:
        """For each row of a new group or level which ones were held out to check its bound, else None."""
        asked = self._ask(frame, only_support=True)
        return bases(self.fitted, as_polars(frame), asked.rows, asked.questions)

    def outside(self, frame: Any) -> list[str | None]:
        """For each row what of it lies outside the training table, with what was measured; else None."""
        asked = self._ask(frame, only_support=True)
        return outside_reasons(self.fitted, as_polars(frame), asked.rows, asked.questions)

    def share_seen(self, frame: Any) -> float | None:
        """The share of a table's rows that it was fitted on, by features and time; None where that isn't known."""
        table = as_polars(frame)
        if self.target not in table.columns:
            return None
        table = table.filter(pl.col(self.target).is_not_null())
        schema = self.fitted.schema
        times = table[self.target].cast(pl.Float64).to_numpy()
        return share_seen(row_marks(encode(table, schema), times), self.fitted.marks)

    def evaluate(self, frame: Any) -> Evaluation:
        """Errors, bounds and their coverage on a table that has the target."""
        return evaluate(self, as_polars(frame))

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write estimator.json, residuals.parquet and one LightGBM text for each regressor with trees.

        The folder is written whole or not at all: after an error or a kill it is what it was before.
        Raises LaptimeError when an estimator is there and `force` isn't given, when the folder holds anything else, or
        when it can't be written.
        """
        self.fitted  # noqa: B018  raises before anything is written
        with estimator_folder(Path(folder), force=force) as new:
            self.write_files(new)

    def write_files(self, folder: Path) -> None:
        """Write the estimator's files into a folder that is there. Raises OSError."""
        save_estimator(self.fitted, self._settings(), folder)

    @classmethod
    def load(cls, folder: str | Path) -> Estimator:
        """Read what `save` wrote. Raises LaptimeError for a folder that is damaged, foreign or from a newer laptime."""
        settings, fitted = load_estimator(Path(folder))
        estimator = cls(
            target=settings.target,
            features=settings.features,
            categorical=settings.categorical,
            group=settings.group,
            work=settings.work,
            seed=settings.seed,
        )
        estimator._fitted = fitted
        return estimator

    def _settings(self) -> FitSettings:
        return FitSettings(
            target=self.target,
            features=self.features,
            categorical=self.categorical,
            group=self.group,
            work=self.work,
            seed=self.seed,
        )

    def _ask(self, frame: Any, *, only_support: bool = False) -> _Asked:
        fitted = self.fitted
        table = as_polars(frame)
        rows = encode(table, fitted.schema)
        distances = fitted.domain.distances(rows.numeric, rows.codes)
        names_needed = only_support or fitted.groups_are_few
        groups: list[str | None] = _group_names(table, fitted) if names_needed else [None] * len(rows)
        between = unmeasured(fitted.named, rows.numeric)
        levels = unseen_levels(rows) | between.any(axis=1)
        unknown = other_constants(table, fitted.schema)
        strange, siblings = _unseen_groups(rows, groups, table, fitted)
        questions: list[Question] = np.select(
            [unknown, levels, strange, distances > 0, siblings],
            ["unknown", "level", "group", "beyond", "sibling"],
            default="inside",
        ).tolist()
        log_ms, above, local = np.empty(len(rows)), np.zeros(len(rows)), np.ones(len(rows))
        around = fitted.by_question["inside"].around
        calibrated_rows = []
        kinds = np.array(questions, dtype=object)
        for question, calibrated in fitted.by_question.items():
            places = np.flatnonzero(kinds == question)
            labels = np.array(groups, dtype=object)
            if question == "level":
                new = np.column_stack([between[places], rows.codes[places] == UNSEEN])
                labels[places] = only_column(new, fitted.schema.features)
            if len(places) and not only_support:
                some = rows.take(places)
                if calibrated.growth is None:
                    log_ms[places] = calibrated.regressor.log_ms(some)
                    if calibrated.around is not None:
                        local[places] = calibrated.around.at(some)
                else:
                    near = fitted.by_question["inside"].regressor
                    found = reach(calibrated.growth, fitted.domain, near, calibrated.regressor, some)
                    log_ms[places], above[places] = found.log_ms, found.above
                    labels[places] = only_column(found.larger_by > 0, fitted.schema.numeric)
                    if around is not None:  # what is not known at the edge is not known beyond it
                        largest = np.maximum(around.at(found.nearest), around.at(some))
                        local[places] = np.where(np.isinf(largest), np.inf, 1.0)
            for name in calibrated.groups if not only_support else ():
                own = labels[places] == name
                if own.any():
                    calibrated_rows.append((calibrated.of_group(name), places[own]))
                    places = places[~own]
            if len(places):
                calibrated_rows.append((calibrated, places))
        return _Asked(rows, log_ms, above, local, distances, questions, groups, calibrated_rows)


class _Asked(msgspec.Struct, frozen=True):
    rows: Encoded
    log_ms: Floats
    above: Floats
    """How far above its prediction (in logarithms) a row's bound starts, before what was held out adds to it."""
    local: Floats
    """How large residuals are around a row, over the usual; infinite where that is too large for any bound."""
    distances: Floats
    questions: list[Question]
    groups: list[str | None]
    calibrated_rows: list[tuple[CalibratedRegressor, npt.NDArray[np.intp]]]


def _where(question: Question, distance: float) -> str:
    if question == "inside":
        return "inside"
    return "near" if question == "beyond" and distance <= NEAR else "outside"


def _group_names(table: pl.DataFrame, fitted: Fitted) -> list[str | None]:
    columns = fitted.schema.group
    if not columns or not set(columns) <= set(table.columns):
        return [None] * len(table)
    codes, names = group_codes(table, columns)
    known = set(fitted.group_names)
    kept = [name if name in known else None for name in names]
    return [kept[code] for code in codes]


def _unseen_groups(
    rows: Encoded, groups: list[str | None], table: pl.DataFrame, fitted: Fitted
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows of unseen groups of an unseen kind, and of unseen groups of a kind that is known."""
    none = np.zeros(len(rows), dtype=np.bool_)
    if not fitted.groups_are_few or not fitted.has_columns(table):
        return none, none
    unseen = np.array([name is None for name in groups], dtype=np.bool_)
    if not fitted.known.columns:
        return unseen, none
    seen = {tuple(values) for values in fitted.known.values}
    facts = rows.numeric[:, fitted.known.columns]
    known = np.array([tuple(row) in seen for row in facts.tolist()], dtype=np.bool_)
    return unseen & ~known, unseen & known
