"""The result of an evaluation of policies: `laptime.control/1`. No torch.

Accuracy and latency are those of measured calls, one for each question, policy and budget. If `way` is "replayed" they
were looked up in a sweep's table.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from laptime.control.policies.saved_policy import TrainingCurve
from laptime.data.finding import Finding
from laptime.data.record import Environment, Interval
from laptime.data.shown import Shown


class ChoiceShare(msgspec.Struct, frozen=True, kw_only=True):
    """How often a policy made one choice for one type of question, at one budget."""

    question_type: str
    tier: str | None
    top_k: int | None
    blocks: int | None
    count: int


BOUNDED = "oracle, same bounds"
"""The name of the oracle that knows what is right and has to keep the bounds: the most that choosing could gain."""
SMALLER_BUDGET = ", told less"
"""Ends the name of a policy that decides under a smaller budget than the one that it is judged by."""


class PolicyPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one budget over all questions.

    accuracy: 0 to 1, with its 95 % interval. attainment: the share of answers within the budget, likewise. regret: the
    oracle's accuracy less this policy's, paired by question. deciding_ms: the host's time for features and policy in
    one call; None when replayed. unfit: answers for which no choice fitted the budget.
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
    """Accuracy of `policy` less that of `than`, paired by question. Both kept the budget often enough.

    at: "same budget", or "equal attainment" if `than` decided under a smaller budget, so that its attainment reached
    the level (that budget is than_budget_ms). p: of both being equally often right (McNemar's exact test; for
    fractional scores the paired t test). p_corrected: the same, corrected for all differences of the evaluation (Holm).
    Both are None in evaluations of older versions.
    """

    budget_ms: float
    policy: str
    than: str
    accuracy: Interval
    at: Literal["same budget", "equal attainment"] = "same budget"
    than_budget_ms: float | None = None
    p: float | None = None
    p_corrected: float | None = None


class StreamRequest(msgspec.Struct, frozen=True, array_like=True):
    """One request of a stream: its place, its time, and its bound.

    bound_ms: None if nothing was promised. factor: on the bounds, from recent requests; None if these were so far off
    that nothing could be promised.
    """

    number: int
    total_ms: float
    budget_ms: float
    bound_ms: float | None
    factor: float | None


class SlowDown(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of requests while the machine becomes slower at request `at`, with and without online correction.

    factor: median time after over median time before, at equal choices. how: what made the machine slower. before,
    after: attainment before `at`, and after it without the first `settling` requests.
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
    requests: list[StreamRequest]


class ControlEvaluation(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Every policy at every budget, on one model and machine.

    online: whether earlier calls corrected the bounds (laptime.estimate.online), for all policies alike.
    """

    ROWS: ClassVar[str] = "points"

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
