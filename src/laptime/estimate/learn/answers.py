"""An answer to one question: a regressor and the residuals it left on that question's held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.learn.process import Scaling, scaling_of
from laptime.estimate.learn.regressors import Regressor
from laptime.estimate.table.table import UNSEEN, Encoded

SLACK = 1e-12
"""A budget that equals a bound counts as kept, whatever the last bit of a logarithm says."""


FEWEST_OF_A_GROUP = 100
"""A group that was seen has bounds of its own from so many held-out rows on (Mondrian; Vovk et al. 2005, 4.5)."""


class Answer(msgspec.Struct, frozen=True):
    """`residuals` are scaled log ratios in ascending order; empty where nothing was held out: no promise is made.

    `floor` has the residuals of configurations inside the domain: outside it no bound may be narrower than theirs.
    `groups` has the residuals of each seen group that has enough of them.
    """

    regressor: Regressor
    residuals: Floats
    spread: float
    floor: Floats = np.empty(0)
    groups: dict[str, Floats] = {}

    def of_group(self, name: str) -> Answer:
        """The same answer calibrated on one group alone."""
        return Answer(self.regressor, self.groups[name], self.spread)

    def scale(self, distances: Floats) -> Floats:
        """What a residual is multiplied by at each distance outside the domain: 1 inside, 2 at `spread`."""
        return 1.0 + distances / self.spread

    def log_bounds(self, log_ms: Floats, distances: Floats, levels: Floats) -> Floats:
        """log of the upper bound at each level, (n, levels)."""
        reach = bound(self.residuals, levels)
        if len(self.floor):
            reach = np.maximum(reach, bound(self.floor, levels))
        return np.asarray(log_ms[:, None] + self.scale(distances)[:, None] * reach[None, :], dtype=np.float64)

    def within(self, log_ms: Floats, distances: Floats, log_budget: Floats) -> Floats:
        """P(time <= budget), (n,): the level of the bound that the budget is."""
        reach = (log_budget - log_ms + SLACK) / self.scale(distances)
        share = share_below(self.residuals, reach)
        return np.minimum(share, share_below(self.floor, reach)) if len(self.floor) else share


def make_answer(regressor: Regressor, log_ratios: Floats, distances: Floats, groups: Sequence[str]) -> Answer:
    """Scale and sort the held-out residuals; their spread is their median distance, at least NEAR.

    `groups` names each residual's group, or is empty.
    """
    outside = distances[distances > 0]
    spread = max(float(np.median(outside)), NEAR) if len(outside) else NEAR
    scaled = log_ratios / (1.0 + distances / spread)
    of = np.array(groups, dtype=object)
    enough = [name for name in sorted(set(groups)) if (of == name).sum() >= FEWEST_OF_A_GROUP]
    return Answer(regressor, np.sort(scaled), spread, groups={name: np.sort(scaled[of == name]) for name in enough})


NEAR = float(np.log(1.25))
"""Up to a quarter beyond the training sizes is near."""
MOST_COLUMNS = 24
"""Wider tables are judged by single ranges: pairs grow with the square."""


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Sides of the octagon: low <= directions @ logs <= high."""

    kinds: list[str]
    least: list[float]
    scale: list[float]
    """What a column is divided by before pairs are made: 1 for logarithms, its spread for plain columns."""
    directions: list[list[float]]
    low: list[float]
    high: list[float]

    def distances(self, numeric: Floats) -> Floats:
        """How far each row is outside, (n,); 0 inside."""
        if not self.directions:
            return np.zeros(len(numeric))
        logs = self._logs(numeric) @ np.array(self.directions).T
        excess = np.maximum(logs - np.array(self.high), np.array(self.low) - logs)
        distance: Floats = np.maximum(excess.max(axis=1), 0.0)
        distance[distance < 1e-9] = 0.0
        return distance

    def _logs(self, numeric: Floats) -> Floats:
        scaling = Scaling(kinds=self.kinds, least=self.least, middle=[0.0] * len(self.kinds), width=self.scale)
        return scaling.apply(numeric)


def domain_of(rows: Encoded) -> Domain:
    """The domain of a training table."""
    numeric = rows.numeric
    if numeric.shape[1] == 0:
        return Domain(kinds=[], least=[], scale=[], directions=[], low=[], high=[])
    found = scaling_of(numeric)
    scale = [found.width[i] if kind == "plain" else 1.0 for i, kind in enumerate(found.kinds)]
    count = numeric.shape[1]
    directions = [np.eye(count)[i] for i in range(count)]
    if count <= MOST_COLUMNS:
        directions += [
            np.eye(count)[i] + sign * np.eye(count)[j] for i in range(count) for j in range(i) for sign in (1, -1)
        ]
    bare = Domain(
        kinds=found.kinds, least=found.least, scale=scale, directions=[d.tolist() for d in directions], low=[], high=[]
    )
    logs = bare._logs(numeric) @ np.array(directions).T
    return msgspec.structs.replace(bare, low=logs.min(axis=0).tolist(), high=logs.max(axis=0).tolist())


def unseen_levels(rows: Encoded) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows with a level that the training table did not have."""
    return np.asarray((rows.codes == UNSEEN).any(axis=1), dtype=np.bool_)


ROUNDING = 1e-9
"""(n + 1) q is compared with whole numbers: 0.95 * 100 must be 95."""


def rank(count: int, q: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """k of the bound r(k) for each level, from 1 to count + 1 (which stands for infinity)."""
    return np.maximum(np.ceil((count + 1) * q - ROUNDING), 1).astype(np.int64)


def bound(ordered: Floats, q: Floats) -> Floats:
    """The upper bound on a scaled residual at each level: r(ceil((n + 1) q)), infinite beyond n."""
    with_infinity = np.append(ordered, np.inf)
    return np.asarray(with_infinity[rank(len(ordered), q) - 1], dtype=np.float64)


def share_below(ordered: Floats, values: Floats) -> Floats:
    """The probability that a scaled residual is at most each value: #{r <= value} / (n + 1)."""
    below = np.searchsorted(ordered, values, side="right")
    return np.asarray(below / (len(ordered) + 1), dtype=np.float64)


def check_level(q: Floats) -> None:
    """Raise LaptimeError for a level that is no share strictly between 0 and 1."""
    if not ((q > 0) & (q < 1)).all():
        raise LaptimeError(f"a quantile's level is above 0 and below 1, not {q[~((q > 0) & (q < 1))].flat[0]:g}")
