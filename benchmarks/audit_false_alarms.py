"""How often `laptime audit` is wrong about sound measurements, and how often it finds what is wrong.

Seven rules judge by chance: decode-per-token-by-N (where decode itself isn't there), cold-start, clock-drift,
rank-skew, bimodal, slow-stretch, launches-timed. Simulated runs with nothing wrong, of several shapes and kinds of
noise, must raise any of them in at most 5 %.

    python benchmarks/audit_false_alarms.py [--runs 400] [--workers 2]
    python benchmarks/audit_false_alarms.py --rules mixed-units,ended-at-once    # these alone, whatever they judge by
    python benchmarks/audit_false_alarms.py --dip-table     # the quantiles in src/laptime/audits/dip.py
"""

from __future__ import annotations

import argparse
import platform
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import polars

from laptime.audits import audit_measurements, measurements_of
from laptime.audits.audit import RULES
from laptime.audits.rule import Judged
from laptime.data.stats import Floats

Noise = Callable[[np.random.Generator, int], Floats]

BY_CHANCE = (
    "decode-per-token-by-N", "cold-start", "clock-drift", "rank-skew", "bimodal", "slow-stretch", "launches-timed",
)  # fmt: skip


class Shape(NamedTuple):
    """How a run is laid out: every configuration with every sample, `repeats` times, over workers at random."""

    configs: int
    samples: int
    repeats: int = 1
    workers: int = 1
    tokens: tuple[int, int] = (32, 32)  # lowest and highest number of output tokens


SHAPES = {
    "1 configuration × 20": Shape(1, 20),
    "1 configuration × 200": Shape(1, 200),
    "27 configurations × 8": Shape(27, 8),
    "6 configurations × 60, 3 workers": Shape(6, 20, repeats=3, workers=3),
    "4 configurations × 50, 2 to 40 tokens": Shape(4, 50, tokens=(2, 40)),
}


def lognormal(sd: float) -> Noise:
    """Multiplicative noise."""
    return lambda rng, n: rng.normal(0.0, sd, n)


def outliers(rng: np.random.Generator, n: int) -> Floats:
    """1 % noise, and one call in twenty that takes up to 60 % longer."""
    return rng.normal(0.0, 0.01, n) + (rng.random(n) < 0.05) * rng.uniform(0.1, 0.5, n)


def skewed(rng: np.random.Generator, n: int) -> Floats:
    """Never much faster than usual, sometimes slower: an exponential tail of 3 %."""
    return rng.exponential(0.03, n)


def wandering(rng: np.random.Generator, n: int) -> Floats:
    """1 % noise of which half of each deviation remains in the next call (an AR(1) process)."""
    steps, values, last = rng.normal(0.0, 0.01, n), np.empty(n), 0.0
    for i in range(n):
        values[i] = last = 0.5 * last + steps[i]
    return values


def persistent(rng: np.random.Generator, n: int) -> Floats:
    """3 % that wanders: .95 of each deviation remains in the next call."""
    steps, values, last = rng.normal(0.0, 0.03 * (1 - 0.95**2) ** 0.5, n), np.empty(n), rng.normal(0.0, 0.03)
    for i in range(n):
        values[i] = last = 0.95 * last + steps[i]
    return values


def pink(rng: np.random.Generator, n: int) -> Floats:
    """3 % of 1/f noise."""
    frequencies = np.fft.rfftfreq(4 * n)
    frequencies[0] = np.inf
    spectrum = (rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies))) / np.sqrt(frequencies)
    values = np.fft.irfft(spectrum)
    return np.asarray(0.03 * values[:n] / values.std())


def two_costs(rng: np.random.Generator, n: int) -> Floats:
    """1 % noise; `sound` makes every third input 15 % dearer."""
    return rng.normal(0.0, 0.01, n)


NOISES: dict[str, Noise] = {
    "lognormal 1 %": lognormal(0.01),
    "lognormal 5 %": lognormal(0.05),
    "5 % outliers": outliers,
    "skewed": skewed,
    "wandering": wandering,
    "AR(1) .95": persistent,
    "1/f": pink,
    "two costs": two_costs,
}


def sound(seed: int, shape: Shape, noise: Noise) -> polars.DataFrame:
    """A run with nothing wrong: in random order, every stage of its own, decode per token by N - 1."""
    rng = np.random.default_rng(seed)
    keys = [(c, s, r) for c in range(shape.configs) for s in range(shape.samples) for r in range(shape.repeats)]
    config, sample, repeat = np.array(keys)[rng.permutation(len(keys))].T
    n = len(keys)
    tokens = rng.integers(shape.tokens[0], shape.tokens[1] + 1, (shape.configs, shape.samples))[config, sample]
    speed = np.exp(noise(rng, n)) * np.where((noise is two_costs) & (sample % 3 == 0), 1.15, 1.0)
    crops = 2 + 2 * config
    vision, prefill, other = 4.0 * crops * speed, (20 + 5.0 * crops) * speed, 4.0 * speed
    decode = (tokens - 1) * 12.0 * speed
    total = vision + prefill + decode + other
    return polars.DataFrame(
        {
            "config_id": [f"c{c:02d}" for c in config],
            "sample_id": [f"{s:04d}" for s in sample],
            "repeat": repeat,
            "worker": rng.integers(0, shape.workers, n).astype(str),
            "vision_ms": vision,
            "prefill_ms": prefill,
            "decode_ms": decode,
            "other_ms": other,
            "total_ms": total,
            "output_tokens": tokens,
            "decode_forwards": tokens - 1,
            "prompt_tokens": 64 + 144 * crops,
            "image_tokens": 144 * crops,
            "crops": crops,
            "decode_per_token_ms": decode / np.maximum(tokens - 1, 1),
            "started_unix_ms": 1.8e12 + np.cumsum(total) - total,
            "gpu_sm_mhz": np.full(n, 1980),
            "gpu_throttle": [""] * n,
            "flags": [""] * n,
            "gc_pause_ms": np.zeros(n),
            "config.crops": crops,
            "config.cache_policy": ["keep"] * n,
        }
    )


def by_chance(frame: polars.DataFrame) -> set[str]:
    """The codes of the findings that chance could have raised."""
    return {f.code for f in audit_measurements(measurements_of(frame)).findings} & set(BY_CHANCE)


WRONG: dict[str, tuple[str, Callable[[polars.DataFrame], polars.DataFrame]]] = {}
"""Name -> the rule that must find it, and what makes a sound run wrong."""


def _times(factor: polars.Expr) -> Callable[[polars.DataFrame], polars.DataFrame]:
    names = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms")
    return lambda frame: frame.with_columns(polars.col(name) * factor for name in names)


_place = polars.int_range(polars.len()) / polars.len()
WRONG["a drift of 5 %"] = ("clock-drift", _times(1 + 0.05 * _place))
WRONG["one worker 5 % slower"] = (
    "rank-skew",
    _times(polars.when(polars.col("worker") == "0").then(1.05).otherwise(1.0)),
)
WRONG["two workers of five 10 % slower"] = (
    "rank-skew",
    _times(polars.when(polars.col("worker").is_in(["0", "1"])).then(1.1).otherwise(1.0)),
)
_call = (polars.int_range(polars.len()) * 7919 % 101) / 101
WRONG["two calls of five 10 % slower"] = ("bimodal", _times(polars.when(_call < 0.4).then(1.1).otherwise(1.0)))
_drawn = (polars.int_range(polars.len()) * 48271 % 9973) / 9973
WRONG["one call of ten 10 % slower"] = ("bimodal", _times(polars.when(_drawn < 0.1).then(1.1).otherwise(1.0)))
WRONG["one call of ten 20 % slower"] = ("bimodal", _times(polars.when(_drawn < 0.1).then(1.2).otherwise(1.0)))
WRONG["first calls 50 % slower"] = (
    "cold-start",
    _times(polars.when(polars.int_range(polars.len()).over("config_id", "worker") == 0).then(1.5).otherwise(1.0)),
)


def by_n(frame: polars.DataFrame) -> polars.DataFrame:
    """Per-token times divided by N, decode itself gone."""
    wrong = polars.col("decode_ms") / polars.col("output_tokens")
    return frame.with_columns(decode_per_token_ms=wrong, decode_ms=None)


WRONG["divided by N, decode not kept"] = ("decode-per-token-by-N", by_n)


AT_ONCE = 20
"""Runs that a process judges before it is given the next."""


def _alarms(shape: Shape, title: str, seeds: range, codes: tuple[str, ...] = ()) -> list[set[str]]:
    """The codes that chance raised in each of these sound runs; with `codes`, those of these rules."""
    if not codes:
        return [by_chance(sound(seed, shape, NOISES[title])) for seed in seeds]
    rules = [rule for rule in RULES if rule.code in codes]
    raised = []
    for seed in seeds:
        frame = sound(seed, shape, NOISES[title])
        first = polars.col("vision_ms") + polars.col("prefill_ms") + 0.5
        measurements = measurements_of(frame.with_columns(ttft_ms=first))
        answers = {rule.code: rule.look(measurements) for rule in rules}
        raised.append({code for code, answer in answers.items() if isinstance(answer, Judged) and answer.finding})
    return raised


def _found(name: str, layout: Shape, seeds: range) -> int:
    """In how many of these runs the fault is found."""
    code, change = WRONG[name]
    return sum(code in by_chance(change(sound(seed, layout, lognormal(0.02)))) for seed in seeds)


def main() -> None:
    """Simulate, print two tables, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="simulated runs of each shape and noise")
    parser.add_argument("--workers", type=int, default=2, help="processes that judge runs at the same time")
    parser.add_argument("--rules", default="", help="judge these rules alone, separated by commas")
    parser.add_argument("--dip-table", action="store_true", help="simulate the dip's quantiles instead")
    asked = parser.parse_args()
    if asked.dip_table:
        dip_table()
        return
    codes = tuple(code for code in asked.rules.split(",") if code)
    if unknown := set(codes) - {rule.code for rule in RULES}:
        parser.error(f"no such rule: {', '.join(sorted(unknown))}")
    alarms: dict[str, dict[str, float]] = {}
    rules: Counter[str] = Counter()
    pool = ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn"))
    seeds = [range(first, min(first + AT_ONCE, asked.runs)) for first in range(0, asked.runs, AT_ONCE)]
    print(f"| sound runs with a finding, of {asked.runs} | " + " | ".join(NOISES) + " |")
    for name, shape in SHAPES.items():
        alarms[name] = {}
        for title in NOISES:
            parts = [pool.submit(_alarms, shape, title, part, codes) for part in seeds]
            hits = [hit for part in parts for hit in part.result()]
            rules.update(code for hit in hits for code in hit)
            alarms[name][title] = sum(map(bool, hits)) / asked.runs
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in alarms[name].values()) + " |", flush=True)
    print({code: f"{n / (asked.runs * len(SHAPES) * len(NOISES)):.2%}" for code, n in rules.items()})
    power = {}
    shape = Shape(6, 20, repeats=3, workers=3, tokens=(32, 32))
    for name, (code, _) in WRONG.items():
        if codes:
            break
        layout = shape._replace(tokens=(2, 40)) if code == "decode-per-token-by-N" else shape
        layout = layout._replace(workers=5) if "of five" in name and code == "rank-skew" else layout
        tried = max(20, asked.runs // 4)
        tries = [range(first, min(first + AT_ONCE, tried)) for first in range(0, tried, AT_ONCE)]
        power[name] = sum(part.result() for part in [pool.submit(_found, name, layout, t) for t in tries]) / tried
        print(f"| {name} | {code} | found in {power[name]:.0%} |", flush=True)
    pool.shutdown()
    by_rule = {code: n / (asked.runs * len(SHAPES) * len(NOISES)) for code, n in rules.items()}
    from recorded import record

    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    figures = {"runs": asked.runs, "alarms": alarms, "by_rule": by_rule, "found": power}
    if codes:
        figures = {"rules": list(codes), **figures}
    print(record("audit_false_alarms-rules" if codes else "audit_false_alarms", figures, environment).name)


def dip_table() -> None:
    """Quantiles of dip × sqrt(n) over uniform samples."""
    from laptime.audits.dip import _TAILS, dip

    rng = np.random.default_rng(1985)
    for n, draws in ((20, 30000), (30, 30000), (50, 20000), (100, 20000), (200, 10000), (500, 6000), (1000, 4000)):
        values = np.array([dip(rng.random(n)) for _ in range(draws)]) * np.sqrt(n)
        print(n, draws, [round(float(q), 4) for q in np.quantile(values, 1 - np.array(_TAILS))], flush=True)


if __name__ == "__main__":
    main()
