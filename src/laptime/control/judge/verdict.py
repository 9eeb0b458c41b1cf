"""What an evaluation says of its policies: which one is in question, who kept the promise, who is better. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import exp, isnan, lgamma, log
from typing import Literal

from laptime.control.judge.result import (
    BOUNDED,
    SMALLER_BUDGET,
    ControlEvaluation,
    Difference,
    PolicyPoint,
    SlowDown,
)

Role = Literal["main", "bound", "one knob", "no bound", "oracle"]
"""main: the policy in question. bound: another one that keeps to calibrated bounds. one knob: likewise, but it may turn
one knob alone; where none of its settings keeps a budget it takes its fastest one, and nothing was promised. no bound:
one that keeps to a mean or to arithmetic, so nothing was promised. oracle: it knows the answers; an upper limit, not a
policy."""

Kept = Literal["kept", "short", "missed", "unfit", "one knob", "no promise", "upper limit"]
"""Whether the promise was kept at one budget. short: below it, but by no more than chance explains. missed: the whole
interval is below it. unfit: for too many questions nothing fitted, so nothing was promised. one knob: below it, by a
policy that may turn one knob alone."""

_FIRST = ("static", "per type", "lookup", "logistic", "supervised")
SUPERVISED = "supervised"
SIMPLE = ("static", "per type", "logistic", SUPERVISED)
"""Policies by how simple they are: fixed, by the question's type, linear in its words, a network without rewards."""
CHANCE = 0.05
_ONE_KNOB = re.compile(r", (tier|top-k|blocks) only$")
_NO_BOUND = frozenset({"mean", "median", "analytic", "analytical", "roofline", "lookup"})


def policy_names(evaluation: ControlEvaluation) -> list[str]:
    """The policies in order: the one in question, others with a bound, of one knob, without a bound, the oracles."""
    order: tuple[Role, ...] = ("main", "bound", "one knob", "no bound", "oracle")
    main = main_policy(evaluation)
    known = {point.policy for point in evaluation.points}
    return sorted(known, key=lambda name: (order.index(role(name, main)), _rank(name), name))


def role(policy: str, main: str | None) -> Role:
    """The role of a policy beside the one in question."""
    if policy == main:
        return "main"
    if _ONE_KNOB.search(policy):
        return "one knob"
    words = set(re.split(r"[^a-z]+", policy.lower()))
    return "oracle" if "oracle" in words else "no bound" if words & _NO_BOUND else "bound"


def main_policy(evaluation: ControlEvaluation) -> str | None:
    """The policy in question: the one that most differences are about, else GRPO, else the most accurate one."""
    about = Counter(one.policy for one in evaluation.differences)
    if about:
        return about.most_common(1)[0][0]
    able = [point for point in evaluation.points if role(point.policy, None) == "bound"] or evaluation.points
    trained = [point for point in able if "grpo" in point.policy.lower()]
    best = max(trained or able, key=lambda point: point.accuracy.value, default=None)
    return best.policy if best else None


def baselines(evaluation: ControlEvaluation) -> list[str]:
    """What the policy in question is compared with: the best static configuration and the lookup table first.

    The oracle, and the policy itself on other budgets, are left out. A policy on a smaller budget is no other policy.
    """
    main = main_policy(evaluation)
    compared = {one.than.removesuffix(SMALLER_BUDGET) for one in evaluation.differences if one.policy == main}
    known = compared or {name.removesuffix(SMALLER_BUDGET) for name in policy_names(evaluation)}
    own = main.partition(",")[0] if main else None
    others = [
        name
        for name in known
        if role(name, main) in {"bound", "one knob", "no bound"} and name.partition(",")[0] != own
    ]
    return sorted(others, key=lambda name: (_rank(name), name))


def budgets(evaluation: ControlEvaluation) -> list[float]:
    """Every budget that something was judged at, ascending."""
    return sorted({point.budget_ms for point in evaluation.points})


def at(evaluation: ControlEvaluation, policy: str | None, budget_ms: float) -> PolicyPoint | None:
    """A policy's point at a budget."""
    return next((one for one in evaluation.points if one.policy == policy and one.budget_ms == budget_ms), None)


def kept(point: PolicyPoint, confidence: float, main: str | None) -> Kept:
    """Whether answers were in time as often as promised."""
    if role(point.policy, main) in {"no bound", "oracle"}:
        return "no promise" if role(point.policy, main) == "no bound" else "upper limit"
    if infeasible(point, confidence):
        return "unfit"
    if point.attainment.value >= confidence:
        return "kept"
    if role(point.policy, main) == "one knob":
        return "one knob"
    return "missed" if surely_late(point, confidence) else "short"


def infeasible(point: PolicyPoint, confidence: float) -> bool:
    """Whether for more questions than may be late nothing fits the budget, so that nothing is promised."""
    return bool(point.unfit) and point.unfit >= (1 - confidence) * point.questions - 1e-9


def surely_late(point: PolicyPoint, confidence: float) -> bool:
    """Whether the share in time is below the confidence, promised or not, by more than chance explains.

    The whole interval is below it, and the exact chance of so few (binomial, one-sided) is half of CHANCE at most:
    one late answer of one asked misses nothing.
    """
    if point.attainment.high is None or not point.attainment.high < confidence or isnan(point.attainment.value):
        return False
    return _chance_of_so_few(round(point.attainment.value * point.questions), point.questions, confidence) <= CHANCE / 2


def _chance_of_so_few(hits: int, of: int, share: float) -> float:
    """How likely at most `hits` of `of` are in time when each is with this probability."""
    if not 0 < share < 1:
        return 0.0 if hits < of * share else 1.0
    logs = [
        lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) + k * log(share) + (of - k) * log(1 - share)
        for k in range(hits + 1)
    ]
    return min(1.0, sum(map(exp, logs)))


def headline_budget(evaluation: ControlEvaluation) -> float | None:
    """The budget that the headline is about: the middle one of those that the policy in question can keep."""
    main = main_policy(evaluation)
    points = [point for point in evaluation.points if point.policy == main]
    feasible = sorted(p.budget_ms for p in points if kept(p, evaluation.confidence, main) != "unfit")
    considered: Sequence[float] = feasible or sorted(point.budget_ms for point in points)
    return considered[len(considered) // 2] if considered else None


def differences_to(evaluation: ControlEvaluation, than: str) -> list[Difference]:
    """The differences of the policy in question to another policy, one for each budget.

    At the same budget if both were in time often enough; else at equal attainment, the other one on a smaller budget.
    """
    main = main_policy(evaluation)
    by_budget: dict[float, Difference] = {}
    for one in evaluation.differences:
        about = one.policy == main and one.than.removesuffix(SMALLER_BUDGET) == than
        if about and (one.at == "same budget" or one.budget_ms not in by_budget):
            by_budget[one.budget_ms] = one
    return [by_budget[budget] for budget in sorted(by_budget)]


def surely(difference: Difference) -> Literal["better", "worse", "unsure"]:
    """better or worse if chance doesn't explain the difference, corrected for all that were made; else unsure.

    An evaluation of an older version holds no corrected p-value. Then it is sure if the interval leaves out zero.
    """
    ends = difference.accuracy
    if difference.p_corrected is not None and difference.p_corrected > CHANCE:
        return "unsure"
    if ends.low is not None and ends.low > 0:
        return "better"
    return "worse" if ends.high is not None and ends.high < 0 else "unsure"


def as_good(evaluation: ControlEvaluation) -> str | None:
    """The simplest policy with a bound that the one in question is nowhere surely better than; None: there is none."""
    main = main_policy(evaluation)
    if main is None or main in SIMPLE:
        return None
    others = [name for name in policy_names(evaluation) if name != main and role(name, main) == "bound"]
    for simple in SIMPLE:
        compared = differences_to(evaluation, simple) if simple in others else []
        if compared and not any(surely(one) == "better" for one in compared):
            return simple
    return None


def mean_regret(evaluation: ControlEvaluation) -> float | None:
    """The oracle's accuracy less that of the policy in question, the mean over budgets."""
    main = main_policy(evaluation)
    regrets = [one.regret.value for one in evaluation.points if one.policy == main and one.regret is not None]
    return sum(regrets) / len(regrets) if regrets else None


def mean_gain_left(evaluation: ControlEvaluation) -> float | None:
    """The same for the oracle that keeps the bounds: what choosing better could still gain, the mean over budgets."""
    main = main_policy(evaluation)
    pairs = [(at(evaluation, BOUNDED, ms), at(evaluation, main, ms)) for ms in budgets(evaluation)]
    gaps = [most.accuracy.value - own.accuracy.value for most, own in pairs if most is not None and own is not None]
    return sum(gaps) / len(gaps) if gaps else None


def paired_slow_downs(evaluation: ControlEvaluation) -> list[list[SlowDown]]:
    """Streams of one policy and budget together, the one without correction first; the policy in question first."""
    order = policy_names(evaluation)
    groups: dict[tuple[str, float, str], list[SlowDown]] = {}
    for one in evaluation.slow_downs:
        groups.setdefault((one.policy, one.budget_ms, one.how), []).append(one)
    pairs = [sorted(group, key=lambda one: one.online) for group in groups.values()]
    return sorted(pairs, key=lambda pair: order.index(pair[0].policy) if pair[0].policy in order else len(order))


def _rank(policy: str) -> int:
    base = policy.partition(",")[0]
    return _FIRST.index(base) if base in _FIRST else len(_FIRST)
