"""The outcome of each decision, and what outcomes say together: points, differences, shares. No torch.

Outcomes are the same whether calls were measured or looked up in a table, and so is everything that is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import sqrt

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.judge.result import ChoiceShare, Difference, PolicyPoint
from laptime.control.judge.significance import holm, paired_p
from laptime.data.record import Interval
from laptime.data.stats import accuracy, median_interval, quantile, t_quantile, wilson
from laptime.errors import LaptimeError


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: what was decided, its score and its time.

    budget_ms: the budget that the answer is judged by. decided_ms: the budget that the policy decided under; None: the
    same one. bound_ms: of the final choice; infinite if nothing was promised. deciding_ms: the host's time for
    deciding; None when replayed. unfit: no choice fitted the budget. factor: the online correction at that time.
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
    """One point for each policy and budget, in the order in which they first occur.

    The interval of accuracy is that of a sweep (Wilson, or t for fractional scores), that of attainment is Wilson's.
    total_ms is the median. regret is the oracle's score less the policy's on the same questions, with a paired t
    interval; None without an oracle's outcomes. Raises LaptimeError for an outcome without a time.
    """
    groups = _groups(outcomes)
    return [
        _point(policy, budget, some, space, groups.get((oracle, budget)) if policy != oracle else None)
        for (policy, budget), some in groups.items()
    ]


def same_budget_differences(
    outcomes: Iterable[Outcome], policies: Sequence[str], than: Sequence[str], level: float = 0.95
) -> list[Difference]:
    """Accuracy of each policy less that of each other one, paired, at each budget where both attained the level."""
    groups = _groups(outcomes)
    return [
        Difference(
            budget_ms=budget,
            policy=one,
            than=other,
            accuracy=paired_difference(some, groups[other, budget]),
            p=paired_scores_p(some, groups[other, budget]),
        )
        for (one, budget), some in groups.items()
        if one in policies
        for other in than
        if other != one and (other, budget) in groups
        if attainment(some) >= level and attainment(groups[other, budget]) >= level
    ]


def attainment(outcomes: Sequence[Outcome]) -> float:
    """The share of answers within their budgets."""
    return sum(one.kept for one in outcomes) / len(outcomes) if outcomes else 0.0


def paired_difference(first: Sequence[Outcome], second: Sequence[Outcome]) -> Interval:
    """The first policy's mean score less the second's, on the questions that both answered: Student's t interval, 95 %.

    Several outcomes of one question count as their mean. The ends are None below three questions. If no question
    differs, the interval is Wilson's upper end for none of n, on both sides.
    """
    scores, others = _by_question(first), _by_question(second)
    both = [name for name in scores if name in others]
    if not both:
        raise LaptimeError("two policies without a question in common can't be compared")
    gaps = np.array([scores[name] - others[name] for name in both])
    n, mean = len(gaps), float(gaps.mean())
    if n < 3:
        return Interval(mean, None, None, n)
    spread = float(gaps.std(ddof=1))
    half = t_quantile(n - 1, 0.975) * spread / sqrt(n) if spread > 0 else float(wilson(0.0, n).high or 0.0)
    return Interval(mean, mean - half, mean + half, n)


def paired_scores_p(first: Sequence[Outcome], second: Sequence[Outcome]) -> float | None:
    """The p-value of both policies being equally often right, on the questions that both answered."""
    scores, others = _by_question(first), _by_question(second)
    both = [name for name in scores if name in others]
    return paired_p(np.array([scores[name] for name in both]), np.array([others[name] for name in both]))


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with p-values corrected for their number: any one of them may be called sure."""
    values = holm([one.p for one in differences])
    return [msgspec.structs.replace(one, p_corrected=p) for one, p in zip(differences, values, strict=True)]


def _groups(outcomes: Iterable[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.policy, one.budget_ms), []).append(one)
    return groups


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
    shares = []
    for (kind, number), count in sorted(counts.items()):
        choice = space.choice(number)
        tier = choice.tier.name if choice.tier else None
        shares.append(ChoiceShare(question_type=kind, tier=tier, top_k=choice.top_k, blocks=choice.blocks, count=count))
    return shares
