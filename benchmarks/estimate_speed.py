"""How fast an estimator answers and learns, beside what one would use instead, in the same process.

python benchmarks/estimate_speed.py [--fits] [--tables FOLDER]

`--fits` times the fits alone and keeps what the file has of the rest; `--tables` times only those of public tables
(benchmarks/further_tables.py), of 1500 and of up to 10 000 of their rows. Their processor time is what counts on a
machine that others use: two workers share it, so that half of it is what two quiet cores need at least.

A table of 10 000 rows (1000 configurations of six knobs, ten repeats, 5 % noise), made here. One row: the median, the
P95 bound and P(T <= B) of a frame of one row, three calls, and the bound of one choice in a LookupTable; the peers give
a median only. What is compared takes turns. A million: every combination of ten values of six knobs through a
LookupTable, and a million random choices. Peers: LightGBM's Booster (500 trees), scikit-learn's HistGradientBoosting, a
forest of 500 trees of depth 32 (what Vidur's grid search picks).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

import laptime
from laptime.estimate import online
from laptime.estimate.estimator import Estimator
from laptime.estimate.lookup import build
from laptime.estimate.reward import rewards
from recorded import record

KNOBS = {
    "batch": [1, 2, 4, 6, 8, 12, 16, 24, 32, 48],
    "prompt": [64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048],
    "crops": [1, 2, 3, 4, 5, 6, 8, 10, 12, 15],
    "top_k": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    "blocks": [7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    "tokens": [2, 4, 8, 12, 16, 24, 32, 48, 64, 128],
}


def table(configs: int, repeats: int) -> pl.DataFrame:
    """Random configurations; the time is vision + prefill + decode of a plausible shape, 5 % noise."""
    rng = np.random.default_rng(0)
    chosen = {name: rng.choice(values, configs) for name, values in KNOBS.items()}
    rows = {name: np.repeat(values, repeats) for name, values in chosen.items()}
    k = {name: values.astype(float) for name, values in rows.items()}
    step = 2 + 0.05 * k["blocks"] * (1 + 0.3 * k["top_k"]) + 0.0004 * k["batch"] * k["prompt"]
    times = 4 + 3 * k["crops"] + 0.003 * k["batch"] * k["prompt"] * k["blocks"] / 16 + (k["tokens"] - 1) * step
    return pl.DataFrame(rows).with_columns(
        pl.Series("total_ms", times * np.exp(0.05 * rng.normal(size=len(times)))),
        pl.Series("config", np.repeat(np.arange(configs), repeats)),
    )


def in_turns(calls: dict[str, Callable[[], Any]], *, rounds: int = 9, round_s: float = 0.05) -> dict[str, float]:
    """Each call's fastest round, in microseconds: every round times all of them, so that all see the same machine."""
    counts = {}
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        counts[name] = max(1, int(round_s / max(time.perf_counter() - begin, 1e-6)))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(counts[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / counts[name] * 1e6)
    return best


def microseconds(one: Callable[[], Any], *, least_s: float = 0.4, rounds: int = 7) -> float:
    """The fastest round's mean time of a call: what else the machine does only adds."""
    one()
    begin = time.perf_counter()
    one()
    calls = max(1, int(least_s / rounds / max(time.perf_counter() - begin, 1e-7)))
    means = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            one()
        means.append((time.perf_counter() - begin) / calls)
    return min(means) * 1e6


def fits() -> dict[str, dict[str, float]]:
    """Wall and processor time of one fit each: tables of 1500 and 10 000 rows, repeated or all different."""
    took = {}
    for configs, repeats in ((150, 10), (1500, 1), (1000, 10), (10_000, 1)):
        rows = table(configs, repeats)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        Estimator(target="total_ms", features=list(KNOBS), group=["config"]).fit(rows)
        name = f"{len(rows)} rows, {configs} configurations"
        took[name] = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - begin_cpu}
        print(f"fit of {name}: {took[name]['s']:.1f} s ({took[name]['cpu_s']:.1f} s of processor)", flush=True)
    return took


def table_fits(folder: Path) -> dict[str, dict[str, float]]:
    """The same for real tables: with categories, groups, and sizes that differ by orders of magnitude."""
    from further_tables import latency_tables

    took = {}
    for most in (1500, 10_000):
        for one in latency_tables(folder, most_rows=most):
            if len(one.frame) < most and most < 10_000:
                continue
            begin, begin_cpu = time.perf_counter(), time.process_time()
            group = [one.group] if one.group else []
            estimator = Estimator(target=one.target, features=one.features, categorical=one.categorical, group=group)
            estimator.fit(one.frame)
            name = f"{one.name}, {len(one.frame)} rows"
            took[name] = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - begin_cpu}
            print(f"fit of {name}: {took[name]['s']:.1f} s ({took[name]['cpu_s']:.1f} s of processor)", flush=True)
    return took


def main() -> None:
    """Print times with their ratios and write benchmarks/results/estimate_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", action="store_true", help="time the fits alone")
    parser.add_argument("--tables", type=Path, help="time the fits of the public tables in this folder alone")
    asked = parser.parse_args()
    environment = {
        "python": platform.python_version(), "numpy": np.__version__, "lightgbm": lightgbm.__version__,
        "scikit_learn": sklearn.__version__, "laptime": laptime.__version__, "platform": platform.platform(),
        "processors": os.cpu_count(), "load": os.getloadavg()[0],
    }  # fmt: skip
    if asked.fits or asked.tables:
        file = Path(__file__).parent / "results" / "estimate_speed.json"
        known = json.loads(file.read_text(encoding="utf-8"))
        again = {"table_fits": table_fits(asked.tables)} if asked.tables else {"fits": fits()}
        kept = known["figures"] | again | {"table_fits_load" if asked.tables else "fits_load": environment["load"]}
        print(record("estimate_speed", kept, known["environment"]).name)
        return
    of_fits = fits()
    rows = table(1000, 10)
    x, y = rows.select(list(KNOBS)).to_numpy().astype(float), np.log(rows["total_ms"].to_numpy())
    begin, begin_cpu = time.perf_counter(), time.process_time()
    made = Estimator(target="total_ms", features=list(KNOBS), group=["config"]).fit(rows)
    fit_s, fit_cpu_s = time.perf_counter() - begin, time.process_time() - begin_cpu
    chosen = [choice.candidate for choice in made.card.choices]
    print(f"fit of {len(rows)} rows: {fit_s:.1f} s ({fit_cpu_s:.1f} s of processor); chosen: {chosen}")
    peers: dict[str, Any] = {}
    for name, model in (
        ("LightGBM Booster, 500 trees", lightgbm.LGBMRegressor(n_estimators=500, verbose=-1)),
        ("scikit-learn HistGradientBoosting", HistGradientBoostingRegressor(max_iter=500)),
        ("forest, 500 trees of depth 32", RandomForestRegressor(500, max_depth=32, n_jobs=1)),
    ):
        begin = time.perf_counter()
        peers[name] = model.fit(x, y)
        print(f"fit {name}: {time.perf_counter() - begin:.1f} s")
    peers["LightGBM Booster, 500 trees"] = peers["LightGBM Booster, 500 trees"].booster_

    row = x[4321].tolist()
    one, frame = np.array([row]), pl.DataFrame([row], schema=list(KNOBS), orient="row")
    booster, *others = peers
    near = np.clip(x * np.random.default_rng(1).uniform(0.99, 1.01, x.shape), x.min(axis=0), x.max(axis=0))
    begin = time.perf_counter()
    lookup = build(made, KNOBS)
    build_s = time.perf_counter() - begin
    choice = lookup.choice(123456)
    single = in_turns(
        {
            "laptime, a frame: median, P95 and P(T <= B)": lambda: (
                made.predict(frame),
                made.quantile(frame, 0.95),
                made.probability_within(frame, 200.0),
            ),
            "laptime, a frame: P95": lambda: made.quantile(frame, 0.95),
            "laptime, lookup table: P95 of one choice": lambda: lookup.bound_ms[lookup.cell(choice)],
            booster: lambda: peers[booster].predict(one, num_threads=1),
            **{name: lambda name=name: peers[name].predict(one) for name in others},
        }
    )
    ours = next(iter(single.values()))
    for name, took in single.items():
        print(f"one row  {name:36s} {took:10.1f} us  {took / ours:8.1f} x")

    spread = rows.with_columns(pl.Series(name, near[:, i]) for i, name in enumerate(KNOBS))
    taken = in_turns(
        {
            "laptime: median": lambda: made.predict(rows),
            "laptime: P95": lambda: made.quantile(rows, 0.95),
            "laptime: P95, every value another": lambda: made.quantile(spread, 0.95),
            **{name: lambda model=model: model.predict(x) for name, model in peers.items()},
        },
        rounds=5,
    )
    batch = {name: took / len(rows) for name, took in taken.items()}
    for name, took in batch.items():
        print(f"10k rows {name:36s} {took:10.2f} us a row")

    rng = np.random.default_rng(0)
    codes = [rng.integers(0, len(values), 1_000_000) for values in KNOBS.values()]
    accuracy = rng.random(len(lookup)).astype(np.float32)
    table_us = {
        "bounds of 1 M choices": microseconds(lambda: lookup.bound_ms[lookup.cells(codes)]),
        "feasible set of 1 M configurations": microseconds(lambda: lookup.feasible(200.0)),
        "most accurate feasible of 1 M": microseconds(lambda: lookup.best(200.0, accuracy)),
        "P(T <= B) of 1 M choices": microseconds(
            lambda: lookup.probability_within(lookup.cells(codes), 200.0), rounds=3
        ),
        "one choice by name": microseconds(lambda: lookup.bound_ms[lookup.cell(choice)]),
    }
    good, late = rng.random(1_000_000), rng.lognormal(5, 1, 1_000_000)
    table_us["rewards of 1 M choices"] = microseconds(lambda: rewards(good, late, 200.0))
    stream = online.begin(rng.normal(-0.25, 0.15, 400))
    for number in range(120):
        stream = online.issued(stream, str(number), 100.0, 100.0, 10.0 * number)
        if number >= 10:
            stream = online.finished(stream, str(number - 10), 100 * float(np.exp(rng.normal(-0.25, 0.15))))
    table_us["one online correction, 80 ended and 10 running"] = microseconds(lambda: online.correction(stream, 1200.0))
    print(f"table of {len(lookup):,} cells built in {build_s:.1f} s, {len(lookup.curves)} shapes")
    for name, took in table_us.items():
        print(f"table    {name:46s} {took / 1000:10.3f} ms")

    figures = {
        "fits": of_fits,
        "fits_load": environment["load"],
        "fit_s": fit_s,
        "fit_cpu_s": fit_cpu_s,
        "rows": len(rows),
        "chosen": chosen,
        "one_row_us": single,
        "row_of_10k_us": batch,
        "table_build_s": build_s,
        "table_us": table_us,
    }
    print(record("estimate_speed", figures, environment).name)


if __name__ == "__main__":
    main()
