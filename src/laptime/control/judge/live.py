"""Policies judged by calls that are made: every question under every policy and budget, side by side.

All calls of one question follow each other in a random order, so a machine that drifts drifts for all of them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec

from laptime.control.adaptive_model import AdaptiveModel, Answer
from laptime.control.bounds.leeway import Leeway
from laptime.control.judge.outcomes import Outcome
from laptime.control.policies.policy import Policy
from laptime.control.question import Asked, asked
from laptime.control.tables.decision_table import question_type
from laptime.errors import LaptimeError
from laptime.measure.session import quiet_collector
from laptime.workload.example import Example
from laptime.workload.scoring import score

WARM_UPS = 3
"""Rounds of calls with each choice before anything counts (AdaptiveModel.warm_up)."""

Progress = Callable[[int, int], None]


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that takes part, with what it believes of latency. `name` is what tables call it.

    policy_for: the policy for a question's id (the oracle has one for each). told: a smaller budget that it is told
    instead of one that it is judged by, where it would be late too often. leeway: what it may use up of the promise.
    """

    name: str
    policy_for: Callable[[str], Policy]
    adaptive: AdaptiveModel
    told: dict[float, float] = {}
    leeway: Leeway | None = None


def evaluate_live(
    contestants: Sequence[Contestant],
    examples: Sequence[Example],
    budgets_ms: Sequence[float],
    *,
    kind: str,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> list[Outcome]:
    """One call for each (question, policy, budget). kind: the score, as laptime.workload.scoring names it.

    Raises LaptimeError without questions, policies or budgets, and when a call fails.
    """
    if not (contestants and examples and budgets_ms):
        raise LaptimeError("an evaluation needs a policy, a question and a budget at least")
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    questions = order.sample(list(examples), len(examples))
    found: list[Outcome] = []
    with quiet_collector():
        _warm_up(contestants, asked(questions[0]), budgets_ms)
        for number, example in enumerate(questions):
            one = asked(example)
            calls = [(c, budget) for c in contestants for budget in budgets_ms]
            for contestant, budget in order.sample(calls, len(calls)):
                found.append(_outcome(contestant, example, one, budget, kind))
            progress(number + 1, len(questions))
    return found


def stream(
    contestant: Contestant,
    examples: Sequence[Example],
    budget_ms: float,
    *,
    kind: str,
    slow_from: int,
    slowing: AbstractContextManager[object],
    progress: Progress = lambda done, of: None,
) -> list[Outcome]:
    """Requests one after the other; from number `slow_from` on inside `slowing`, which makes the machine slower."""
    found: list[Outcome] = []
    with contextlib.ExitStack() as stack, quiet_collector():
        for number, example in enumerate(examples):
            if number == slow_from:
                stack.enter_context(slowing)
            found.append(_outcome(contestant, example, asked(example), budget_ms, kind))
            progress(number + 1, len(examples))
    return found


def _outcome(contestant: Contestant, example: Example, question: Asked, budget_ms: float, kind: str) -> Outcome:
    told = contestant.told.get(budget_ms)
    answer = _answered(contestant, question, budget_ms if told is None else told)
    decision = answer.sample.decision
    assert decision is not None
    return Outcome(
        policy=contestant.name,
        budget_ms=budget_ms,
        sample_id=example.id,
        question_type=question_type(example.id),
        choice=answer.choice,
        score=score(kind, answer.text, example),
        total_ms=answer.spent_ms,
        bound_ms=float("inf") if decision.bound_ms is None else decision.bound_ms,
        deciding_ms=decision.deciding_ms,
        unfit="no-choice-fits" in answer.sample.flags,
        factor=decision.factor,
        decided_ms=told,
    )


def _answered(contestant: Contestant, question: Asked, budget_ms: float) -> Answer:
    contestant.adaptive.policy, contestant.adaptive.leeway = contestant.policy_for(question.id), contestant.leeway
    return contestant.adaptive.generate(question, budget_ms=budget_ms)


def _warm_up(contestants: Sequence[Contestant], question: Asked, budgets_ms: Sequence[float]) -> None:
    for adaptive in {id(c.adaptive): c.adaptive for c in contestants}.values():
        adaptive.warm_up(question, WARM_UPS)
    for contestant in contestants:
        for budget in budgets_ms:
            _answered(contestant, question, budget)
