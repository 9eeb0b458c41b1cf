"""From one GPU to the next with N samples: Splitwise's A100 estimator on its H100 rows.

python benchmarks/estimate_recalibration.py --tables FOLDER (or LAPTIME_TABLES; the table is splitwise_perf_model.csv
of Mutinifni/splitwise-sim, MIT)

An estimator is fitted on the A100 rows alone. Then N rows of N H100 configurations recalibrate it (of at most 70 % of
them, then some twice), and all rows of the other H100 configurations judge it; 100 draws for each N. Peers: the
estimator as it is, a shift alone, a line with its own in-sample residuals.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import laptime
from laptime.estimate.estimator import Estimator
from laptime.estimate.judge.evaluation_result import bound_scores, point_scores
from laptime.estimate.recalibration import recalibrate
from recorded import record

FEATURES = ["prompt_size", "batch_size", "token_size", "tensor_parallel"]
GROUP = ["model", "hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
SAMPLES = (10, 25, 50, 100)
DRAWS = 100


def main() -> None:
    """Print MAPE, coverage and width for each N and way, and write benchmarks/results/estimate_recalibration.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=Path(os.environ.get("LAPTIME_TABLES", "tables")))
    asked = parser.parse_args()
    table = pl.read_csv(asked.tables / "splitwise_perf_model.csv")
    figures: dict[str, Any] = {"draws": DRAWS, "q": 0.95, "targets": {}}
    for target in ("token_time", "prompt_time"):
        a100 = table.filter(pl.col("hardware").str.contains("a100"))
        h100 = table.filter(pl.col("hardware") == "h100-80gb")
        old = Estimator(target=target, features=FEATURES, categorical=["model"], group=GROUP).fit(a100)
        median, truth = old.predict(h100), h100[target].to_numpy()
        configs = np.unique(h100.select(GROUP).hash_rows().to_numpy(), return_inverse=True)[1]
        as_it_is = _scores(truth, median, old.quantile(h100, 0.95))
        rows = {"not recalibrated": as_it_is}
        print(target, "not recalibrated", as_it_is)
        for n in SAMPLES:
            for way in ("laptime", "shift alone", "line, in-sample residuals"):
                rng = np.random.default_rng(0)
                drawn = [_draw(rng, n, way, median, truth, configs) for _ in range(DRAWS)]
                rows[f"{n}, {way}"] = {key: float(np.mean([d[key] for d in drawn])) for key in drawn[0]}
                print(target, n, way, {k: round(v, 4) for k, v in rows[f"{n}, {way}"].items()})
        figures["targets"][target] = rows
    environment = {"python": platform.python_version(), "numpy": np.__version__, "laptime": laptime.__version__}
    print(record("estimate_recalibration", figures, environment).name)


def _draw(rng: np.random.Generator, n: int, way: str, median: Any, truth: Any, configs: Any) -> dict[str, float]:
    """One recalibration from n rows of n configurations, judged on all rows of the others."""
    chosen = rng.permutation(configs.max() + 1)[: min(n, int(0.7 * configs.max()))]
    sample = np.array([rng.choice(np.flatnonzero(configs == chosen[i % len(chosen)])) for i in range(n)])
    test = ~np.isin(configs, chosen)
    x, y, asked = np.log(median[sample]), np.log(truth[sample]), np.log(median[test])
    if way == "laptime":
        correction = recalibrate(median[sample], truth[sample])
        return _scores(truth[test], correction.median_ms(median[test]), correction.bound_ms(median[test], 0.95))
    slope, shift = (1.0, float(np.median(y - x))) if way == "shift alone" else np.polyfit(x, y, 1)
    left = y - slope * x - shift
    centre = slope * asked + shift
    return _scores(truth[test], np.exp(centre), np.exp(centre + np.quantile(left, 0.95)))


def _scores(truth: Any, median: Any, bound: Any) -> dict[str, float]:
    point, limit = point_scores(truth, median), bound_scores(truth, bound, 0.95)
    return {"mape": point.mape or 0.0, "coverage": limit.coverage or 0.0, "width": limit.width or 0.0}


if __name__ == "__main__":
    main()
