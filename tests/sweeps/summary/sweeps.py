"""Made sweeps: a grid of knobs, times that follow a rule, and the noise that the test asks for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from laptime.data.record import config_id

Rule = Callable[[Mapping[str, Any], str], float]
STAGES = ("vision", "prefill", "decode", "other")
PARTS = {"vision": 10.0, "prefill": 20.0, "decode": 60.0, "other": 10.0}


def ten_times(config: Mapping[str, Any], stage: str) -> float:
    """Every stage takes as long as PARTS says, whatever the configuration."""
    return PARTS[stage]


def sweep(
    grid: Mapping[str, Sequence[Any]],
    rule: Rule = ten_times,
    *,
    inputs: int = 8,
    repeats: int = 1,
    noise: float = 0.0,
    between_inputs: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """A full grid, one row a call in random order. `noise` and `between_inputs` are spreads of logarithms."""
    draw = np.random.default_rng(seed)
    size = np.exp(draw.normal(0, between_inputs, inputs))
    configs = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    keys = list(itertools.product(range(len(configs)), range(inputs), range(repeats)))
    draw.shuffle(keys)
    rows = []
    for number, (c, i, repeat) in enumerate(keys):
        config = configs[c]
        ms = {s: rule(config, s) * float(size[i] * np.exp(draw.normal(0, noise))) for s in STAGES}
        total = sum(ms.values())
        row = {"config_id": config_id(config), "sample_id": f"{i:04d}", "repeat": repeat, "total_ms": total}
        row |= {f"{stage}_ms": value for stage, value in ms.items()}
        row |= {"ttft_ms": ms["vision"] + ms["prefill"], "output_tokens": 5, "flags": ""}
        row |= {"decode_per_token_ms": ms["decode"] / 4, "tpot_ms": ms["decode"] / 4}
        row |= {"started_unix_ms": 1e12 + 1000.0 * number}
        rows.append(row | {f"config.{name}": value for name, value in config.items()})
    return pl.DataFrame(rows)


def visited_sweep(
    grid: Mapping[str, Sequence[Any]],
    rule: Rule = ten_times,
    *,
    rounds: int,
    repeats: int = 1,
    inputs: int = 8,
    visit_noise: float = 0.0,
    noise: float = 0.005,
    between_inputs: float = 0.3,
    seed: int = 0,
) -> pl.DataFrame:
    """A sweep as `laptime sweep` orders it, with a warm-up in each visit; a visit's calls share its deviation.

    The spreads are of logarithms. Only the total is known.
    """
    draw = np.random.default_rng(seed)
    size = draw.normal(0, between_inputs, inputs)
    configs = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    pairs = [(unit, repeat) for repeat in range(repeats) for unit in range(inputs)]
    rows: list[dict[str, Any]] = []
    for number in range(rounds):
        share = pairs[len(pairs) * number // rounds : len(pairs) * (number + 1) // rounds]
        for c in draw.permutation(len(configs)):
            config, deviation = configs[c], draw.normal(0, visit_noise)
            for unit, repeat in [(share[0][0], -1 - number), *share]:
                plain = sum(rule(config, s) for s in STAGES)
                ms = float(plain * np.exp(size[unit] + deviation + draw.normal(0, noise))) * (2 if repeat < 0 else 1)
                row = {"config_id": config_id(config), "sample_id": f"{unit:04d}", "repeat": repeat, "total_ms": ms}
                row |= {"worker": "0", "started_unix_ms": 1e12 + 1000.0 * len(rows)}
                row |= {"flags": "cold" if repeat < 0 else ""}
                rows.append(row | {f"config.{name}": value for name, value in config.items()})
    return pl.DataFrame(rows)
