"""From a table to the parts of an estimator: encode, check, hold out, compare, choose, calibrate, fit.

All of it runs with one BLAS thread for each worker: matrices of some hundred rows are too small to share. Two workers
that each ask a pool of two threads for every factorisation wait for each other, and a fit takes nearly twice as long.
Without threadpoolctl it does, with the same result to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import numpy as np
import polars as pl

from laptime import __version__
from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError
from laptime.estimate.learn.beyond import USUAL, Refit, TrainedRows, beyond_by_growth
from laptime.estimate.learn.card import ChosenRegressor, ModelCard, Range, chosen_regressor
from laptime.estimate.learn.configurations import collapse, rows_of
from laptime.estimate.learn.conformal import (
    MOST_BEYOND,
    MOST_WIDENING,
    CalibratedRegressor,
    calibrate,
)
from laptime.estimate.learn.domain import NEAR, Domain, domain_of
from laptime.estimate.learn.folds import (
    CALIBRATION_FOLDS,
    COMPARING_FOLDS,
    FEW_GROUPS,
    QUESTIONS,
    SELECTION_ROWS,
    Fold,
    Grouping,
    Question,
    farthest,
    make_folds,
)
from laptime.estimate.learn.known_groups import Known, known_of_groups
from laptime.estimate.learn.named_numbers import NamedNumbers, named_numbers, value_folds
from laptime.estimate.learn.regressors import Candidate, fit_regressor
from laptime.estimate.learn.selection import compare_candidates, cross_fit
from laptime.estimate.learn.surroundings import surroundings_of
from laptime.estimate.roofline.work import Work
from laptime.estimate.table.mixed_units import check_stage_units, check_unit
from laptime.estimate.table.row_marks import kept_marks, row_marks
from laptime.estimate.table.table import (
    Schema,
    check_groups,
    check_rows,
    encode,
    group_codes,
    make_schema,
    target_values,
    varying,
)

ACROSS: dict[Question, str] = {"inside": "rows", "beyond": "directions", "group": "groups", "level": "levels"}
"""What a new row of a question is to the folds that were held out for it."""
TOKENS = "output_tokens"
NAMED = (
    "times don't follow the numbers of {}: with one left out, the others don't tell its times. A value in between that "
    "was not measured is asked as a name that was never seen"
)
UNTOLD = (
    "times rise and fall with the numbers of {}, and there are too few rows to leave one out. A value in between that "
    "was not measured is asked as a name that was never seen"
)
UNCHECKED = "beyond the measured sizes bounds are wider, but this table has too few sizes to check them"


class FitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which columns an estimator is fitted on, and how."""

    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]
    work: Work | None = None
    seed: int = 0


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """An estimator's parts, as they are saved."""

    schema: Schema
    domain: Domain
    group_names: list[str]
    known: Known
    by_question: dict[Question, CalibratedRegressor]
    card: ModelCard
    marks: list[int] = []
    """Of some of the rows it was fitted on (laptime.estimate.table.row_marks)."""
    named: list[NamedNumbers] = []
    """Numeric columns whose values are names: one between them that was not measured is a level never seen."""

    @property
    def groups_are_few(self) -> bool:
        """Whether an unseen group is a question of its own (a model, a GPU), not just another configuration."""
        return 1 < len(self.group_names) < FEW_GROUPS

    def has_columns(self, table: pl.DataFrame) -> bool:
        """Whether a table says which group its rows are in."""
        return bool(self.schema.group) and set(self.schema.group) <= set(table.columns)


def fit_table(frame: pl.DataFrame, settings: FitSettings, *, threads: int = 0, before: Sequence[str] = ()) -> Fitted:
    """Everything that `Estimator.fit` does. before: notes of the table. Raises LaptimeError as `Estimator.fit` says."""
    target, group, seed = settings.target, settings.group, settings.seed
    schema = make_schema(
        frame,
        target=target,
        features=settings.features,
        categorical=settings.categorical,
        group=group,
        work=settings.work,
    )
    check_rows(len(frame))
    check_stage_units(frame)
    times = target_values(frame, target)
    schema, notes = varying(schema, encode(frame, schema), frame)
    rows = encode(frame, schema)
    groups, group_names = group_codes(frame, group) if group else (np.zeros(len(frame), dtype=np.int64), [])
    check_groups(group_names, group)
    configuration, training, group_of, units = collapse(rows, np.log(times), groups)
    check_unit(times, configuration, target)
    workers = threads or 2
    known, kinds = known_of_groups(rows, groups)
    levels = [schema.levels[name] for name in schema.categorical]
    is_level = len(group) == 1 and group[0] in schema.categorical
    grouping = Grouping(group_of, units, kinds[group_of], group_names, levels, is_level)
    names = schema.features
    sample = _sample(len(training), seed)
    few, many = CALIBRATION_FOLDS
    folds = make_folds(training, names, grouping, inside=few if sample is None else many, seed=seed)
    some = training if sample is None else training.take(sample)
    some_grouping = grouping if sample is None else grouping.take(sample)
    some_folds = make_folds(some, names, some_grouping, inside=COMPARING_FOLDS, seed=seed)
    scores, parameters = compare_candidates(some, some_folds, seed=seed, workers=workers)
    by_question: dict[Question, CalibratedRegressor] = {}
    choices: list[ChosenRegressor] = []
    usual = np.empty(0)
    """Residuals inside, all of one scale."""
    named: list[NamedNumbers] = []
    by_growth = rows.numeric.shape[1] > 0 and not rows.work.shape[1]
    """Whether rows beyond are predicted from the nearest inside. Where the work of a call is known, it says more."""
    for question in QUESTIONS:
        own_folds = [fold for fold in folds if fold.question == question]
        best = next((s for s in scores if s.question == question and s.chosen), None)
        if question == "level" and "inside" in by_question:
            near = next(s for s in scores if s.question == "inside" and s.chosen)

            def left_out(folds: Sequence[Fold], kind: Candidate = near.candidate) -> list[Floats]:
                out = cross_fit(training, folds, kind, seed=seed, parameters=parameters, workers=workers)
                return [(training.log_ms[out.configurations] - out.log_ms)[out.folds == i] for i in range(len(folds))]

            named = named_numbers(training, names, by_question["inside"].regressor, usual, left_out)
            own_folds += value_folds(training, named, names)
            tested = {fold.column for fold in own_folds}
            notes += [(NAMED if names[one.column] in tested else UNTOLD).format(names[one.column]) for one in named]
            if named and not own_folds:
                by_question["level"] = CalibratedRegressor(by_question["inside"].regressor, np.empty(0), NEAR)
            best = best or msgspec.structs.replace(near, question="level")
        if best is None or not own_folds:
            continue
        if question == "beyond" and by_growth:
            continue
        held = cross_fit(training, own_folds, best.candidate, seed=seed, parameters=parameters, workers=workers)
        regressor = fit_regressor(training, best.candidate, seed=seed, threads=threads, parameters=parameters).settled()
        measured, place = rows_of(held.configurations, configuration)
        ratios = np.log(times)[measured] - held.log_ms[place]
        by_group = question == "inside" and 1 < len(group_names) < FEW_GROUPS
        names_of = [group_names[code] for code in groups[measured]] if by_group else []
        if question == "level":
            names_of = [str(own_folds[fold].column) for fold in held.folds[place]]
        looked = None
        if question == "inside":
            held_rows = training.rows.take(held.configurations).take(place)
            looked = surroundings_of(held_rows, ratios, held.folds[place], seed=seed)
        scaled = ratios if looked is None else ratios / looked.local
        by_question[question] = calibrate(
            regressor, scaled, held.distances[place], names_of, held.folds[place], ACROSS[question]
        )
        if question in ("group", "level"):
            by_question[question] = msgspec.structs.replace(
                by_question[question],
                checked=float(held.distances.max()),
                checked_of={
                    name: farthest(held.distances, held.folds, own_folds, name) for name in by_question[question].groups
                },
            )
        if question == "inside":
            usual = np.sort(ratios / (by_question[question].scale(held.distances[place])))
        if looked is not None:
            by_question[question] = msgspec.structs.replace(by_question[question], around=looked.surroundings)
        if question == "group":
            notes.append(_promise("group", len(own_folds), len(by_question[question].residuals) > 0))
        if question == "level":
            columns = {*schema.categorical, *(names[one.column] for one in named)}
            if set(by_question["level"].groups) != columns:  # new in several columns: none
                by_question["level"] = msgspec.structs.replace(by_question["level"], residuals=np.empty(0))
            for column in dict.fromkeys(str(fold.column) for fold in own_folds):
                held_levels = sum(fold.column == column for fold in own_folds)
                notes.append(_promise(f"value of {column}", held_levels, column in by_question["level"].groups))
        choices.append(chosen_regressor(best, ratios, own_folds, by_question[question], schema.sizes))
    if "inside" not in by_question:
        raise LaptimeError(
            f"{len(training)} different configurations are too few to hold any out; measure more of them"
        )
    if by_growth:
        table = TrainedRows(training, sample, configuration, np.log(times), schema)
        beyond, choice = beyond_by_growth(table, Refit(seed, threads, workers, parameters), scores, usual)
        if choice is None:
            notes.append(UNCHECKED)
        else:
            choices.append(choice)
        by_question["beyond"] = beyond
    if not any(one.regressor.needs_work for one in by_question.values()):
        schema = msgspec.structs.replace(schema, work=None)
    few_groups = 1 < len(group_names) < FEW_GROUPS
    told = {fold.column for fold in folds}
    names_of_new = [name for name in [*schema.categorical, *(group if few_groups else [])] if name not in told]
    notes += _fill_questions(by_question, usual, names_of_new)
    card = ModelCard(
        target=target,
        features=names,
        categorical=schema.categorical,
        group=group,
        rows=len(frame),
        configurations=len(training),
        groups=len(group_names),
        seed=seed,
        laptime=__version__,
        ranges=[
            Range(feature=name, low=float(c.min()), high=float(c.max()), distinct=len(np.unique(c)))
            for name, c in zip(schema.numeric, rows.numeric.T, strict=True)
        ],
        levels=schema.levels,
        choices=choices,
        scores=scores,
        notes=[*before, *notes],
        output_tokens=_answer_lengths(frame),
    )
    return Fitted(
        schema=schema,
        domain=domain_of(rows),
        group_names=group_names,
        known=known,
        by_question=by_question,
        card=card,
        marks=kept_marks(row_marks(rows, times)),
        named=named,
    )


def _answer_lengths(frame: pl.DataFrame) -> Range | None:
    """The lengths of a run's answers, whether they are a feature or not."""
    if TOKENS not in frame.columns or not frame[TOKENS].dtype.is_numeric():
        return None
    counts = frame[TOKENS].cast(pl.Float64).drop_nulls().drop_nans().unique().to_numpy()
    if not len(counts) or not np.isfinite(counts).all() or counts.min() < 1:
        return None
    return Range(feature=TOKENS, low=float(counts.min()), high=float(counts.max()), distinct=len(counts))


def _fill_questions(by_question: dict[Question, CalibratedRegressor], floor: Floats, names: Sequence[str]) -> list[str]:
    """Fill the questions for which no row could be held out, and return notes that say so.

    Sizes beyond the table get wider bounds, unseen levels none. floor: residuals inside, of one scale. names: the
    columns that can have unseen levels and have no note yet.
    """
    notes = []
    inside = by_question["inside"]
    if "beyond" not in by_question:
        by_question["beyond"] = CalibratedRegressor(inside.regressor, floor, NEAR)
        notes.append(UNCHECKED)
    if "group" not in by_question:
        by_question["group"] = CalibratedRegressor(by_question["beyond"].regressor, np.empty(0), NEAR)
    group = by_question["group"]
    by_question["sibling"] = CalibratedRegressor(inside.regressor, group.residuals, group.spread, checked=group.checked)
    if "level" not in by_question:
        by_question["level"] = group
    by_question["unknown"] = CalibratedRegressor(by_question["level"].regressor, np.empty(0), NEAR)
    if names and not len(by_question["level"].residuals):
        notes.append(
            f"a value of {' or '.join(dict.fromkeys(names))} that is not in this table gets no bound: "
            "too few values were measured to check one"
        )
    usual = float(np.quantile(floor, USUAL))
    for question in QUESTIONS:
        if question != "inside":
            widest = MOST_WIDENING if by_question[question].growth is None else MOST_BEYOND
            by_question[question] = msgspec.structs.replace(
                by_question[question], floor=floor, most=max(usual, 0.0) + widest
            )
    return notes


def _promise(new: str, held: int, given: bool) -> str:
    """What can be said of a group or a column's value that was not seen, after leaving out this many."""
    what = f"a {new} that was not seen"
    if not given:
        return f"{what} gets no bound: {held} held-out one{'s' * (held > 1)} say too little of a further one"
    return (
        f"{what} is bounded by what {held} held-out ones show, taken as normally distributed, and gets no bound where "
        f"they differ too much. Without that assumption {held} could promise {100 * held / (held + 1):.0f} % at most"
    )


def _sample(count: int, seed: int) -> Ints | None:
    if count <= SELECTION_ROWS:
        return None
    return np.sort(np.random.default_rng(seed).permutation(count)[:SELECTION_ROWS]).astype(np.int64)


def one_thread() -> AbstractContextManager[Any]:
    """While this is entered BLAS uses one thread in this process; afterwards as many as before."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
