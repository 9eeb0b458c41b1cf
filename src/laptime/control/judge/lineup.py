"""Who takes part in an evaluation: the trained policies, and the peers that a sweep's training half gives. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.judge.outcomes import Outcome, attainment
from laptime.control.judge.replay import at_equal_attainment, replay
from laptime.control.judge.result import BOUNDED
from laptime.control.policies.decided import Judged
from laptime.control.policies.lookup import lookup_policy
from laptime.control.policies.oracle import Oracle
from laptime.control.policies.other_budgets import AnalyticBudgets, MeanBudgets
from laptime.control.policies.policy import Policy
from laptime.control.policies.static import static_policy
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.files import SavedPolicy
from laptime.errors import LaptimeError

MARGIN = 0.6
"""A peer that is told less has to attain the level on other questions too: this part of what was left to miss."""


def lineup(
    trained: Sequence[Policy],
    train: DecisionTable,
    held_out: DecisionTable,
    bounds: Bounds,
    analytic_ms: npt.NDArray[np.float64] | None = None,
) -> list[Judged]:
    """The trained policies, static, lookup, the first trained one by means and by arithmetic, and the oracle,
    also within the same bounds.

    analytic_ms: (choices,), laptime.control.judge.analytic's; without it nobody goes by arithmetic. Raises
    LaptimeError for two policies of one name, or one made for other choices than the sweep's.
    """
    for policy in trained:
        if policy.space != train.space:
            raise LaptimeError(
                f"policy {policy.name}: made for other choices than this sweep's; train it on this sweep"
            )
    peers: list[Judged] = [static_policy(train, bounds), lookup_policy(train)]
    if trained:
        peers.append(MeanBudgets(policy=trained[0]))
        if analytic_ms is not None:
            peers.append(AnalyticBudgets(policy=trained[0], analytic_ms=analytic_ms))
    oracles = [Oracle(table=held_out), Oracle(table=held_out, name=BOUNDED, bounded=True)]
    found: list[Judged] = [*trained, *peers, *oracles]
    names = [policy.name for policy in found]
    if len(set(names)) < len(names):
        raise LaptimeError(f"two policies have one name ({', '.join(names)}); train one under another --name")
    return found


def leeways_of(saved: Sequence[SavedPolicy]) -> dict[str, Leeway | None]:
    """The trained policies' leeways by name; the oracle within the same bounds has the first one's, whose they are."""
    found = {one.policy.name: one.leeway for one in saved}
    return found | ({BOUNDED: saved[0].leeway} if saved else {})


def told_for(
    policy: Judged, train: DecisionTable, features: FeatureTable, bounds: Bounds, budget_ms: float, level: float
) -> float:
    """The largest budget (ms) that a policy may be told to keep `budget_ms` on the training questions."""
    mine = features.of(train.sample_ids, train.space)
    wanted = 1 - (1 - level) * MARGIN

    def run(ms: float) -> list[Outcome]:
        return replay(policy, train, mine, bounds, ms)

    kept = at_equal_attainment(run, budget_ms, wanted)
    return kept[0].decided_ms or budget_ms if attainment(kept) >= wanted else budget_ms
