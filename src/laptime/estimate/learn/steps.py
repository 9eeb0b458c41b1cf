"""Steps from the sizes below to those just above, held out to learn what a bound beyond the sizes has to allow for.

Each size, and the product of all, is cut twice: the largest fifth of its values is held out from the rest, and then the
fifth below it from what lies below that. So a table shows the kind of step that it will be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.domain import domain_of
from laptime.estimate.learn.folds import FEWEST_LEFT, LARGEST_SHARE, MOST_HELD, Fold, growing, split
from laptime.estimate.learn.growth import Growth, Reach, growth_of, proportional, reach
from laptime.estimate.learn.process import Parameters
from laptime.estimate.learn.regressors import Candidate, Roof, Shared, Training, fit_regressor
from laptime.estimate.learn.selection import each

STEPS = 2
LAWS: tuple[Callable[[Growth], Growth], ...] = (lambda seen: seen, proportional)
"""How fast sizes may grow: as fast as was seen, or in proportion at least."""


class Steps(msgspec.Struct, frozen=True):
    """Held-out configurations of every step: what was predicted (log time), and how far above it bounds start."""

    configurations: Ints
    log_ms: Floats
    above: Floats
    folds: Ints
    """The number of the step of each."""
    distances: Floats
    """How far each lies outside what its step kept."""
    first: list[bool]
    """By step: whether it is the last one that the table has in its direction."""


def step_folds(training: Training, names: Sequence[str]) -> list[tuple[Fold, bool]]:
    """The steps that a table has room for, each with whether it is the last one in its direction."""
    return [step for name, order in growing(training, names) for step in _steps_of(name, order)]


def _steps_of(name: str, order: Floats) -> Iterable[tuple[Fold, bool]]:
    values = np.unique(order)
    above = len(values)
    for step in range(STEPS):
        kept = min(int(np.ceil(len(values) * (1 - (step + 1) * LARGEST_SHARE))), above - 1)
        if kept < 1 or (rest := order <= values[kept - 1]).sum() < FEWEST_LEFT:
            return
        held = ~rest & (order <= values[above - 1])
        above = kept
        if step > 0 or held.mean() <= MOST_HELD:
            yield Fold("beyond", f"larger {name}" if step else f"largest {name}", held, rest, name), step == 0


def cross_fit_steps(
    training: Training,
    steps: Sequence[tuple[Fold, bool]],
    near: Candidate,
    far: Candidate,
    *,
    seed: int,
    parameters: Mapping[Roof, Parameters],
    workers: int = 1,
) -> list[Steps]:
    """Predict what every step holds out as rows beyond are predicted, from the rows below it alone; for each law."""

    def one(step: tuple[Fold, bool]) -> tuple[list[Reach], Floats]:
        kept, held = split(training, step[0])
        shared = Shared()
        inside, beyond = (
            fit_regressor(kept, kind, seed=seed, threads=1, parameters=parameters, shared=shared)
            for kind in (near, far)
        )
        domain, growth = domain_of(kept.rows), growth_of(kept.rows, kept.log_ms)
        distances = domain.distances(held.numeric, held.codes)
        return [reach(law(growth), domain, inside, beyond, held, threads=1) for law in LAWS], distances

    by_step = each(one, list(steps), workers)
    held = np.concatenate([np.flatnonzero(fold.held) for fold, _ in steps]).astype(np.int64)
    number = np.repeat(np.arange(len(steps)), [int(fold.held.sum()) for fold, _ in steps]).astype(np.int64)
    return [
        Steps(
            held,
            np.concatenate([found[law].log_ms for found, _ in by_step]),
            np.concatenate([found[law].above for found, _ in by_step]),
            number,
            np.concatenate([distances for _, distances in by_step]),
            [first for _, first in steps],
        )
        for law in range(len(LAWS))
    ]
