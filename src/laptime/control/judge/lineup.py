"""Who takes part in an evaluation, and a replayed evaluation of all of them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.choices import ChoiceSpace
from laptime.control.judge.equal_attainment import at_equal_attainment, equal_attainment_difference
from laptime.control.judge.outcomes import Outcome, attainment, corrected, policy_points, same_budget_differences
from laptime.control.judge.replay import replay
from laptime.control.judge.result import BOUNDED, ControlEvaluation, Difference
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.oracle import AnalyticBudgets, Judged, MeanBudgets, Oracle
from laptime.control.policies.policy import Policy
from laptime.control.policies.saved_policy import SavedPolicy
from laptime.control.policies.simple import (
    LOGISTIC,
    PER_TYPE,
    LogisticPolicy,
    logistic_policy,
    per_type_policy,
    single_knob_policies,
)
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.finding import Finding
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import Rates, roofline_columns, shape_of


def peers_of(space: ChoiceSpace) -> int:
    """How many take part beside the trained policies: fixed settings, simple policies, other budgets, the oracles."""
    several = sum(len(values) > 1 for values in (space.tiers, space.top_ks, space.blocks))
    return 9 + (several if several > 1 else 0)


class Training(NamedTuple):
    """What all peers learn from: questions under every choice, and the features of their words (questions, words)."""

    table: DecisionTable
    language: Floats32


@dataclass(frozen=True, kw_only=True)
class EvaluationScope:
    """What an evaluation is about.

    compared: the policies whose accuracy is set against that of the others. leeways: by policy, of those that have one.
    """

    budgets_ms: Sequence[float]
    compared: Sequence[str] = ()
    leeways: Mapping[str, Leeway | None] = field(default_factory=dict)


def lineup(
    trained: Sequence[Policy],
    training: Training,
    held_out: DecisionTable,
    bounds: Bounds,
    analytic_ms: Floats | None = None,
) -> list[Judged]:
    """The trained policies and their peers, all of the same training questions and under the same bounds.

    The peers are static, lookup, the per-type lookup (of all knobs, and of each alone), logistic regression, and the
    oracle with both budgets. The first trained policy also decides by means and by arithmetic. analytic_ms (choices,):
    laptime.control.judge.lineup; None: no policy decides by arithmetic.

    Raises LaptimeError for two policies of one name, or one that was made for other choices than the sweep's.
    """
    train = training.table
    for policy in trained:
        if policy.space != train.space:
            raise LaptimeError(
                f"policy {policy.name}: made for other choices than this sweep's; train it on this sweep"
            )
    peers: list[Judged] = [static_policy(train, bounds), per_type_policy(train)]
    peers += [logistic_policy(train, training.language), *single_knob_policies(train), lookup_policy(train)]
    if trained:
        peers.append(MeanBudgets(policy=trained[0]))
        if analytic_ms is not None:
            peers.append(AnalyticBudgets(policy=trained[0], analytic_ms=analytic_ms))
    oracles = [Oracle(table=held_out), Oracle(table=held_out, name=BOUNDED, bounded=True)]
    everyone: list[Judged] = [*trained, *peers, *oracles]
    names = [policy.name for policy in everyone]
    if len(set(names)) < len(names):
        raise LaptimeError(f"two policies have one name ({', '.join(names)}); train one under another name")
    return everyone


def what_it_kept(policy: Judged) -> str | None:
    """A sentence about a policy that decides as a simpler one, because its own training gained nothing; else None."""
    if isinstance(policy, GrpoPolicy) and not policy.moved:
        return (
            f"{policy.name} decides as the supervised policy that its training starts from: on the questions kept "
            "aside, no later step was surely better"
        )
    if isinstance(policy, LogisticPolicy) and policy.fallback:
        return (
            f"{policy.name} decides by a logistic regression of the words: on training questions kept aside, neither "
            "the supervised policy nor later steps were surely better"
        )
    return None


def kept_findings(policies: Sequence[Judged]) -> list[Finding]:
    """A finding for each policy that decides as a simpler one."""
    said = [sentence for policy in policies if (sentence := what_it_kept(policy)) is not None]
    return [Finding(code="simpler-policy", severity="info", message=sentence) for sentence in said]


def leeways_of(saved: Sequence[SavedPolicy]) -> dict[str, Leeway | None]:
    """The trained policies' leeways by name. Simple policies and the oracle within the bounds have the first one's."""
    leeways = {one.policy.name: one.leeway for one in saved}
    same = (BOUNDED, PER_TYPE, LOGISTIC, *(f"{PER_TYPE}, {knob} only" for knob in ("tier", "top-k", "blocks")))
    return (dict.fromkeys(same, saved[0].leeway) if saved else {}) | leeways


def replayed_evaluation(
    policies: Sequence[Judged],
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    comparison: EvaluationScope,
) -> ControlEvaluation:
    """Every policy at every budget on held-out questions, looked up in their table.

    Differences are taken at the same budget, and at equal attainment for a peer that is late too often.
    """
    level, compared = bounds.confidence, comparison.compared
    aligned = features.of(table.sample_ids, table.space)
    outcomes: list[Outcome] = []
    differences: list[Difference] = []
    for budget_ms in comparison.budgets_ms:
        by_name = {
            policy.name: replay(
                policy, table, aligned, bounds, budget_ms, room_at(comparison.leeways.get(policy.name), budget_ms)
            )
            for policy in policies
        }
        if len(by_name) < len(policies):
            raise LaptimeError("two policies have the same name; an evaluation tells them apart by it")
        outcomes += [one for some in by_name.values() for one in some]
        for peer in policies:
            if attainment(by_name[peer.name]) >= level:
                continue
            if not any(one in by_name and one != peer.name for one in compared):
                continue

            def run(ms: float, peer: Judged = peer) -> list[Outcome]:
                return replay(peer, table, aligned, bounds, ms)

            attained = at_equal_attainment(run, budget_ms, level)
            pairs = (equal_attainment_difference(by_name[one], attained, level) for one in compared if one in by_name)
            differences += [pair for pair in pairs if pair is not None and pair.policy != pair.than]
    names = [policy.name for policy in policies]
    return ControlEvaluation(
        model=table.model.name,
        way="replayed",
        confidence=level,
        questions=len(table),
        budgets_ms=list(comparison.budgets_ms),
        points=policy_points(outcomes, table.space),
        differences=corrected([*same_budget_differences(outcomes, compared, names, level), *differences]),
        findings=kept_findings(policies),
    )


NOMINAL: dict[str, Rates] = {
    "H100": Rates(bandwidth_gb_s=3350, tflop_s=989, launch_us=0),
    "H200": Rates(bandwidth_gb_s=4800, tflop_s=989, launch_us=0),
    "A100": Rates(bandwidth_gb_s=2039, tflop_s=312, launch_us=0),
    "V100": Rates(bandwidth_gb_s=900, tflop_s=112, launch_us=0),
    "cpu": Rates(bandwidth_gb_s=20, tflop_s=0.1, launch_us=0),
}
"""Nominal rates, 16 bit dense, from the makers' data sheets (SXM). "cpu" is a guess for two cores at float32."""


def nominal_rates(device: str | None) -> Rates:
    """The rates of a GPU by its name ("NVIDIA H200"), or a CPU's for None. Raises LaptimeError for an unknown GPU."""
    if device is None:
        return NOMINAL["cpu"]
    known = next((rates for name, rates in NOMINAL.items() if name.lower() in device.lower()), None)
    if known is None:
        raise LaptimeError(f"no nominal rates of {device!r}; known are {', '.join(NOMINAL)}: give Rates yourself")
    return known


def analytic_ms(table: DecisionTable, config: Mapping[str, Any], rates: Rates, *, weight_bytes: float = 2.0) -> Floats:
    """Each choice's vision and prefill in ms, (choices,). config: transformers' configuration as a mapping.

    Raises LaptimeError for a configuration that lacks a size.
    """
    shape = msgspec.structs.replace(shape_of(config), weight_bytes=weight_bytes)
    choices = [table.space.choice(number) for number in range(len(table.space))]
    columns: dict[str, list[float]] = {
        name: np.median(getattr(table, name), axis=0).tolist() for name in ("prompt_tokens", "crops")
    }
    columns["config.blocks"] = [choice.blocks or shape.blocks for choice in choices]
    columns["config.top_k"] = [choice.top_k or shape.top_k for choice in choices]
    frame = roofline_columns(polars.DataFrame(columns), shape, msgspec.structs.replace(rates, launch_us=0.0))
    times: Floats = (frame["roofline.vision_ms"] + frame["roofline.prefill_ms"]).to_numpy()
    return times


def relative_ms(analytic: Floats, full_ms: float) -> Floats:
    """Analytic times, scaled so that the costliest choice takes `full_ms`.

    Budgets are then shares of the whole model's time, the one number that is measured. AdaLLaVA's budgets need it too.
    """
    if not (np.isfinite(full_ms) and full_ms > 0):
        raise LaptimeError(f"the whole model's time is {full_ms} ms; it must be above 0")
    return analytic * (full_ms / float(analytic.max()))
