"""Is a configuration within a budget, how surely, and what would rules of thumb have said?

The calibrated rule admits a configuration when its upper bound for the asked confidence keeps the budget. Rules of
thumb stand beside it (laptime.estimate.rules_of_thumb).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars

from laptime.data.record import Scalar
from laptime.data.shown import Shown
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.grid import grid_of, read_grid
from laptime.estimate.in_ms import in_ms
from laptime.estimate.known import check_names, full_names, require_known, unknown_reasons
from laptime.estimate.learn.conformal import check_confidence
from laptime.estimate.predictor import Predictor, bases_of, outside_of
from laptime.estimate.rules_of_thumb import AllRules, RuleCost, rules_of_thumb, standard_error
from laptime.estimate.table.reading import read_table
from laptime.estimate.table.table import as_polars, other_value_rows, require_columns
from laptime.estimate.table.units import ms_per_unit
from laptime.estimate.total import load_predictor

LISTED = 200
"""A report lists at most this number of answers, nearest below the budget first. Counts are over all."""
RISK_OF_A_CHOICE = 0.5
"""The share of the asked risk at which one of many is chosen. Whoever takes the most accurate configuration whose bound
keeps a budget takes one whose bound came out too low more often than others: benchmarks/estimate_selection.py."""


class BudgetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration against the budget."""

    config: dict[str, Scalar]
    within: bool
    probability: float  # that one request takes no longer than the budget
    median_ms: float | None  # None where nothing is known of it
    bound_ms: float | None  # for the confidence; None when none can be promised
    support: str  # inside, near, outside; unknown where `unknown` says why
    accuracy: float | None = None
    unknown: str | None = None  # why nothing is known of it
    outside: str | None = None  # what of it lies outside the training table
    basis: str | None = None  # of a new group or name: what was held out to check its bound


class BudgetReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """JSON: laptime.budget/1."""

    ROWS: ClassVar[str] = "answers"

    schema: str = "laptime.budget/1"
    target: str
    budget_ms: float
    confidence: float
    asked: int
    feasible: int
    abstained: int  # configurations without a promise
    best: BudgetAnswer | None  # the most accurate feasible one at `chosen_at`; without accuracies the slowest
    chosen_at: float | None = None  # the confidence at which `best` keeps the budget; None where there is no best
    answers: list[BudgetAnswer]  # LISTED of them: feasible ones nearest to the budget first, then the others
    rules: list[RuleCost]
    sigma_ms: float  # the standard deviation of the prediction's error that the rules use
    measured_rows: int
    sigma_configurations: int = 0  # over so many of those that were asked; 0: none of them has one


class Configurations(NamedTuple):
    """What is asked about: a row for each configuration, with its accuracy and its measured times where known."""

    frame: polars.DataFrame
    accuracy: Sequence[float] | None = None
    measured: Sequence[Floats] | None = None


def budget(
    estimator: Predictor | str | Path,
    configurations: Any,
    budget_ms: float,
    *,
    confidence: float = 0.95,
    accuracy: str | None = None,
    tokens: Sequence[int] | None = None,
    keep: Sequence[str] = (),
) -> BudgetReport:
    """Which configurations keep a budget, and how surely.

    estimator: one that is fitted, or the folder that `laptime fit` wrote.
    configurations: a mapping of names to values or lists of values (every combination is asked), a YAML file of one, or
    a table (frame or path) with the features' columns.
    budget_ms: the time that an answer may take, ms.
    accuracy: the table's column of accuracies, the larger the better.
    tokens: equally likely counts of output tokens, for the stages of a run.
    keep: flags whose samples are used all the same, where the table is a run folder.
    Raises LaptimeError for input that can't be read or asked.
    """
    check_budget(budget_ms, confidence)
    predictor = load_predictor(estimator, tokens) if isinstance(estimator, (str, Path)) else estimator
    asked = _configurations(predictor, configurations, accuracy, keep)
    return judge_budget(
        predictor,
        asked.frame,
        budget_ms=budget_ms,
        confidence=confidence,
        accuracy=asked.accuracy,
        measured=asked.measured,
    )


def judge_budget(
    estimator: Predictor,
    frame: Any,
    *,
    budget_ms: float,
    confidence: float = 0.95,
    accuracy: npt.ArrayLike | None = None,
    measured: Sequence[npt.NDArray[np.float64]] | None = None,
) -> BudgetReport:
    """Every configuration of a polars frame (one row each) against a budget.

    `accuracy` (rows,) in any unit, the larger the better, NaN where unknown. `measured`: for each row the times that
    were measured of it (ms), perhaps none. Raises LaptimeError for a budget or a confidence that can't be.
    """
    check_budget(budget_ms, confidence)
    if len(frame) == 0:
        raise LaptimeError("no configuration to judge: the grid or table is empty")
    estimator = in_ms(estimator)
    median = estimator.predict(frame)
    bound = estimator.quantile(frame, confidence)
    probability = estimator.probability_within(frame, budget_ms)
    where = [one.where for one in estimator.support(frame)]
    unknown = unknown_reasons(estimator, frame)
    basis = bases_of(estimator, frame)
    outside = outside_of(estimator, frame)
    strange = np.array([reason is not None for reason in unknown], dtype=np.bool_)
    bound, probability = np.where(strange, np.inf, bound), np.where(strange, 0.0, probability)
    guess = np.where(strange, np.inf, median)  # no rule has a prediction of what was never measured
    within = bound <= budget_ms
    strict = confidence if len(frame) == 1 else 1 - RISK_OF_A_CHOICE * (1 - confidence)
    surely = np.where(strange, np.inf, estimator.quantile(frame, strict)) <= budget_ms
    known = None if accuracy is None else np.asarray(accuracy, dtype=np.float64)
    inside = np.array([place == "inside" for place in where], dtype=np.bool_)
    sigma, over = standard_error(estimator, frame, guess, measured, inside)

    def answer(row: int) -> BudgetAnswer:
        return BudgetAnswer(
            config=_config(frame, row, _names_of(estimator, frame)),
            within=bool(within[row]),
            probability=float(probability[row]),
            median_ms=float(median[row]) if unknown[row] is None else None,
            bound_ms=float(bound[row]) if np.isfinite(bound[row]) else None,
            support=where[row] if unknown[row] is None else "unknown",
            unknown=unknown[row],
            outside=outside[row] if unknown[row] is None else None,
            basis=basis[row] if unknown[row] is None else None,
            accuracy=None if known is None or np.isnan(known[row]) else float(known[row]),
        )

    order = np.lexsort((np.where(within, -bound, bound), ~within))
    rules = {"calibrated bound": bound} | rules_of_thumb(guess, sigma)
    chosen = _best(within, surely, bound, known)
    judged = AllRules(within, budget_ms, confidence, known, measured)
    return BudgetReport(
        target=estimator.target,
        budget_ms=budget_ms,
        confidence=confidence,
        asked=len(frame),
        feasible=int(within.sum()),
        abstained=int((~np.isfinite(bound)).sum()),
        best=None if chosen is None else answer(chosen),
        chosen_at=None if chosen is None else strict if surely[chosen] else confidence,
        answers=[answer(int(row)) for row in order[:LISTED]],
        rules=[judged.cost(name, limit) for name, limit in rules.items()],
        sigma_ms=sigma,
        sigma_configurations=over,
        measured_rows=sum(len(times) for times in measured or []),
    )


def check_budget(budget_ms: float, confidence: float) -> None:
    """Raise LaptimeError for a budget that is not above 0 and finite, or a confidence outside (0, 1)."""
    if not (np.isfinite(budget_ms) and budget_ms > 0):
        raise LaptimeError(f"a budget of {budget_ms:g} ms: give a time above 0, in milliseconds")
    check_confidence(confidence)


def _configurations(predictor: Predictor, asked: Any, accuracy: str | None, keep: Sequence[str]) -> Configurations:
    """The configurations of a mapping, a YAML file, a table or its path."""
    place = Path(asked) if isinstance(asked, (str, Path)) else None
    is_yaml = place is not None and place.suffix.lower() in {".yaml", ".yml"}
    if isinstance(asked, Mapping) or is_yaml:
        if accuracy is not None:
            raise LaptimeError(f"`accuracy` {accuracy}: needs a table of configurations that has this column")
        grid = read_grid(place) if place is not None else grid_of(asked, "the configurations")
        where = str(place) if place is not None else "the configurations"
        grid = grid.rename(full_names(predictor, grid.columns))
        check_names(predictor, grid.columns, where)
        require_known(predictor, grid, where)
        return Configurations(grid)
    table = read_table(place, keep) if place is not None else as_polars(asked)
    try:
        return _of_table(predictor, table, accuracy)
    except LaptimeError as error:
        raise LaptimeError(f"{place}: {error}" if place is not None else str(error)) from error


def _of_table(predictor: Predictor, table: polars.DataFrame, accuracy: str | None) -> Configurations:
    """A row for each combination of features, with its mean accuracy and its measured times, where there are some."""
    table = table.rename(full_names(predictor, table.columns))
    require_columns(table, [*predictor.features, *predictor.categorical, *([accuracy] if accuracy else [])])
    features = _names_of(predictor, table)
    if accuracy and not table[accuracy].dtype.is_numeric():
        raise LaptimeError(f"column {accuracy} holds text; an accuracy is a number")
    wanted = []
    if accuracy:
        wanted.append(polars.col(accuracy).cast(polars.Float64).mean().alias("\x00accuracy"))
    if predictor.target in table.columns:
        times = polars.col(predictor.target).drop_nulls().cast(polars.Float64) * ms_per_unit(predictor.target)
        wanted.append(times.alias("\x00measured"))
    if not wanted:
        return Configurations(table.select(features).unique(maintain_order=True))
    rows = table.group_by(features, maintain_order=True).agg(wanted)
    return Configurations(
        rows.select(features),
        rows["\x00accuracy"].fill_null(float("nan")).to_list() if accuracy else None,
        [times.to_numpy() for times in rows["\x00measured"]] if predictor.target in table.columns else None,
    )


def _best(
    within: npt.NDArray[np.bool_], surely: npt.NDArray[np.bool_], bound: Floats, accuracy: Floats | None
) -> int | None:
    """The one to take: of those that surely keep the budget the most accurate, or the slowest; else the fastest."""
    rows = np.flatnonzero(within)
    if accuracy is not None:
        rows = rows[~np.isnan(accuracy[rows])]
    if len(rows) == 0:
        return None
    if not surely[rows].any():
        return int(rows[np.argmin(bound[rows])])
    rows = rows[surely[rows]]
    if accuracy is None:
        return int(rows[np.argmax(bound[rows])])
    return int(rows[np.lexsort((bound[rows], -accuracy[rows]))[0]])


def _names_of(predictor: Predictor, table: polars.DataFrame) -> list[str]:
    """The columns that tell configurations apart: the features, and of what never varied in training what does here."""
    differ = [
        name
        for name, always in predictor.constants.items()
        if name in table.columns and other_value_rows(table[name], always).any()
    ]
    return list(dict.fromkeys([*predictor.features, *predictor.categorical, *differ]))


def _config(frame: Any, row: int, names: Sequence[str]) -> dict[str, Scalar]:
    return {name: frame[name][row] for name in dict.fromkeys(names)}
