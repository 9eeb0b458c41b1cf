"""What the bound beyond the measured sizes is worth, beside the roofline alone with other ways to calibrate it.

python benchmarks/estimate_beyond.py --tables FOLDER [--add]

For each table whose largest sizes are held out (and the vision of the sweep of MolmoE-1B's shapes): coverage and
width of laptime's bound on the rows beyond, and of the bounds that the same roofline would have by itself:

- one level: the largest fifth of each size's values held out, residuals with their sign.
- both signs: each residual counts as if it had erred to the other side too.
- two levels: the largest two fifths held out as well.
- two levels, both signs.

And for Splitwise's decode, the errors of the held-out rows by batch: measured over predicted. Each table is written as
soon as it is judged; `--add` goes on with those that the file lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from latency_tables import splits

import laptime
from laptime.estimate.judge.splits import largest
from laptime.estimate.learn.configurations import collapse
from laptime.estimate.learn.conformal import calibrate
from laptime.estimate.learn.folds import FEWEST_LEFT, FEWEST_SIZES, MOST_BEYOND, MOST_HELD, Fold
from laptime.estimate.learn.regressors import Training, described
from laptime.estimate.learn.selection import cross_fit
from laptime.estimate.roofline.work import work_of_run
from laptime.estimate.table.reading import read_table, run_columns
from laptime.estimate.table.table import encode
from recorded import code_of, record

SWEEP = Path(__file__).parent / "data" / "molmoe-1b-h200.parquet"
WAYS = {
    "one level": ((0.2,), False),
    "both signs": ((0.2,), True),
    "two levels": ((0.2, 0.4), False),
    "two levels, both signs": ((0.2, 0.4), True),
}


def folds(training: Training, shares: tuple[float, ...]) -> list[Fold]:
    """The largest share of each size's values held out, and of the product of all sizes."""
    numeric = training.rows.numeric
    sizes = [
        i
        for i, column in enumerate(numeric.T)
        if column.min() > 0 and len(np.unique(column)) >= FEWEST_SIZES and not described(training.rows, i)
    ]
    sizes.sort(key=lambda i: -float(np.ptp(np.log(numeric[:, i]))))
    orders = [numeric[:, i] for i in sizes[: MOST_BEYOND - 1]]
    orders += [np.exp(np.log(numeric[:, sizes]).sum(axis=1))] if len(sizes) > 1 else []
    found = []
    for order in orders:
        values = np.unique(order)
        for kept in {min(int(np.ceil(len(values) * (1 - share))), len(values) - 1) for share in shares}:
            held = order > values[kept - 1]
            if held.mean() <= MOST_HELD and (~held).sum() >= FEWEST_LEFT:
                found.append(Fold("beyond", "largest", held))
    return found


def judge(train: pl.DataFrame, test: pl.DataFrame, **arguments: Any) -> tuple[dict[str, Any], pl.DataFrame]:
    """Coverage and width of each way on the rows beyond, and these rows with measured over predicted."""
    made = laptime.Estimator(**arguments).fit(train, threads=2)
    fitted = made.fitted
    rows, logs = encode(train, fitted.schema), np.log(train[made.target].to_numpy())
    configuration, training, _, _ = collapse(rows, logs, np.zeros(len(train), dtype=np.int64))
    calibrated = fitted.by_question["beyond"]
    asked = encode(test, fitted.schema)
    far = fitted.domain.distances(asked.numeric, asked.codes)
    beyond = far > 0
    median, truth = calibrated.regressor.log_ms(asked), np.log(test[made.target].to_numpy())
    limit = np.log(made.quantile(test, 0.95))
    given = beyond & np.isfinite(limit)
    told: dict[str, Any] = {
        "laptime": {
            "coverage": float(np.mean(truth[given] <= limit[given])) if given.any() else None,
            "width": float(np.mean(np.exp(limit - truth)[given])) if given.any() else None,
            "abstained": float(1 - given.sum() / max(1, beyond.sum())),
        }
    }
    for way, (shares, both) in WAYS.items():
        held = cross_fit(
            training, folds(training, shares), calibrated.regressor.candidate, seed=made.seed, parameters={}, workers=2
        )
        ratios, distances = _rows_of(held.configurations, held.log_ms, held.distances, configuration, logs)
        if both:
            ratios, distances = np.concatenate([ratios, -ratios]), np.concatenate([distances, distances])
        together = np.zeros(len(ratios), dtype=np.int64)
        other = calibrate(calibrated.regressor, ratios, distances, [], together, "rows")
        other = msgspec.structs.replace(other, floor=calibrated.floor)
        bound = other.log_bounds(median, far, np.array([0.95]))[:, 0]
        told[way] = {
            "coverage": float(np.mean(truth[beyond] <= bound[beyond])),
            "width": float(np.mean(np.exp(bound - truth)[beyond])),
            "q95": float(np.quantile(other.residuals, 0.95)),
        }
    shown = test.with_columns(
        pl.Series("over_predicted", np.exp(truth) / made.predict(test)), pl.Series("beyond", beyond)
    )
    return {"rows": int(beyond.sum()), "ways": told}, shown.filter("beyond")


def _rows_of(
    held: npt.NDArray[Any], log_ms: npt.NDArray[Any], distances: npt.NDArray[Any], of: npt.NDArray[Any], logs: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The residual and the distance of every row of each held-out configuration."""
    parts = [(logs[of == one] - log_ms[i], np.full((of == one).sum(), distances[i])) for i, one in enumerate(held)]
    return np.concatenate([ratio for ratio, _ in parts]), np.concatenate([distance for _, distance in parts])


def main() -> None:
    """Print all of it and write benchmarks/results/estimate_beyond.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("LAPTIME_TABLES"))
    parser.add_argument("--add", action="store_true", help="keep the tables that the file has")
    asked = parser.parse_args()
    if asked.tables is None:
        parser.error("name the folder of the tables with --tables or LAPTIME_TABLES")
    file = Path(__file__).parent / "results" / "estimate_beyond.json"
    figures: dict[str, Any] = {"tables": {}}
    if asked.add and file.exists():
        figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    environment = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "laptime": laptime.__version__,
        **code_of("estimate/learn"),
    }
    for split in splits(asked.tables, configurations=0, random=1):
        if split.kind != "largest sizes" or split.task in figures["tables"]:
            continue
        names = {"target": split.target, "features": split.features, "categorical": split.categorical}
        figures["tables"][split.task], shown = judge(split.train, split.test, **names, group=split.group)
        if split.task == "splitwise decode":
            by_batch = shown.group_by("batch_size").agg(
                pl.len().alias("rows"),
                pl.col("over_predicted").min().alias("least"),
                pl.col("over_predicted").median().alias("median"),
                pl.col("over_predicted").max().alias("most"),
            )
            figures["decode_by_batch"] = by_batch.sort("batch_size").to_dicts()
            figures["batches_seen"] = sorted(split.train["batch_size"].unique().to_list())
            print(by_batch)
        print(split.task, figures["tables"][split.task], flush=True)
        record("estimate_beyond", figures, environment)
    frame = read_table(SWEEP)
    columns = run_columns(frame, "vision_ms")
    (split,) = largest(frame["image_tokens"].to_numpy(), name="image_tokens")
    train, test = frame[split.train], frame[split.test]
    work = work_of_run(train, "vision_ms", columns.features, columns.categorical)
    names = {"target": "vision_ms", "features": columns.features, "group": columns.group}
    figures["tables"]["own sweep, vision"], _ = judge(train, test, **names, work=work)
    print("own sweep, vision", figures["tables"]["own sweep, vision"])
    print(record("estimate_beyond", figures, environment).name)


if __name__ == "__main__":
    main()
