"""Policies judged on a table's held-out half: what each decision would have scored and taken. No torch.

Nothing is run: times are those that were measured under the chosen configuration. A measured evaluation makes the same
records (laptime.control.judge.outcomes) from calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.judge.outcomes import (
    Outcome,
    attainment,
    equal_attainment_difference,
    policy_points,
    same_budget_differences,
    told_less,
)
from laptime.control.judge.result import ControlEvaluation, Difference
from laptime.control.policies.oracle import Judged, decided
from laptime.control.policies.static import StaticPolicy
from laptime.control.seen import NO_ROOM, Floats32, Room
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import Rates

SMALLEST = 0.4
"""A peer is told no less than this part of a budget."""
INNER = (0.05, 0.95)
"""The part of the way between the budgets' ends that budgets are spread over."""
ALIKE = 0.01
"""Settings whose accuracies are no farther apart are equally good where budgets are spread."""
STEPS = 7
"""Halvings of the search for the largest budget that a peer may be told: a hundredth of the budget."""

Run = Callable[[float], list[Outcome]]


def replay(
    policy: Judged, table: DecisionTable, features: FeatureTable, bounds: Bounds, budget_ms: float, room: Room = NO_ROOM
) -> list[Outcome]:
    """One outcome a question. `features` are those of the table's questions, in its order (FeatureTable.of).

    room: what the policy's leeway gives at this budget.

    Raises LaptimeError when they are not, or a choice was made whose time was not measured.
    """
    if features.sample_ids != table.sample_ids:
        raise LaptimeError("features and table hold other questions; take features.of(table.sample_ids, table.space)")
    found = []
    for row, sample_id in enumerate(table.sample_ids):
        budget = bounds.budget(budget_ms, features.language[row], room=room)
        number = decided(policy, features, row, budget)
        total = float(table.total_ms[row, number])
        if not total > 0:
            raise LaptimeError(f"question {sample_id} was not timed under choice ({table.space.choice(number)})")
        found.append(
            Outcome(
                policy=policy.name,
                budget_ms=budget_ms,
                sample_id=sample_id,
                question_type=table.question_types[row],
                choice=number,
                score=float(table.score[row, number]),
                total_ms=total,
                bound_ms=float(budget.bound_ms[number]),
                unfit=not budget.fits.any(),
            )
        )
    return found


def at_equal_attainment(run: Run, budget_ms: float, level: float = 0.95) -> list[Outcome]:
    """The outcomes of a policy told the largest part of a budget at which it attains the level, judged by the budget.

    `run(ms)` answers every question under a budget of `ms`. The policy as it is where it attains the level already, and
    where it doesn't even at SMALLEST. Attainment is taken to fall with the budget told, which is searched by halving.
    """
    whole = run(budget_ms)
    if attainment(whole) >= level:
        return whole
    low, high = SMALLEST, 1.0
    kept = told_less(run(budget_ms * low), budget_ms)
    if attainment(kept) < level:
        return whole
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = told_less(run(budget_ms * middle), budget_ms)
        if attainment(tried) >= level:
            low, kept = middle, tried
        else:
            high = middle
    return kept


def replayed_evaluation(
    policies: Sequence[Judged],
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    budgets_ms: Sequence[float],
    *,
    compared: Sequence[str] = (),
    leeways: Mapping[str, Leeway | None] | None = None,
    level: float = 0.95,
) -> ControlEvaluation:
    """Every policy at every budget on held-out questions. `compared`: the policies whose differences are wanted.

    leeways: of those policies that have one, by name. Differences are given at the same budget, and at equal
    attainment where a peer had to be told less.
    """
    mine, told = features.of(table.sample_ids, table.space), leeways or {}
    outcomes: list[Outcome] = []
    differences: list[Difference] = []
    for budget_ms in budgets_ms:
        at = {
            policy.name: replay(policy, table, mine, bounds, budget_ms, room_at(told.get(policy.name), budget_ms))
            for policy in policies
        }
        if len(at) < len(policies):
            raise LaptimeError("two policies have the same name; an evaluation tells them apart by it")
        outcomes += [one for some in at.values() for one in some]
        for other in policies:
            if not any(one in at and one != other.name for one in compared) or attainment(at[other.name]) >= level:
                continue

            def run(ms: float, other: Judged = other) -> list[Outcome]:
                return replay(other, table, mine, bounds, ms)

            less = at_equal_attainment(run, budget_ms, level)
            pairs = (equal_attainment_difference(at[one], less, level) for one in compared if one in at)
            differences += [pair for pair in pairs if pair is not None and pair.policy != pair.than]
    names = [policy.name for policy in policies]
    return ControlEvaluation(
        model=table.model.name,
        way="replayed",
        confidence=bounds.confidence,
        questions=len(table),
        budgets_ms=list(budgets_ms),
        points=policy_points(outcomes, table.space),
        differences=same_budget_differences(outcomes, compared, names, level) + differences,
    )


def spread_budgets(
    table: DecisionTable, bounds: Bounds, language: Floats32, fixed: StaticPolicy, count: int = 5
) -> list[float]:
    """Budgets (ms) that leave something to gain: from where every question has a choice to where one setting does all.

    That is where the best fixed setting (`fixed`) is as accurate as under any budget, to a point: above it nobody can
    gain by choosing. Even steps in the share of choices, over all questions, whose bound keeps the budget; both ends
    are left out. Raises LaptimeError when nothing is promised for any choice.
    """
    bound, _ = bounds.for_questions(language)
    lowest = 1.02 * float(np.quantile(bound.min(axis=1), 0.95))
    finite = np.sort(bound[np.isfinite(bound)])
    if not (np.isfinite(lowest) and len(finite) and finite[-1] > lowest > 0):
        raise LaptimeError(f"no budget tells the {len(table.space)} choices apart: the estimator promises too little")
    enough = float(fixed.bound_ms[fixed.accuracy >= fixed.accuracy.max() - ALIKE].min())
    highest = enough if lowest < enough < finite[-1] else float(finite[-1])
    ends = [float((finite <= ms).mean()) for ms in (lowest, highest)]
    shares = ends[0] + (ends[1] - ends[0]) * np.linspace(*INNER, count)
    return [round(float(ms), 3) for ms in np.quantile(finite, shares)]


NOMINAL: dict[str, Rates] = {
    "H100": Rates(bandwidth_gb_s=3350, tflop_s=989, launch_us=0),
    "H200": Rates(bandwidth_gb_s=4800, tflop_s=989, launch_us=0),
    "A100": Rates(bandwidth_gb_s=2039, tflop_s=312, launch_us=0),
    "V100": Rates(bandwidth_gb_s=900, tflop_s=112, launch_us=0),
    "cpu": Rates(bandwidth_gb_s=20, tflop_s=0.1, launch_us=0),
}
"""Nominal rates, 16 bit dense, from the makers' data sheets (SXM); "cpu" is a guess of two cores at float32."""


def nominal_rates(device: str | None) -> Rates:
    """The rates of a GPU by its name ("NVIDIA H200"); a CPU's for None. Raises LaptimeError for an unknown GPU."""
    if device is None:
        return NOMINAL["cpu"]
    found = next((rates for name, rates in NOMINAL.items() if name.lower() in device.lower()), None)
    if found is None:
        raise LaptimeError(f"no nominal rates of {device!r}; known are {', '.join(NOMINAL)}: give Rates yourself")
    return found


def analytic_ms(table: DecisionTable, config: Mapping[str, Any], rates: Rates, *, weight_bytes: float = 2.0) -> Floats:
    """Each choice's vision and prefill in ms, (choices,). `config`: transformers' configuration as a mapping.

    Raises LaptimeError for a configuration without the sizes that are needed.
    """
    import polars

    from laptime.estimate.roofline.roofline import roofline_columns, shape_of

    shape = msgspec.structs.replace(shape_of(config), weight_bytes=weight_bytes)
    choices = [table.space.choice(number) for number in range(len(table.space))]
    columns: dict[str, list[float]] = {
        name: np.median(getattr(table, name), axis=0).tolist() for name in ("prompt_tokens", "crops")
    }
    columns["config.blocks"] = [choice.blocks or shape.blocks for choice in choices]
    columns["config.top_k"] = [choice.top_k or shape.top_k for choice in choices]
    frame = roofline_columns(polars.DataFrame(columns), shape, msgspec.structs.replace(rates, launch_us=0.0))
    found: Floats = (frame["roofline.vision_ms"] + frame["roofline.prefill_ms"]).to_numpy()
    return found


def relative_ms(analytic: Floats, full_ms: float) -> Floats:
    """Analytic times scaled so that the costliest choice takes `full_ms`: budgets as a share of the whole model's time.

    The one number that is measured here is the whole model's own time; AdaLLaVA's budgets need it too.
    """
    if not (np.isfinite(full_ms) and full_ms > 0):
        raise LaptimeError(f"the whole model's time is {full_ms} ms; it must be above 0")
    return analytic * (full_ms / float(analytic.max()))
