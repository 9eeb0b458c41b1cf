"""Does P95 hold on every table and every way of holding rows out, how wide is it, and how often is there none?

python benchmarks/estimate_splits.py --tables FOLDER [--rows 600] [--only gemm] [--kind largest] [--minutes 5] [--ours]
python benchmarks/estimate_splits.py --tables FOLDER --others --name estimate_others
python benchmarks/estimate_splits.py --tables FOLDER --devices --name estimate_devices

Beside laptime.Estimator, on the same rows: a forest, LightGBM and (where it is installed) CatBoost, each with split
conformal and with CQR; a fifth of the training rows calibrates. CQR of the forest uses the quantiles of its trees, the
other two a quantile loss (Romano et al. 2019). Choice and calibration see training rows only, and nothing is set for
one table. With `--minutes` it stops after so many, and the same command (or one for another piece) goes on with the
splits that are missing; a file of another code (it has a hash of src/laptime/estimate/learn) or of other rows is begun
anew. `--ours` judges laptime again where the file's figures are of another code, and keeps the peers' (the rows are the
same). `--others`, `--devices`: the tables of benchmarks/other_tables.py and benchmarks/device_tables.py, laptime alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import lightgbm
import numpy as np
import sklearn
from device_tables import device_tables
from further_tables import latency_tables, table_splits
from latency_tables import Split
from other_tables import other_tables
from sklearn.ensemble import RandomForestRegressor

import laptime
from recorded import code_of, known, record

try:
    import catboost
except ImportError:  # a peer, not one of laptime's own needs
    catboost = None

FIT_LIMIT_S = 600
Predict = Callable[[np.ndarray], np.ndarray]
LEVEL = 0.95


def judge(split: Split, *, peers: bool = True) -> dict[str, Any]:
    """Error, coverage, width and the share without a bound of one split, ours and the peers'."""
    truth = split.test[split.target].to_numpy()
    began = time.perf_counter()
    estimator = laptime.Estimator(
        target=split.target, features=split.features, categorical=split.categorical, group=split.group, seed=0
    ).fit(split.train, threads=2)
    took_s = time.perf_counter() - began
    asked = [one.question for one in estimator.support(split.test)]
    return {
        "laptime": _figures(estimator.predict(split.test), estimator.quantile(split.test, LEVEL), truth)
        | {"fit_s": took_s, "questions": {name: asked.count(name) for name in sorted(set(asked))}},
        **(_peers(split, truth) if peers else {}),
        "train_rows": len(split.train),
        "test_rows": len(truth),
    }


def _peers(split: Split, truth: np.ndarray) -> dict[str, dict[str, Any]]:
    x, x_test = _matrix(split, split.train), _matrix(split, split.test)
    y = np.log(split.train[split.target].to_numpy())
    out = np.random.default_rng(0).random(len(y)) < 0.2
    forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, random_state=0, n_jobs=2).fit(x[~out], y[~out])
    ways: dict[str, tuple[Predict, Predict]] = {"forest": (forest.predict, lambda rows: _tree_quantile(forest, rows))}
    boosted = {"random_state": 0, "n_estimators": 300, "n_jobs": 2, "verbose": -1}
    ways["lightgbm"] = (
        lightgbm.LGBMRegressor(**boosted).fit(x[~out], y[~out]).predict,
        lightgbm.LGBMRegressor(objective="quantile", alpha=LEVEL, **boosted).fit(x[~out], y[~out]).predict,
    )
    if catboost is not None:
        few = {"iterations": 300, "random_seed": 0, "thread_count": 2, "verbose": False, "allow_writing_files": False}
        ways["catboost"] = (
            catboost.CatBoostRegressor(**few).fit(x[~out], y[~out]).predict,
            catboost.CatBoostRegressor(loss_function=f"Quantile:alpha={LEVEL}", **few).fit(x[~out], y[~out]).predict,
        )
    found = {}
    for name, (middle, high) in ways.items():
        median = middle(x_test)
        found[f"{name}_split"] = _figures(np.exp(median), np.exp(median + _conformal(y[out] - middle(x[out]))), truth)
        found[f"{name}_cqr"] = _figures(np.exp(median), np.exp(high(x_test) + _conformal(y[out] - high(x[out]))), truth)
    return found


def _tree_quantile(forest: RandomForestRegressor, x: np.ndarray) -> np.ndarray:
    return np.quantile([tree.predict(x) for tree in forest.estimators_], LEVEL, axis=0)


def _conformal(residuals: np.ndarray) -> float:
    return float(np.append(np.sort(residuals), np.inf)[int(np.ceil((len(residuals) + 1) * LEVEL)) - 1])


def _matrix(split: Split, frame: Any) -> np.ndarray:
    columns = [frame[name].cast(float).to_numpy() for name in split.features]
    for name in split.categorical:
        known = sorted(split.train[name].unique())
        columns.append(np.array([known.index(v) if v in known else -1 for v in frame[name]], dtype=np.float64))
    return np.column_stack(columns)


def _figures(median: np.ndarray, bound: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """An infinite bound is none: it is counted as abstained, never as covered.

    "hindsight" is the width of predictions times the one factor that just covers the level, which nobody knows before.
    """
    given = np.isfinite(bound)
    return {
        "mape": float(np.mean(np.abs(median / truth - 1))),
        "coverage": float(np.mean(truth[given] <= bound[given])) if given.any() else None,
        "width": float(np.mean(bound[given] / truth[given])) if given.any() else None,
        "median_width": float(np.median(bound[given] / truth[given])) if given.any() else None,
        "abstained": float(1 - np.mean(given)),
        "hindsight": float(np.mean(median * np.quantile(truth / median, LEVEL, method="higher") / truth)),
    }


def _is_quick(split: Split, seen: list[str]) -> bool:
    by_size = split.kind == "largest fifth" and " x " not in split.name
    return split.kind not in seen and not by_size


def _stop(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    """Print a row for each split and write benchmarks/results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("LAPTIME_TABLES"))
    parser.add_argument("--only", default="", help="part of a table's name")
    parser.add_argument("--kind", default="", help="part of a way of holding out")
    parser.add_argument("--rows", type=int, default=600, help="rows that a table is drawn down to")
    parser.add_argument("--quick", action="store_true", help="by work instead of by each size, one split of a kind")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop before the first split after so many")
    parser.add_argument("--ours", action="store_true", help="judge laptime again, keep the peers' figures")
    parser.add_argument("--others", action="store_true", help="the tables of other_tables.py, without peers")
    parser.add_argument("--devices", action="store_true", help="the tables of device_tables.py, without peers")
    parser.add_argument("--name", default="estimate_splits")
    asked = parser.parse_args()
    if asked.tables is None:
        parser.error("name the folder of the tables with --tables or LAPTIME_TABLES")
    signal.signal(signal.SIGALRM, _stop)
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "lightgbm": lightgbm.__version__,
        "scikit_learn": sklearn.__version__,
        "laptime": laptime.__version__,
        "cpus": os.cpu_count(),
        "rows": asked.rows,
        "catboost": None if catboost is None else catboost.__version__,
        **code_of("estimate/learn"),
    }
    same = {"rows": asked.rows} | ({} if asked.ours else {"code": environment["code"]})
    before = known(asked.name, same)
    rows: list[dict[str, Any]] = before["figures"] if before else []
    if before and asked.ours:
        environment["catboost"] = before["environment"]["catboost"]  # the peers' figures are kept
    done = {(row["table"], row["split"]): row for row in rows}
    alone = asked.ours or asked.others or asked.devices
    tables = other_tables if asked.others else device_tables if asked.devices else latency_tables
    end = time.monotonic() + 60 * asked.minutes
    for table in tables(asked.tables, most_rows=asked.rows):
        seen: list[str] = []
        for split in table_splits(table) if asked.only in table.name else ():
            if asked.kind not in split.kind or (asked.quick and not _is_quick(split, seen)):
                continue
            seen.append(split.kind)
            old = done.get((table.name, split.name))
            if (old is None) == asked.ours or (old is not None and old.get("code") == environment["code"]):
                continue
            if time.monotonic() > end:
                print(f"stopped after {len(rows)} splits; the same command goes on")
                return
            row: dict[str, Any] = {"table": table.name, "kind": split.kind, "split": split.name}
            signal.alarm(FIT_LIMIT_S)
            try:
                row = (old or row) | judge(split, peers=not alone) | {"code": environment["code"]}
            except TimeoutError:
                row |= {"stopped": f"after {FIT_LIMIT_S} s"}
            except laptime.LaptimeError as error:
                row |= {"refused": str(error)}
            signal.alarm(0)
            rows = [row if one is old else one for one in rows] if asked.ours else [*rows, row]
            print(_line(row), flush=True)
            record(asked.name, rows, environment)  # what is there if it is stopped


def _line(row: dict[str, Any]) -> str:
    words = f"{row['table']} | {row['kind']} | {row['split']}: "
    if "laptime" not in row:
        return words + str(row.get("stopped") or row.get("refused"))
    for name in [name for name, one in row.items() if isinstance(one, dict)]:
        one = row[name]
        bound = "none" if one["coverage"] is None else f"{one['coverage']:.1%} at {one['width']:.2f}"
        words += f"{name} {bound}, none for {one['abstained']:.0%}, off by {one['mape']:.1%}; "
    return words + f"{row['laptime']['questions']}, {row['laptime']['fit_s']:.0f} s"


if __name__ == "__main__":
    main()
