"""Which regressor for which question: judged on held-out rows of the same kind, never on training error.

learn/folds says what is held out. Each question has its own winner and its own residuals. All kinds of regressor are
tried on the first folds, and those near the best one on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.domain import domain_of
from laptime.estimate.learn.folds import FEWEST_FOLDS, QUESTIONS, Fold, Question, split
from laptime.estimate.learn.process import Parameters, choose_parameters
from laptime.estimate.learn.regressors import (
    POWERS,
    Candidate,
    Roof,
    Shared,
    Training,
    fit_regressor,
    neighbours,
    plain_candidates,
    simple_candidates,
)
from laptime.estimate.learn.terms import BASES, Basis, TermSet, fit_terms, screen_terms

REFINEMENTS = 1
FIRST_FOLDS = 2
"""On so many folds of configurations every candidate is tried first. Groups and levels differ more: there on half."""
WORTH_MORE: dict[Question, float] = {"inside": 1.3}
OF_OTHERS = 1.6
"""Only those whose error there is at most so many times the best one's are tried on the other folds."""
FEWEST_TRIED = 4
MIDDLE_POWER = 0.5

T = TypeVar("T")
R = TypeVar("R")


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate on one question: `overall` of its folds' mean |log ratio| (0.02: about 2 %)."""

    question: Question
    candidate: Candidate
    name: str
    error: float
    folds: list[float]
    """Of each fold it was tried on: what was far off on the first ones was tried on no other."""
    chosen: bool = False


def compare_candidates(
    training: Training, folds: Sequence[Fold], *, seed: int, workers: int = 1
) -> tuple[list[Score], dict[Roof, Parameters]]:
    """The error of each candidate that was tried on each question's folds, and the process' parameters.

    A greedy search: the simple kinds first, then what differs in one way from the two best of each question. What is
    far behind the best on the first folds is not tried on the others.
    """
    rows = training.rows
    has_numeric, has_categories, has_work = rows.numeric.shape[1] > 0, rows.codes.shape[1] > 0, rows.work.shape[1] > 0
    parameters: dict[Roof, Parameters] = {}
    bases = BASES if has_work else ("sizes", "products") if has_numeric else ()
    terms = {basis: screen_terms(rows, training.log_ms, POWERS, basis) for basis in bases}
    errors: dict[Question, dict[Candidate, list[float]]] = {}
    for question in QUESTIONS:
        own_folds = _spread_out([fold for fold in folds if fold.question == question])
        if not own_folds:
            continue
        first = FIRST_FOLDS if question == "inside" else max(FEWEST_FOLDS, -(-len(own_folds) // 2))
        by_fold = [(fold, Shared()) for fold in own_folds]

        def tried_on(some: Sequence[tuple[Fold, Shared]], kinds: Sequence[Candidate]) -> dict[Candidate, list[float]]:
            table = each(lambda one: _errors(training, one[0], kinds, parameters, terms, seed, one[1]), some, workers)
            return {kind: [row[i] for row in table] for i, kind in enumerate(kinds)}

        tried: dict[Candidate, list[float]] = {}
        wanted = simple_candidates(has_numeric=has_numeric, has_categories=has_categories, has_work=has_work)
        if question == "beyond":  # trees and a process alone return to the training times there, whatever the folds say
            wanted = [kind for kind in wanted if kind.power is not None] + (plain_candidates() if has_numeric else [])
            if not has_work:  # what is near is predicted from inside: learn/growth
                wanted = [kind for kind in wanted if kind.residual in ("none", "small")]
        for _ in range(1 + REFINEMENTS):
            wanted = [kind for kind in wanted if kind not in tried]
            _add_parameters(parameters, training, wanted, seed=seed, workers=workers)
            tried |= tried_on(by_fold[:first], wanted)
            wanted = _worth_more(tried, wanted, first, WORTH_MORE.get(question, OF_OTHERS))
            more = tried_on(by_fold[first:], wanted)
            tried |= {kind: tried[kind] + more[kind] for kind in wanted}
            best = _in_order(tried)[:2]
            wanted = [near for kind in best for near in neighbours(kind, has_numeric, has_categories, has_work)]
        errors[question] = tried
    return [score for question in errors for score in _scores(question, errors[question])], parameters


def _spread_out(folds: Sequence[Fold]) -> list[Fold]:
    """The same folds, those at the even steps first: the first few are of different columns."""
    step = max(1, -(-len(folds) // FEWEST_FOLDS))
    return [fold for start in range(step) for fold in folds[start::step]]


def _worth_more(
    tried: Mapping[Candidate, list[float]], kinds: Sequence[Candidate], first: int, most: float
) -> list[Candidate]:
    """Which of these kinds are tried on the folds after the first ones: those near the best of all, and a few more.

    most: how many times the best one's error on the first folds counts as near.
    """
    errors = {kind: overall(found[:first]) for kind, found in tried.items()}
    least = sorted(errors.values())
    limit = max(most * least[0], least[min(FEWEST_TRIED, len(least)) - 1])
    return [kind for kind in kinds if errors[kind] <= limit]


def _in_order(errors: Mapping[Candidate, list[float]]) -> list[Candidate]:
    """The best first, those that were tried on every fold before the others."""
    return sorted(errors, key=lambda kind: (-len(errors[kind]), overall(errors[kind])))


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
    shared: Shared,
) -> list[float]:
    kept, held = split(training, fold)
    truth = training.log_ms[fold.held]
    roofs = {(kind.power, kind.basis) for kind in kinds if kind.power is not None}
    for power, basis in sorted(roofs - set(shared.terms)):
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
    order = _in_order(errors)
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
