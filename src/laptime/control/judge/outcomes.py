"""What came of decisions, one record each, and what they say together: points, differences, shares. No torch.

Records are the same whether the calls were measured or looked up in a table, and so is everything made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import sqrt

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.judge.result import ChoiceShare, Difference, PolicyPoint
from laptime.data.record import Interval
from laptime.data.stats import accuracy, median_interval, quantile, t_quantile, wilson
from laptime.errors import LaptimeError


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: what was decided, and what came of it.

    budget_ms: what the answer is judged by. decided_ms: the budget that the policy was told; None: the same.
    bound_ms: what was promised for the choice, in the end; infinite: nothing. deciding_ms: host time of deciding, None
    when replayed. unfit: no choice fitted the budget. factor: the online correction at that time.
    """

    policy: str
    budget_ms: float
    sample_id: str
    question_type: str
    choice: int
    score: float
    total_ms: float
    bound_ms: float
    deciding_ms: float | None = None
    unfit: bool = False
    factor: float = 1.0
    decided_ms: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the answer came within the budget."""
        return self.total_ms <= self.budget_ms


def policy_points(outcomes: Iterable[Outcome], space: ChoiceSpace, oracle: str = "oracle") -> list[PolicyPoint]:
    """One point for each policy and budget, in the order in which they first come.

    Accuracy: as a sweep's (Wilson, or t for fractional scores). Attainment: Wilson. total_ms: the median. regret: the
    oracle's score less the policy's on the same questions, paired t interval; None without an oracle's outcomes.
    Raises LaptimeError for an outcome without a time.
    """
    groups = _groups(outcomes)
    return [
        _point(policy, budget, some, space, groups.get((oracle, budget)) if policy != oracle else None)
        for (policy, budget), some in groups.items()
    ]


def same_budget_differences(
    outcomes: Iterable[Outcome], policies: Sequence[str], than: Sequence[str], level: float = 0.95
) -> list[Difference]:
    """At each budget where both attained the level: accuracy of each policy less that of each other, paired."""
    groups = _groups(outcomes)
    return [
        Difference(budget_ms=budget, policy=one, than=other, accuracy=paired_difference(some, groups[other, budget]))
        for (one, budget), some in groups.items()
        if one in policies
        for other in than
        if other != one and (other, budget) in groups
        if attainment(some) >= level and attainment(groups[other, budget]) >= level
    ]


def equal_attainment_difference(
    mine: Sequence[Outcome], other: Sequence[Outcome], level: float = 0.95
) -> Difference | None:
    """The same for another policy that was told a smaller budget until it attained the level (see `told_less`).

    None where one of the two doesn't attain it.
    """
    if not mine or not other or attainment(mine) < level or attainment(other) < level:
        return None
    return Difference(
        budget_ms=mine[0].budget_ms,
        policy=mine[0].policy,
        than=other[0].policy,
        accuracy=paired_difference(mine, other),
        at="equal attainment",
        than_budget_ms=other[0].decided_ms or other[0].budget_ms,
    )


def told_less(outcomes: Sequence[Outcome], budget_ms: float) -> list[Outcome]:
    """Outcomes under a smaller budget, judged by a larger one: late is later than `budget_ms`."""
    return [
        msgspec.structs.replace(one, budget_ms=budget_ms, decided_ms=one.decided_ms or one.budget_ms)
        for one in outcomes
    ]


def attainment(outcomes: Sequence[Outcome]) -> float:
    """The share of answers within their budgets."""
    return sum(one.kept for one in outcomes) / len(outcomes) if outcomes else 0.0


def paired_difference(mine: Sequence[Outcome], other: Sequence[Outcome]) -> Interval:
    """Mean score of `mine` less that of `other` on the questions that both answered, with Student's t interval at 95 %.

    Several outcomes of one question count as their mean. The ends are None below three questions. Where no question
    differs, nothing says how often one would: the interval then is Wilson's upper end for none of n, on both sides.
    """
    first, second = _by_question(mine), _by_question(other)
    both = [name for name in first if name in second]
    if not both:
        raise LaptimeError("two policies without a question in common can't be compared")
    gaps = np.array([first[name] - second[name] for name in both])
    n, mean = len(gaps), float(gaps.mean())
    if n < 3:
        return Interval(mean, None, None, n)
    spread = float(gaps.std(ddof=1))
    half = t_quantile(n - 1, 0.975) * spread / sqrt(n) if spread > 0 else float(wilson(0.0, n).high or 0.0)
    return Interval(mean, mean - half, mean + half, n)


def _groups(outcomes: Iterable[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    found: dict[tuple[str, float], list[Outcome]] = {}
    for one in outcomes:
        found.setdefault((one.policy, one.budget_ms), []).append(one)
    return found


def _by_question(outcomes: Sequence[Outcome]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for one in outcomes:
        scores.setdefault(one.sample_id, []).append(one.score)
    return {name: sum(some) / len(some) for name, some in scores.items()}


def _point(
    policy: str, budget_ms: float, outcomes: list[Outcome], space: ChoiceSpace, best: list[Outcome] | None
) -> PolicyPoint:
    totals = np.array([one.total_ms for one in outcomes])
    if not (np.isfinite(totals) & (totals > 0)).all():
        raise LaptimeError(f"policy {policy} at {budget_ms:g} ms: an answer without a time can't be judged")
    right, _ = accuracy(np.array([one.score for one in outcomes], dtype=np.float64))
    if right is None:
        raise LaptimeError(f"policy {policy} at {budget_ms:g} ms: no answer has a score")
    deciding = np.array([one.deciding_ms for one in outcomes if one.deciding_ms is not None], dtype=np.float64)
    by_type: dict[str, list[float]] = {}
    for one in outcomes:
        by_type.setdefault(one.question_type, []).append(one.score)
    return PolicyPoint(
        policy=policy,
        budget_ms=budget_ms,
        questions=len({one.sample_id for one in outcomes}),
        accuracy=right,
        attainment=wilson(attainment(outcomes), len(outcomes)),
        total_ms=median_interval(totals),
        total_p95_ms=quantile(totals, 0.95),
        regret=None if best is None else paired_difference(best, outcomes),
        deciding_ms=median_interval(deciding) if len(deciding) else None,
        unfit=sum(one.unfit for one in outcomes),
        choices=_shares(outcomes, space),
        accuracy_by_type={name: sum(some) / len(some) for name, some in sorted(by_type.items())},
    )


def _shares(outcomes: list[Outcome], space: ChoiceSpace) -> list[ChoiceShare]:
    counts = Counter((one.question_type, one.choice) for one in outcomes)
    found = []
    for (kind, number), count in sorted(counts.items()):
        choice = space.choice(number)
        tier = choice.tier.name if choice.tier else None
        found.append(ChoiceShare(question_type=kind, tier=tier, top_k=choice.top_k, blocks=choice.blocks, count=count))
    return found
