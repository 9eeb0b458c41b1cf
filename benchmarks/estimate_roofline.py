"""Do columns of work (FLOPs, bytes, launches) from a model's configuration help? The same run, the same splits.

python benchmarks/estimate_roofline.py [--seeds 10]

The sweep of MolmoE-1B's shapes on an H200. `with`: as `laptime fit RUN` does, the work offered to the choice of
regressor; `without`: products of the sizes only. Held out: 20 % of the configurations, the largest sizes, and each tier
of image detail, depth and top-k in turn.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import lightgbm
import numpy as np
import polars as pl

import laptime
from laptime.estimate.estimator import Estimator
from laptime.estimate.judge import splits
from laptime.estimate.judge.evaluation import cross_evaluate
from laptime.estimate.roofline.work import work_of_run
from laptime.estimate.table.reading import Columns, read_table, run_columns, usable_rows
from recorded import record

SWEEP = Path(__file__).parent / "data" / "molmoe-1b-h200.parquet"
TARGETS = ("vision_ms", "prefill_ms", "decode_per_token_ms", "total_ms")
LEVELS = ("config.tier", "config.blocks", "config.top_k")
FIGURES = ("mape", "r2", "coverage", "width")


def ways(table: pl.DataFrame, columns: Columns, seeds: int) -> list[splits.Split]:
    """Every way of holding out, each under its own name."""
    sizes = {name: table[name].to_numpy() for name in columns.features}
    by = splits.growing(sizes, table[columns.target].to_numpy())
    found = list(splits.by_group("new-config", table["config_id"].to_numpy(), seeds=range(seeds)))
    found += splits.largest(splits.product([sizes[name] for name in by]), name=" x ".join(by))
    for name in LEVELS:
        found += [one._replace(kind=f"held-out {name}") for one in splits.held_out(name, table[name].to_list())]
    return found


def judged(table: pl.DataFrame, columns: Columns, planned: list[splits.Split], offered: bool) -> dict[str, Any]:
    """Scores by kind of split, and how often each question was answered by a roofline of work."""
    chosen: list[str] = []

    def fit(rows: pl.DataFrame, seed: int) -> Estimator:
        work = work_of_run(rows, columns.target, columns.features, columns.categorical) if offered else None
        made = Estimator(
            target=columns.target,
            features=columns.features,
            categorical=columns.categorical,
            group=columns.group,
            work=work,
            seed=seed,
        ).fit(rows, threads=2)
        chosen.extend(f"{one.question}: {one.candidate}" for one in made.card.choices)
        return made

    found = cross_evaluate(fit, table, planned)
    told: dict[str, Any] = {}
    for split in found.splits:
        told[split.kind] = {name: split.metrics[name].mean for name in FIGURES if name in split.metrics}
        told[split.kind]["abstained"] = split.abstained
        reach = split.reachable_r2
        told[split.kind]["share_of_reachable"] = split.metrics["r2"].mean / reach.mean if reach else None
    return {"splits": told, "choices": {name: chosen.count(name) for name in sorted(set(chosen))}}


def main() -> None:
    """Print both beside each other and write benchmarks/results/estimate_roofline.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    frame = read_table(SWEEP)
    figures: dict[str, Any] = {}
    for target in TARGETS:
        columns = run_columns(frame, target)
        table = usable_rows(frame, [target, *columns.features, *columns.categorical])
        planned = ways(table, columns, asked.seeds)
        figures[target] = {
            name: judged(table, columns, planned, offered) for name, offered in (("with", True), ("without", False))
        }
        for kind in figures[target]["with"]["splits"]:
            both = [figures[target][name]["splits"][kind] for name in ("with", "without")]
            cells = [" -> ".join(f"{one[name]:.4f}" for one in reversed(both)) for name in FIGURES]
            print(
                target,
                kind,
                *(f"{name} {cell}" for name, cell in zip(FIGURES, cells, strict=True)),
                sep=" | ",
                flush=True,
            )
    environment = {
        "python": platform.python_version(), "numpy": np.__version__, "lightgbm": lightgbm.__version__,
        "laptime": laptime.__version__, "platform": platform.platform(),
    }  # fmt: skip
    print(record("estimate_roofline", figures, environment).name)


if __name__ == "__main__":
    main()
