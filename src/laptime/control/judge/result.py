"""What an evaluation of policies says: `laptime.control/1`. No torch.

Accuracy and latency are those of calls that were made, one for each question, policy and budget, unless `way` says
that they were looked up in a sweep's table (replayed).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from laptime.data.record import Environment, Finding, Interval


class ChoiceShare(msgspec.Struct, frozen=True, kw_only=True):
    """How often a policy made one choice for one type of question, at one budget."""

    question_type: str
    tier: str | None
    top_k: int | None
    blocks: int | None
    count: int


BOUNDED = "oracle, same bounds"
"""The name of the oracle that knows what is right, and has to keep the bounds: what choosing could gain at most."""


class PolicyPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one budget over all questions.

    accuracy, attainment in 0..1 with 95 % intervals; attainment: the share of answers within the budget. regret: the
    oracle's accuracy less this policy's, paired by question. deciding_ms: host time of features, policy and switching
    knobs in one call; None when replayed. unfit: answers for which no choice fitted the budget.
    """

    policy: str
    budget_ms: float
    questions: int
    accuracy: Interval
    attainment: Interval
    total_ms: Interval
    total_p95_ms: float
    regret: Interval | None = None
    deciding_ms: Interval | None = None
    unfit: int = 0
    choices: list[ChoiceShare] = []
    accuracy_by_type: dict[str, float] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of `policy` less that of `than`, paired by question, where both kept the budget often enough.

    `at`: "same budget", or "equal attainment" when `than` was given a smaller budget until its attainment reached the
    level (that budget is `than_budget_ms`).
    """

    budget_ms: float
    policy: str
    than: str
    accuracy: Interval
    at: Literal["same budget", "equal attainment"] = "same budget"
    than_budget_ms: float | None = None


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One request of a stream: its place, what it took, and what was promised.

    bound_ms: None where nothing was. factor: on the bounds, from what was measured lately; None where that was so far
    off that nothing could be promised.
    """

    number: int
    total_ms: float
    budget_ms: float
    bound_ms: float | None
    factor: float | None


class SlowDown(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of requests while the machine becomes slower at request `at`, with and without online correction.

    factor: median time after over median time before, at equal choices. how: what made it slower.
    before/after: attainment before `at`, and after it without the first `settling` requests.
    """

    budget_ms: float
    policy: str
    factor: float
    how: str
    at: int
    settling: int
    online: bool
    before: Interval
    after: Interval
    requests: list[Request]


class CurvePoint(msgspec.Struct, frozen=True, array_like=True):
    """One step of training: mean reward, accuracy and share within budget of what was drawn; KL; entropy (nats)."""

    step: int
    decisions: int
    reward: float
    accuracy: float
    within: float
    kl: float
    entropy: float


class TrainingCurve(msgspec.Struct, frozen=True, kw_only=True):
    """How one policy was trained."""

    policy: str
    seconds: float
    decisions: int
    points: list[CurvePoint]


class ControlEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Every policy at every budget, on one model and machine.

    online: whether the calls before corrected the bounds (laptime.estimate.online), for all policies alike.
    """

    schema: str = "laptime.control/1"
    model: str
    way: Literal["measured", "replayed"]
    confidence: float
    questions: int
    budgets_ms: list[float]
    points: list[PolicyPoint]
    differences: list[Difference] = []
    slow_downs: list[SlowDown] = []
    training: list[TrainingCurve] = []
    findings: list[Finding] = []
    environment: Environment | None = None
    online: bool = False
