"""How often does `laptime compare` err, and what does it find? Simulated runs, whole comparisons, any machine.

python benchmarks/compare_power.py

Each simulated run has 20 samples whose stages carry noise of a known shape; a comparison judges all five stages.
False alarms: both runs are the same code, and any stage comes out slower or faster. Power: decode of B takes 5 %
longer, and decode comes out slower. The noise "as measured" is the spread of generate() on the GPU in
benchmarks/results/observer_effect-*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from laptime.comparisons import compare_samples
from laptime.data.record import Sample, StageTimes, config_id

Noise = npt.NDArray[np.float64]
Shape = Callable[[np.random.Generator, int], tuple[Noise, Noise]]
"""(random, samples) -> factors of A's and B's vision, prefill, decode and other: two arrays of (samples, 4)."""

STAGE_MS = np.array([12.0, 35.0, 160.0, 5.0])
INPUT_SPREAD = 0.2
"""Of the inputs' sizes: the same input costs the same in both runs but for the noise."""
CONFIG = {"model": "simulated"}
RESULTS = Path(__file__).parent / "results"


def lognormal(spread: float) -> Shape:
    """Independent noise of this relative standard deviation."""
    return lambda rng, n: (np.exp(spread * rng.standard_normal((n, 4))), np.exp(spread * rng.standard_normal((n, 4))))


def bimodal(rng: np.random.Generator, n: int) -> tuple[Noise, Noise]:
    """1 % noise; 3 of 10 samples take 8 % longer, all stages of them (a clock that has two states)."""

    def side() -> Noise:
        return np.exp(0.01 * rng.standard_normal((n, 4))) * np.where(rng.random((n, 1)) < 0.3, 1.08, 1.0)

    return side(), side()


def shared_drift(rng: np.random.Generator, n: int) -> tuple[Noise, Noise]:
    """1 % noise on a GPU that slows down by 30 % in the course of each run: pairs cancel it."""
    drift = np.linspace(1, 1.3, n)[:, None]
    a, b = lognormal(0.01)(rng, n)
    return a * drift, b * drift


def own_drift(rng: np.random.Generator, n: int) -> tuple[Noise, Noise]:
    """1 % noise on a random walk of 0.5 % a sample that each run takes for itself: nothing cancels it."""

    def walk() -> Noise:
        return np.exp(np.cumsum(0.005 * rng.standard_normal((n, 1)), axis=0))

    a, b = lognormal(0.01)(rng, n)
    return a * walk(), b * walk()


SHAPES: dict[str, Shape] = {
    "lognormal 1 %": lognormal(0.01),
    "lognormal 5 %": lognormal(0.05),
    "bimodal": bimodal,
    "drift, the same in both": shared_drift,
}
"""The shapes for which the rates are promised."""

BEYOND: dict[str, Shape] = {"drift of its own in each": own_drift}
"""What no pair of runs can tell from a change of the code; shown so that nobody expects it."""


def runs(
    rng: np.random.Generator, shape: Shape, *, samples: int = 20, decode_factor: float = 1.0, paired: bool = True
) -> tuple[list[Sample], list[Sample]]:
    """Two simulated runs; in B decode takes `decode_factor` times as long. Not paired: other inputs in B."""
    noise_a, noise_b = shape(rng, samples)
    sizes = np.exp(INPUT_SPREAD * rng.standard_normal((samples, 1)))
    if not paired:
        sizes = np.ones((samples, 1))
    changed = np.array([1.0, 1.0, decode_factor, 1.0])
    name_b = "{:04d}" if paired else "other-{:04d}"
    return _samples(STAGE_MS * sizes * noise_a, "{:04d}"), _samples(STAGE_MS * sizes * noise_b * changed, name_b)


def false_alarm_rate(shape: Shape, *, simulations: int, seed: int, **options: Any) -> float:
    """The share of comparisons of identical code that call any stage slower or faster."""
    rng = np.random.default_rng(seed)
    verdicts = (compare_samples(*runs(rng, shape, **options)).verdict for _ in range(simulations))
    return sum(word in ("slower", "faster") for word in verdicts) / simulations


def found_rate(shape: Shape, *, decode_factor: float, simulations: int, seed: int, **options: Any) -> float:
    """The share of comparisons that call decode, and overall B, slower when it is by `decode_factor`."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(simulations):
        compared = compare_samples(*runs(rng, shape, decode_factor=decode_factor, **options))
        decode = next(stage for stage in compared.stages if stage.stage == "decode")
        hits += decode.verdict == compared.verdict == "slower"
    return hits / simulations


def measured_spreads() -> dict[str, float]:
    """Relative standard deviation of one generate() on the GPU, by model, from the medians' recorded intervals.

    A 95 % interval of a median of n normal values is 2 * 1.96 * 1.2533 / sqrt(n) standard deviations wide.
    """
    spread_of: dict[str, float] = {}
    for file in sorted(RESULTS.glob("observer_effect-*.json")):
        if file.stem.endswith("-total"):  # short calls on a busy host: their spread is the host's
            continue
        ways = json.loads(file.read_bytes())["figures"]["ways"]
        bare = [way["bare_ms"] for way in ways.values() if way["bare_ms"]["n"] >= 20]
        spreads = [(x["high"] - x["low"]) / x["value"] * np.sqrt(x["n"]) / (2 * 1.96 * 1.2533) for x in bare]
        spread_of[file.stem.removeprefix("observer_effect-")] = float(np.median(spreads))
    return spread_of


def _samples(times_ms: Noise, name: str) -> list[Sample]:
    return [_sample(name.format(number), number, row) for number, row in enumerate(times_ms)]


def _sample(sample_id: str, number: int, times_ms: Noise) -> Sample:
    vision, prefill, decode, other = (round(ms * 1e6) for ms in times_ms)
    stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=vision + prefill + decode + other)
    return Sample(
        config_id=config_id(CONFIG),
        sample_id=sample_id,
        repeat=0,
        worker="0",
        config=dict(CONFIG),
        stages=stages,
        host_stages=stages,
        ttft_ms=stages.vision_ms + stages.prefill_ms,
        tpot_ms=None,
        itl_ms=None,
        output_tokens=8,
        decode_forwards=7,
        prompt_tokens=512,
        image_tokens=0,
        started_unix_ms=float(number),
    )


def main() -> None:
    """Print the rates and write benchmarks/results/compare_power.json."""
    from recorded import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    common = {"simulations": asked.simulations, "seed": asked.seed, "samples": asked.samples}

    spreads = measured_spreads()
    middle, largest = float(np.median(list(spreads.values()))), max(spreads.values())
    measured = {
        f"as measured, the middle model ({middle:.1%})": lognormal(middle),
        f"as measured, the noisiest ({largest:.1%})": lognormal(largest),
    }
    measured["wider than measured: lognormal 2 %"] = lognormal(0.02)
    shapes = {**SHAPES, **measured, **BEYOND}
    figures: dict[str, Any] = {
        **common,
        "stages_judged": 5,
        "confidence": 0.95,
        "min_effect": 0.02,
        "measured_spread": spreads,
        "shapes": {},
    }
    for name, shape in shapes.items():
        rates: dict[str, float] = {}
        for way in ("paired", "unpaired"):
            paired = way == "paired"
            rates[f"false_alarms_{way}"] = false_alarm_rate(shape, paired=paired, **common)
            rates[f"found_5_percent_{way}"] = found_rate(shape, decode_factor=1.05, paired=paired, **common)
        figures["shapes"][name] = rates
        print(name, {key: f"{rate:.2%}" for key, rate in rates.items()})
    worst = [
        max(figures["shapes"][n][f"false_alarms_{w}"] for w in ("paired", "unpaired")) for n in [*SHAPES, *measured]
    ]
    figures["worst_false_alarms_promised"] = max(worst)
    figures["least_found_as_measured_paired"] = min(figures["shapes"][n]["found_5_percent_paired"] for n in measured)
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    print(record("compare_power", figures, environment).name)


if __name__ == "__main__":
    main()
