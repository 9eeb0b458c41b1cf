"""A measured evaluation: everybody answers the held-out questions on this machine, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.judge.live import Contestant, Progress, evaluate_live
from laptime.control.judge.outcomes import (
    Outcome,
    attainment,
    equal_attainment_difference,
    policy_points,
    same_budget_differences,
)
from laptime.control.judge.replay import analytic_ms, at_equal_attainment, nominal_rates, relative_ms, replay
from laptime.control.judge.result import BOUNDED, ControlEvaluation, Difference
from laptime.control.judge.slow_stream import online_baseline
from laptime.control.policies.oracle import AnalyticBudgets, Judged, MeanBudgets, Oracle
from laptime.control.policies.policy import Policy
from laptime.control.policies.static import LookupPolicy, lookup_policy, static_policy
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.files import SavedPolicy, check_model
from laptime.control.tables.hidden import facts_of
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.measure.environment import describe
from laptime.models.loading import Loaded
from laptime.workload.example import Example

LESS = ", told less"
"""Added to the name of a policy that is told a smaller budget."""


def measured_evaluation(
    loaded: Loaded,
    saved: Sequence[SavedPolicy],
    bounds: Bounds,
    table: DecisionTable,
    features: FeatureTable,
    examples: Sequence[Example],
    budgets_ms: Sequence[float],
    *,
    kind: str,
    known: DecisionTable | None = None,
    online: bool = True,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> tuple[ControlEvaluation, list[Outcome]]:
    """The saved policies, and the peers that their sweep's `table` gives, on held-out `examples` of it.

    known: what the policies learnt from, and so what peers know, if that is more than the table's training half.
    online: the calls before correct the bounds, for all policies alike; on a machine that has become slower since the
    sweep all of them would be late. The lookup table takes part once more, told as much less as keeps the budgets on
    the training half.

    Raises LaptimeError for a policy of another model, or policies that choose after different blocks.
    """
    facts = facts_of(loaded)
    for one in saved:
        check_model(one, facts)
    early = {one.early_block for one in saved if one.early_block}
    if len(early) > 1:
        raise LaptimeError(
            f"policies that choose after blocks {sorted(early)}: judge those of one early block together"
        )
    train = table.half("train")
    asked = {example.id for example in examples}
    rows = np.array([row for row, name in enumerate(table.sample_ids) if name in asked], dtype=np.intp)
    learnt = train if known is None else known
    policies = lineup([one.policy for one in saved], learnt, table.take(rows), bounds, _arithmetic(loaded, train))
    told = {
        policy.name: {ms: told_for(policy, train, features, bounds, ms, bounds.confidence) for ms in budgets_ms}
        for policy in policies
        if isinstance(policy, LookupPolicy)
    }
    language = features.of(train.sample_ids, train.space).language
    stream = streams.begin(online_baseline(train, bounds, language), q=bounds.confidence) if online else None
    return contest(
        loaded,
        policies,
        bounds,
        examples,
        budgets_ms,
        kind=kind,
        online=stream,
        early_block=early.pop() if early else 1,
        compared=[saved[0].policy.name],
        told=told,
        leeways=leeways_of(saved),
        seed=seed,
        progress=progress,
    )


def _arithmetic(loaded: Loaded, train: DecisionTable) -> npt.NDArray[np.float64]:
    """Each choice's time by FLOPs and bytes, as a share of the whole model's measured time."""
    config = loaded.model.config.to_dict()
    gpu = describe(loaded.device).gpu
    bytes_each = float(torch.finfo(loaded.dtype).bits // 8)
    alone = analytic_ms(train, config, nominal_rates(gpu), weight_bytes=bytes_each)
    return relative_ms(alone, float(np.median(train.total_ms, axis=0).max()))


def contest(
    loaded: Loaded,
    policies: Sequence[Judged],
    bounds: Bounds,
    examples: Sequence[Example],
    budgets_ms: Sequence[float],
    *,
    kind: str,
    early_block: int = 1,
    compared: Sequence[str] = (),
    told: Mapping[str, Mapping[float, float]] | None = None,
    leeways: Mapping[str, Leeway | None] | None = None,
    online: streams.Online | None = None,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> tuple[ControlEvaluation, list[Outcome]]:
    """Every policy's calls, and what they say together.

    kind: the score (laptime.workload.scoring). compared: policies whose accuracy is set against the others'. told:
    smaller budgets by policy and budget; such a policy takes part once more, told less. leeways: by policy. online:
    the state that all calls learn from, and are corrected by.
    """
    adaptive = AdaptiveModel(loaded, _first(policies, examples), bounds, online=online, early_block=early_block)
    room = leeways or {}
    contestants = [contestant(policy, adaptive, leeway=room.get(policy.name)) for policy in policies]
    less = {name: dict(by_budget) for name, by_budget in (told or {}).items()}
    again = [policy for policy in policies if policy.name in less]
    contestants += [contestant(one, adaptive, name=one.name + LESS, told=less[one.name]) for one in again]
    found = evaluate_live(contestants, examples, budgets_ms, kind=kind, seed=seed, progress=progress)
    evaluation = ControlEvaluation(
        model=loaded.name,
        way="measured",
        confidence=bounds.confidence,
        questions=len(examples),
        budgets_ms=list(budgets_ms),
        points=policy_points(found, bounds.space),
        differences=differences(found, compared, bounds.confidence),
        environment=describe(loaded.device),
        online=online is not None,
    )
    return evaluation, found


def contestant(
    policy: Judged,
    adaptive: AdaptiveModel,
    *,
    name: str | None = None,
    told: dict[float, float] | None = None,
    leeway: Leeway | None = None,
) -> Contestant:
    """A policy as one that takes part; the oracle has a policy for each question."""
    if isinstance(policy, Oracle):
        policy_for: Callable[[str], Policy] = policy.of
    else:
        one: Policy = policy
        policy_for = lambda _: one  # noqa: E731 - as short as it is
    return Contestant(
        name=name or policy.name, policy_for=policy_for, adaptive=adaptive, told=told or {}, leeway=leeway
    )


def differences(outcomes: Sequence[Outcome], compared: Sequence[str], level: float) -> list[Difference]:
    """Each compared policy's accuracy less every other's, at the same budget and at equal attainment."""
    names = list(dict.fromkeys(one.policy for one in outcomes))
    whole = [name for name in names if not name.endswith(LESS)]
    found = same_budget_differences(outcomes, compared, whole, level)
    for name in names:
        if not name.endswith(LESS):
            continue
        for budget in dict.fromkeys(one.budget_ms for one in outcomes):
            theirs = [one for one in outcomes if one.policy == name and one.budget_ms == budget]
            for mine in compared:
                own = [one for one in outcomes if one.policy == mine and one.budget_ms == budget]
                pair = equal_attainment_difference(own, theirs, level)
                found += [] if pair is None else [pair]
    return found


def _first(policies: Sequence[Judged], examples: Sequence[Example]) -> Policy:
    one = policies[0]
    return one.of(examples[0].id) if isinstance(one, Oracle) else one


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

    analytic_ms: (choices,), laptime.control.judge.replay's; without it nobody goes by arithmetic. Raises
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
