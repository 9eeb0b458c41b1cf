"""Both decisions of one question, made from a table as they are made while it runs. No torch."""

from __future__ import annotations

from laptime.control.policies.oracle import Oracle
from laptime.control.policies.policy import Policy
from laptime.control.seen import Budget
from laptime.control.tables.feature_table import FeatureTable
from laptime.errors import LaptimeError

Judged = Policy | Oracle


def decided(policy: Judged, features: FeatureTable, row: int, budget: Budget) -> int:
    """Both decisions of one question as they are made while it runs: the tier, then the rest."""
    one: Policy = policy.of(features.sample_ids[row]) if isinstance(policy, Oracle) else policy
    tier = one.decide(features.seen(row), budget) // one.space.late
    number = one.decide(features.seen(row, tier), budget)
    if number // one.space.late != tier:
        raise LaptimeError(f"policy {one.name} chose another tier after the vision tower than before it")
    return number
