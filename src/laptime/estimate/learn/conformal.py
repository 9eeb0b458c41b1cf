"""One-sided split conformal bounds from log ratios of held-out rows, and a regressor that is calibrated by them.

Residual = log(measured / predicted) of a row that its predictor had not seen. With n of them and exchangeable rows,
T <= predicted * exp(r(k)) with k = ceil((n + 1) q) holds with probability at least q (Vovk et al. 2005; Lei et al.
2018): no distribution is assumed. A level above n / (n + 1) can't be promised and the bound is infinite. The
probability of staying within a budget is the same rule read backwards, so that
`quantile(q) <= budget` exactly when `probability(budget) >= q`.

Residuals are divided by a scale before they are sorted (1 inside the training domain, growing with the distance
outside it), and a bound multiplies its own row's scale back.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats, Ints, t_quantile
from laptime.errors import LaptimeError
from laptime.estimate.learn.domain import NEAR
from laptime.estimate.learn.folds import FEWEST_FOLDS
from laptime.estimate.learn.growth import Growth
from laptime.estimate.learn.ranks import bound, rank, share_below
from laptime.estimate.learn.regressors import Regressor
from laptime.estimate.learn.surroundings import Surroundings

SLACK = 1e-12
"""A budget that equals a bound counts as kept, whatever the last bit of a logarithm says."""


FEWEST_OF_A_GROUP = 100
"""A group with at least this many held-out rows has bounds of its own (Mondrian; Vovk et al. 2005, 4.5)."""


class CalibratedRegressor(msgspec.Struct, frozen=True):
    """A regressor and the residuals that it left on held-out rows of one question."""

    regressor: Regressor
    residuals: Floats
    """Scaled log ratios, ascending. Empty where nothing was held out: then no bound is promised."""
    spread: float
    """The distance outside the domain at which a residual counts double."""
    floor: Floats = np.empty(0)
    """Residuals of configurations inside the domain: no bound outside it is narrower than theirs."""
    groups: dict[str, Floats] = {}
    """The residuals of each group that was seen and has enough of them; of new levels and of rows beyond, those of each
    column."""
    most: float | None = None
    """A bound further above the prediction (in logarithms) is none: so far the regressor doesn't extrapolate."""
    around: Surroundings | None = None
    """How large residuals are near a row, where that makes bounds narrower: inside alone."""
    growth: Growth | None = None
    """Beyond the sizes: rows are predicted from the nearest row inside, and bounds start `above` the prediction."""
    checked: float | None = None
    """How far outside the domain rows were held out. A row beyond that is further out needs so many times the residual;
    what is new and lies further out has no bound."""
    checked_of: dict[str, float] = {}
    """The same of each of `groups`."""

    def of_group(self, name: str) -> CalibratedRegressor:
        """The same regressor, calibrated on one group alone."""
        return msgspec.structs.replace(
            self, residuals=self.groups[name], groups={}, checked=self.checked_of.get(name, self.checked)
        )

    def scale(self, distances: Floats) -> Floats:
        """What a residual is multiplied by at each distance outside the domain: 1 inside, 2 at `spread`.

        Beyond the sizes 1 up to where rows were held out, and from there in proportion to the distance.
        """
        if self.growth is None:
            return 1.0 + distances / self.spread
        return np.maximum(distances / max(self.checked or np.inf, NEAR), 1.0)

    def checkable(self, distances: Floats) -> npt.NDArray[np.bool_]:
        """Whether rows lie little further outside than what was held out; beyond the sizes `scale` counts instead."""
        most = np.inf if self.growth is not None or self.checked is None else self.checked + NEAR
        return distances <= most + 1e-9

    def log_bounds(
        self,
        log_ms: Floats,
        distances: Floats,
        levels: Floats,
        above: Floats | float = 0.0,
        local: Floats | float = 1.0,
    ) -> Floats:
        """log of the upper bound at each level, (n, levels).

        above: where the bound starts, over the prediction. local: how large residuals are around the row, over the
        usual; infinite where nothing can be promised.
        """
        reach = bound(self.residuals, levels)
        if len(self.floor):
            reach = np.maximum(reach, bound(self.floor, levels))
        given = np.isfinite(local) & self.checkable(distances)
        scale = self.scale(distances) * np.where(given, local, 1.0)
        higher = np.reshape(above, (-1, 1)) + self._scaled(scale, reach)
        if self.most is not None:
            higher = np.where(higher > self.most, np.inf, higher)
        return np.asarray(np.where(np.reshape(given, (-1, 1)), log_ms[:, None] + higher, np.inf), dtype=np.float64)

    def _scaled(self, scale: Floats, reach: Floats) -> Floats:
        """The residual at each level by the scale of each row; beyond the sizes one below 0 makes no bound narrower."""
        scaled = scale[:, None] * reach[None, :]
        return scaled if self.growth is None else np.where(reach > 0, scaled, reach)

    def within(
        self,
        log_ms: Floats,
        distances: Floats,
        log_budget: Floats,
        above: Floats | float = 0.0,
        local: Floats | float = 1.0,
    ) -> Floats:
        """P(time <= budget), (n,): the level of the bound that the budget is."""
        higher = log_budget - log_ms + SLACK
        reach = (higher if self.most is None else np.minimum(higher, self.most)) - above
        given = np.isfinite(local) & self.checkable(distances)
        scale = self.scale(distances) * np.where(given, local, 1.0)
        reach = reach / (scale if self.growth is None else np.where(reach > 0, scale, 1.0))
        share = share_below(self.residuals, reach)
        share = np.minimum(share, share_below(self.floor, reach)) if len(self.floor) else share
        return np.where(given, share, 0.0)


MOST_WIDENING = float(np.log(2.0))
"""Outside the domain a bound may be this much wider than inside, twice: what is wider promises nothing of use."""
MOST_BEYOND = float(np.log(1.8))
"""The same beyond the sizes, over a prediction that already allows for growth."""
LEAST_STEPS = 1 / 3
"""A direction's bound is at least what this share of all steps need, whatever its own steps needed."""
SHARES = np.arange(1, 400) / 400
"""Levels at which a bound over groups is worked out; in between the higher one counts."""


def widest_fold(residuals: Floats, folds: Ints) -> Floats:
    """Residuals, ascending, whose bound at each level is at least that of every fold alone.

    A fold is a direction in which sizes grow: a row can be beyond in any one of them, and pooled residuals of five
    directions say little of the worst one.
    """
    ordered = np.sort(residuals)
    levels = np.arange(1, len(ordered) + 1) / (len(ordered) + 1)
    for fold in np.unique(folds):
        own = np.sort(residuals[folds == fold])
        ordered = np.maximum(ordered, own[np.minimum(rank(len(own), levels), len(own)) - 1])
    return np.asarray(ordered, dtype=np.float64)


def over_steps(residuals: Floats, folds: Ints, first: Sequence[bool]) -> Floats:
    """Residuals, ascending, whose bound at each level is that of the worst step to larger sizes.

    folds: the number of each residual's step. first: by step, whether it is the last one that the table has in its
    direction, the nearest to what is asked. Of all steps the second worst counts too: smaller sizes obey other rules,
    and one of these steps may be odd.
    """
    own = _at_levels(residuals, folds)
    worst = own[np.array(first)].max(axis=0) if any(first) else own.max(axis=0)
    if len(own) > 1:
        worst = np.maximum(worst, np.sort(own, axis=0)[-2])
    return np.asarray(np.maximum.accumulate(worst), dtype=np.float64)


def by_direction(residuals: Floats, folds: Ints, directions: Sequence[str]) -> dict[str, Floats]:
    """Of each direction in which sizes grow, residuals whose bound is that of its own steps to larger sizes.

    A row that is larger in one size alone is judged by the steps in that size: a table can grow smoothly with one and
    jump with another. The worst of them counts, and never less than a third of all steps need.

    folds: the number of each residual's step. directions: by step, the size or product that was cut.
    """
    own = _at_levels(residuals, folds)
    least = np.sort(own, axis=0)[-int(np.ceil(len(own) * LEAST_STEPS))]
    found = {}
    for name in dict.fromkeys(directions):
        worst = own[[direction == name for direction in directions]].max(axis=0)
        found[name] = np.asarray(np.maximum.accumulate(np.maximum(worst, least)), dtype=np.float64)
    return found


def _at_levels(residuals: Floats, folds: Ints) -> Floats:
    """Of each step its own residual at each level, (steps, levels): as many levels as there are residuals."""
    steps = [np.sort(residuals[folds == fold]) for fold in np.unique(folds)]
    levels = np.arange(1, len(residuals) + 1) / (len(residuals) + 1)
    return np.array([step[np.minimum(rank(len(step), levels), len(step)) - 1] for step in steps])


def over_groups(residuals: Floats, folds: Ints) -> Floats:
    """Residuals, ascending, whose bound is a one-sided prediction bound for a group that was not seen.

    With G groups no level above G / (G + 1) can be had without an assumption. Here the groups' own quantiles are taken
    as normal over groups: mean + t(G - 1) * sd * sqrt(1 + 1 / G) at each level, and never less than any group's own.
    Empty for fewer than FEWEST_FOLDS groups: then nothing is promised.

    Source: Hahn and Meeker 1991, 4.7 (a prediction bound for one further value).
    """
    groups = [np.sort(residuals[folds == fold]) for fold in np.unique(folds)]
    if len(groups) < FEWEST_FOLDS:
        return np.empty(0)
    own = np.array([group[np.minimum(rank(len(group), SHARES), len(group)) - 1] for group in groups])
    reach = [t_quantile(len(groups) - 1, float(share)) for share in SHARES]
    spread = own.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(groups))
    return np.asarray(np.maximum.accumulate(np.maximum(own.mean(axis=0) + reach * spread, own.max(axis=0))))


def calibrate(
    regressor: Regressor, log_ratios: Floats, distances: Floats, groups: Sequence[str], folds: Ints, across: str
) -> CalibratedRegressor:
    """Scale and sort the held-out residuals. Their spread is their median distance, at least NEAR.

    `groups` names each residual's group, or is empty. `folds` numbers what it was held out with. `across`: what a new
    row is to its folds: "rows" (one like those held out), "directions", "groups" (a further one of them) or "levels" (a
    further one of its own column: then `groups` names the columns).
    """
    outside = distances[distances > 0]
    spread = max(float(np.median(outside)), NEAR) if len(outside) else NEAR
    scaled = log_ratios / (1.0 + distances / spread)
    of = np.array(groups, dtype=object)
    if across == "levels":
        each = {name: over_groups(scaled[of == name], folds[of == name]) for name in sorted(set(groups))}
        widest = np.max(list(each.values()), axis=0) if all(len(one) for one in each.values()) else np.empty(0)
        return CalibratedRegressor(regressor, widest, spread, groups={k: own for k, own in each.items() if len(own)})
    enough = [name for name in sorted(set(groups)) if (of == name).sum() >= FEWEST_OF_A_GROUP]
    by_group = {name: np.sort(scaled[of == name]) for name in enough}
    if across == "directions":
        return CalibratedRegressor(regressor, widest_fold(scaled, folds), spread)
    if across == "groups":
        return CalibratedRegressor(regressor, over_groups(scaled, folds), spread)
    return CalibratedRegressor(regressor, np.sort(scaled), spread, groups=by_group)


def check_confidence(confidence: float) -> None:
    """Raise LaptimeError for a confidence that is no share strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise LaptimeError(f"confidence {confidence:g}: a share between 0 and 1, written as 0.95 or 95%")


def check_level(q: Floats) -> None:
    """Raise LaptimeError for a level that is no share strictly between 0 and 1."""
    if not ((q > 0) & (q < 1)).all():
        raise LaptimeError(f"a quantile's level is above 0 and below 1, not {q[~((q > 0) & (q < 1))].flat[0]:g}")
