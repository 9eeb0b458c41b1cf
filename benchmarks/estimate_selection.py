"""Does the configuration that a budget selects keep its promise?

python benchmarks/estimate_selection.py [--tables 10]

Simulated sweeps of crops, experts and blocks: time and accuracy grow with all three. In one world every configuration
is equally noisy, in the others accurate ones are noisier, up to heavy tails. An estimator is fitted on a few calls of
each configuration; then budgets from the fastest to the slowest are asked, and each one's most accurate feasible
configuration is judged by its true share of late calls (20,000 draws).
"""

from __future__ import annotations

import argparse
import os
import platform
from itertools import product
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl

import laptime
from recorded import record

CROPS, EXPERTS, BLOCKS = (1, 2, 4, 6, 9, 12), (2, 4, 6, 8), (8, 10, 12, 14, 16)
CALLS, DRAWS, BUDGETS, LEVEL = 8, 20_000, 40, 0.95
WORLDS = {
    "equally noisy": (0.05, 0.05, "normal"),
    "accurate ones noisier": (0.02, 0.15, "normal"),
    "accurate ones noisier, heavy tails": (0.02, 0.12, "t"),
    "accurate ones steadier": (0.15, 0.02, "normal"),
}
"""The spread of the least accurate and of the most accurate configuration, and the shape of the noise."""


def noise(shape: str, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Of unit scale; t has three degrees of freedom."""
    return rng.standard_normal(size) if shape == "normal" else rng.standard_t(3, size)


def judge(world: str, seed: int) -> dict[str, float]:
    """The late shares of the configurations that budgets select, and of all that are feasible."""
    low, high, shape = WORLDS[world]
    rng = np.random.default_rng(seed)
    grid = pl.DataFrame(list(product(CROPS, EXPERTS, BLOCKS)), schema=["crops", "experts", "blocks"], orient="row")
    crops, experts, blocks = (grid[name].to_numpy().astype(float) for name in grid.columns)
    middle = 20 + 4 * crops + blocks * (1 + 0.6 * experts + 0.3 * crops)
    accuracy = 0.4 + 0.2 * np.log(crops) / np.log(12) + 0.1 * experts / 8 + 0.2 * blocks / 16
    accuracy += rng.normal(0, 0.01, len(accuracy))
    rank = accuracy.argsort().argsort() / (len(accuracy) - 1)
    spread = low * (high / low) ** rank
    times = middle[:, None] * np.exp(spread[:, None] * noise(shape, (len(middle), CALLS), rng))
    table = pl.concat([grid.with_columns(took_ms=pl.Series(column)) for column in times.T])
    estimator = laptime.Estimator(target="took_ms", features=grid.columns, group=grid.columns, seed=seed).fit(table)
    true = middle[:, None] * np.exp(spread[:, None] * noise(shape, (len(middle), DRAWS), rng))
    bound, asked = estimator.quantile(grid, LEVEL), grid.with_columns(accuracy=pl.Series(accuracy))
    late_of: dict[str, list[float]] = {"chosen": [], "at the asked confidence": [], "feasible": []}
    lost: list[float] = []
    for budget in np.quantile(middle, np.linspace(0.05, 0.98, BUDGETS)):
        report = laptime.budget(estimator, asked, float(budget), confidence=LEVEL, accuracy="accuracy")
        if report.best is None:
            continue
        late = (true > budget).mean(axis=1)
        feasible = np.flatnonzero(bound <= budget)
        plain = feasible[accuracy[feasible].argmax()]
        row = next(i for i, config in enumerate(grid.iter_rows(named=True)) if config == report.best.config)
        late_of["chosen"].append(late[row])
        late_of["at the asked confidence"].append(late[plain])
        late_of["feasible"].append(late[feasible].mean())
        lost.append(accuracy[plain] - accuracy[row])
    found = {"lost_accuracy": float(np.mean(lost)), "budgets": len(lost)}
    for name, shares in late_of.items():
        found[f"late, {name}"] = float(np.mean(shares))
        found[f"over, {name}"] = float(np.mean(np.array(shares) > 1 - LEVEL))
        found[f"over twice, {name}"] = float(np.mean(np.array(shares) > 2 * (1 - LEVEL)))
    return found


def main() -> None:
    """Print a row for each world and write benchmarks/results/estimate_selection.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10, help="tables a world")
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    for world in WORLDS:
        each = [judge(world, seed) for seed in range(asked.tables)]
        figures[world] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        print(world, {name: round(value, 4) for name, value in figures[world].items()}, flush=True)
    environment = {"python": platform.python_version(), "laptime": laptime.__version__, "tables": asked.tables}
    print(record("estimate_selection", figures, environment).name)


if __name__ == "__main__":
    main()
