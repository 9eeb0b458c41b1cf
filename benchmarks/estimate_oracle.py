"""What would the best bound with hindsight need, where the bounds of benchmarks/estimate_splits.py miss what is asked?

python benchmarks/estimate_oracle.py --tables FOLDER [--rows 400] [--only gemm]

Two oracles for each split, each with the one factor that just covers LEVEL of the held-out rows, which nobody knows
beforehand:

- on laptime's predictions, which saw no held-out row: what its predictions allow at best;
- on predictions that did see such rows: the whole table in three folds, so that each held-out row is predicted from
  rows like it. Whatever extrapolates can hardly do better.

A third of the rows may go without a bound, so each oracle leaves out the third of the rows on which it would be widest.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl
from estimate_splits_docs import reached
from further_tables import LatencyTable, latency_tables, table_splits
from into_docs import result

import laptime
from recorded import code_of, record

LEVEL, LEFT_OUT, FOLDS = 0.95, 1 / 3, 3


def hindsight(over: np.ndarray) -> dict[str, float]:
    """Widths of predicted * factor over measured; `over`: predicted over measured of each held-out row."""
    factor = 1 / np.quantile(over, 1 - LEVEL, method="lower")
    widths = np.sort(over * factor)
    kept = widths[: max(1, int(np.ceil(len(widths) * (1 - LEFT_OUT))))]
    return {"factor": float(factor), "width": float(widths.mean()), "width_of_best": float(kept.mean())}


def seen(table: LatencyTable) -> np.ndarray:
    """Each row's prediction by an estimator that was fitted on two thirds of the whole table, without this row."""
    numbers = [name for name in table.features if name not in table.categorical]
    fold = np.random.default_rng(0).integers(0, FOLDS, len(table.frame))
    predicted = np.empty(len(table.frame))
    for number in range(FOLDS):
        own = pl.Series(fold == number)
        estimator = laptime.Estimator(target=table.target, features=numbers, categorical=table.categorical)
        predicted[fold == number] = estimator.fit(table.frame.filter(~own), threads=2).predict(table.frame.filter(own))
    return predicted


def main() -> None:
    """Print a row for each split and write benchmarks/results/estimate_oracle.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("LAPTIME_TABLES"))
    parser.add_argument("--only", default="", help="part of a table's name")
    parser.add_argument("--rows", type=int, default=400, help="rows that a table is drawn down to")
    asked = parser.parse_args()
    if asked.tables is None:
        parser.error("name the folder of the tables with --tables or LAPTIME_TABLES")
    rows: list[dict[str, Any]] = []
    environment = {
        "python": platform.python_version(),
        "laptime": laptime.__version__,
        "rows": asked.rows,
        **code_of("estimate/learn"),
    }
    missed = {
        (row["table"], row["split"])
        for row in result("estimate_splits")["figures"]
        if "laptime" in row and not reached(row["laptime"])
    }
    for table in latency_tables(asked.tables, most_rows=asked.rows):
        if asked.only not in table.name or table.name not in {name for name, _ in missed}:
            continue
        near = seen(table)
        for split in table_splits(table):
            if (table.name, split.name) not in missed:
                continue
            truth = split.test[split.target].to_numpy()
            estimator = laptime.Estimator(
                target=split.target, features=split.features, categorical=split.categorical, group=split.group
            ).fit(split.train, threads=2)
            row = {
                "table": table.name,
                "kind": split.kind,
                "split": split.name,
                "own": hindsight(estimator.predict(split.test) / truth),
                "seen": hindsight(near[split.held] / truth),
            }
            rows.append(row)
            print(table.name, "|", split.kind, "|", split.name, row["own"], row["seen"], flush=True)
            record("estimate_oracle", rows, environment)


if __name__ == "__main__":
    main()
