"""Bounds beyond the measured sizes: a row outside is predicted from the nearest row inside and from how times grew.

What that is worth is seen at steps: the last measured sizes are left out and predicted from those below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.card import ChosenRegressor, chosen_regressor
from laptime.estimate.learn.configurations import rows_of
from laptime.estimate.learn.conformal import CalibratedRegressor, by_direction, over_steps
from laptime.estimate.learn.domain import NEAR
from laptime.estimate.learn.folds import farthest
from laptime.estimate.learn.growth import growth_of
from laptime.estimate.learn.process import Parameters
from laptime.estimate.learn.ranks import bound
from laptime.estimate.learn.regressors import Candidate, Roof, Training, fit_regressor
from laptime.estimate.learn.selection import MIDDLE_POWER, Score
from laptime.estimate.learn.steps import LAWS, cross_fit_steps, step_folds
from laptime.estimate.table.table import Schema

USUAL = 0.95
"""The level at which laws of growth are compared, and "wider than inside" is judged."""


class TrainedRows(NamedTuple):
    """What was learnt from.

    sample: the configurations that candidates were compared on; None for all. configuration, log_ms: of each row.
    """

    training: Training
    sample: Ints | None
    configuration: Ints
    log_ms: Floats
    schema: Schema


class Refit(NamedTuple):
    """How a regressor is fitted again."""

    seed: int
    threads: int
    workers: int
    parameters: dict[Roof, Parameters]


def beyond_by_growth(
    table: TrainedRows, refit: Refit, scores: Sequence[Score], usual: Floats
) -> tuple[CalibratedRegressor, ChosenRegressor | None]:
    """What answers for rows beyond the measured sizes, and its line of the card; None where no step could be left out.

    usual: residuals inside, of one scale.
    """
    training, schema = table.training, table.schema
    near = next(s for s in scores if s.question == "inside" and s.chosen)
    far = next((s for s in scores if s.question == "beyond" and s.chosen), None)
    some = training if table.sample is None else training.take(table.sample)
    steps = step_folds(some, schema.features)
    ways = near.candidate, Candidate(power=MIDDLE_POWER, residual="none") if far is None else far.candidate
    seed, parameters = refit.seed, refit.parameters
    fitted = fit_regressor(training, ways[1], seed=seed, threads=refit.threads, parameters=parameters)
    seen = growth_of(training.rows, training.log_ms)
    beyond = CalibratedRegressor(fitted.settled(), usual, NEAR, growth=seen)
    if not steps:
        return beyond, None
    laws = cross_fit_steps(some, steps, *ways, seed=seed, parameters=parameters, workers=refit.workers)
    of_all = laws[0].configurations if table.sample is None else table.sample[laws[0].configurations]
    measured, place = rows_of(of_all, table.configuration)
    took = table.log_ms[measured]
    over = [took - (found.log_ms + found.above)[place] for found in laws]
    margins = [over_steps(one, found.folds[place], found.first) for one, found in zip(over, laws, strict=True)]
    reaches = [float(bound(one, np.array([USUAL]))[0]) for one in margins]
    law = int(np.argmin([found.above.mean() + one for found, one in zip(laws, reaches, strict=True)]))
    held, folds = laws[law], [fold for fold, _ in steps]
    ways_up = by_direction(over[law], held.folds[place], [str(fold.column) for fold in folds])
    beyond = msgspec.structs.replace(
        beyond,
        residuals=margins[law],
        growth=LAWS[law](seen),
        groups={name: own for name, own in ways_up.items() if name in schema.numeric},
        checked=float(held.distances.max()),
        checked_of={name: farthest(held.distances, held.folds, folds, name) for name in schema.numeric},
    )
    best = far or msgspec.structs.replace(near, question="beyond", name=ways[1].name)
    return beyond, chosen_regressor(best, took - held.log_ms[place], folds, beyond, schema.sizes)
