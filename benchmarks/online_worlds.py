"""A 95 % bound in worlds that change more than once: laptime beside ACI and conformal PID, labels at completion.

python benchmarks/online_worlds.py [--streams 10]
python benchmarks/online_worlds.py --ended    # laptime by how many requests had ended since a change

A stream is 1500 requests of different sizes that arrive at random; so many run at once. Bounds were right for a machine
at rest. The machine oscillates by 35 % (period 100 or 400 requests), switches between two speeds (60 requests each on
average, one 1.6 times as slow), has bursts twice as slow (15 of 115 requests), ramps to half its speed within 300 or
1000 requests, becomes twice as slow at once, or stays as it is; "heavy" is noise of which a twentieth is exponential.
All ways see an ended request when it ends, at four bounds at the latest. Judged: the last 1000 requests, from a hundred
after the change on. An infinite bound is none: it is counted beside, never as covered.

ACI: Gibbs and Candes 2021, window 100, step 0.005. PID: Angelopoulos et al. 2023, quantile tracking with a rate of a
tenth of the window's range, and an integrator. Both in log(time / bound), as laptime.

Two oracles are as late as a usual request ends, as many requests as are in flight at once: one knows how slow the
machine truly was then, the other also the law by which that changes. So they say what the delay itself costs.
"""

from __future__ import annotations

import argparse
import platform
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from laptime.estimate import online

REQUESTS, CHANGE, JUDGED_FROM, GIVE_UP, WINDOW = 1500, 400, 500, 4.0, 100
STATES = {"switching": (60, 60, 1.6), "bursts": (100, 15, 2.0)}
"""Two states: how many requests each lasts on average, and how many times as slow the second one is."""
WORLDS = [
    *((kind, at_once, "t(5)") for kind in ("calm", "step", "ramp 300", "ramp 1000") for at_once in (10, 40, 100)),
    *((kind, at_once, "t(5)") for kind in ("oscillation 100", "switching", "bursts") for at_once in (10, 40)),
    ("oscillation 400", 10, "t(5)"),
    ("faster", 10, "t(5)"),
    ("calm", 10, "heavy"),
    ("calm", 80, "heavy"),
    ("step", 10, "heavy"),
]


class Stream(NamedTuple):
    """When requests were sent and ended (or were given up), what they took, and the bounds that they had at rest.

    slow: how many times as slow the machine really was; only the two oracles see it.
    """

    kind: str
    at_once: int
    slow: np.ndarray
    issued: np.ndarray
    ended: np.ndarray
    took: np.ndarray
    bounds: np.ndarray
    baseline: np.ndarray


def slowness(kind: str, rng: np.random.Generator) -> np.ndarray:
    """How many times as slow the machine is at each request."""
    at = np.arange(REQUESTS)
    if kind.startswith("oscillation"):
        return 1 + 0.35 * np.sin(2 * np.pi * at / float(kind.split()[1]))
    if kind.startswith("ramp"):
        return 2.0 ** np.clip((at - CHANGE) / float(kind.split()[1]), 0, 1)
    if kind in ("switching", "bursts"):
        rest, busy, factor = STATES[kind]
        states: list[float] = []
        while len(states) < REQUESTS:
            states += [1.0] * (1 + int(rng.exponential(rest))) + [factor] * (1 + int(rng.exponential(busy)))
        return np.array(states[:REQUESTS])
    return np.where(at > CHANGE, {"step": 2.0, "faster": 0.5, "calm": 1.0}[kind], 1.0)


def stream(kind: str, at_once: int, tail: str, rng: np.random.Generator) -> Stream:
    """One stream of a world."""
    medians = 100 * np.exp(0.5 * rng.normal(size=REQUESTS))
    noise = rng.standard_t(5, size=REQUESTS + 2000) * 0.15 / np.sqrt(5 / 3)
    if tail == "heavy":
        noise = 0.1 * rng.standard_normal(len(noise))
        noise += np.where(rng.random(len(noise)) < 0.05, rng.exponential(0.8, len(noise)), 0.0)
    slow = slowness(kind, rng)
    took = medians * np.exp(noise[:REQUESTS]) * slow
    at_rest = noise[REQUESTS:]
    reach = float(np.quantile(at_rest, 0.95))
    bounds = medians * np.exp(reach)
    issued = np.cumsum(rng.exponential(medians.mean() / at_once, size=REQUESTS))
    return Stream(
        kind, at_once, slow, issued, issued + np.minimum(took, GIVE_UP * bounds), took, bounds, at_rest - reach
    )


def laptime(one: Stream) -> np.ndarray:
    """What laptime's correction gives."""
    state, order, at = online.begin(one.baseline), np.argsort(one.ended), 0
    given = np.empty(REQUESTS)
    for i in range(REQUESTS):
        while one.ended[order[at]] <= one.issued[i]:
            j = int(order[at])
            end = online.finished if one.took[j] <= GIVE_UP * one.bounds[j] else online.timed_out
            state, at = end(state, str(j), float(one.ended[j] - one.issued[j])), at + 1
        given[i] = online.correction(state, one.issued[i]).bound_ms(one.bounds[i])
        state = online.issued(state, str(i), one.bounds[i], given[i], one.issued[i])
    return given


def _follow(one: Stream, answer: Any) -> np.ndarray:
    """A way that is told of each ended request, and then asked for a bound."""
    ratios = np.log(np.minimum(one.took, GIVE_UP * one.bounds) / one.bounds)
    seen = np.quantile(one.baseline, (np.arange(WINDOW) + 0.5) / WINDOW).tolist()
    order, at, given, missed = np.argsort(one.ended), 0, np.empty(REQUESTS), []
    for i in range(REQUESTS):
        new = []
        while one.ended[order[at]] <= one.issued[i]:
            j = int(order[at])
            seen.append(float(ratios[j]))
            new.append(float(one.took[j] > given[j]))
            at += 1
        missed += new
        given[i] = one.bounds[i] * np.exp(answer(seen[-WINDOW:], new, len(missed)))
    return given


def aci(one: Stream) -> np.ndarray:
    """Adaptive conformal inference on a window."""
    level = 0.05

    def answer(window: list[float], new: list[float], _: int) -> float:
        nonlocal level
        level += 0.005 * sum(0.05 - miss for miss in new)
        place = int(np.ceil((WINDOW + 1) * (1 - level)))
        return float("inf") if place > WINDOW else sorted(window)[max(place, 1) - 1]

    return _follow(one, answer)


def pid(one: Stream) -> np.ndarray:
    """Conformal PID: the bound moves with every miss, and with their sum."""
    bound = total = 0.0

    def answer(window: list[float], new: list[float], count: int) -> float:
        nonlocal bound, total
        for miss in new:
            bound += 0.1 * float(np.ptp(window)) * (miss - 0.05)
            total += miss - 0.05
        return bound + 0.2 * float(np.tan(np.clip(total * np.log(count + 1) / (5 * (count + 1)), -1.5, 1.5)))

    return _follow(one, answer)


def knows_past(one: Stream) -> np.ndarray:
    """An oracle: it knows the noise, and the true speed as late as a usual request ends. It takes the speed to stay."""
    return one.bounds * one.slow[_known(one)]


def knows_law(one: Stream) -> np.ndarray:
    """An oracle that knows also by what law the speed changes: nobody can promise 95 % with less."""
    if one.kind not in STATES:
        return one.bounds * one.slow  # nothing is random but the noise
    rest, busy, factor = STATES[one.kind]
    leave = np.array([1 / (rest + 0.5), 1 / (busy + 0.5)])  # 1 + int(exponential): 0.5 longer on average
    slow_share = leave[0] / leave.sum()
    now_slow = np.where(one.slow[_known(one)] > 1, 1.0, 0.0)
    shares = slow_share + (now_slow - slow_share) * (1 - leave.sum()) ** one.at_once
    at = np.concatenate([one.baseline, one.baseline + np.log(factor)])
    order, factors = np.argsort(at), np.empty(REQUESTS)
    for share in np.unique(shares):
        below = np.cumsum(np.repeat([1 - share, share], len(one.baseline))[order]) / len(one.baseline)
        factors[shares == share] = np.exp(at[order][np.searchsorted(below, 0.95)])
    return one.bounds * factors


def _known(one: Stream) -> np.ndarray:
    """For each request the one whose speed is known: as many before it as are in flight at once."""
    return np.maximum(np.arange(REQUESTS) - one.at_once, 0)


WAYS = {"laptime": laptime, "ACI": aci, "conformal PID": pid, "knows the past": knows_past, "knows the law": knows_law}


def judge(world: tuple[str, int, str], way: str, streams: int, seed: int) -> dict[str, float]:
    """Coverage and width of the bounds that were given, and the share without one."""
    rng = np.random.default_rng(seed)
    held, width, count = [], [], 0
    for _ in range(streams):
        one = stream(*world, rng)
        given = WAYS[way](one)[JUDGED_FROM:]
        finite = np.isfinite(given)
        took = one.took[JUDGED_FROM:][finite]
        held.append(took <= given[finite])
        width.append(given[finite] / took)
        count += len(given)
    covered = np.concatenate(held)
    return {
        "coverage": float(covered.mean()) if len(covered) else float("nan"),
        "width": float(np.median(np.concatenate(width))) if len(covered) else float("nan"),
        "none": 1 - len(covered) / count,
    }


ENDED = ((0, 20), (20, 100), (100, 400), (400, REQUESTS))
"""Requests that were sent after the change and have ended when the next one is sent."""


def by_ended(world: tuple[str, int, str], streams: int, seed: int) -> dict[str, Any]:
    """Coverage of laptime's bounds by how many requests that were sent after the change had ended."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[np.ndarray]] = {f"{low}-{high}": [] for low, high in ENDED}
    for _ in range(streams):
        one = stream(*world, rng)
        given = laptime(one)
        ended = np.array([np.sum(one.ended[CHANGE:i] <= one.issued[i]) for i in range(REQUESTS)])
        for low, high in ENDED:
            at = (np.arange(REQUESTS) > CHANGE) & (ended >= low) & (ended < high) & np.isfinite(given)
            held[f"{low}-{high}"].append(one.took[at] <= given[at])
    shares = {name: float(np.concatenate(parts).mean()) for name, parts in held.items()}
    shares["from 100 on"] = float(np.concatenate([*held["100-400"], *held[f"400-{REQUESTS}"]]).mean())
    return {"world": world[0], "at_once": world[1], **shares}


def main() -> None:
    """Print a row for each world, and write benchmarks/results/online_worlds.json."""
    from recorded import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ended", action="store_true", help="laptime alone, by requests that ended since the change")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    pool = ProcessPoolExecutor(asked.workers)
    if asked.ended:
        changes = [world for world in WORLDS if world[0].startswith(("step", "ramp")) and world[2] == "t(5)"]
        futures = [pool.submit(by_ended, world, asked.streams, asked.seed) for world in changes]
        rows = [future.result() for future in futures]
        for row in rows:
            print(*(f"{name} {value:.3f}" if isinstance(value, float) else value for name, value in row.items()))
        figures = {"streams": asked.streams, "seed": asked.seed, "worlds": rows}
        print(record("online_ended", figures, environment).name)
        return
    judged = [[pool.submit(judge, world, way, asked.streams, asked.seed) for way in WAYS] for world in WORLDS]
    for world, futures in zip(WORLDS, judged, strict=True):
        ways = {way: future.result() for way, future in zip(WAYS, futures, strict=True)}
        rows.append({"world": world[0], "at_once": world[1], "noise": world[2], **ways})
        words = [
            f"{way} {one['coverage']:.3f} at {one['width']:.2f}, none {one['none']:.0%}" for way, one in ways.items()
        ]
        print(f"{world[0]}, {world[1]} at once, {world[2]}: {'; '.join(words)}", flush=True)
        record("online_worlds", {"streams": asked.streams, "seed": asked.seed, "worlds": rows}, environment)


if __name__ == "__main__":
    main()
