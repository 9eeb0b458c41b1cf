"""A small latency table with a known law: work over rate plus overhead, jagged by tiles, 2 % noise, three GPUs."""

from __future__ import annotations

import numpy as np
import polars as pl

SPEED = {"fast": 0.5, "middle": 0.8, "slow": 1.0}
FEATURES = ["batch", "context"]


def true_ms(batch: float, context: float, gpu: str) -> float:
    """The law: 6 ms, a cost per cached token, and a step for every 16 rows of the batch."""
    return SPEED[gpu] * (6.0 + 0.0005 * batch * context + 0.8 * np.ceil(batch / 16))


def latency_table(configs: int = 90, repeats: int = 2, *, seed: int = 0, noise: float = 0.02) -> pl.DataFrame:
    """`configs` drawn configurations, each measured `repeats` times."""
    rng = np.random.default_rng(seed)
    rows = []
    for config in range(configs):
        batch, context = int(2 ** rng.integers(0, 7)), int(rng.integers(4, 64) * 32)
        gpu = list(SPEED)[config % 3]
        for _ in range(repeats):
            ms = true_ms(batch, context, gpu) * float(np.exp(noise * rng.standard_normal()))
            rows.append({"config": f"c{config}", "batch": batch, "context": context, "gpu": gpu, "ms": ms})
    return pl.DataFrame(rows)
