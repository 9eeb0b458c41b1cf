"""An estimator's answers for a table: a median, a bound, a probability and how each row is supported.

JSON: laptime.predict/1. As a table: the rows that were asked with the answers beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars

from laptime.data.shown import Shown
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.grid import grid_of
from laptime.estimate.in_ms import in_ms
from laptime.estimate.known import check_names, full_names, require_known, unknown_reasons
from laptime.estimate.learn.conformal import check_confidence
from laptime.estimate.predictor import Predictor, bases_of, outside_of
from laptime.estimate.table.table import as_polars
from laptime.estimate.total import load_predictor


@dataclass(frozen=True)
class Prediction(Shown):
    """Answers for the rows of a table.

    asked: the rows. answers: median_ms, bound_ms (null where none can be promised), probability_within (with a budget),
    support, basis (of a new group or level: what was held out to check its bound) and outside (what of it lies outside
    the training table), a row for each row of `asked`.
    """

    target: str
    features: list[str]
    confidence: float
    budget_ms: float | None
    asked: polars.DataFrame
    answers: polars.DataFrame
    unknown: list[str | None] = field(default_factory=list)
    """For each row why nothing is known of it; its figures are null and its support is "unknown"."""

    @property
    def nothing_known(self) -> bool:
        """Whether no row has an answer."""
        return bool(self.unknown) and all(self.unknown)

    def table(self) -> polars.DataFrame:
        """The rows with their answers. Columns of the same names are replaced."""
        return self.asked.with_columns(self.answers)

    def _table(self, name: str) -> polars.DataFrame:
        return self.table()

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
    keep: Sequence[str] = (),
) -> Prediction:
    """How long will each row take, at most, and how probably within a budget?

    estimator: one that is fitted, or the folder that `laptime fit` wrote.
    rows: a table (frame or path) with the features' columns, or a mapping of names to values or lists of values (every
    combination is asked).
    tokens: equally likely counts of output tokens, for the stages of a run.
    keep: flags whose samples are used all the same, where the table is a run folder.
    Raises LaptimeError for input that can't be read or asked.
    """
    check_confidence(confidence)
    predictor = in_ms(load_predictor(estimator, tokens) if isinstance(estimator, (str, Path)) else estimator)
    asked = grid_of(rows, "the rows") if isinstance(rows, Mapping) else as_polars(rows, keep)
    asked = asked.rename(full_names(predictor, asked.columns))
    if isinstance(rows, Mapping):
        check_names(predictor, asked.columns)
    require_known(predictor, asked, "" if isinstance(rows, Mapping) else "the table")
    if asked.is_empty():
        raise LaptimeError("the table has no row to predict")
    bound = predictor.quantile(asked, confidence)
    unknown = unknown_reasons(predictor, asked)
    known = [reason is None for reason in unknown]
    columns: dict[str, Any] = {
        "median_ms": _where(known, predictor.predict(asked)),
        "bound_ms": [float(b) if np.isfinite(b) and sure else None for b, sure in zip(bound, known, strict=True)],
    }
    if budget_ms is not None:
        columns["probability_within"] = _where(known, predictor.probability_within(asked, budget_ms))
    support = [one.where for one in predictor.support(asked)]
    columns["support"] = [where if sure else "unknown" for where, sure in zip(support, known, strict=True)]
    columns["unknown"] = unknown
    columns["basis"] = [said if sure else None for said, sure in zip(bases_of(predictor, asked), known, strict=True)]
    columns["outside"] = [
        said if sure else None for said, sure in zip(outside_of(predictor, asked), known, strict=True)
    ]
    return Prediction(
        target=predictor.target,
        features=list(dict.fromkeys([*predictor.features, *predictor.categorical])),
        confidence=confidence,
        budget_ms=budget_ms,
        asked=asked,
        answers=polars.DataFrame(columns, schema_overrides=_TYPES),
        unknown=unknown,
    )


_TYPES = {
    "median_ms": polars.Float64,
    "bound_ms": polars.Float64,
    "probability_within": polars.Float64,
    "unknown": polars.String,
    "basis": polars.String,
    "outside": polars.String,
}


def _where(known: Sequence[bool], values: Floats) -> list[float | None]:
    return [float(value) if sure else None for value, sure in zip(values, known, strict=True)]


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
