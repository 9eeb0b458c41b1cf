"""Does `laptime compare` hold on machines that drift, switch, and are busy? Simulated worlds, before and after.

    python benchmarks/compare_worlds.py [--simulations 400]
    python benchmarks/compare_worlds.py --relabel FOLDER    # real A/A runs of `laptime compare --run X --against X`

"Two runs" is what two single runs' samples say by themselves: the interval within the runs, as laptime judged before it
knew the noise between runs. "Baselines" adds five repeats of A. "In turns" is --run and --against: processes in ABBA
order until the odds decide, 40 at most. Each process has 8 samples; four stages and the total are judged. A false
verdict is slower or faster for identical code; "found" is slower where every stage of B takes 5 % longer.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.comparisons import compare_samples, compare_two_runs
from laptime.comparisons.launches import turn_order
from laptime.comparisons.turns import Process, compare_turns
from laptime.data.record import Environment, Sample, StageTimes, config_id
from laptime.data.run_folder import Run, load_run, new_info

CONFIG = {"model": "simulated"}
Floats = npt.NDArray[np.float64]
World = Callable[[np.random.Generator, int], Floats]
"""(random, processes) -> the logarithm of the machine's slowness, for each process and sample."""

SAMPLES = 8
MOST = 40
STAGE_MS = np.array([12.0, 35.0, 160.0, 5.0])
BASELINES = 5


def autoregressive(rng: np.random.Generator, n: int, keep: float, sd: float) -> Floats:
    """An AR(1) process of this standard deviation."""
    steps, values, last = rng.normal(0, sd * np.sqrt(1 - keep**2), n), np.empty(n), rng.normal(0, sd)
    for i in range(n):
        values[i] = last = keep * last + steps[i]
    return values


def pink(rng: np.random.Generator, n: int, sd: float) -> Floats:
    """1/f noise of this standard deviation."""
    frequencies = np.fft.rfftfreq(4 * n)
    frequencies[0] = np.inf
    spectrum = (rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies))) / np.sqrt(frequencies)
    values = np.fft.irfft(spectrum)
    return np.asarray(sd * values[:n] / values.std())


def iid(rng: np.random.Generator, processes: int) -> Floats:
    """1 % for each sample, nothing else."""
    return rng.normal(0, 0.01, (processes, SAMPLES))


def ar(rng: np.random.Generator, processes: int) -> Floats:
    """2 % that wanders from sample to sample, of which .95 remains in the next; processes follow each other at once."""
    return autoregressive(rng, processes * SAMPLES, 0.95, 0.02).reshape(processes, SAMPLES)


def one_over_f(rng: np.random.Generator, processes: int) -> Floats:
    """2 % of 1/f noise over the whole measuring."""
    return pink(rng, processes * SAMPLES, 0.02).reshape(processes, SAMPLES)


def two_clocks(rng: np.random.Generator, processes: int) -> Floats:
    """A clock that is 6 % slower at times, for about 20 samples each time."""
    state = np.cumsum(rng.random(processes * SAMPLES) < 0.05) % 2
    return iid(rng, processes) + 0.06 * state.reshape(processes, SAMPLES)


def own_drift(rng: np.random.Generator, processes: int) -> Floats:
    """Each process drifts by 4 % up or down for itself, from its first sample to its last."""
    return iid(rng, processes) + rng.normal(0, 0.04, (processes, 1)) * np.linspace(0, 1, SAMPLES)


def offsets(sd: float) -> World:
    """Each process has its own speed; its samples share it."""
    return lambda rng, processes: iid(rng, processes) + rng.normal(0, sd, (processes, 1))


def busy(rng: np.random.Generator, processes: int) -> Floats:
    """Something else takes 25 % for a fifth of the time, in three pieces; offsets of 1 % besides."""
    slow = np.zeros(processes * SAMPLES)
    length = max(1, len(slow) // 15)
    for start in rng.integers(0, len(slow), 3):
        slow[start : start + length] = 0.22
    return offsets(0.01)(rng, processes) + slow.reshape(processes, SAMPLES)


WORLDS: dict[str, World] = {
    "iid 1 %": iid,
    "AR(1) .95, 2 %": ar,
    "1/f, 2 %": one_over_f,
    "two clock states": two_clocks,
    "own drift of 4 %": own_drift,
    "offsets of 2 %": offsets(0.02),
    "offsets of 3 %": offsets(0.03),
    "busy for a fifth": busy,
}


def samples(slowness: Floats, factor: float, rng: np.random.Generator) -> list[Sample]:
    """One process: every sample another input; each stage has 0.5 % of its own."""
    times = STAGE_MS * np.exp(slowness[:, None] + rng.normal(0, 0.005, (len(slowness), 4))) * factor
    return [_sample(number, row) for number, row in enumerate(times)]


def _sample(number: int, times_ms: Floats) -> Sample:
    vision, prefill, decode, other = (round(ms * 1e6) for ms in times_ms)
    stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=vision + prefill + decode + other)
    return Sample(
        config_id=config_id(CONFIG), sample_id=f"{number:04d}", repeat=0, worker="0", config=dict(CONFIG),
        stages=stages, host_stages=stages, ttft_ms=stages.vision_ms + stages.prefill_ms, tpot_ms=None, itl_ms=None,
        output_tokens=8, decode_forwards=7, prompt_tokens=512, image_tokens=0, started_unix_ms=float(number),
    )  # fmt: skip


def run(of: Sequence[Sample], name: str = "simulated") -> Run:
    """Samples as a run."""
    environment = Environment(laptime="0", python="3", platform="Linux", cpu="cpu", cpu_count=2)
    info = new_info(["laptime"], {"model": "simulated"}, environment)
    return Run(
        path=name, info=info, samples=list(of), failures=[], subtractions=[], sessions=[], workers=[], dropped_tails=[]
    )  # fmt: skip


def two_runs(rng: np.random.Generator, world: World, factor: float) -> str:
    """The word within two single runs, one after the other."""
    a, b = world(rng, 2)
    return compare_samples(samples(a, 1.0, rng), samples(b, factor, rng)).verdict


def with_baselines(rng: np.random.Generator, world: World, factor: float) -> str:
    """The word of two runs with five more runs of A, measured one after the other."""
    first, *more, b = world(rng, BASELINES + 2)
    repeats = [run(samples(x, 1.0, rng)) for x in more]
    return compare_two_runs(run(samples(first, 1.0, rng)), run(samples(b, factor, rng)), baselines=repeats).verdict


def in_turns(rng: np.random.Generator, world: World, factor: float) -> tuple[str, int]:
    """The word in turns, and how many processes it took. Looked at after every pair, as --run does."""
    order = turn_order(MOST, int(rng.integers(1 << 30)))
    slowness = world(rng, MOST)
    processes = [
        Process(number=i, side=side, run=run(samples(x, factor if side == "B" else 1.0, rng)))
        for i, (side, x) in enumerate(zip(order, slowness, strict=True), 1)
    ]
    for done in range(4, MOST + 1, 2):
        word = compare_turns(processes[:done], names=("A", "B"), last=done == MOST).verdict
        if word != "inconclusive":
            return word, done
    return "inconclusive", MOST


def relabel(folder: Path, draws: int, seed: int) -> dict[str, Any]:
    """Real processes of one command, A and B assigned anew by the coins of `turn_order`: every order is an A/A."""
    rng = np.random.default_rng(seed)
    runs = [load_run(place) for place in sorted(folder.glob("[0-9]*-[AB]")) if (place / "run.json").exists()]
    wrong = within = 0
    for _ in range(draws):
        order = turn_order(len(runs), int(rng.integers(1 << 30)))
        pairs = zip(order, runs[: len(order)], strict=True)
        processes = [Process(number=i, side=s, run=r, keep=("foreign-process",)) for i, (s, r) in enumerate(pairs, 1)]
        whole = len(processes)
        words = (
            compare_turns(processes[:n], names=("A", "B"), last=n == whole).verdict for n in range(4, whole + 1, 2)
        )
        wrong += any(word in ("slower", "faster") for word in words)
    plain = [
        [msgspec.structs.replace(s, flags=[f for f in s.flags if f != "foreign-process"]) for s in r.samples]
        for r in runs
    ]
    for a, b in zip(plain[::2], plain[1::2], strict=False):
        within += compare_samples(a, b).verdict in ("slower", "faster")
    figures = {"processes": len(runs), "orders": draws, "wrong_in_turns": wrong / draws}
    return {**figures, "neighbouring_pairs": len(runs) // 2, "wrong_within_two_runs": within}


def _unflagged(sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, flags=[f for f in sample.flags if f != "foreign-process"])


def main() -> None:
    """Print the table and write benchmarks/results/compare_worlds.json."""
    from recorded import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--relabel", type=Path)
    asked = parser.parse_args()
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    if asked.relabel:
        figures = relabel(asked.relabel, asked.simulations, asked.seed)
        print(figures)
        print(record("compare_worlds-real", figures, environment).name)
        return
    table: dict[str, Any] = {}
    for name, world in WORLDS.items():
        rng = np.random.default_rng(asked.seed)
        cells: dict[str, float] = {}
        for factor, what in ((1.0, "false"), (1.05, "found")):
            hit = ("slower", "faster") if factor == 1 else ("slower",)
            turns = [in_turns(rng, world, factor) for _ in range(asked.simulations)]
            cells[f"turns_{what}"] = sum(word in hit for word, _ in turns) / asked.simulations
            cells[f"turns_{what}_processes"] = float(np.median([n for _, n in turns]))
            for way, judge in (("two_runs", two_runs), ("baselines", with_baselines)):
                words = [judge(rng, world, factor) for _ in range(asked.simulations)]
                cells[f"{way}_{what}"] = sum(word in hit for word in words) / asked.simulations
        table[name] = cells
        print(name, cells, flush=True)
    figures = {"simulations": asked.simulations, "seed": asked.seed, "samples": SAMPLES, "most": MOST, "worlds": table}
    print(record("compare_worlds", figures, environment).name)


if __name__ == "__main__":
    main()
