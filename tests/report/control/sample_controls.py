"""An evaluation of policies, made by a seeded simulation of questions, choices, times and answers.

Every question needs so much of each knob; less of it and the answer is often wrong. Policies differ in what they know
of a question, and in which limit they trust: a bound, a mean, or a roofline that is too fast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.judge.result import (
    ChoiceShare,
    ControlEvaluation,
    Difference,
    PolicyPoint,
    SlowDown,
    StreamRequest,
)
from laptime.control.policies.saved_policy import CurvePoint, TrainingCurve
from laptime.data.finding import Finding
from laptime.data.record import Environment, Interval
from laptime.data.stats import wilson
from tests.report.sample_runs import environment

Array = npt.NDArray[Any]

TIERS, TOP_KS, BLOCKS = ("low", "medium", "high"), (1, 2, 4), (4, 6, 8)
CHOICES = list(product(range(3), range(3), range(3)))
BUDGETS = [16.0, 22.0, 30.0, 38.0, 48.0]
NEEDS = {  # how often a question of this type needs the first, second, third level of tier, top-k and blocks
    "colour of the large shape": ((0.97, 0.03, 0.0), (0.9, 0.1, 0.0), (0.92, 0.08, 0.0)),
    "count the shapes": ((0.55, 0.4, 0.05), (0.5, 0.4, 0.1), (0.2, 0.5, 0.3)),
    "compare two glyphs": ((0.2, 0.65, 0.15), (0.5, 0.4, 0.1), (0.4, 0.4, 0.2)),
    "add what was read": ((0.1, 0.7, 0.2), (0.2, 0.5, 0.3), (0.1, 0.3, 0.6)),
    "read the small print": ((0.0, 0.12, 0.88), (0.7, 0.25, 0.05), (0.7, 0.25, 0.05)),
}
SIGMA = 0.07
"""Spread of the logarithm of a call's time about its median."""


class Questions:
    """What each question needs, and how one throw of the dice decides its answer under every choice."""

    def __init__(self, count: int, seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        self.types = list(NEEDS)
        self.kind = self.dice.integers(len(self.types), size=count)
        needs = [[self.dice.choice(3, p=NEEDS[self.types[kind]][knob]) for knob in range(3)] for kind in self.kind]
        given = np.array(CHOICES)
        missing = np.maximum(0, np.array(needs)[:, None, :] - given[None, :, :]).sum(-1)
        self.chance = np.where(missing == 0, 0.95, np.where(missing == 1, 0.3, 0.12))
        self.right = self.dice.random((count, 1)) < self.chance
        self.length = self.dice.normal(0, 0.05, size=count)  # a longer question takes longer; every policy sees it
        base = np.array([5 + (2, 5, 12)[t] + (6, 9, 12)[b] * (1 + 0.12 * k) * (1 + 0.35 * t) for t, k, b in CHOICES])
        self.median_ms = base[None, :] * np.exp(self.length)[:, None]
        self.bound_ms = self.median_ms * np.exp(1.66 * SIGMA)

    def measured(self, chosen: Array) -> Array:
        """What the calls took, thrown anew."""
        taken = self.median_ms[np.arange(len(chosen)), chosen]
        noisy: Array = taken * np.exp(self.dice.normal(0, SIGMA, size=len(chosen)))
        return noisy


def _best(score: Array, limits: Array, budget: float) -> tuple[Array, int]:
    """For each question the best choice whose limit keeps the budget, else the fastest; and how many had none."""
    fits = limits <= budget
    chosen = np.where(fits, score, -1.0).argmax(1)
    none = ~fits.any(1)
    return np.where(none, limits.argmin(1), chosen), int(none.sum())


def policies(seen: Questions) -> dict[str, Callable[[float], tuple[Array, int]]]:
    """What each decides at a budget, for every question."""
    cost = seen.median_ms.mean(0)
    mean = seen.chance.mean(0)
    by_type = np.array([seen.chance[seen.kind == kind].mean(0) for kind in range(len(seen.types))])[seen.kind]
    frugal = 0.0015 * cost  # of equally good choices the cheaper one
    guess = 0.3 * seen.chance + 0.7 * by_type
    learned = guess + seen.dice.normal(0, 0.07, size=guess.shape) - frugal
    noisy = by_type + seen.dice.normal(0, 0.13, size=by_type.shape) - frugal
    everyone = np.broadcast_to(mean, seen.chance.shape)
    one_bound = np.broadcast_to(np.quantile(seen.bound_ms, 0.9, axis=0), seen.chance.shape)
    one_mean = np.broadcast_to(cost, seen.chance.shape)
    return {
        "static": lambda ms: _best(everyone, one_bound, ms),
        "lookup": lambda ms: _best(everyone, one_mean / 1.05, ms),
        "lookup, told less": lambda ms: _best(everyone, one_mean / 1.05, 0.86 * ms),
        "supervised": lambda ms: _best(noisy, seen.bound_ms, ms),
        "grpo": lambda ms: _best(learned, seen.bound_ms, ms),
        "grpo, mean budgets": lambda ms: _best(learned + 2 * frugal, seen.median_ms, ms),
        "grpo, analytic budgets": lambda ms: _best(learned + 2 * frugal, seen.median_ms * 0.82, ms),
        "oracle": lambda ms: _best(seen.right - frugal, seen.bound_ms, ms),
    }


def _mean(values: Array) -> Interval:
    middle, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(middle, middle - half, middle + half, len(values))


def _difference(budget: float, than: str, gap: Array) -> Difference:
    if not than.endswith(", told less"):
        return Difference(budget_ms=budget, policy="grpo", than=than, accuracy=_mean(gap))
    return Difference(budget_ms=budget, policy="grpo", than=than, accuracy=_mean(gap), at="equal attainment",
                      than_budget_ms=0.86 * budget)  # fmt: skip


def _shares(seen: Questions, chosen: Array) -> list[ChoiceShare]:
    shares = []
    for kind, name in enumerate(seen.types):
        for number, (tier, k, b) in enumerate(CHOICES):
            count = int(((seen.kind == kind) & (chosen == number)).sum())
            if count:
                shares.append(
                    ChoiceShare(question_type=name, tier=TIERS[tier], top_k=TOP_KS[k], blocks=BLOCKS[b], count=count)
                )
    return shares


def _point(seen: Questions, name: str, budget: float, chosen: Array, unfit: int, best: Array) -> PolicyPoint:
    right = seen.right[np.arange(len(chosen)), chosen].astype(float)
    took = seen.measured(chosen)
    middle = float(np.median(took))
    return PolicyPoint(
        policy=name,
        budget_ms=budget,
        questions=len(chosen),
        accuracy=wilson(float(right.mean()), len(right)),
        attainment=wilson(float((took <= budget).mean()), len(took)),
        total_ms=Interval(middle, middle * 0.985, middle * 1.015, len(took)),
        total_p95_ms=float(np.quantile(took, 0.95)),
        regret=None if name == "oracle" else _mean(best - right),
        deciding_ms=None if name == "oracle" else Interval(0.082, 0.08, 0.085, len(took)),
        unfit=unfit,
        choices=_shares(seen, chosen),
        accuracy_by_type={kind: float(right[seen.kind == i].mean()) for i, kind in enumerate(seen.types)},
    )


def slow_down(
    *, online: bool, requests: int = 400, budget: float = 45.0, seed: int = 5, policy: str = "grpo"
) -> SlowDown:
    """A stream in which every call takes 1.5 times as long from the middle on."""
    dice, at, factor, settling = np.random.default_rng(seed), requests // 2, 1.5, requests // 20
    known, stream, late = 1.0, [], []
    for number in range(requests):
        slower = factor if number >= at else 1.0
        wanted = budget * min(1.0, dice.normal(0.93, 0.05))
        bound = min(wanted, budget) if known > 1.05 or number < at else wanted
        total = bound / known / np.exp(1.65 * SIGMA) * slower * np.exp(dice.normal(0, SIGMA))
        stream.append(StreamRequest(number, float(total), budget, float(bound), float(known)))
        late.append(total > budget)
        if online:
            known += 0.12 * (slower - known)
    inside = 1.0 - np.array(late, float)
    before, after = inside[:at], inside[at + settling :]
    return SlowDown(
        budget_ms=budget,
        policy=policy,
        factor=factor,
        how="clocks locked at 990 MHz",
        at=at,
        settling=settling,
        online=online,
        before=wilson(float(before.mean()), len(before)),
        after=wilson(float(after.mean()), len(after)),
        requests=stream,
    )


def curve(policy: str, steps: int = 240, seed: int = 3, best: float = 0.8) -> TrainingCurve:
    """A policy that learns, with noise."""
    dice = np.random.default_rng(seed)
    points = []
    for step in range(steps):
        done = 1 - np.exp(-step / (steps / 5))
        points.append(
            CurvePoint(
                step=step,
                decisions=(step + 1) * 4096,
                reward=float(-0.1 + (best + 0.05) * done + dice.normal(0, 0.015)),
                accuracy=float(0.45 + (best - 0.45) * done + dice.normal(0, 0.012)),
                within=float(0.7 + 0.27 * done + dice.normal(0, 0.006)),
                kl=float(0.05 * done + 0.01 * dice.random()),
                entropy=float(3.2 - 2.4 * done + dice.normal(0, 0.03)),
            )
        )
    return TrainingCurve(policy=policy, seconds=61.4, decisions=steps * 4096, points=points)


@cache
def an_evaluation(questions: int = 800, seed: int = 7) -> ControlEvaluation:
    """Eight policies at five budgets."""
    seen = Questions(questions, seed)
    decide = policies(seen)
    points, differences = [], []
    for budget in BUDGETS:
        chosen = {name: of(budget) for name, of in decide.items()}
        rows = np.arange(questions)
        right = {name: seen.right[rows, number].astype(float) for name, (number, _) in chosen.items()}
        points += [
            _point(seen, name, budget, number, unfit, right["oracle"]) for name, (number, unfit) in chosen.items()
        ]
        in_time = {point.policy: point.attainment.value for point in points if point.budget_ms == budget}
        differences += [
            _difference(budget, than, right["grpo"] - right[than])
            for than in chosen
            if than != "grpo" and min(in_time["grpo"], in_time[than]) >= 0.95
        ]
    return ControlEvaluation(
        model="glyphs/llava-next-olmoe",
        way="measured",
        confidence=0.95,
        questions=questions,
        budgets_ms=BUDGETS,
        points=points,
        differences=differences,
        slow_downs=[slow_down(online=False), slow_down(online=True)],
        training=[curve("grpo"), curve("supervised", seed=4, best=0.74)],
        findings=[
            Finding(
                code="infeasible",
                severity="info",
                message="at 20 ms no choice fits some questions; they got the fastest one",
                count=3,
            )
        ],
        environment=environment(),
    )


def changed(evaluation: ControlEvaluation | None = None, **changes: Any) -> ControlEvaluation:
    """The evaluation with some of its parts replaced."""
    return msgspec.structs.replace(evaluation or an_evaluation(), **changes)


def large(policies_: int = 10, budgets: int = 8, requests: int = 400) -> ControlEvaluation:
    """As many policies and budgets, a pair of streams for each policy, a long training for each."""
    base = an_evaluation()
    bases = {limit: [point for point in base.points if point.budget_ms == limit] for limit in BUDGETS}
    limits = [20.0 + 7 * i for i in range(budgets)]
    names = [f"policy-{i}" for i in range(policies_)]
    return changed(
        base,
        budgets_ms=limits,
        points=[
            msgspec.structs.replace(bases[BUDGETS[min(b, 4)]][i % 8], policy=name, budget_ms=limit)
            for b, limit in enumerate(limits)
            for i, name in enumerate(names)
        ],
        differences=[
            Difference(budget_ms=limit, policy=names[0], than=name, accuracy=Interval(0.05, 0.02, 0.08, 800))
            for limit in limits
            for name in names[1:]
        ],
        slow_downs=[
            slow_down(online=online, requests=requests, seed=i, policy=name)
            for i, name in enumerate(names)
            for online in (False, True)
        ],
        training=[curve(name, steps=2000, seed=i) for i, name in enumerate(names)],
    )


def hostile(words: str) -> ControlEvaluation:
    """Every text of the evaluation is `words`."""
    base = an_evaluation()

    def named(point: PolicyPoint) -> PolicyPoint:
        shares = [
            msgspec.structs.replace(share, question_type=words + share.question_type, tier=words + (share.tier or ""))
            for share in point.choices
        ]
        by_type = {words + kind: value for kind, value in point.accuracy_by_type.items()}
        return msgspec.structs.replace(point, policy=words + point.policy, choices=shares, accuracy_by_type=by_type)

    return changed(
        base,
        model=words,
        points=[named(point) for point in base.points],
        differences=[
            msgspec.structs.replace(one, policy=words + one.policy, than=words + one.than) for one in base.differences
        ],
        slow_downs=[msgspec.structs.replace(one, policy=words + one.policy, how=words) for one in base.slow_downs],
        training=[msgspec.structs.replace(one, policy=words + one.policy) for one in base.training],
        findings=[Finding(code=words, severity="warning", message=words)],
        environment=hostile_environment(words),
    )


def hostile_environment(words: str) -> Environment:
    """A machine whose every name is `words`."""
    return environment(gpu=words, cpu=words, torch=words, driver=words, variables={words: words})
