"""An estimator's answers for a table, as columns that can stand beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

    from laptime.estimate.predictor import Predictor


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
