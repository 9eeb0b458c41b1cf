"""Leeway: over all questions the promise is kept, proven by counts; and no choice is allowed that was not tried."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.bounds.calibrated_bounds import make_bounds
from laptime.control.bounds.coverage import most_late
from laptime.control.bounds.leeway import STEPS, Leeway, room_at
from laptime.control.judge.lineup import EvaluationScope, leeways_of, replayed_evaluation
from laptime.control.judge.outcomes import attainment
from laptime.control.judge.replay import replay
from laptime.control.judge.result import BOUNDED
from laptime.control.judge.slow_stream import StreamSettings, slow_stream
from laptime.control.policies.oracle import Oracle
from laptime.control.policies.policy import Needs
from laptime.control.policies.saved_policy import SavedPolicy
from laptime.control.policies.static import static_policy
from laptime.control.seen import NO_ROOM, Budget, Room, Seen
from laptime.control.training.kinds import PolicySpec, train_policy
from laptime.control.training.leeway_search import find_leeway
from tests.control.worlds import FACTS, SPACE, WorldEstimator, world

MADE = world(320, noise=0.1)
"""Its estimator says that times vary three times as much as they do: bounds are kept more often than promised."""
WORLD = MADE._replace(
    bounds=make_bounds(WorldEstimator(0.3), MADE.train, MADE.features.of(MADE.train.sample_ids, SPACE).language)
)
TRAIN = WORLD.features.of(WORLD.train.sample_ids, SPACE)
HELD_OUT = WORLD.features.of(WORLD.held_out.sample_ids, SPACE)
LANGUAGE = Needs(language=True)
SAVED = train_policy(
    WORLD.train, WORLD.features, WORLD.bounds, PolicySpec(kind="supervised", needs=LANGUAGE, steps=100)
)
POLICY = SAVED.policy
assert SAVED.leeway is not None
LEEWAY = SAVED.leeway
ALLOWED = most_late(len(WORLD.train), WORLD.bounds.confidence)


def late(budget_ms: float, times: float) -> int:
    outcome = replay(POLICY, WORLD.train, TRAIN, WORLD.bounds, budget_ms, Room(times, 1.0))
    return sum(not one.kept for one in outcome)


def test_leeway_is_the_last_step_before_too_many_are_late() -> None:
    """At every budget that was tried: proven up to there, and one step more would not have been."""
    assert len(LEEWAY.budgets_ms) > 20
    assert max(LEEWAY.times) > 2
    assert min(LEEWAY.times) == 1
    for budget_ms, times in list(zip(LEEWAY.budgets_ms, LEEWAY.times, strict=True))[::4]:
        place = STEPS.index(times)
        if place:
            assert all(late(budget_ms, step) <= ALLOWED for step in STEPS[: place + 1])
        if place + 1 < len(STEPS):
            assert late(budget_ms, STEPS[place + 1]) > ALLOWED or late(budget_ms, 1.0) > ALLOWED


class Fickle:
    """Late while one choice fits and a dearer one does not, else in time: more leeway is not always worse."""

    name, space, needs = "fickle", SPACE, Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        one, dearer = np.argsort(WORLD.bounds.known_ms[0])[[6, 8]]
        late = budget.fits[one] and not budget.fits[dearer]
        number = int(np.argmax(WORLD.bounds.known_ms[0])) if late else int(np.argmin(WORLD.bounds.known_ms[0]))
        tier = number // SPACE.late if seen.tier is None else seen.tier
        return tier * SPACE.late + number % SPACE.late


def test_what_was_not_proven_ends_the_search() -> None:
    """Leeway beyond it might look proven again by chance: then there would be too many tests."""
    outcome = find_leeway(Fickle(), WORLD.train, WORLD.features, WORLD.bounds)
    assert outcome is not None
    skipped = 0
    for budget_ms, times in list(zip(outcome.budgets_ms, outcome.times, strict=True))[::8]:
        counts = [
            sum(not o.kept for o in replay(Fickle(), WORLD.train, TRAIN, WORLD.bounds, budget_ms, Room(step, 1.0)))
            for step in STEPS
        ]
        first = next((place for place, count in enumerate(counts) if count > ALLOWED), len(STEPS))
        assert times == STEPS[max(0, first - 1)]
        skipped += any(count <= ALLOWED for count in counts[first:])
    assert skipped


def test_other_questions_are_in_time_and_more_are_right() -> None:
    """What leeway is for: on questions that it was not proven on."""
    with_it, without = [], []
    for budget_ms in np.quantile(LEEWAY.budgets_ms, [0.2, 0.35, 0.5, 0.65]):
        room = LEEWAY.at(float(budget_ms))
        with_it += replay(POLICY, WORLD.held_out, HELD_OUT, WORLD.bounds, float(budget_ms), room)
        without += replay(POLICY, WORLD.held_out, HELD_OUT, WORLD.bounds, float(budget_ms))
    assert attainment(with_it) >= WORLD.bounds.confidence
    assert attainment(with_it) < attainment(without)
    right = [sum(one.score for one in some) / len(some) for some in (with_it, without)]
    assert right[0] > right[1] + 0.01


@given(st.floats(1.0, 200.0), st.integers(0, len(WORLD.held_out) - 1))
def test_between_two_budgets_no_choice_is_allowed_that_neither_allows(budget_ms: float, row: int) -> None:
    """A choice fits by its own bound, or it did with the leeway of the next lower budget that was tried."""
    room = LEEWAY.at(budget_ms)
    fits = WORLD.bounds.budget(budget_ms, HELD_OUT.language[row], room=room).fits
    plain = WORLD.bounds.budget(budget_ms, HELD_OUT.language[row]).fits
    assert (fits >= plain).all()
    lower = [one for one in LEEWAY.budgets_ms if one <= budget_ms]
    if not lower:
        assert room == NO_ROOM
        return
    tried = WORLD.bounds.budget(lower[-1], HELD_OUT.language[row], room=Room(LEEWAY.times[len(lower) - 1], 1.0)).fits
    edge = np.isclose(WORLD.bounds.budget(budget_ms, HELD_OUT.language[row], room=room).bound_ms, budget_ms, rtol=1e-9)
    assert ((fits == (plain | tried)) | edge).all()


def test_too_few_questions_prove_nothing() -> None:
    few = WORLD.train.take(np.arange(58))
    assert find_leeway(POLICY, few, WORLD.features, WORLD.bounds) is None
    enough = WORLD.train.take(np.arange(59))
    assert find_leeway(POLICY, enough, WORLD.features, WORLD.bounds) is not None


def test_questions_that_were_not_timed_count_for_nothing() -> None:
    untimed = WORLD.train.total_ms.copy()
    untimed[::2] = np.nan
    half = msgspec.structs.replace(WORLD.train, total_ms=untimed)
    timed = WORLD.train.take(np.arange(1, len(WORLD.train), 2))
    assert find_leeway(POLICY, half, WORLD.features, WORLD.bounds) == find_leeway(
        POLICY, timed, WORLD.features, WORLD.bounds
    )


def test_where_nothing_is_promised_there_is_none() -> None:
    nothing = msgspec.structs.replace(
        WORLD.bounds,
        known_ms=np.full_like(WORLD.bounds.known_ms, np.inf),
        within=np.zeros_like(WORLD.bounds.within),
    )
    assert find_leeway(POLICY, WORLD.train, WORLD.features, nothing) is None


def test_a_promise_for_each_question_leaves_none() -> None:
    each = PolicySpec(kind="supervised", needs=LANGUAGE, steps=1, overall=False)
    kept = train_policy(WORLD.train, WORLD.features, WORLD.bounds, each)
    assert kept.leeway is None
    assert room_at(None, 20.0) == NO_ROOM
    assert train_policy(WORLD.train, WORLD.features, WORLD.bounds, PolicySpec(kind="static")).leeway is None


@pytest.mark.parametrize(
    ("budgets", "times"), [([2.0, 1.0], [1.0, 1.0]), ([0.0], [1.0]), ([1.0], [0.5]), ([1.0], [99.0]), ([1.0], [])]
)
def test_leeway_that_can_not_be_is_refused(budgets: list[float], times: list[float]) -> None:
    with pytest.raises(ValueError, match="leeway: ascending budgets"):
        Leeway(budgets_ms=budgets, times=times)


def test_everybody_is_judged_with_the_leeway_that_is_theirs() -> None:
    """The oracle within the same bounds with the first policy's, others with none."""
    plain = SavedPolicy(policy=static_policy(WORLD.train, WORLD.bounds), model=FACTS)
    leeways = leeways_of([SAVED, plain])
    simple = ("per type", "logistic", *(f"per type, {knob} only" for knob in ("tier", "top-k", "blocks")))
    assert leeways == {POLICY.name: LEEWAY, "static": None, BOUNDED: LEEWAY, **dict.fromkeys(simple, LEEWAY)}
    everyone = [POLICY, plain.policy, Oracle(table=WORLD.held_out, name=BOUNDED, bounded=True)]
    budget_ms = float(np.quantile(LEEWAY.budgets_ms, 0.5))
    outcome, without = (
        replayed_evaluation(
            everyone,
            WORLD.held_out,
            WORLD.features,
            WORLD.bounds,
            EvaluationScope(budgets_ms=[budget_ms], leeways=some),
        )
        for some in (leeways, {})
    )
    room = LEEWAY.at(budget_ms)
    assert room.times > 1
    outcomes = replay(POLICY, WORLD.held_out, HELD_OUT, WORLD.bounds, budget_ms, room)
    assert outcome.points[0].attainment.value == attainment(outcomes)
    assert outcome.points[1] == without.points[1]
    assert outcome.points[2].accuracy.value > without.points[2].accuracy.value


def test_a_slower_machine_leaves_the_leeway_of_a_smaller_budget() -> None:
    """With bounds corrected by a factor, a budget is as one that much smaller was when leeway was proven."""
    budget_ms = 2 * float(np.quantile(LEEWAY.budgets_ms, 0.5))
    settings = StreamSettings(budget_ms=budget_ms, requests=200, at=100, factor=2.0, settling=40, leeway=LEEWAY)
    outcome = slow_stream(POLICY, WORLD.held_out, HELD_OUT, WORLD.bounds, settings)
    slowed = [one for one in outcome[140:] if np.isfinite(one.bound_ms)]
    assert np.median([one.factor for one in slowed]) > 1.3
    assert attainment(slowed) >= 0.9
    rows = {name: row for row, name in enumerate(WORLD.held_out.sample_ids)}
    for one in slowed[:10]:
        language = HELD_OUT.language[rows[one.sample_id]]
        room = LEEWAY.at(budget_ms / one.factor)
        assert one.bound_ms == WORLD.bounds.budget(budget_ms, language, one.factor, room=room).bound_ms[one.choice]
