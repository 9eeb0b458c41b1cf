"""A stream of requests while the machine becomes slower, with and without online correction, from a table. No torch.

Requests arrive evenly spaced; each is decided when it arrives, takes what was measured under its choice, times `factor`
from request `at` on, and is learnt from when it ends: answers of earlier requests are still out while later ones are
decided, as they are at a server.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.judge.outcomes import Outcome, attainment
from laptime.control.judge.result import Request, SlowDown
from laptime.control.policies.oracle import Judged, decided
from laptime.control.seen import corrected
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.data.stats import Floats, wilson
from laptime.errors import LaptimeError
from laptime.estimate import online as streams


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """requests, of which the machine is slower from number `at` on, by `factor`; settling: left out of `after`.

    in_flight: how many requests are out at a time, about: they arrive `budget / in_flight` apart.
    """

    requests: int = 600
    at: int = 300
    factor: float = 1.5
    settling: int = 40
    in_flight: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.at < self.at + self.settling < self.requests:
            raise LaptimeError(
                f"a stream of {self.requests} requests, slower from {self.at}, settling for {self.settling}: "
                "some must be left before and after"
            )
        if not (self.factor > 0 and self.in_flight > 0):
            raise LaptimeError("a stream's factor and in_flight are above 0")


def online_baseline(table: DecisionTable, bounds: Bounds, language: npt.NDArray[np.float32]) -> Floats:
    """log(total / bound) of the training half's answers, for laptime.estimate.online.begin: (questions * choices,).

    The bound is the one that is told before the answer's length is known. Unpromised choices are left out.
    """
    told, _ = bounds.for_questions(language)
    ratios = np.log(table.total_ms) - np.log(told)
    found: Floats = ratios[np.isfinite(ratios)]
    return found


def slow_stream(
    policy: Judged,
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    budget_ms: float,
    baseline: Floats,
    settings: StreamSettings | None = None,
    *,
    online: bool = True,
    leeway: Leeway | None = None,
) -> list[Outcome]:
    """One outcome a request; questions are drawn from the table with repetition, the same ones for the same seed.

    `features` are those of the table's questions, in its order.
    """
    given = settings or StreamSettings()
    rows = np.random.default_rng(given.seed).integers(0, len(table), given.requests)
    state = streams.begin(baseline, q=bounds.confidence)
    running: list[tuple[float, str, float]] = []  # ends at, key, took
    found = []
    for number, row in enumerate(rows.tolist()):
        now = number * budget_ms / given.in_flight
        factors, plain = (1.0, 1.0), 1.0
        if online:
            for _, key, took in sorted(one for one in running if one[0] <= now):
                state = streams.finished(state, key, took)
            running = [one for one in running if one[0] > now]
            correction = streams.correction(state, now)
            factors, plain = corrected(correction, leeway is not None), corrected(correction)[0]
        room = room_at(leeway, budget_ms / factors[0])
        budget = bounds.budget(budget_ms, features.language[row], *factors, room=room)
        choice = decided(policy, features, row, budget)
        took = float(table.total_ms[row, choice]) * (given.factor if number >= given.at else 1.0)
        own = float(bounds.for_question(features.language[row])[0][choice])  # the stream's ratios are of these
        if online and np.isfinite(own):
            state = streams.issued(state, str(number), own, own * plain, now)
            running.append((now + took, str(number), took))
        found.append(
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
    return found


def slow_down(
    outcomes: Sequence[Outcome], *, at: int, settling: int, factor: float, how: str, online: bool
) -> SlowDown:
    """What a stream's outcomes, in their order, say of attainment before and after request `at`.

    factor: how much slower the machine became (median over equal choices, or as it was set); how: what made it so.
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
            Request(number, one.total_ms, one.budget_ms, _known(one.bound_ms), _known(one.factor))
            for number, one in enumerate(outcomes)
        ],
    )


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
