"""How wide the what-if's ranges must be: from the outcomes of measured programs, with each left out in turn. No GPU.

    python benchmarks/whatif_ranges.py FOLDER FOLDER    # each with a run's .json and its traces in a .zip
    python benchmarks/whatif_ranges.py --add RESULT     # the last result, and a run without its traces

Of a run whose traces are lost the middle is that of the range it promised, without the shift of then.

For each program two replays of its dependency graph give a middle. The logarithm of outcome over middle is taken; its
median by kind (graphs, and the others) shifts the middle, and a tolerance interval gives the reach. It holds 95 % of
normally spread outcomes with a confidence of 95 %; the spread is taken from the median distance, so that a program in
which something else happened is counted as outside and doesn't widen all others' ranges. The constants of the replays
were set by hand by the same programs: each costs a degree of freedom. Left out: shift and reach come from the other
programs alone; the constants stay.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2, norm
from whatif_truth import environment

from laptime.errors import LaptimeError
from laptime.trace.analysis import read_trace, views
from laptime.trace.graph_replay import graph_range
from laptime.trace.read.reading import read_timeline
from laptime.trace.remedied import (
    Remedied,
    compile_range,
    overlap_range,
    workers_range,
)
from laptime.trace.step_changes import step_changes
from laptime.trace.step_costs import step_costs
from laptime.trace.untraced_step import untraced
from recorded import record

CONSTANTS = 10
"""Residual, memsets, streams side by side, heat, merged kernels and what they leave of strided ones, receiving a batch,
stretching by the profiler, a graph's launch behind a wait, what a link carries."""

OTHER = 0.2
"""A graph whose kernels are so many more or fewer is of another program."""

CONTENT, CONFIDENCE = 0.95, 0.95

RESULTS = Path(__file__).parent / "results"

MAD = 1.4826
"""A normal distribution's spread, in multiples of the median distance from its median: an outlier doesn't move it."""


@dataclass(frozen=True)
class Outcome:
    """A program's two replays and what came of it, in ms."""

    name: str
    kind: str  # graph, or other
    replays: Remedied
    before_ms: float
    after_ms: float
    kernels_ms: tuple[float, ...]  # in the traces of before and after; empty where these are lost
    kernels: tuple[int, int]

    @property
    def middle_ms(self) -> float:
        return (self.replays.low_ns + self.replays.high_ns) / 2e6

    @property
    def half(self) -> float:
        return (self.replays.high_ns - self.replays.low_ns) / (self.replays.high_ns + self.replays.low_ns)

    @property
    def other(self) -> bool:
        return self.kind == "graph" and abs(self.kernels[1] - self.kernels[0]) > OTHER * self.kernels[0]

    @property
    def off(self) -> float:
        return math.log(self.after_ms / self.middle_ms)


def main() -> None:
    """Write benchmarks/results/whatif_ranges.json."""
    known: dict[str, Any] = {}
    if sys.argv[1] == "--add":
        known = json.loads((RESULTS / "whatif_ranges.json").read_text())["figures"]
        every = [*recorded_before(known), *promised_then(Path(sys.argv[2]), known["shift"])]
    else:
        every = [one for folder in sys.argv[1:] for one in outcomes_of(Path(folder))]
    outcomes = [one for one in every if not one.other]
    shift, reach = fitted(outcomes)
    rows: dict[str, Any] = {}
    for one in outcomes:
        others = [other for other in outcomes if other is not one]
        ends = promised(one, *fitted(others))
        rows[one.name] = {
            "kind": one.kind,
            "middle_ms": round(one.middle_ms, 4),
            "after_ms": round(one.after_ms, 4),
            "off": round(one.off, 4),
            "kernels_ms": [round(time, 4) for time in one.kernels_ms] if one.kernels_ms else None,
            "replays_half_width": round(one.half, 4),
            "left_out_ms": [round(end, 4) for end in ends],
            "left_out_half_width": round((ends[1] - ends[0]) / (ends[1] + ends[0]), 4),
            "left_out_inside": ends[0] <= one.after_ms <= ends[1],
        }
    single = [one.kernels_ms[1] / one.kernels_ms[0] for one in outcomes if one.kind == "graph" and one.kernels_ms]
    figures = {
        "kernels_in_graphs": [round(share, 3) for share in sorted(single)],
        "other_kernels": {**known.get("other_kernels", {}), **{one.name: one.kernels for one in every if one.other}},
        "shift": {kind: round(one, 4) for kind, one in shift.items()},
        "reach": round(reach, 4),
        "programs": len(rows),
        "left_out_inside": sum(row["left_out_inside"] for row in rows.values()),
        "left_out_within_15_percent": sum(row["left_out_half_width"] <= 0.15 for row in rows.values()),
        "rows": rows,
    }
    print(json.dumps(figures, indent=1), record("whatif_ranges", figures, json.loads(environment())))


def recorded_before(figures: dict[str, Any]) -> list[Outcome]:
    """The outcomes of the last result. Their floors and the steps before aren't in it: no range is cut off by them."""
    return [
        Outcome(
            name,
            row["kind"],
            ends_of(row["middle_ms"], row["replays_half_width"]),
            math.inf,
            row["after_ms"],
            tuple(row["kernels_ms"] or ()),
            (1, 1),
        )
        for name, row in figures["rows"].items()
    ]


def promised_then(result: Path, shift: dict[str, float]) -> list[Outcome]:
    """The outcomes of a run by the ranges that it promised: their middle less the shift that was in force.

    Args:
        result: its .json; its traces are lost.
        shift: the shift of each kind in which those ranges were made.
    """
    found = []
    for name, row in json.loads(result.read_text())["figures"]["workloads"].items():
        if "failed" in row or not (ends := row["by_wall_clock"]["promised_ms"]):
            continue
        kind = "graph" if row["remedy"] == "graph" else "other"
        made = ends_of(math.sqrt(ends[0] * ends[1]) / math.exp(shift[kind]), 0.0)
        found.append(Outcome(name, kind, made, row["before_ms"], row["after_ms"], (), (1, 1)))
    return found


def ends_of(middle_ms: float, half: float) -> Remedied:
    """Two replays with this middle, so far apart."""
    low, high = (round(middle_ms * 1e6 * (1 + way * half)) for way in (-1, 1))
    return Remedied(low, high, 0)


def outcomes_of(folder: Path) -> list[Outcome]:
    """The outcomes of one run, with today's replays of its traces."""
    (result,), (traces,) = folder.glob("*.json"), folder.glob("*.zip")
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(traces) as archive:
            archive.extractall(temporary)
        for name, row in json.loads(result.read_text())["figures"]["workloads"].items():
            remedy = {"compiled": "compile"}.get(row.get("remedy"), row.get("remedy"))
            trace = Path(temporary) / f"{name}-before.json.gz"
            made = None if "failed" in row or refused(trace, row) else replays(trace, remedy, row)
            if made is not None:
                kind = "graph" if remedy == "graph" else "other"
                files = (Path(temporary) / f"{name}-{when}.json.gz" for when in ("before", "after"))
                before, after = (read_trace(file).steps for file in files)
                times = ((before.kernel_ns or 0) / 1e6, (after.kernel_ns or 0) / 1e6)
                counts = (before.kernels_per_step or 0, after.kernels_per_step or 0)
                found.append(Outcome(name, kind, made, row["before_ms"], row["after_ms"], times, counts))
    return found


def refused(trace: Path, row: dict[str, Any]) -> bool:
    """Whether laptime takes the untraced time for one of another configuration."""
    try:
        read_trace(trace, tpot_ms=row["before_ms"])
    except LaptimeError:
        return True
    return False


def replays(trace: Path, remedy: str, row: dict[str, Any]) -> Remedied | None:
    """The step at best and at worst under a remedy, by replays alone."""
    timeline = read_timeline(trace)
    view = max(views(timeline), key=lambda one: one.gaps.busy_ns)
    step = step_changes(timeline, view.gaps, view.launched, view.frame)
    costs = step_costs(timeline, view.gaps, view.causes, view.launched, view.frame)
    if step is None or costs is None:
        return None
    step = untraced(step, max(round(row["before_ms"] * 1e6), costs.busy_ns))
    if remedy == "graph":
        return graph_range(step, costs.residual_ns)
    return {"compile": compile_range, "workers": workers_range, "overlap": overlap_range}[remedy](step)


def fitted(outcomes: list[Outcome]) -> tuple[dict[str, float], float]:
    """The shift of each kind, and the reach of all: Howe's tolerance factor on what remains around the shifts."""
    shift = {kind: float(np.median([one.off for one in outcomes if one.kind == kind])) for kind in ("graph", "other")}
    left = np.array([one.off - shift[one.kind] for one in outcomes])
    free = len(left) - len(shift) - CONSTANTS
    smallest = min(sum(one.kind == kind for one in outcomes) for kind in shift)
    spread = MAD * float(np.median(np.abs(left))) * math.sqrt(len(left) / free)
    factor = norm.ppf((1 + CONTENT) / 2) * math.sqrt(free * (1 + 1 / smallest) / chi2.ppf(1 - CONFIDENCE, free))
    return shift, float(factor * spread)


def promised(one: Outcome, shift: dict[str, float], reach: float) -> tuple[float, float]:
    """The range in ms that laptime.trace.tolerance would make with these."""
    wide = max(reach, math.atanh(min(one.half, 0.99)))
    low, high = (one.middle_ms * math.exp(shift[one.kind] + way * wide) for way in (-1, 1))
    least = one.replays.floor_ns / 1e6
    return max(low, least), min(max(high, least), max(one.before_ms, least))


if __name__ == "__main__":
    main()
