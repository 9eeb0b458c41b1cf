"""Policies judged by measured calls: every question under every policy and budget, side by side.

All calls of one question follow each other in a random order. So a machine that drifts drifts for all of them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, NamedTuple

from laptime.control.adaptive_model import AdaptiveAnswer, AdaptiveModel
from laptime.control.bounds.leeway import Leeway
from laptime.control.judge.outcomes import Outcome
from laptime.control.policies.oracle import Judged, policy_for
from laptime.control.question import OpenedQuestion, opened
from laptime.control.tables.decision_table import question_type
from laptime.errors import LaptimeError
from laptime.measure.session import quiet_collector
from laptime.workload.example import Example
from laptime.workload.scoring import scorer

WARM_UPS = 3
"""Rounds of calls with each choice before anything counts (AdaptiveModel.warm_up)."""

Progress = Callable[[int, int], None]
Score = Callable[[str, Example], float]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A policy that takes part, with the model that it runs.

    name: what tables call it; empty: the policy's own name. smaller_budgets: by the budget that answers are judged by,
    the budget that the policy decides under instead. leeway: of this policy.
    """

    policy: Judged
    adaptive: AdaptiveModel
    name: str = ""
    smaller_budgets: dict[float, float] = field(default_factory=dict)
    leeway: Leeway | None = None


class LiveCalls(NamedTuple):
    """The outcomes of measured calls, and why there are no more: all were made, or the code of a finding."""

    outcomes: list[Outcome]
    ended: Literal["all", "time-limit", "interrupted"]


def evaluate_live(
    contestants: Sequence[Contestant],
    examples: Sequence[Example],
    budgets_ms: Sequence[float],
    *,
    kind: str,
    seed: int = 0,
    limit_s: float | None = None,
    progress: Progress = lambda done, of: None,
) -> LiveCalls:
    """One call for each question, policy and budget. kind: the score, as laptime.workload.scoring names it.

    limit_s: no further question begins after it, warm-up included; the first one is always asked.
    Raises LaptimeError without questions, policies or budgets, and when a call fails. KeyboardInterrupt after the first
    question ends it early: the questions that every policy has answered are kept.
    """
    if not (contestants and examples and budgets_ms):
        raise LaptimeError("an evaluation needs at least one policy, one question and one budget")
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    questions = order.sample(list(examples), len(examples))
    outcomes: list[Outcome] = []
    right = scorer(kind, examples)
    until = float("inf") if limit_s is None else monotonic() + limit_s
    with quiet_collector():
        _warm_up(contestants, opened(questions[0]), budgets_ms)
        for number, example in enumerate(questions):
            question = opened(example)
            calls = [(contestant, budget) for contestant in contestants for budget in budgets_ms]
            try:
                answered = [
                    _outcome(contestant, example, question, budget, right)
                    for contestant, budget in order.sample(calls, len(calls))
                ]
            except KeyboardInterrupt:
                if not outcomes:
                    raise
                return LiveCalls(outcomes, "interrupted")
            outcomes += answered
            progress(number + 1, len(questions))
            if monotonic() > until and number + 1 < len(questions):
                return LiveCalls(outcomes, "time-limit")
    return LiveCalls(outcomes, "all")


def planned_calls(policies: int, questions: int, budgets: int, choices: int) -> tuple[int, int]:
    """How many calls an evaluation makes: before anything counts, and those that count."""
    return WARM_UPS * 2 * choices + policies * budgets, policies * budgets * questions


def stream(
    contestant: Contestant,
    examples: Sequence[Example],
    budget_ms: float,
    *,
    kind: str,
    slow_from: int,
    slowing: AbstractContextManager[object],
) -> list[Outcome]:
    """Requests one after the other. From number `slow_from` on they run inside `slowing`, which slows the machine."""
    outcomes: list[Outcome] = []
    right = scorer(kind, examples)
    with contextlib.ExitStack() as stack, quiet_collector():
        for number, example in enumerate(examples):
            if number == slow_from:
                stack.enter_context(slowing)
            outcomes.append(_outcome(contestant, example, opened(example), budget_ms, right))
    return outcomes


def _outcome(
    contestant: Contestant, example: Example, question: OpenedQuestion, budget_ms: float, right: Score
) -> Outcome:
    smaller = contestant.smaller_budgets.get(budget_ms)
    answer = _answered(contestant, question, budget_ms if smaller is None else smaller)
    decision = answer.sample.decision
    assert decision is not None
    return Outcome(
        policy=contestant.name or contestant.policy.name,
        budget_ms=budget_ms,
        sample_id=example.id,
        question_type=question_type(example.id),
        choice=answer.choice,
        score=right(answer.text, example),
        total_ms=answer.spent_ms,
        bound_ms=float("inf") if decision.bound_ms is None else decision.bound_ms,
        deciding_ms=decision.deciding_ms,
        unfit="no-choice-fits" in answer.sample.flags,
        factor=decision.factor,
        decided_ms=smaller,
    )


def _answered(contestant: Contestant, question: OpenedQuestion, budget_ms: float) -> AdaptiveAnswer:
    adaptive = contestant.adaptive
    adaptive.policy, adaptive.leeway = policy_for(contestant.policy, question.id), contestant.leeway
    return adaptive.generate(question, budget_ms=budget_ms)


def _warm_up(contestants: Sequence[Contestant], question: OpenedQuestion, budgets_ms: Sequence[float]) -> None:
    for adaptive in {id(one.adaptive): one.adaptive for one in contestants}.values():
        adaptive.warm_up(question, WARM_UPS)
    for contestant in contestants:
        for budget in budgets_ms:
            _answered(contestant, question, budget)
