"""A measured evaluation: all policies answer the held-out questions on this machine, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import Bounds
from laptime.control.judge.equal_attainment import equal_attainment_difference, smaller_budget
from laptime.control.judge.lineup import (
    EvaluationScope,
    Training,
    analytic_ms,
    kept_findings,
    leeways_of,
    lineup,
    nominal_rates,
    relative_ms,
)
from laptime.control.judge.live import Contestant, Progress, evaluate_live
from laptime.control.judge.outcomes import Outcome, corrected, policy_points, same_budget_differences
from laptime.control.judge.result import SMALLER_BUDGET, ControlEvaluation, Difference
from laptime.control.policies.oracle import Judged, policy_for
from laptime.control.policies.saved_policy import SavedPolicy, check_model
from laptime.control.policies.static import LookupPolicy
from laptime.control.seen import Floats32
from laptime.control.tables.collection import facts_of
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.finding import Finding
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.measure.environment import describe
from laptime.models.loading import Loaded
from laptime.workload.example import Example

INTERRUPTED = "interrupted"
"""The code of the finding that an evaluation was stopped before its last question."""


@dataclass(frozen=True, kw_only=True)
class JudgedSweep:
    """The sweep that policies were trained on.

    table, features: of all its questions. bounds: those of the first policy. known: what the policies learned from, and
    so what their peers know; None: the table's training half. known_language: the words' features of the known.
    """

    table: DecisionTable
    features: FeatureTable
    bounds: Bounds
    known: DecisionTable | None = None
    known_language: Floats32 | None = None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is asked, under which budgets.

    kind: the score, as laptime.workload.scoring names it. online: whether earlier calls correct the bounds, for all
    policies alike. On a machine that has become slower since the sweep, all policies would be late without it.
    limit_s: no further question begins after it; what was asked until then is judged.
    """

    examples: Sequence[Example]
    budgets_ms: Sequence[float]
    kind: str
    online: bool = True
    seed: int = 0
    limit_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Contest(EvaluationScope):
    """How policies are compared by calls.

    kind: the score. early_block: as AdaptiveModel takes it. smaller_budgets: by policy and budget; such a policy takes
    part once more under these budgets. online: whether all calls learn from earlier ones, and are corrected by them.
    """

    kind: str
    early_block: int = 1
    smaller_budgets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    online: bool = True
    seed: int = 0
    limit_s: float | None = None


def measured_evaluation(
    loaded: Loaded,
    saved: Sequence[SavedPolicy],
    sweep: JudgedSweep,
    examination: Examination,
    progress: Progress = lambda done, of: None,
) -> tuple[ControlEvaluation, list[Outcome]]:
    """The saved policies and their peers, on held-out questions of their sweep.

    The lookup table takes part once more, under budgets that are as much smaller as it needs to keep the given ones on
    the training half.

    Raises LaptimeError for a policy of another model, or policies that choose after different blocks.
    """
    facts, bounds, table = facts_of(loaded), sweep.bounds, sweep.table
    for one in saved:
        check_model(one, facts)
    early = {one.early_block for one in saved if one.early_block}
    if len(early) > 1:
        raise LaptimeError(
            f"policies that choose after blocks {sorted(early)}: judge those of one early block together"
        )
    train = table.half("train")
    asked = {example.id for example in examination.examples}
    rows = np.array([row for row, name in enumerate(table.sample_ids) if name in asked], dtype=np.intp)
    known = train if sweep.known is None else sweep.known
    trained = [one.policy for one in saved]
    words = sweep.known_language
    if words is None:
        words = sweep.features.of(known.sample_ids, known.space).language
    policies = lineup(trained, Training(known, words), table.take(rows), bounds, _arithmetic(loaded, train))
    smaller = {
        policy.name: {ms: smaller_budget(policy, train, sweep.features, bounds, ms) for ms in examination.budgets_ms}
        for policy in policies
        if isinstance(policy, LookupPolicy)
    }
    return contest(
        loaded,
        policies,
        bounds,
        examination.examples,
        Contest(
            budgets_ms=examination.budgets_ms,
            compared=[saved[0].policy.name],
            leeways=leeways_of(saved),
            kind=examination.kind,
            early_block=early.pop() if early else 1,
            smaller_budgets=smaller,
            online=examination.online,
            seed=examination.seed,
            limit_s=examination.limit_s,
        ),
        progress,
    )


def contest(
    loaded: Loaded,
    policies: Sequence[Judged],
    bounds: Bounds,
    examples: Sequence[Example],
    settings: Contest,
    progress: Progress = lambda done, of: None,
) -> tuple[ControlEvaluation, list[Outcome]]:
    """Every policy's calls, and what they say together."""
    first = policy_for(policies[0], examples[0].id)
    adaptive = AdaptiveModel(loaded, first, bounds, online=settings.online, early_block=settings.early_block)
    contestants = [
        Contestant(policy=policy, adaptive=adaptive, leeway=settings.leeways.get(policy.name)) for policy in policies
    ]
    contestants += [
        Contestant(
            policy=policy,
            adaptive=adaptive,
            name=policy.name + SMALLER_BUDGET,
            smaller_budgets=dict(settings.smaller_budgets[policy.name]),
        )
        for policy in policies
        if policy.name in settings.smaller_budgets
    ]
    budgets, kind = settings.budgets_ms, settings.kind
    outcomes, ended = evaluate_live(
        contestants, examples, budgets, kind=kind, seed=settings.seed, limit_s=settings.limit_s, progress=progress
    )
    asked = len({one.sample_id for one in outcomes})
    evaluation = ControlEvaluation(
        model=loaded.name,
        way="measured",
        confidence=bounds.confidence,
        questions=asked,
        budgets_ms=list(budgets),
        points=policy_points(outcomes, bounds.space),
        differences=differences(outcomes, settings.compared, bounds.confidence),
        environment=describe(loaded.device),
        online=settings.online,
        findings=[*kept_findings(policies), *_cut_short(ended, asked, len(examples))],
    )
    return evaluation, outcomes


def _cut_short(ended: str, asked: int, of: int) -> list[Finding]:
    """That questions are missing, and why; none where all were asked."""
    if ended == "all":
        return []
    why = "it was stopped" if ended == INTERRUPTED else "the time limit"
    message = f"{asked} of {of} questions were asked before {why}: the intervals are of these alone"
    return [Finding(code=ended, severity="info", message=message)]


def differences(outcomes: Sequence[Outcome], compared: Sequence[str], level: float) -> list[Difference]:
    """Each compared policy's accuracy less every other's, at the same budget and at equal attainment."""
    names = list(dict.fromkeys(one.policy for one in outcomes))
    whole = [name for name in names if not name.endswith(SMALLER_BUDGET)]
    pairs = same_budget_differences(outcomes, compared, whole, level)
    for name in names:
        if not name.endswith(SMALLER_BUDGET):
            continue
        for budget in dict.fromkeys(one.budget_ms for one in outcomes):
            others = [one for one in outcomes if one.policy == name and one.budget_ms == budget]
            for policy in compared:
                own = [one for one in outcomes if one.policy == policy and one.budget_ms == budget]
                pair = equal_attainment_difference(own, others, level)
                pairs += [] if pair is None else [pair]
    return corrected(pairs)


def _arithmetic(loaded: Loaded, train: DecisionTable) -> Floats:
    """Each choice's time by FLOPs and bytes, scaled to the whole model's measured time."""
    config = loaded.model.config.to_dict()
    gpu = describe(loaded.device).gpu
    weight_bytes = float(torch.finfo(loaded.dtype).bits // 8)
    analytic = analytic_ms(train, config, nominal_rates(gpu), weight_bytes=weight_bytes)
    return relative_ms(analytic, float(np.median(train.total_ms, axis=0).max()))
