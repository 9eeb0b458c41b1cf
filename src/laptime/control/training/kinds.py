"""Training a policy of any kind, as it is saved."""

from __future__ import annotations

import msgspec

from laptime.control.bounds.bounds import Bounds
from laptime.control.policies.policy import Needs
from laptime.control.policies.saved_policy import Kind, SavedPolicy
from laptime.control.policies.simple import logistic_policy
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.fallback import regression_instead
from laptime.control.training.grpo import GrpoSettings, train_grpo
from laptime.control.training.leeway_search import find_leeway
from laptime.control.training.supervised import SupervisedSettings, train_supervised
from laptime.data.record import Scalar


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which policy to train. A field that is None has the kind's own default.

    needs: what the policy looks at besides the budget. budgets: (lowest, highest) ms to train on; grpo only. name: what
    tables call it. overall: the promised share is of all answers, so the policy may have leeway; False: each question
    keeps the promise by itself.
    """

    kind: Kind = "grpo"
    needs: Needs | None = None
    budgets: tuple[float, float] | None = None
    steps: int | None = None
    name: str | None = None
    overall: bool = True
    seed: int = 0


def train_policy(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    """A policy of the training half, with what it was made for.

    Raises LaptimeError for tables that don't fit, or settings that can't work.
    """
    saved = _TRAINERS[spec.kind](table, features, bounds, spec)
    if not spec.overall or spec.kind in ("static", "lookup"):  # those don't look at the question: nothing to share
        return saved
    return msgspec.structs.replace(saved, leeway=find_leeway(saved.policy, table, features, bounds))


def _static(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    policy = msgspec.structs.replace(static_policy(table, bounds), name=spec.name or spec.kind)
    return SavedPolicy(policy=policy, model=table.model)


def _lookup(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    policy = msgspec.structs.replace(lookup_policy(table), name=spec.name or spec.kind)
    return SavedPolicy(policy=policy, model=table.model)


def _supervised(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    settings = SupervisedSettings(seed=spec.seed)
    if spec.steps is not None:
        settings = msgspec.structs.replace(settings, steps=spec.steps)
    policy, curve = train_supervised(
        table, features, bounds, needs=spec.needs, settings=settings, name=spec.name or spec.kind
    )
    return SavedPolicy(
        policy=policy,
        model=table.model,
        early_block=features.early_block * policy.needs.hidden,
        settings=msgspec.to_builtins(settings),
        curve=curve,
    )


def _grpo(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    settings = GrpoSettings(seed=spec.seed, budgets=spec.budgets)
    if spec.steps is not None:
        settings = msgspec.structs.replace(settings, steps=spec.steps)
    policy, curve = train_grpo(
        table, features, bounds, needs=spec.needs, settings=settings, name=spec.name or spec.kind
    )
    plain: dict[str, Scalar] = {k: v for k, v in msgspec.to_builtins(settings).items() if k != "budgets"}
    simple = regression_instead(policy, table, features, bounds, spec.seed)
    if simple is not None:
        simple = msgspec.structs.replace(simple, name=policy.name, fallback=True)
    return SavedPolicy(
        policy=simple or policy,
        model=table.model,
        early_block=features.early_block * (policy.needs.hidden and simple is None),
        budgets=spec.budgets,
        settings=plain,
        curve=curve,
    )


def _logistic(table: DecisionTable, features: FeatureTable, bounds: Bounds, spec: PolicySpec) -> SavedPolicy:
    policy = logistic_policy(table, features.of(table.sample_ids, table.space).language)
    return SavedPolicy(policy=msgspec.structs.replace(policy, name=spec.name or spec.kind), model=table.model)


_TRAINERS = {
    "static": _static,
    "lookup": _lookup,
    "logistic": _logistic,
    "supervised": _supervised,
    "grpo": _grpo,
}
