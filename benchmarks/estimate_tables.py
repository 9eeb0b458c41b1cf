"""How well does laptime.Estimator predict public latency tables, and do its P95 bounds hold? Beside it, its peers.

python benchmarks/estimate_tables.py --tables FOLDER [--configurations 20] [--random 3] [--minutes 5]

One automatic procedure for all tables: nothing is set for one of them. Beside it in each row, on the same training
rows: Vidur's random forest (scikit-learn, 500 trees, depth 32, the setting that its own grid search picks), and plain
quantile boosting (LightGBM, alpha 0.95) for the bound. Choice and calibration see training rows only.

With `--minutes` it stops after so many, and the same command goes on with the splits that are missing. A file of
another code (a hash of src/laptime/estimate/learn is in it) is begun anew, so that all figures are of one.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from laptime.data.stats import Floats

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import lightgbm
import numpy as np
import sklearn
from latency_tables import Split, splits
from sklearn.ensemble import RandomForestRegressor

import laptime
from recorded import code_of, known, record

TARGETS = {  # MAPE of the point prediction, in %
    ("splitwise decode", "new configurations", "20 %"): 1.7,
    ("splitwise prefill", "new configurations", "20 %"): 9.9,
    ("vidur attention decode", "random", "20 %"): 1.2,
    ("vidur attention decode", "largest sizes", "top 20 % of batch x KV"): 2.2,
    ("vidur mlp", "largest sizes", "tokens > 2048"): 3.6,
    ("vidur mlp", "held-out group", "meta-llama_Llama-2-70b-hf"): 2.3,
}


def judge(split: Split) -> dict[str, Any]:
    """Errors, coverage and width of one split, ours and the peers'."""
    train, test = split.train, split.test
    truth = test[split.target].to_numpy()
    began = time.perf_counter()
    estimator = laptime.Estimator(
        target=split.target,
        features=split.features,
        categorical=split.categorical,
        group=split.group,
        seed=split.seed,
    ).fit(train, threads=2)
    took_s = time.perf_counter() - began
    x_train, x_test = _matrix(split, train), _matrix(split, test)
    y_train = train[split.target].to_numpy()
    forest = RandomForestRegressor(n_estimators=500, max_depth=32, random_state=split.seed, n_jobs=2)
    forest.fit(x_train, y_train)
    boosted = lightgbm.LGBMRegressor(
        objective="quantile", alpha=0.95, n_estimators=300, random_state=split.seed, n_jobs=2, verbose=-1
    )
    boosted.fit(x_train, y_train)
    support = estimator.support(test)
    asked = max({one.question for one in support}, key=[one.question for one in support].count)
    choice = next((c.candidate for c in estimator.card.choices if c.question == asked), asked)
    return {
        "mape": 100 * _mape(estimator.predict(test), truth),
        "forest_mape": 100 * _mape(forest.predict(x_test), truth),
        **_bound("", estimator.quantile(test, 0.95), truth),
        **_bound("boosted_", boosted.predict(x_test), truth),
        "fit_s": took_s,
        "train_rows": len(train),
        "test_rows": len(test),
        "question": asked,
        "regressor": choice,
        "outside_share": sum(one.where != "inside" for one in support) / len(support),
    }


def _matrix(split: Split, frame: Any) -> Floats:
    columns = [frame[name].cast(float).to_numpy() for name in split.features]
    for name in split.categorical:
        known = sorted(split.frame[name].unique())
        columns.append(np.array([known.index(value) for value in frame[name]], dtype=np.float64))
    return np.column_stack(columns)


def _mape(predicted: Floats, truth: Floats) -> float:
    return float(np.mean(np.abs(predicted / truth - 1)))


def _bound(name: str, bound: Floats, truth: Floats) -> dict[str, float]:
    """Coverage over the rows that a bound was given for, its mean ratio to the actual time, and the share without."""
    given = np.isfinite(bound)
    if not given.any():
        return {f"{name}coverage": 100.0, f"{name}width": float("nan"), f"{name}abstained": 1.0}
    return {
        f"{name}coverage": 100 * float(np.mean(truth[given] <= bound[given])),
        f"{name}width": float(np.mean(bound[given] / truth[given])),
        f"{name}abstained": 1 - float(np.mean(given)),
    }


def main() -> None:
    """Print a row for each question and write benchmarks/results/estimate_tables.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("LAPTIME_TABLES"))
    parser.add_argument("--configurations", type=int, default=20, help="splits of new configurations")
    parser.add_argument("--random", type=int, default=3, help="seeds of the other splits")
    parser.add_argument("--only", default="", help="part of a task's name")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop before the first split after so many")
    asked = parser.parse_args()
    if asked.tables is None:
        parser.error("name the folder of the tables with --tables or LAPTIME_TABLES")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "lightgbm": lightgbm.__version__,
        "scikit_learn": sklearn.__version__,
        "laptime": laptime.__version__,
        "cpus": os.cpu_count(),
        **code_of("estimate/learn"),
    }
    name = "estimate_tables" + (f"-{asked.only.replace(' ', '_')}" if asked.only else "")
    before = known(name, {"code": environment["code"]})
    judged: list[dict[str, Any]] = before["figures"]["splits"] if before else []
    done = {tuple(one["key"]) for one in judged}
    end = time.monotonic() + 60 * asked.minutes
    for split in splits(asked.tables, configurations=asked.configurations, random=asked.random, only=asked.only):
        key = (split.task, split.kind, split.name, split.seed)
        if key in done:
            continue
        if time.monotonic() > end:
            print(f"stopped after {len(judged)} splits; the same command goes on")
            return
        judged.append({"key": list(key), **judge(split)})
        print(split.task, "|", split.name, split.seed, {k: _short(v) for k, v in judged[-1].items()}, flush=True)
        record(name, _report(judged), environment)
    figures = _report(judged)
    print(
        f"\n{'':72}{'MAPE % (target)':>20}{'forest':>9}{'P95 cover':>11}{'/actual':>11}{'boosted':>11}{'/actual':>11}"
    )
    for row in figures["rows"]:
        bounds = [f"{row[name]['mean']:{form}}" if name in row else "none given" for name, form in BOUNDS]
        what = f"{row['task']}: {row['kind']}, {row['split']} ({row['splits']}x)"
        target = f" ({row['target']})" if row["target"] else ""
        print(
            f"{what:72}{row['mape']['mean']:13.2f}{target:>7}{row['forest_mape']['mean']:9.2f}"
            + "".join(f"{bound:>11}" for bound in bounds)
        )
    for kind, values in figures["by_kind"].items():
        print(
            f"{kind}: P95 covers {values['coverage']['mean']:.1f} %, bound/actual {values['width']['mean']:.3f}, "
            f"no bound for {100 * values['abstained']['mean']:.1f} % of the rows"
        )
    print(record(name, figures, environment).name)


def _report(judged: list[dict[str, Any]]) -> dict[str, Any]:
    """What is recorded: a row for each question, a summary of each kind, and every split."""
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in judged:
        rows[tuple(one["key"][:3])].append(one)
    kinds = {kind: [one for one in judged if one["key"][1] == kind] for kind in KINDS}
    return {
        "rows": [_figures(key, found) for key, found in rows.items()],
        "by_kind": {kind: _spread(found) for kind, found in kinds.items() if found},
        "splits": judged,
    }


BOUNDS = (("coverage", ".1f"), ("width", ".3f"), ("boosted_coverage", ".1f"), ("boosted_width", ".3f"))
KINDS = ("new configurations", "random", "largest sizes", "held-out group")
NUMBERS = ("mape", "forest_mape", "coverage", "width", "abstained", "boosted_coverage", "boosted_width", "fit_s")


def _figures(key: tuple[str, str, str], found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "task": key[0],
        "kind": key[1],
        "split": key[2],
        "splits": len(found),
        "target": TARGETS.get(key),
        **_spread(found),
        "train_rows": found[0]["train_rows"],
        "test_rows": found[0]["test_rows"],
        "regressors": [one["regressor"] for one in found],
        "questions": [one["question"] for one in found],
        "outside_share": float(np.mean([one["outside_share"] for one in found])),
    }


def _spread(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and ends over splits; coverage and width over the splits in which a bound was given at all."""
    spread = {}
    for name in NUMBERS:
        values = [one[name] for one in found if name not in ("coverage", "width") or one["abstained"] < 1]
        if values:
            spread[name] = {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}
    return spread


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
