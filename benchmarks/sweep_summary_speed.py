"""How long a sweep of a million samples takes to summarise, beside the least that any summary has to do.

The peer is one polars group_by of the same frame: medians and 95th percentiles of the five stages by configuration.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import platform
import resource
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from laptime.sweeps.summary import summarise_sweep
from recorded import record

MEDIANS_MS = {"vision_ms": 10, "prefill_ms": 20, "decode_ms": 60, "other_ms": 1}
SHAPES: dict[str, tuple[dict[str, Sequence[Any]], int, int]] = {
    "54 configurations, 1850 inputs, 10 repeats": (
        {"tier": ["low", "medium", "high"], "top_k": [2, 4, 8], "blocks": [8, 12, 16], "prompt_tokens": [64, 256]},
        1850,
        10,
    ),
    "1080 configurations, 930 inputs, 1 repeat": (
        {
            "tier": ["low", "medium", "high"],
            "top_k": [1, 2, 3, 4, 6, 8],
            "blocks": [8, 10, 12, 14, 16],
            "prompt_tokens": [64, 256, 512],
            "batch": [1, 2, 4, 8],
        },
        930,
        1,
    ),
    "4500 configurations, 20 inputs, 11 repeats": (
        {
            "tier": ["low", "medium", "high"],
            "top_k": [1, 2, 3, 4, 6, 8],
            "blocks": [8, 10, 12, 14, 16],
            "prompt_tokens": [64, 256, 512, 1024, 2048],
            "batch": [1, 2, 4, 8, 16],
            "dtype": ["bfloat16", "float16"],
        },
        20,
        11,
    ),
}


def sweep_frame(grid: dict[str, Sequence[Any]], inputs: int, repeats: int) -> pl.DataFrame:
    """A full grid's frame in random order."""
    draw = np.random.default_rng(0)
    combinations = list(itertools.product(*grid.values()))
    each = inputs * repeats
    order = draw.permutation(len(combinations) * each)
    config, unit, repeat = order // each, order % each // repeats, order % repeats
    n = len(order)
    slow = draw.uniform(1, 5, len(combinations))[config]
    ms = {name: part * slow * draw.lognormal(0, 0.02, n) for name, part in MEDIANS_MS.items()}
    total = sum(ms.values())
    text = {
        "config_id": np.array([f"{c:012x}" for c in range(len(combinations))])[config],
        "sample_id": np.array([f"{u:06d}" for u in range(inputs)])[unit],
    }
    numbers = {
        "repeat": repeat,
        "total_ms": total,
        "ttft_ms": ms["vision_ms"] + ms["prefill_ms"],
        "tpot_ms": ms["decode_ms"] / 10,
        "decode_per_token_ms": ms["decode_ms"] / 10,
        "output_tokens": np.full(n, 11),
        "crops": draw.integers(1, 16, n),
        "image_tokens": np.full(n, 576),
        "memory_peak_bytes": np.full(n, 10**9),
        "energy_j": total / 10,
        "started_unix_ms": 1.7e12 + np.arange(n) * 100.0,
        "score": draw.choice([0, 0.3, 0.6, 0.9, 1.0], n),
    }
    knobs = {
        f"config.{name}": pl.Series([c[place] for c in combinations])[config.tolist()]
        for place, name in enumerate(grid)
    }
    return pl.DataFrame({**text, **ms, **numbers, "flags": np.full(n, ""), **knobs})


def least(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("config_id").agg(
        *(pl.col(name).median() for name in MEDIANS_MS),
        *(pl.col(name).quantile(0.95).alias(f"{name}_95") for name in MEDIANS_MS),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    summarise_sweep(sweep_frame({"batch": [1, 2]}, 8, 1))  # imports
    print(f"{'':44} {'samples':>9} {'summary':>9} {'group_by':>9} {'ratio':>6}")
    for name, (grid, inputs, repeats) in SHAPES.items():
        frame = sweep_frame(grid, inputs, repeats)
        seconds: dict[str, list[float]] = {"summary": [], "group_by": []}
        for _ in range(options.repeats):
            for way, what in (("summary", summarise_sweep), ("group_by", least)):
                gc.collect()
                start = perf_counter()
                what(frame)
                seconds[way].append(perf_counter() - start)
        best = {way: min(values) for way, values in seconds.items()}
        ratio = best["summary"] / best["group_by"]
        figures[name] = {"samples": frame.height, **{w: round(s, 3) for w, s in best.items()}, "ratio": round(ratio, 1)}
        print(f"{name:44} {frame.height:9,} {best['summary']:7.2f} s {best['group_by']:7.2f} s {ratio:6.1f}")
    figures["memory_peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    print(f"peak memory, the frames included: {figures['memory_peak_mb']} MB")
    environment = {"python": platform.python_version(), "polars": pl.__version__, "platform": platform.platform()}
    print(record("sweep_summary_speed", figures, environment).name)


if __name__ == "__main__":
    main()
