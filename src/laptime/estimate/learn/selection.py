"""Which regressor for which question: judged on held-out rows of the same kind, never on training error.

Six questions are asked of a table, and a regressor that is best at one can be useless at another (trees: 1 % between
the training sizes, 50 % beyond them). So inside, beyond, group and level each have their own folds, their own winner
and their own residuals:

- inside: configurations that were not measured, among those that were. Folds hold out whole groups.
- beyond: larger than anything measured. Folds hold out the largest fifth by a size column, and by their product.
- group: a group (a model, a GPU) that was never seen, of a kind that was never seen. Folds hold out one kind each.
- sibling: a group that was never seen, of a kind that was: a second model of the same shape, for instance. It is
  predicted as inside and bounded as group.
- level: a value of a categorical column that was never seen. Folds hold out one each.
- unknown: a feature that had a single value in training has another one. Nothing can be held out: no bound is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.domain import domain_of
from laptime.estimate.learn.process import Parameters, choose_parameters
from laptime.estimate.learn.regressors import (
    POWERS,
    Candidate,
    Roof,
    Shared,
    Training,
    described,
    fit_regressor,
    neighbours,
    plain_candidates,
    simple_candidates,
)
from laptime.estimate.learn.terms import BASES, Basis, TermSet, fit_terms, screen_terms
from laptime.estimate.table.table import UNSEEN, Encoded

Question = Literal["inside", "beyond", "sibling", "group", "level", "unknown"]
QUESTIONS: tuple[Question, ...] = ("inside", "beyond", "sibling", "group", "level", "unknown")

FEW_GROUPS = 20
"""From this many groups on a group is a configuration, and an unseen one is nothing special."""
COMPARING_FOLDS = 5
CALIBRATION_FOLDS = (10, 5)
"""Of configurations, for tables of up to SELECTION_ROWS and above. A fold's regressor has less to learn from than the
final one, so its residuals are a little too large: the smaller the table, the more folds."""
MOST_BEYOND = 5
FEWEST_SIZES = 3
MOST_NEW = 8
FEWEST_FOLDS = 3
"""Held-out groups or levels from which a spread between them can be told."""
LARGEST_SHARE = 0.2
MOST_HELD = 0.45
FEWEST_LEFT = 15
SELECTION_ROWS = 1200
"""Configurations that candidates are compared on; the winners' residuals come from all of them."""

REFINEMENTS = 1
MIDDLE_POWER = 0.5

Mask = npt.NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")


class Fold(msgspec.Struct, frozen=True):
    """Configurations held out together, and why."""

    question: Question
    what: str
    held: Mask
    kept: Mask | None = None
    """What is fitted on; None: all that isn't held out."""
    column: str | None = None
    """Whose level is held out; of a step to larger sizes, the size or the product that is cut."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate on one question: `overall` of its folds' mean |log ratio| (0.02: about 2 %)."""

    question: Question
    candidate: Candidate
    name: str
    error: float
    folds: list[float]
    chosen: bool = False


class Grouping(msgspec.Struct, frozen=True):
    """Which configurations belong together: `groups` as the user named them, `units` of equal features."""

    groups: Ints
    units: Ints
    kinds: Ints
    """Groups of which the same is known share a kind: two models of one shape, two GPUs of one rate."""
    names: list[str]
    """The groups' names."""
    levels: list[list[str]]
    """The levels' names, of each categorical column."""

    def take(self, which: Ints) -> Grouping:
        """Of these configurations."""
        return Grouping(self.groups[which], self.units[which], self.kinds[which], self.names, self.levels)

    def names_of_kind(self, kind: int) -> str:
        """The groups of a kind."""
        codes = np.unique(self.groups[self.kinds == kind]).tolist()
        return " with ".join(self.names[code] for code in codes) or f"kind of group {kind}"


def make_folds(training: Training, names: Sequence[str], grouping: Grouping, *, inside: int, seed: int) -> list[Fold]:
    """All folds of all questions that the table has room for: `inside` of that one; `names` are the features'."""
    rng = np.random.default_rng(seed)
    few = len(np.unique(grouping.groups)) < FEW_GROUPS
    return [
        *_inside_folds(grouping.units if few else grouping.groups, inside, rng),
        *_beyond_folds(training, names),
        *(_left_out("group", grouping.names_of_kind, grouping.kinds, MOST_NEW, rng) if few else ()),
        *_level_folds(training, names, grouping.levels, rng),
    ]


def _inside_folds(units: Ints, folds: int, rng: np.random.Generator) -> Iterable[Fold]:
    names = rng.permutation(np.unique(units))
    for number in range(min(folds, len(names))):
        yield Fold("inside", f"fold {number + 1}", np.isin(units, names[number::folds]))


def growing(training: Training, names: Sequence[str]) -> list[tuple[str, Floats]]:
    """The directions in which rows are beyond: each size column (widest first), and the product of all of them.

    A column with zeros (no prompt in a step that only decodes) is a size too; in a product it counts plus one.
    """
    numeric = training.rows.numeric
    sizes = [
        i
        for i, column in enumerate(numeric.T)
        if column.min() >= 0 and len(np.unique(column)) >= FEWEST_SIZES and not described(training.rows, i)
    ]
    logs = {i: np.log(numeric[:, i]) if numeric[:, i].min() > 0 else np.log1p(numeric[:, i]) for i in sizes}
    sizes.sort(key=lambda i: -float(np.ptp(logs[i])))
    orders = [(names[i], numeric[:, i]) for i in sizes[: MOST_BEYOND - 1]]
    if len(sizes) > 1:
        orders.append((" x ".join(names[i] for i in sizes), np.exp(sum(logs[i] for i in sizes))))
    return orders


def _beyond_folds(training: Training, names: Sequence[str]) -> Iterable[Fold]:
    """Hold out the largest fifth of the values in each direction.

    Of the values, not of the rows: in a sweep of one size at a time most rows have the smallest of the others.
    """
    for name, order in growing(training, names):
        values = np.unique(order)
        kept = min(int(np.ceil(len(values) * (1 - LARGEST_SHARE))), len(values) - 1)
        held = order > values[kept - 1]
        if held.mean() <= MOST_HELD and (~held).sum() >= FEWEST_LEFT:
            yield Fold("beyond", f"largest {name}", held)


def _left_out(
    question: Question, name: Callable[[int], str], of: Ints, most: int, rng: np.random.Generator
) -> Iterable[Fold]:
    """Hold out each value (at most `most` of them, drawn at random) where enough configurations are left."""
    values = np.unique(of)
    if len(values) < 2:
        return
    for value in rng.permutation(values)[:most]:
        if (of != value).sum() >= FEWEST_LEFT:
            yield Fold(question, name(int(value)), of == value)


def _level_folds(
    training: Training, names: Sequence[str], levels: Sequence[Sequence[str]], rng: np.random.Generator
) -> Iterable[Fold]:
    codes, count = training.rows.codes, training.rows.numeric.shape[1]
    most = max(MOST_NEW // max(1, codes.shape[1]) + 1, FEWEST_FOLDS)
    for column in range(codes.shape[1]):
        known = [f"{names[count + column]} {level}" for level in levels[column]]
        for fold in _left_out("level", known.__getitem__, codes[:, column], most, rng):
            yield msgspec.structs.replace(fold, column=names[count + column])


def split(training: Training, fold: Fold) -> tuple[Training, Encoded]:
    """What a fold is fitted on, and its held-out rows with the levels that this part did not see marked so."""
    kept = training.take(~fold.held if fold.kept is None else fold.kept)
    held = training.rows.take(fold.held)
    codes = held.codes.copy()
    for column in range(codes.shape[1]):
        codes[~np.isin(codes[:, column], kept.rows.codes[:, column]), column] = UNSEEN
    return kept, Encoded(held.numeric, codes, held.work)


def compare_candidates(
    training: Training, folds: Sequence[Fold], *, seed: int, workers: int = 1
) -> tuple[list[Score], dict[Roof, Parameters]]:
    """The error of each candidate that was tried on each question's folds, and the process' parameters.

    A greedy search: the simple kinds first, then what differs in one way from the two best of each question.
    """
    rows = training.rows
    has_numeric, has_categories, has_work = rows.numeric.shape[1] > 0, rows.codes.shape[1] > 0, rows.work.shape[1] > 0
    parameters: dict[Roof, Parameters] = {}
    bases = BASES if has_work else ("sizes", "products") if has_numeric else ()
    terms = {basis: screen_terms(rows, training.log_ms, POWERS, basis) for basis in bases}
    errors: dict[Question, dict[Candidate, list[float]]] = {}
    for question in QUESTIONS:
        own_folds = [fold for fold in folds if fold.question == question]
        if not own_folds:
            continue
        tried: dict[Candidate, list[float]] = {}
        wanted = simple_candidates(has_numeric=has_numeric, has_categories=has_categories, has_work=has_work)
        if question == "beyond":  # trees and a process alone return to the training times there, whatever the folds say
            wanted = [kind for kind in wanted if kind.power is not None] + (plain_candidates() if has_numeric else [])
            if not has_work:  # what is near is predicted from inside: learn/growth
                wanted = [kind for kind in wanted if kind.residual in ("none", "small")]
        for _ in range(1 + REFINEMENTS):
            wanted = [kind for kind in wanted if kind not in tried]
            _add_parameters(parameters, training, wanted, seed=seed, workers=workers)
            table = each(lambda fold: _errors(training, fold, wanted, parameters, terms, seed), own_folds, workers)  # noqa: B023
            tried |= {kind: [row[i] for row in table] for i, kind in enumerate(wanted)}
            best = sorted(tried, key=lambda kind: overall(tried[kind]))[:2]
            wanted = [near for kind in best for near in neighbours(kind, has_numeric, has_categories, has_work)]
        errors[question] = tried
    return [score for question in errors for score in _scores(question, errors[question])], parameters


def overall(errors: Sequence[float]) -> float:
    """The geometric mean over folds: halving the error of any fold counts the same, and no hopeless fold rules."""
    return float(np.exp(np.mean(np.log(np.maximum(errors, 1e-9)))))


def _errors(
    training: Training,
    fold: Fold,
    kinds: Sequence[Candidate],
    parameters: dict[Roof, Parameters],
    terms: Mapping[Basis, TermSet],
    seed: int,
) -> list[float]:
    kept, held = split(training, fold)
    truth = training.log_ms[fold.held]
    shared = Shared()
    for power, basis in sorted({(kind.power, kind.basis) for kind in kinds if kind.power is not None}):
        shared.terms[power, basis] = fit_terms(kept.rows, kept.log_ms, power=power, of=terms[basis])
    errors = []
    for kind in kinds:
        fitted = fit_regressor(kept, kind, seed=seed, threads=1, parameters=parameters, shared=shared)
        errors.append(float(np.mean(np.abs(fitted.log_ms(held, threads=1) - truth))))
    return errors


def _add_parameters(
    known: dict[Roof, Parameters], training: Training, kinds: Sequence[Candidate], *, seed: int, workers: int
) -> None:
    """The process' parameters for each kind of roofline below it, chosen once on the training table.

    What a roofline leaves over varies alike whatever its power was, so all powers share those of the middle one.
    """
    wanted = {(kind.power, kind.categories, kind.basis) for kind in kinds if "process" in kind.residual} - set(known)

    def one(roof: Roof) -> Parameters:
        power, seen, basis = roof
        rows = training.rows if seen else training.rows.without_categories()
        left = training.log_ms - np.median(training.log_ms)
        if power is not None:
            left = training.log_ms - fit_terms(rows, training.log_ms, power=power, basis=basis).log_ms(rows)
        return choose_parameters(rows, left, training.repeats, seed=seed)

    middle = {roof: (None if roof[0] is None else MIDDLE_POWER, *roof[1:]) for roof in wanted}
    order = sorted(set(middle.values()) - set(known), key=repr)
    known |= dict(zip(order, each(one, order, workers), strict=True))
    known |= {roof: known[shared] for roof, shared in middle.items()}


def _scores(question: Question, errors: dict[Candidate, list[float]]) -> list[Score]:
    order = sorted(errors, key=lambda kind: overall(errors[kind]))
    return [
        Score(
            question=question,
            candidate=kind,
            name=kind.name,
            error=overall(errors[kind]),
            folds=errors[kind],
            chosen=kind is order[0],
        )
        for kind in order
    ]


class HeldOut(msgspec.Struct, frozen=True):
    """Cross-fitted predictions: `log_ms` of the held-out `configurations`, and how far outside their fold's domain."""

    configurations: Ints
    log_ms: Floats
    distances: Floats
    folds: Ints
    """The number of the fold of each."""


def cross_fit(
    training: Training,
    folds: Sequence[Fold],
    candidate: Candidate,
    *,
    seed: int,
    parameters: dict[Roof, Parameters],
    workers: int = 1,
) -> HeldOut:
    """Predict every fold's held-out configurations by a regressor that was fitted without them."""

    def one(fold: Fold) -> tuple[Floats, Floats]:
        kept, held = split(training, fold)
        fitted = fit_regressor(kept, candidate, seed=seed, threads=1, parameters=parameters)
        return fitted.log_ms(held, threads=1), domain_of(kept.rows).distances(held.numeric, held.codes)

    results = each(one, list(folds), workers)
    return HeldOut(
        np.concatenate([np.flatnonzero(fold.held) for fold in folds]).astype(np.int64),
        np.concatenate([log_ms for log_ms, _ in results]),
        np.concatenate([distance for _, distance in results]),
        np.repeat(np.arange(len(folds)), [int(fold.held.sum()) for fold in folds]).astype(np.int64),
    )


def each(one: Callable[[T], R], of: Sequence[T], workers: int) -> list[R]:
    """`one` of each item, in that many threads."""
    if workers < 2 or len(of) < 2:
        return [one(item) for item in of]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, of))
