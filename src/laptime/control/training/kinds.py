"""One way to train a policy of any kind, as it is saved."""

from __future__ import annotations

from typing import Literal

import msgspec

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import find_leeway
from laptime.control.policies.policy import Needs
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.files import SavedPolicy
from laptime.control.training.grpo import GrpoSettings, train_grpo
from laptime.control.training.supervised import SupervisedSettings, train_supervised
from laptime.data.record import Scalar

Kind = Literal["grpo", "supervised", "static", "lookup"]
Promise = Literal["overall", "each"]
"""Whether the promised share is of all answers, or of each question's: "each" leaves out what questions could share."""


def train_kind(
    kind: Kind,
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    *,
    needs: Needs | None = None,
    budgets: tuple[float, float] | None = None,
    steps: int | None = None,
    name: str | None = None,
    promise: Promise = "overall",
    seed: int = 0,
) -> SavedPolicy:
    """A policy of the training half, and what it was made with. None: the kind's own default.

    Raises LaptimeError for tables that don't fit, or settings that can't work.
    """
    saved = _trained(kind, table, features, bounds, needs, budgets, steps, name, seed)
    if promise == "each" or kind in ("static", "lookup"):  # these don't look at the question: nothing to share
        return saved
    return msgspec.structs.replace(saved, leeway=find_leeway(saved.policy, table, features, bounds))


def _trained(
    kind: Kind,
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    needs: Needs | None,
    budgets: tuple[float, float] | None,
    steps: int | None,
    name: str | None,
    seed: int,
) -> SavedPolicy:
    called = name or kind
    if kind == "static":
        return SavedPolicy(policy=msgspec.structs.replace(static_policy(table, bounds), name=called), model=table.model)
    if kind == "lookup":
        return SavedPolicy(policy=msgspec.structs.replace(lookup_policy(table), name=called), model=table.model)
    if kind == "supervised":
        lessons = SupervisedSettings(seed=seed)
        if steps is not None:
            lessons = msgspec.structs.replace(lessons, steps=steps)
        policy, curve = train_supervised(table, features, bounds, needs=needs, settings=lessons, name=called)
        told = msgspec.to_builtins(lessons)
        looks = policy.needs.hidden
        return SavedPolicy(
            policy=policy, model=table.model, early_block=features.early_block * looks, settings=told, curve=curve
        )
    settings = GrpoSettings(seed=seed, budgets=budgets)
    if steps is not None:
        settings = msgspec.structs.replace(settings, steps=steps)
    made, curve = train_grpo(table, features, bounds, needs=needs, settings=settings, name=called)
    plain: dict[str, Scalar] = {k: v for k, v in msgspec.to_builtins(settings).items() if k != "budgets"}
    return SavedPolicy(
        policy=made,
        model=table.model,
        early_block=features.early_block * made.needs.hidden,
        budgets=budgets,
        settings=plain,
        curve=curve,
    )
