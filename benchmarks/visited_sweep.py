"""Simulated sweeps whose visits have noise of their own, and how often a knob's interval holds the truth then.

Knobs of two or three values; inputs differ in size by 30 % and react to each knob in their own way by 0.5 %; a call's
noise is 0.5 %, a visit's is asked for. A round visits each configuration once, in random order, with its share of the
(input, repeat) pairs, as `laptime sweep` does. Interactions: each two knobs change each other's ratio, by 15 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from laptime.sweeps.summary.calls import usable_calls
from laptime.sweeps.summary.config_rows import input_cells
from laptime.sweeps.summary.effects import VisitShare, knob_effects, visit_shares
from laptime.sweeps.summary.knobs import varying
from laptime.sweeps.summary.matched import knob_codes, make_grid
from laptime.sweeps.summary.result import KnobEffect
from laptime.sweeps.summary.visit_noise import visit_noises
from laptime.sweeps.summary.visits import shared_visits

GRIDS = {3: (3,), 18: (3, 3, 2), 54: (3, 3, 3, 2)}
"""Values of each knob, by the number of settings."""
INPUTS = 8

Truth = dict[tuple[str, int], float]


class Case(msgspec.Struct, frozen=True):
    """What is simulated. bad: the share that one visit of all takes longer."""

    settings: int
    rounds: int
    repeats: int
    visit_sd: float
    interactions: bool = False
    bad: float = 0.0


CASES = [
    Case(settings, rounds, repeats, visit_sd, interactions)
    for settings in (18, 54)
    for interactions in (False, True)
    for visit_sd in (0.01, 0.03)
    for rounds, repeats in ((1, 1), (2, 1), (2, 2), (4, 1), (4, 4))
] + [
    Case(18, 2, 2, 0.0),
    Case(54, 2, 2, 0.003, bad=0.3),
    Case(3, 2, 2, 0.03),
    Case(3, 4, 4, 0.03),
    Case(3, 1, 1, 0.03),
]


def simulated(draw: np.random.Generator, case: Case) -> tuple[pl.DataFrame, Truth]:
    """A sweep's samples, and the logarithm of the true ratio of each value of a knob to its first."""
    values = GRIDS[case.settings]
    codes = np.array(list(itertools.product(*map(range, values))))
    logs = np.zeros((len(codes), INPUTS)) + draw.normal(0, 0.3, INPUTS)
    true = np.zeros(len(codes))
    for knob, count in enumerate(values):
        true += draw.normal(0, 0.3, count)[codes[:, knob]]
        logs += draw.normal(0, 0.005, (count, INPUTS))[codes[:, knob]]
    for a, b in itertools.combinations(range(len(values)) if case.interactions else (), 2):
        true += draw.normal(0, 0.15 / 2, (values[a], values[b]))[codes[:, a], codes[:, b]]
    logs += true[:, None]
    truth = {
        (f"k{knob}", value): float(true[codes[:, knob] == value].mean() - true[codes[:, knob] == 0].mean())
        for knob, count in enumerate(values)
        for value in range(1, count)
    }
    pairs = np.array([(unit, repeat) for repeat in range(case.repeats) for unit in range(INPUTS)])
    parts = [
        np.column_stack([np.full(len(share), config), share])
        for share in np.array_split(pairs, case.rounds)
        for config in draw.permutation(len(codes))
    ]
    config, unit, repeat = np.concatenate(parts).T
    visit = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    of_visits = draw.normal(0, case.visit_sd, len(parts)) if case.visit_sd else np.zeros(len(parts))
    of_visits[draw.integers(len(parts))] += np.log1p(case.bad)
    log = logs[config, unit] + of_visits[visit] + draw.normal(0, 0.005, len(config))
    columns = {
        "config_id": config.astype(str),
        "sample_id": unit.astype(str),
        "repeat": repeat,
        "total_ms": 100 * np.exp(log),
        "started_unix_ms": 1e12 + 1e3 * np.arange(len(config)),
    }
    return pl.DataFrame(columns | {f"config.k{k}": codes[config, k] for k in range(len(values))}), truth


def intervals(frame: pl.DataFrame) -> dict[str, list[KnobEffect]]:
    """The effects with what visits add, and with the spread over inputs alone."""
    calls = usable_calls(frame)
    knobs = varying(calls.configs)
    settings = knob_codes(calls, knobs)
    grid = make_grid(calls, input_cells(calls), knobs, settings)
    shared = shared_visits(calls, by_repeat=False)
    shares = visit_shares(shared, visit_noises(shared, settings))
    none = {s: VisitShare(known="unknown", variance=np.zeros(len(settings)), freedom=1.0) for s in shares}
    return {"laptime": knob_effects(grid, knobs, shares), "inputs alone": knob_effects(grid, knobs, none)}


def visited(simulations: int, seed: int) -> list[dict[str, object]]:
    """How often the intervals of all knobs' ratios of the total hold the truth, case by case."""
    print(f"\n{'visits with noise':62}{'laptime':>20}{'inputs alone':>20}")
    rows: list[dict[str, object]] = []
    for case in CASES:
        draw = np.random.default_rng(seed)
        seen: dict[str, list[tuple[bool, float]]] = {"laptime": [], "inputs alone": []}
        known: list[str] = []
        for _ in range(simulations):
            frame, truth = simulated(draw, case)
            for way, effects in intervals(frame).items():
                seen[way] += held(effects, truth)
                known += [effect.visit_noise for effect in effects] if way == "laptime" else []
        row: dict[str, object] = msgspec.structs.asdict(case) | {"visit_noise": max(set(known), key=known.count)}
        shown = ""
        for way, pairs in seen.items():
            holds, halves = np.array(pairs, dtype=np.float64).T
            row[way] = {"coverage": round(float(holds.mean()), 4), "half_width": round(float(np.median(halves)), 4)}
            shown += f"{holds.mean():11.1%} ±{np.median(halves):6.2%}"
        rows.append(row)
        what = f"{case.settings} settings, {case.rounds} rounds, {case.repeats} repeats, visits {case.visit_sd:.1%}"
        print(f"{what + ', interactions' * case.interactions + ', one bad' * (case.bad > 0):62}{shown}", flush=True)
    return rows


def held(effects: list[KnobEffect], truth: Mapping[tuple[str, int], float]) -> list[tuple[bool, float]]:
    """Of each level whether its interval holds the truth, and half its width."""
    covered: list[tuple[bool, float]] = []
    reals: npt.NDArray[np.float64]
    for effect in effects:
        for level in effect.levels:
            assert isinstance(level.value, int)
            assert level.ratio.low is not None
            assert level.ratio.high is not None
            reals = np.log([level.ratio.low, level.ratio.high])
            right = truth[(effect.knob, level.value)]
            covered.append((bool(reals[0] <= right <= reals[1]), float(np.diff(reals)[0]) / 2))
    return covered
