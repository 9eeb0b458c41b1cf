"""A stream of requests while the machine becomes slower, with and without online correction, from a table. No torch.

Requests arrive evenly spaced. Each is decided when it arrives. It takes what was measured under its choice, multiplied
by `factor` from request `at` on. The stream learns from it when it ends: as at a server, earlier requests still run
while later ones are decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.correction import stream_of
from laptime.control.judge.outcomes import Outcome, attainment
from laptime.control.judge.result import SlowDown, StreamRequest
from laptime.control.policies.oracle import Judged, policy_for
from laptime.control.policies.policy import decide_twice
from laptime.control.seen import correction_factors
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.stats import wilson
from laptime.errors import LaptimeError
from laptime.estimate import online as streams


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of requests under one budget.

    at: from this request on the machine is slower by `factor`. settling: requests after `at` that don't count.
    in_flight: about how many requests run at a time; they arrive `budget / in_flight` apart. online: whether ended
    requests correct the bounds. leeway: that of the policy.
    """

    budget_ms: float
    requests: int = 600
    at: int = 300
    factor: float = 1.5
    settling: int = 40
    in_flight: float = 2.0
    seed: int = 0
    online: bool = True
    leeway: Leeway | None = None

    def __post_init__(self) -> None:
        if not 0 < self.at < self.at + self.settling < self.requests:
            raise LaptimeError(
                f"a stream of {self.requests} requests, slower from {self.at}, settling for {self.settling}: "
                "some must be left before and after"
            )
        if not (self.factor > 0 and self.in_flight > 0):
            raise LaptimeError("a stream's factor and in_flight are above 0")


def slow_stream(
    policy: Judged,
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    settings: StreamSettings,
) -> list[Outcome]:
    """One outcome a request. Questions are drawn from the table with repetition; the same seed draws the same ones.

    features: those of the table's questions, in its order. Raises LaptimeError for bounds that promise nothing.
    """
    budget_ms = settings.budget_ms
    rows = np.random.default_rng(settings.seed).integers(0, len(table), settings.requests)
    if (state := stream_of(bounds)) is None:
        raise LaptimeError("these bounds promise nothing, so there is nothing to correct; train the policy anew")
    running: list[tuple[float, str, float]] = []  # ends at, key, took
    outcomes = []
    for number, row in enumerate(rows.tolist()):
        now = number * budget_ms / settings.in_flight
        factors, plain = (1.0, 1.0), 1.0
        if settings.online:
            for _, key, took in sorted(one for one in running if one[0] <= now):
                state = streams.finished(state, key, took)
            running = [one for one in running if one[0] > now]
            correction = streams.correction(state, now)
            factors = correction_factors(correction, leeway=settings.leeway is not None)
            plain = correction_factors(correction)[0]
        room = room_at(settings.leeway, budget_ms / factors[0])
        budget = bounds.budget(budget_ms, features.language[row], *factors, room=room)
        choice = decide_twice(policy_for(policy, table.sample_ids[row]), features, row, budget)
        took = float(table.total_ms[row, choice]) * (settings.factor if number >= settings.at else 1.0)
        own = float(bounds.for_question(features.language[row])[0][choice])  # the baseline's ratios are of these
        if settings.online and np.isfinite(own):
            state = streams.issued(state, str(number), own, own * plain, now)
            running.append((now + took, str(number), took))
        outcomes.append(
            Outcome(
                policy=policy.name,
                budget_ms=budget_ms,
                sample_id=table.sample_ids[row],
                question_type=table.question_types[row],
                choice=choice,
                score=float(table.score[row, choice]),
                total_ms=took,
                bound_ms=float(budget.bound_ms[choice]),
                unfit=not budget.fits.any(),
                factor=factors[0],
            )
        )
    return outcomes


def slow_down(
    outcomes: Sequence[Outcome], *, at: int, settling: int, factor: float, how: str, online: bool
) -> SlowDown:
    """The attainment of a stream's outcomes, in their order, before and after request `at`.

    factor: how much slower the machine became (median over equal choices, or as it was set). how: what made it slower.
    Raises LaptimeError when nothing is left before or after.
    """
    before, after = outcomes[:at], outcomes[at + settling :]
    if not before or not after:
        raise LaptimeError(f"a stream of {len(outcomes)} requests, slower from {at}: none is left before or after")
    return SlowDown(
        budget_ms=outcomes[0].budget_ms,
        policy=outcomes[0].policy,
        factor=factor,
        how=how,
        at=at,
        settling=settling,
        online=online,
        before=wilson(attainment(before), len(before)),
        after=wilson(attainment(after), len(after)),
        requests=[
            StreamRequest(number, one.total_ms, one.budget_ms, _known(one.bound_ms), _known(one.factor))
            for number, one in enumerate(outcomes)
        ],
    )


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
