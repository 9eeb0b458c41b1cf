"""Do a sweep summary's intervals hold what they promise? Simulated sweeps whose truth is known, beside other ways.

A knob of three values beside another of three; a call's time is its configuration's times the input's times noise. An
input may react to the knob more or less than others (`reaction`): then its calls under the nine settings are not nine
pieces of news. Coverage is how often the 95 % interval of the knob's ratio holds the true one; width is its median
width. "every pair" is the same interval over all pairs as if each were news; "bootstrap" draws inputs, as whole
clusters, 400 times. Sweeps whose visits have noise of their own are those of visited_sweep.py.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from math import comb

import numpy as np

from laptime.data.stats import CONFIDENCE, Floats, accuracy, factor_interval
from laptime.sweeps.summary.effects import WORTH_SAYING
from laptime.sweeps.summary.matched import unit_values
from recorded import record
from visited_sweep import visited

Way = Callable[[Floats, np.random.Generator], tuple[float, float]]

OTHERS = 3
TRUTH = np.log(1.2)


def pairs(draw: np.random.Generator, case: str, inputs: int) -> Floats:
    """ln(level / base) of each (setting of the other knob, input); the input's own time has gone already."""
    shape = (OTHERS, inputs)
    if case == "noise 2 %":
        return TRUTH + draw.normal(0, 0.02 * np.sqrt(2), shape)
    if case == "inputs react differently, 5 %":
        return TRUTH + draw.normal(0, 0.05, inputs) + draw.normal(0, 0.02 * np.sqrt(2), shape)
    if case == "skewed reaction":
        reaction = draw.exponential(0.05, inputs) - 0.05
        return TRUTH + reaction + draw.normal(0, 0.02 * np.sqrt(2), shape)
    if case == "rare long calls":
        long = (draw.random((2, *shape)) < 0.03) * draw.exponential(0.5, (2, *shape))
        sides = draw.normal(0, 0.02, (2, *shape)) + long
        return TRUTH + sides[0] - sides[1]
    assert case == "a tenth of the calls failed"
    values = TRUTH + draw.normal(0, 0.05, inputs) + draw.normal(0, 0.02 * np.sqrt(2), shape)
    values += np.log(np.array([0.8, 1.0, 1.25]))[:, None]  # the ratio differs by setting; its mean stays
    values[draw.random(shape) < 0.1] = np.nan
    return values


CASES = (
    "noise 2 %",
    "inputs react differently, 5 %",
    "skewed reaction",
    "rare long calls",
    "a tenth of the calls failed",
)


def by_input(values: Floats, draw: np.random.Generator) -> tuple[float, float]:
    interval = factor_interval(unit_values(values))
    assert interval.low is not None
    assert interval.high is not None
    return np.log(interval.low), np.log(interval.high)


def every_pair(values: Floats, draw: np.random.Generator) -> tuple[float, float]:
    interval = factor_interval(values[~np.isnan(values)])
    assert interval.low is not None
    assert interval.high is not None
    return np.log(interval.low), np.log(interval.high)


def bootstrap(values: Floats, draw: np.random.Generator) -> tuple[float, float]:
    present = ~np.isnan(values)
    picks = draw.integers(0, values.shape[1], (400, values.shape[1]))
    counts = present[:, picks].sum(axis=2)  # (settings, draws)
    means = (np.where(present, values, 0)[:, picks].sum(axis=2) / np.maximum(counts, 1)).mean(axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


WAYS: dict[str, Way] = {"laptime": by_input, "every pair": every_pair, "bootstrap": bootstrap}


def ratios(draw: np.random.Generator, simulations: int) -> list[dict[str, object]]:
    print(f"{'ratio of a knob':34} inputs " + "".join(f"{way:>22}" for way in WAYS))
    rows: list[dict[str, object]] = []
    for case in CASES:
        for inputs in (8, 20, 200):
            row: dict[str, object] = {"case": case, "inputs": inputs}
            seen_by_way: dict[str, list[tuple[bool, float]]] = {way: [] for way in WAYS}
            for _ in range(simulations):
                values = pairs(draw, case, inputs)
                for way, interval in WAYS.items():
                    low, high = interval(values, draw)
                    seen_by_way[way].append((low <= TRUTH <= high, high - low))
            for way, seen in seen_by_way.items():
                holds, widths = np.array(seen).T
                row[way] = {"coverage": round(float(holds.mean()), 4), "width": round(float(np.median(widths)), 4)}
            rows.append(row)
            shown = "".join(f"{row[way]['coverage']:14.1%} ±{row[way]['width'] / 2:6.2%}" for way in WAYS)  # type: ignore[index]
            print(f"{case:34} {inputs:6} {shown}")
    return rows


def scores(draw: np.random.Generator, simulations: int) -> list[dict[str, object]]:
    kinds: dict[str, Callable[[tuple[int, int]], Floats]] = {
        "0 or 1, 50 % right": lambda shape: (draw.random(shape) < 0.5).astype(np.float64),
        "0 or 1, 95 % right": lambda shape: (draw.random(shape) < 0.95).astype(np.float64),
        "VQA accuracy": lambda shape: draw.choice([0, 0.3, 0.6, 0.9, 1.0], shape, p=[0.25, 0.1, 0.1, 0.1, 0.45]),
        "ANLS, most are right": lambda shape: np.where(draw.random(shape) < 0.9, 1.0, draw.uniform(0, 0.9, shape)),
    }
    print(f"\n{'accuracy':34} inputs {'laptime':>22}{'bootstrap':>22}")
    rows: list[dict[str, object]] = []
    for kind, make in kinds.items():
        truth = float(make((1000, 4000)).mean())
        for inputs in (8, 30, 200):
            seen = {"laptime": 0, "bootstrap": 0}
            for values in make((simulations, inputs)):
                interval, _ = accuracy(values)
                assert interval is not None
                assert interval.low is not None
                assert interval.high is not None
                seen["laptime"] += interval.low <= truth <= interval.high
                drawn = values[draw.integers(0, inputs, (400, inputs))].mean(axis=1)
                low, high = np.quantile(drawn, [0.025, 0.975])
                seen["bootstrap"] += bool(low <= truth <= high)
            row: dict[str, object] = {"case": kind, "inputs": inputs}
            row |= {way: round(count / simulations, 4) for way, count in seen.items()}
            rows.append(row)
            print(f"{kind:34} {inputs:6} {row['laptime']:22.1%}{row['bootstrap']:22.1%}")
    return rows


def false_interactions(draw: np.random.Generator, simulations: int) -> dict[str, float]:
    """How often an interaction is reported where there is none: the extremes of three settings of pure noise."""
    shares = {}
    for noise in (0.02, 0.05, 0.10):
        count = 0
        for _ in range(simulations):
            values = draw.normal(0, noise * np.sqrt(2), (OTHERS, 8))
            centres = values.mean(axis=1)
            differences = values[centres.argmax()] - values[centres.argmin()]
            change = factor_interval(differences, 1 - (1 - CONFIDENCE) / comb(OTHERS, 2))
            count += change.low is not None and change.low > 1 and change.value >= WORTH_SAYING
        shares[f"noise {noise:.0%}"] = round(count / simulations, 4)
    print("\nfalse interactions, 8 inputs: " + ", ".join(f"{name}: {share:.1%}" for name, share in shares.items()))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--visited", type=int, default=150, help="simulations of each sweep with visits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    figures = {
        "simulations": options.simulations,
        "ratios": ratios(draw, options.simulations),
        "accuracies": scores(draw, options.simulations),
        "false_interactions": false_interactions(draw, options.simulations),
        "visited_simulations": options.visited,
        "visited": visited(options.visited, options.seed),
    }
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    print(record("sweep_intervals", figures, environment).name)


if __name__ == "__main__":
    main()
