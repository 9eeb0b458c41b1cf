"""An answer to one question: a regressor and the residuals it left on that question's held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from laptime.data.arrays import Floats
from laptime.estimate.learn import conformal
from laptime.estimate.learn.regressors import Regressor
from laptime.estimate.learn.support import NEAR

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
        reach = conformal.bound(self.residuals, levels)
        if len(self.floor):
            reach = np.maximum(reach, conformal.bound(self.floor, levels))
        return np.asarray(log_ms[:, None] + self.scale(distances)[:, None] * reach[None, :], dtype=np.float64)

    def within(self, log_ms: Floats, distances: Floats, log_budget: Floats) -> Floats:
        """P(time <= budget), (n,): the level of the bound that the budget is."""
        reach = (log_budget - log_ms + SLACK) / self.scale(distances)
        share = conformal.share_below(self.residuals, reach)
        return np.minimum(share, conformal.share_below(self.floor, reach)) if len(self.floor) else share


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
