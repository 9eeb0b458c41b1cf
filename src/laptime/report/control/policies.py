"""The policies of an evaluation as pages and tables name them: which is the one in question, which are beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from laptime.control.judge.result import BOUNDED, ControlEvaluation, PolicyPoint
from laptime.report.kit.text import one_line

Role = Literal["main", "bound", "no bound", "oracle"]
"""main: the policy in question. bound: another that keeps to calibrated bounds. no bound: one that keeps to a mean or a
roofline, so that nothing was promised. oracle: knows the answers; an upper limit, no policy."""

Kept = Literal["kept", "short", "missed", "unfit", "no promise", "upper limit"]
"""What became of the promise at one budget. short: below it by no more than chance explains; missed: the whole interval
is below; unfit: for too many questions nothing fitted, so nothing was promised."""

NAME_LIMIT = 60
NAMELESS = "(no name)"
LESS = ", told less"
"""Ends the name of a policy that was told a smaller budget than the one that it is judged by."""

_TITLES = {"static": "best static", "lookup": "lookup table", "grpo": "GRPO"}
_SPOKEN = {
    "static": "the best static configuration",
    "lookup": "a lookup table",
    "oracle": "the oracle",
    BOUNDED: "an oracle within the same bounds",
}
_FIRST = ("static", "lookup", "supervised")
_NO_BOUND = frozenset({"mean", "median", "analytic", "analytical", "roofline", "lookup"})


def title(policy: str) -> str:
    """A policy in a table or beside its line: what follows a comma in its name is kept."""
    base, comma, rest = policy.partition(",")
    return one_line(f"{_TITLES.get(base, base)}{comma}{rest}", NAME_LIMIT) or NAMELESS


def spoken(policy: str) -> str:
    """A policy in a sentence."""
    own = policy.removesuffix(LESS)
    base, comma, rest = own.partition(", ")
    if comma and rest.endswith(" budgets"):
        return f"{spoken(base)} on {one_line(rest, NAME_LIMIT)}"
    return (_SPOKEN.get(own) or title(own)) + (" with a smaller budget" if own != policy else "")


def names(found: ControlEvaluation) -> list[str]:
    """The policies: the one in question first, the others with a bound, those without, the oracle."""
    order: tuple[Role, ...] = ("main", "bound", "no bound", "oracle")
    main = main_policy(found)
    known = {point.policy for point in found.points}
    return sorted(known, key=lambda name: (order.index(role(name, main)), _rank(name), name))


def role(policy: str, main: str | None) -> Role:
    """What a policy is beside the one in question."""
    if policy == main:
        return "main"
    words = set(re.split(r"[^a-z]+", policy.lower()))
    return "oracle" if "oracle" in words else "no bound" if words & _NO_BOUND else "bound"


def main_policy(found: ControlEvaluation) -> str | None:
    """The policy in question: the one that the most differences are about; else GRPO; else the most accurate."""
    about = Counter(one.policy for one in found.differences)
    if about:
        return about.most_common(1)[0][0]
    able = [point for point in found.points if role(point.policy, None) == "bound"] or found.points
    trained = [point for point in able if "grpo" in point.policy.lower()]
    best = max(trained or able, key=lambda point: point.accuracy.value, default=None)
    return best.policy if best else None


def baselines(found: ControlEvaluation) -> list[str]:
    """What the policy in question is compared with: the best static configuration and the lookup table first.

    Without the oracle, and without the policy itself on other budgets. A policy that was told less is no other one.
    """
    main = main_policy(found)
    told = {one.than.removesuffix(LESS) for one in found.differences if one.policy == main}
    known = told or {name.removesuffix(LESS) for name in names(found)}
    own = main.partition(",")[0] if main else None
    others = [name for name in known if role(name, main) in {"bound", "no bound"} and name.partition(",")[0] != own]
    return sorted(others, key=lambda name: (_rank(name), name))


def budgets(found: ControlEvaluation) -> list[float]:
    """Every budget that something was judged at, ascending."""
    return sorted({point.budget_ms for point in found.points})


def at(found: ControlEvaluation, policy: str | None, budget_ms: float) -> PolicyPoint | None:
    """A policy's point at a budget."""
    return next((one for one in found.points if one.policy == policy and one.budget_ms == budget_ms), None)


def kept(point: PolicyPoint, confidence: float, main: str | None) -> Kept:
    """Whether answers were in time as often as promised."""
    if role(point.policy, main) in {"no bound", "oracle"}:
        return "no promise" if role(point.policy, main) == "no bound" else "upper limit"
    if point.unfit and point.unfit >= (1 - confidence) * point.questions - 1e-9:
        return "unfit"
    if point.attainment.value >= confidence:
        return "kept"
    return "missed" if surely_late(point, confidence) else "short"


def surely_late(point: PolicyPoint, confidence: float) -> bool:
    """Whether the whole interval of the share in time lies below what was asked, promised or not."""
    return point.attainment.high is not None and point.attainment.high < confidence


def told_budget(found: ControlEvaluation) -> float | None:
    """The budget that the headline speaks of: the middle one of those that are feasible for the policy in question."""
    main = main_policy(found)
    mine = [point for point in found.points if point.policy == main]
    feasible = sorted(p.budget_ms for p in mine if kept(p, found.confidence, main) != "unfit")
    told: Sequence[float] = feasible or sorted(point.budget_ms for point in mine)
    return told[len(told) // 2] if told else None


def _rank(policy: str) -> int:
    base = policy.partition(",")[0]
    return _FIRST.index(base) if base in _FIRST else len(_FIRST)
