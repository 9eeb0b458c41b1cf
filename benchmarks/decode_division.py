"""What dividing decode by N instead of N - 1 does to its R2, beside the largest R2 that can be reached.

python benchmarks/decode_division.py [--table benchmarks/data/molmoe-1b-h200.parquet]

1. A simulation. Configurations (crops x top-k x blocks) with their own step time, answers of 2 to 40 tokens as visual
   questions get them, 3 % noise. N tokens need N - 1 decode steps. Decode / N makes short answers look fast by up to a
   factor of two; that spread looks like noise within a configuration, and no predictor of configurations explains it.
   Decode / (N - 1) is what it should be. The same estimator on both, judged on configurations it has not seen.
2. The same of a measured sweep, where there is one: vision, prefill, decode by N and by N - 1, and total.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import laptime
from laptime.estimate.estimator import Estimator
from laptime.estimate.judge.ceiling import ceiling_from_cv
from laptime.estimate.judge.evaluation import cross_evaluate
from laptime.estimate.judge.evaluation_result import Evaluation
from laptime.estimate.judge.splits import by_group
from laptime.estimate.table.reading import Columns, read_table, run_columns, usable_rows
from recorded import record

ANSWERS = {2: 0.15, 3: 0.12, 4: 0.12, 5: 0.11, 7: 0.15, 9: 0.15, 15: 0.1, 25: 0.06, 40: 0.04}
"""Tokens of an answer with their shares: a yes or no is two, the end included."""
SWEEP = Path(__file__).parent / "data" / "molmoe-1b-h200.parquet"
SEEDS = 20


def simulated() -> pl.DataFrame:
    """27 configurations of 40 answers; the columns of a laptime frame."""
    rng = np.random.default_rng(0)
    rows = []
    for crops in (2, 6, 12):
        for top_k in (2, 4, 8):
            for blocks in (8, 12, 16):
                step = 12 + 2.67 * blocks * (0.75 + 0.06 * top_k)
                for n in rng.choice(list(ANSWERS), 40, p=list(ANSWERS.values())):
                    decode = (n - 1) * step * np.exp(0.03 * rng.normal())
                    name = f"{crops}-{top_k}-{blocks}"
                    rows.append((name, crops, top_k, blocks, int(n), decode / n, decode / (n - 1)))
    names = ["config_id", "crops", "config.top_k", "config.blocks", "output_tokens", "by_n_ms", "decode_per_token_ms"]
    return pl.DataFrame(rows, schema=names, orient="row")


def judged(table: pl.DataFrame, columns: Columns, seeds: int) -> Evaluation:
    """The estimator on configurations it has not seen, 20 % of them, once for each seed."""

    def fit(rows: pl.DataFrame, seed: int) -> Estimator:
        estimator = Estimator(
            target=columns.target,
            features=columns.features,
            categorical=columns.categorical,
            group=columns.group,
            seed=seed,
        )
        return estimator.fit(rows)

    return cross_evaluate(fit, table, by_group("new-config", table["config_id"].to_numpy(), seeds=range(seeds)))


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """The scores of one target."""
    split = evaluation.splits[0]
    r2, most = split.metrics["r2"], split.reachable_r2
    return {
        "cv_overall": evaluation.ceiling.cv_overall if evaluation.ceiling else None,
        "cv_within": evaluation.ceiling.cv_within if evaluation.ceiling else None,
        "ceiling": evaluation.ceiling,
        "r2": r2,
        "reachable_r2": most,
        "share_of_reachable": r2.mean / most.mean if most else None,
        "mape": split.metrics["mape"],
        "p95_coverage": split.metrics["coverage"],
        "bound_over_actual": split.metrics["width"],
    }


def show(name: str, scores: dict[str, Any]) -> None:
    """One line."""
    within, overall = scores["cv_within"] or 0, scores["cv_overall"] or 0
    reach = scores["reachable_r2"].mean if scores["reachable_r2"] else float("nan")
    print(
        f"{name:24s} CV {overall:6.1%} within {within:6.1%} | R2 {scores['r2'].mean:6.3f} of at most {reach:.3f} "
        f"({scores['share_of_reachable'] or float('nan'):.1%}) | MAPE {scores['mape'].mean:.1%} | "
        f"P95 holds {scores['p95_coverage'].mean:.1%}, {scores['bound_over_actual'].mean:.2f} wide",
        flush=True,
    )


def by_tokens(table: pl.DataFrame, by_n: str) -> list[dict[str, Any]]:
    """Mean time per token of answers of each length, divided both ways."""
    count = pl.col("output_tokens")
    bins = (
        pl.when(count <= 2).then(pl.lit("2")).when(count <= 5).then(pl.lit("3-5")).when(count <= 10)
        .then(pl.lit("6-10")).when(count <= 20).then(pl.lit("11-20")).otherwise(pl.lit("21+")).alias("tokens")
    )  # fmt: skip
    right = pl.col("decode_per_token_ms").mean().alias("by N - 1")
    return (
        table.group_by(bins)
        .agg(pl.len().alias("rows"), pl.col(by_n).mean().alias("by N"), right)
        .sort(pl.col("by N"))
        .to_dicts()
    )


def main() -> None:
    """Print both parts and write benchmarks/results/decode_division.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=SWEEP)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args()
    most = ceiling_from_cv(0.299, 0.195)
    print(f"a CV of 29.9 % and 19.5 % within: an R2 of {most:.2f} at most; 0.25 is {0.2483 / most:.0%} of that")
    table = simulated()
    figures: dict[str, Any] = {"example": {"ceiling": ceiling_from_cv(0.299, 0.195)}, "simulated": {}, "measured": {}}
    for target in ("by_n_ms", "decode_per_token_ms"):
        columns = Columns(target, ["crops", "config.top_k", "config.blocks"], [], ["config_id"])
        figures["simulated"][target] = figures_of(judged(table, columns, asked.seeds))
        show(f"simulated {target}", figures["simulated"][target])
    figures["simulated"]["by_tokens"] = by_tokens(table, "by_n_ms")
    _print_bins(figures["simulated"]["by_tokens"])
    if asked.table.exists():
        frame = read_table(asked.table)
        frame = frame.with_columns((pl.col("decode_ms") / pl.col("output_tokens")).alias("by_n_ms"))
        for target in ("vision_ms", "prefill_ms", "by_n_ms", "decode_per_token_ms", "total_ms"):
            columns = run_columns(frame, target)
            rows = usable_rows(frame, [target, *columns.features, *columns.categorical])
            figures["measured"][target] = figures_of(judged(rows, columns, asked.seeds))
            show(f"measured {target}", figures["measured"][target])
        figures["measured"]["by_tokens"] = by_tokens(usable_rows(frame, ["decode_per_token_ms"]), "by_n_ms")
        _print_bins(figures["measured"]["by_tokens"])
    else:
        print(f"no measured sweep at {asked.table.name}: the second part is left out")
    environment = {"python": platform.python_version(), "numpy": np.__version__, "laptime": laptime.__version__}
    print(record("decode_division", figures, environment).name)


def _print_bins(bins: list[dict[str, Any]]) -> None:
    for row in bins:
        by_n, right = row["by N"], row["by N - 1"]
        print(f"  {row['tokens']!s:>6} tokens ({row['rows']:4d}): by N {by_n:6.1f} ms, by N - 1 {right:6.1f} ms")


if __name__ == "__main__":
    main()
