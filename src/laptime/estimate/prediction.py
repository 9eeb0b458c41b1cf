"""An estimator's answers for a table: a median, a bound, a probability and how each row is supported.

JSON: laptime.predict/1. As a table: the rows that were asked with the answers beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars

from laptime.errors import LaptimeError
from laptime.estimate.grid import grid_of
from laptime.estimate.learn.conformal import check_level
from laptime.estimate.predictor import Predictor
from laptime.estimate.table.table import as_polars
from laptime.estimate.total import load_predictor


@dataclass(frozen=True)
class Prediction:
    """Answers for the rows of a table.

    asked: the rows. answers: median_ms, bound_ms (null where none can be promised), probability_within (with a budget)
    and support, a row for each row of `asked`.
    """

    target: str
    features: list[str]
    confidence: float
    budget_ms: float | None
    asked: polars.DataFrame
    answers: polars.DataFrame

    def table(self) -> polars.DataFrame:
        """The rows with their answers. Columns of the same names are replaced."""
        return self.asked.with_columns(self.answers)

    def encoded_table(self, ending: str) -> bytes:
        """The table as bytes of a .csv or .parquet file. Raises LaptimeError for another ending."""
        if ending.lower() == ".csv":
            return self.table().write_csv().encode()
        if ending.lower() in {".parquet", ".pq"}:
            out = BytesIO()
            self.table().write_parquet(out)
            return out.getvalue()
        raise LaptimeError(f"{ending or 'no ending'}: a table is written as .csv or .parquet")


def predict(
    estimator: Predictor | str | Path,
    rows: Any,
    *,
    confidence: float = 0.95,
    budget_ms: float | None = None,
    tokens: Sequence[int] | None = None,
) -> Prediction:
    """How long will each row take, at most, and how probably within a budget?

    estimator: one that is fitted, or the folder that `laptime fit` wrote.
    rows: a table (frame or path) with the features' columns, or a mapping of names to values or lists of values (every
    combination is asked).
    tokens: equally likely counts of output tokens, for the stages of a run.
    Raises LaptimeError for input that can't be read or asked.
    """
    check_level(np.atleast_1d(confidence))
    predictor = load_predictor(estimator, tokens) if isinstance(estimator, (str, Path)) else estimator
    asked = grid_of(rows, "the rows") if isinstance(rows, Mapping) else as_polars(rows)
    if asked.is_empty():
        raise LaptimeError("the table has no row to predict")
    bound = predictor.quantile(asked, confidence)
    columns: dict[str, Any] = {
        "median_ms": predictor.predict(asked),
        "bound_ms": [float(b) if np.isfinite(b) else None for b in bound],
    }
    if budget_ms is not None:
        columns["probability_within"] = predictor.probability_within(asked, budget_ms)
    columns["support"] = [one.where for one in predictor.support(asked)]
    return Prediction(
        target=predictor.target,
        features=list(dict.fromkeys([*predictor.features, *predictor.categorical])),
        confidence=confidence,
        budget_ms=budget_ms,
        asked=asked,
        answers=polars.DataFrame(columns, schema_overrides={"bound_ms": polars.Float64}),
    )


def prediction_json(prediction: Prediction) -> bytes:
    """Schema laptime.predict/1: one object a row, in the table's order."""
    value = {
        "schema": "laptime.predict/1",
        "target": prediction.target,
        "quantile": prediction.confidence,
        "budget_ms": prediction.budget_ms,
        "rows": prediction.answers.to_dicts(),
    }
    return msgspec.json.format(msgspec.json.encode(value), indent=1)
