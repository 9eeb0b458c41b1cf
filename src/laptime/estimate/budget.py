"""Is a configuration within a budget, how surely, and what would rules of thumb have said?

The calibrated rule admits a configuration when its upper bound for the asked confidence keeps the budget. The rules of
seed 003's kind (prediction + 1 or 2 standard deviations of the error, or + 20 or 25 %) stand beside it. Where measured
times are known, each is judged by them: admitted though the configuration is late too often, refused though it isn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.record import Scalar
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.predictor import Predictor

if TYPE_CHECKING:
    import polars

    from laptime.estimate.predictor import Predictor


LISTED = 200
"""So many answers are listed in a report, nearest below the budget first; counts are over all."""
ONE_SIGMA = 0.8413447460685429
"""The normal distribution's share below one standard deviation above its middle."""


class BudgetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration against the budget."""

    config: dict[str, Scalar]
    within: bool
    probability: float  # that one request takes no longer than the budget
    median_ms: float
    bound_ms: float | None  # for the confidence; None when none can be promised
    support: str  # inside, near, outside
    accuracy: float | None = None


class RuleCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule admits, and what that costs. Counts are of configurations."""

    rule: str
    admitted: int
    of: int
    also_calibrated: int  # admitted by the calibrated bound too
    wrongly_admitted: int | None  # late more often than the confidence allows; None where nothing was measured
    wrongly_refused: int | None
    late: float | None  # share of measured requests of admitted configurations that exceeded the budget
    unused: float | None  # mean share of the budget that admitted configurations leave, by their measured quantile
    best_accuracy: float | None = None  # of an admitted configuration
    limit_ms: float | None = None  # what the rule compares with the budget, when one configuration was asked about


class BudgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """JSON: laptime.budget/1."""

    schema: str = "laptime.budget/1"
    target: str
    budget_ms: float
    confidence: float
    asked: int
    feasible: int
    abstained: int  # configurations without a promise
    best: BudgetAnswer | None  # the most accurate feasible one; without accuracies the slowest that is feasible
    answers: list[BudgetAnswer]  # LISTED of them: feasible ones nearest to the budget first, then the others
    rules: list[RuleCost]
    sigma_ms: float  # the standard deviation of the prediction's error that the rules use
    measured_rows: int


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
    median = estimator.predict(frame)
    bound = estimator.quantile(frame, confidence)
    probability = estimator.probability_within(frame, budget_ms)
    where = [one.where for one in estimator.support(frame)]
    within = bound <= budget_ms
    known = None if accuracy is None else np.asarray(accuracy, dtype=np.float64)
    sigma = standard_error(estimator, frame, median, measured)

    def answer(row: int) -> BudgetAnswer:
        return BudgetAnswer(
            config=_config(frame, row, [*estimator.features, *estimator.categorical]),
            within=bool(within[row]),
            probability=float(probability[row]),
            median_ms=float(median[row]),
            bound_ms=float(bound[row]) if np.isfinite(bound[row]) else None,
            support=where[row],
            accuracy=None if known is None or np.isnan(known[row]) else float(known[row]),
        )

    order = np.lexsort((np.where(within, -bound, bound), ~within))
    rules = {"calibrated bound": bound} | seed_rules(median, sigma)
    return BudgetReport(
        target=estimator.target,
        budget_ms=budget_ms,
        confidence=confidence,
        asked=len(frame),
        feasible=int(within.sum()),
        abstained=int((~np.isfinite(bound)).sum()),
        best=None if (row := _best(within, bound, known)) is None else answer(row),
        answers=[answer(int(row)) for row in order[:LISTED]],
        rules=[_cost(name, limit, within, budget_ms, confidence, known, measured) for name, limit in rules.items()],
        sigma_ms=sigma,
        measured_rows=sum(len(times) for times in measured or []),
    )


def check_budget(budget_ms: float, confidence: float) -> None:
    """Raise LaptimeError for a budget that is not above 0 and finite, or a confidence outside (0, 1)."""
    if not (np.isfinite(budget_ms) and budget_ms > 0):
        raise LaptimeError(f"a budget of {budget_ms:g} ms: it must be above 0, in milliseconds")
    if not 0 < confidence < 1:
        raise LaptimeError(f"confidence {confidence:g}: a share between 0 and 1, written as 0.95 or 95%")


def seed_rules(median_ms: Floats, sigma_ms: float) -> dict[str, Floats]:
    """The limits that rules of thumb compare with the budget."""
    return {
        "prediction": median_ms,
        "prediction + 1 sd": median_ms + sigma_ms,
        "prediction + 2 sd": median_ms + 2 * sigma_ms,
        "prediction + 20 %": median_ms * 1.2,
        "prediction + 25 %": median_ms * 1.25,
    }


def standard_error(estimator: Predictor, frame: Any, median: Floats, measured: Sequence[Floats] | None) -> float:
    """One standard deviation of the prediction's error in ms, over all rows alike, as rules of thumb take it.

    From measured times where there are any, else from the estimator's own residuals (root mean square of the distance
    between the median and the quantile at one normal standard deviation).
    """
    errors = [times - centre for times, centre in zip(measured or [], median, strict=False) if len(times)]
    if errors:
        return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    reach = estimator.quantile(frame, ONE_SIGMA) - median
    reach = reach[np.isfinite(reach)]
    return float(np.sqrt(np.mean(reach**2))) if len(reach) else 0.0


def _cost(
    rule: str,
    limit: Floats,
    calibrated: npt.NDArray[np.bool_],
    budget_ms: float,
    confidence: float,
    accuracy: Floats | None,
    measured: Sequence[Floats] | None,
) -> RuleCost:
    admitted = limit <= budget_ms
    kept = np.flatnonzero(admitted)
    judged = [row for row, times in enumerate(measured or []) if len(times)]
    late: float | None = None
    unused: float | None = None
    wrong: tuple[int | None, int | None] = (None, None)
    if measured is not None and judged:
        in_time = {row: float((measured[row] <= budget_ms).mean()) >= confidence for row in judged}
        wrong = (
            sum(bool(admitted[row]) and not good for row, good in in_time.items()),
            sum(not admitted[row] and good for row, good in in_time.items()),
        )
        mine = [measured[row] for row in judged if admitted[row]]
        if mine:
            late = float(np.mean(np.concatenate(mine) > budget_ms))
            unused = float(np.mean([1 - np.quantile(times, confidence) / budget_ms for times in mine]))
    scores = np.empty(0) if accuracy is None else accuracy[kept][~np.isnan(accuracy[kept])]
    return RuleCost(
        rule=rule,
        admitted=len(kept),
        of=len(limit),
        also_calibrated=int((admitted & calibrated).sum()),
        wrongly_admitted=wrong[0],
        wrongly_refused=wrong[1],
        late=late,
        unused=unused,
        best_accuracy=float(scores.max()) if len(scores) else None,
        limit_ms=float(limit[0]) if len(limit) == 1 and np.isfinite(limit[0]) else None,
    )


def _best(within: npt.NDArray[np.bool_], bound: Floats, accuracy: Floats | None) -> int | None:
    rows = np.flatnonzero(within)
    if accuracy is not None:
        rows = rows[~np.isnan(accuracy[rows])]
    if len(rows) == 0:
        return None
    if accuracy is None:
        return int(rows[np.argmax(bound[rows])])
    return int(rows[np.lexsort((bound[rows], -accuracy[rows]))[0]])


def _config(frame: Any, row: int, names: Sequence[str]) -> dict[str, Scalar]:
    return {name: frame[name][row] for name in dict.fromkeys(names)}


def predictions(
    estimator: Predictor, frame: polars.DataFrame, q: float, budget_ms: float | None = None
) -> polars.DataFrame:
    """median_ms, bound_ms (null where none can be promised), probability_within (with a budget), support."""
    import polars

    if len(frame) == 0:
        raise LaptimeError("the table has no row to predict")
    bound = estimator.quantile(frame, q)
    columns: dict[str, Any] = {
        "median_ms": estimator.predict(frame),
        "bound_ms": [float(b) if np.isfinite(b) else None for b in bound],
    }
    if budget_ms is not None:
        columns["probability_within"] = estimator.probability_within(frame, budget_ms)
    columns["support"] = [one.where for one in estimator.support(frame)]
    return polars.DataFrame(columns, schema_overrides={"bound_ms": polars.Float64})


def predictions_json(estimator: Predictor, found: polars.DataFrame, q: float, budget_ms: float | None) -> bytes:
    """Schema laptime.predict/1: one object a row, in the table's order."""
    told = {
        "schema": "laptime.predict/1",
        "target": estimator.target,
        "quantile": q,
        "budget_ms": budget_ms,
        "rows": found.to_dicts(),
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=1)


def write_predictions(file: Path, frame: polars.DataFrame, found: polars.DataFrame) -> None:
    """The table with its predictions beside it, as .csv or .parquet. Columns of the same names are replaced."""
    both = frame.with_columns(found)
    try:
        if file.suffix.lower() == ".csv":
            both.write_csv(file)
        elif file.suffix.lower() in {".parquet", ".pq"}:
            both.write_parquet(file)
        else:
            raise LaptimeError(f"{file}: --out writes .csv or .parquet")
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror or error}; choose another --out") from error
