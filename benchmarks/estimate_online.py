"""Coverage of a 95 % bound while the machine changes, labels arriving when requests end.

python benchmarks/estimate_online.py [--streams 200] [--svg docs/online.svg]

A stream: requests of different sizes arrive at random (about ten run at once), each with a bound from an estimator that
was right before the change. Requests longer than four bounds are given up (a censored label). After 250 requests the
machine becomes twice as slow at once, or within 1000 requests, or within 300; or it gets faster again.
Coverage is over all streams, by how many requests had completed since the change when the request was issued.

Ways: no correction; ACI with each label at once, which no server can have; ACI with labels at completion (Gibbs and
Candes 2021, level of a window's quantile moved by 0.005 a miss); laptime.
"""

from __future__ import annotations

import argparse
import platform
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from laptime.estimate import online

REQUESTS, CHANGE = 800, 250
GIVE_UP = 4.0
EDGES = (0, 20, 40, 60, 80, 100, 150, 200, 250, 300, 400, 500)
WAYS = ("none", "ACI, labels at once", "ACI, labels at completion", "laptime")


class Scenario(NamedTuple):
    """How slow the machine is at each request, how many run at once, and how much equal ones differ."""

    name: str
    slowness: Any
    at_once: float = 10.0
    spread: float = 0.15


def scenario(name: str) -> Scenario:
    """One of the changes, by its name."""
    after = np.maximum(0, np.arange(REQUESTS) - CHANGE)
    slow = {
        "2x slow-down": np.where(after > 0, 2.0, 1.0),
        "drift to 2x": 2.0 ** np.minimum(1, after / 1000),
        "fast drift to 2x": 2.0 ** np.minimum(1, after / 300),
        "2x faster": np.where(after > 0, 0.5, 1.0),
    }
    return Scenario(name, slow[name])


def coverage_by_completions(change: Scenario, way: str, *, streams: int, seed: int) -> dict[str, Any]:
    """Coverage before the change, in bins of completions after it, and over all requests after 100 of them."""
    rng = np.random.default_rng(seed)
    kept: list[Any] = []
    done: list[Any] = []
    width: list[float] = []
    for _ in range(streams):
        held, completions, ratio = _stream(rng, change, way)
        kept.append(held)
        done.append(completions)
        width.append(ratio)
    held, completions = np.concatenate(kept), np.concatenate(done)
    bins = {}
    for low, high in pairwise(EDGES):
        mine = (completions >= low) & (completions < high)
        bins[f"{low}-{high}"] = float(held[mine].mean())
    return {
        "before": float(held[completions < 0].mean()),
        "after 100": float(held[completions >= 100].mean()),
        "bins": bins,
        "width_before": float(np.mean(width)),
    }


def _stream(rng: np.random.Generator, change: Scenario, way: str) -> tuple[Any, Any, float]:
    medians = 100 * np.exp(0.5 * rng.normal(size=REQUESTS))
    noise = rng.standard_t(5, size=(2, 2000)) * change.spread / np.sqrt(5 / 3)
    took = medians * np.exp(noise[0][:REQUESTS]) * change.slowness
    reach = float(np.quantile(noise[1], 0.95))
    bounds = medians * np.exp(reach)
    issued = np.cumsum(rng.exponential(medians.mean() / change.at_once, size=REQUESTS))
    ended = issued + np.minimum(took, GIVE_UP * bounds)
    follow = _laptime if way == "laptime" else _aci
    given = follow(issued, ended, took, bounds, noise[1] - reach, way)
    completions = np.array([np.sum(ended[CHANGE:i] <= issued[i]) if i >= CHANGE else -1 for i in range(REQUESTS)])
    start = slice(100, CHANGE)
    completions[:100] = -2  # the window fills
    return took <= given, completions, float(np.mean(given[start] / took[start]))


def _laptime(issued: Any, ended: Any, took: Any, bounds: Any, baseline: Any, way: str) -> Any:
    state, order, at = online.begin(baseline), np.argsort(ended), 0
    given = np.empty(REQUESTS)
    for i in range(REQUESTS):
        while ended[order[at]] <= issued[i]:
            j = int(order[at])
            end = online.finished if took[j] <= GIVE_UP * bounds[j] else online.timed_out
            state, at = end(state, str(j), float(ended[j] - issued[j])), at + 1
        given[i] = online.correction(state, issued[i]).bound_ms(bounds[i])
        state = online.issued(state, str(i), bounds[i], given[i], issued[i])
    return given


def _aci(issued: Any, ended: Any, took: Any, bounds: Any, baseline: Any, way: str) -> Any:
    """Windowed conformal with adaptive level; `none` never corrects."""
    if way == "none":
        return bounds
    window, step, level = 100, 0.005, 0.05
    ratios = np.log(np.minimum(took, GIVE_UP * bounds) / bounds)
    given = np.empty(REQUESTS)
    seen: set[int] = set()
    for i in range(REQUESTS):
        known = np.arange(i) if way == "ACI, labels at once" else np.flatnonzero(ended[:i] <= issued[i])
        for j in set(known.tolist()) - seen:
            level += step * (0.05 - (took[j] > given[j]))
            seen.add(j)
        order = known if way == "ACI, labels at once" else known[np.argsort(ended[known])]
        recent = np.concatenate([baseline[:window], ratios[order]])[-window:]
        place = min(int(np.ceil((window + 1) * (1 - np.clip(level, 0.005, 0.5)))), window) - 1
        given[i] = bounds[i] * np.exp(np.sort(recent)[place])
    return given


def figure(figures: dict[str, Any]) -> str:
    """Coverage after the change, one panel for each scenario, as SVG."""
    colours = {"none": "#a3a9b2", WAYS[1]: "#eda31d", WAYS[2]: "#12a081", "laptime": "#1c6fb8"}
    panels = []
    for number, (name, ways) in enumerate(figures.items()):
        left, top = 60 + (number % 2) * 430, 40 + (number // 2) * 240

        def x(completions: float, left: float = left) -> float:
            return left + completions / EDGES[-1] * 350

        def y(coverage: float, top: float = top) -> float:
            return top + 160 - max(0.0, coverage - 0.8) / 0.2 * 160

        panels.append(f'<text x="{left}" y="{top - 12}" font-weight="600">{name}</text>')
        panels.append(
            f'<rect x="{left}" y="{y(0.97):.1f}" width="350" height="{y(0.93) - y(0.97):.1f}" '
            'fill="#12a081" opacity="0.15"/>'
        )
        panels += [
            f'<text x="{left - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
            for share in (0.8, 0.85, 0.9, 0.95, 1.0)
        ]
        panels += [
            f'<text x="{x(tick):.0f}" y="{top + 178}" text-anchor="middle">{tick}</text>' for tick in range(0, 501, 100)
        ]
        for way, found in ways.items():
            middles = [(low + high) / 2 for low, high in pairwise(EDGES)]
            path = "L".join(f"{x(m):.1f},{y(c):.1f}" for m, c in zip(middles, found["bins"].values(), strict=True))
            panels.append(f'<path d="M{path}" fill="none" stroke="{colours[way]}" stroke-width="2"/>')
    legend = [
        f'<text x="{60 + 210 * i}" y="530" fill="{colours[way]}" font-weight="600">{way}</text>'
        for i, way in enumerate(WAYS)
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 560" font-family="sans-serif" font-size="12">'
        '<rect width="900" height="560" fill="#fff"/>'
        + "".join(panels)
        + "".join(legend)
        + '<text x="60" y="550">coverage of the 95 % bound, by requests completed since the change; '
        "the band is 93 to 97 %</text></svg>\n"
    )


def main() -> None:
    """Print coverage by scenario and way, and write benchmarks/results/estimate_online.json."""
    from recorded import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--svg", type=Path)
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in ("2x slow-down", "drift to 2x", "fast drift to 2x", "2x faster"):
        figures[name] = {}
        for way in WAYS:
            found = coverage_by_completions(scenario(name), way, streams=asked.streams, seed=asked.seed)
            figures[name][way] = found
            bins = " ".join(f"{share:.3f}" for share in found["bins"].values())
            means = f"before {found['before']:.3f} after 100 {found['after 100']:.3f}"
            print(f"{name:18s} {way:26s} {means} | {bins}", flush=True)
    others = {}
    for at_once, spread in ((1.0, 0.15), (40.0, 0.15), (10.0, 0.03), (10.0, 0.4)):
        for name in ("2x slow-down", "drift to 2x"):
            change = scenario(name)._replace(at_once=at_once, spread=spread)
            found = coverage_by_completions(change, "laptime", streams=asked.streams // 4, seed=asked.seed)
            others[f"{name}, {at_once:g} at once, spread {spread:g}"] = found
            print(f"{name}, {at_once:g} at once, spread {spread:g}: after 100 {found['after 100']:.3f}", flush=True)
    if asked.svg:
        asked.svg.write_text(figure(figures), encoding="utf-8")
    told = {"streams": asked.streams, "seed": asked.seed, "requests": REQUESTS, "change": CHANGE, "edges": EDGES}
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    print(record("estimate_online", {**told, "scenarios": figures, "laptime_elsewhere": others}, environment).name)


if __name__ == "__main__":
    main()
