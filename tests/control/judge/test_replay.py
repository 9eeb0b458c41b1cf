"""Outcomes and what they say together: shares, paired differences, equal attainment, a machine that slows down."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.judge.equal_attainment import at_equal_attainment, equal_attainment_difference, judged_by
from laptime.control.judge.lineup import EvaluationScope, replayed_evaluation
from laptime.control.judge.outcomes import (
    Outcome,
    attainment,
    paired_difference,
    policy_points,
    same_budget_differences,
)
from laptime.control.judge.replay import replay, spread_budgets
from laptime.control.judge.result import ControlEvaluation
from laptime.control.judge.slow_stream import StreamSettings, slow_down, slow_stream
from laptime.control.policies.oracle import Oracle
from laptime.control.policies.simple import per_type_policy
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.errors import LaptimeError
from tests.control.worlds import SPACE, world

WORLD = world(240)
TRAIN = WORLD.features.of(WORLD.train.sample_ids, SPACE)
HELD_OUT = WORLD.features.of(WORLD.held_out.sample_ids, SPACE)
STATIC, LOOKUP = static_policy(WORLD.train, WORLD.bounds), lookup_policy(WORLD.train)


def outcome(number: int, *, policy: str = "p", score: float = 1.0, total_ms: float = 10.0, **other: object) -> Outcome:
    values = {"budget_ms": 20.0, "question_type": "all", "choice": 0, "bound_ms": 19.0} | other
    return Outcome(policy=policy, sample_id=str(number), score=score, total_ms=total_ms, **values)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, len(SPACE) - 1)), min_size=1, max_size=40))
def test_a_point_counts_what_came(answers: list[tuple[bool, bool, int]]) -> None:
    outcomes = [
        outcome(
            number, score=float(good), total_ms=10.0 if fast else 30.0, choice=choice, question_type="ab"[choice % 2]
        )
        for number, (good, fast, choice) in enumerate(answers)
    ]
    (point,) = policy_points(outcomes, SPACE)
    n = len(answers)
    assert point.questions == n
    assert np.isclose(point.accuracy.value, np.mean([good for good, *_ in answers]))
    assert np.isclose(point.attainment.value, np.mean([fast for _, fast, _ in answers]))
    for interval in (point.accuracy, point.attainment):
        assert interval.low is not None
        assert interval.high is not None
        assert -1e-9 <= interval.low - 1e-9 <= interval.value <= interval.high + 1e-9 <= 1 + 2e-9
    assert sum(share.count for share in point.choices) == n
    assert point.regret is None
    assert point.deciding_ms is None


def test_an_answer_that_takes_just_the_budget_is_in_time() -> None:
    assert outcome(0, total_ms=20.0).kept
    assert not outcome(0, total_ms=20.001).kept


def test_regret_is_paired_with_the_oracle() -> None:
    own = [outcome(i, score=float(i % 2)) for i in range(40)]
    best = [outcome(i, policy="oracle", score=1.0) for i in range(40)]
    points = {point.policy: point for point in policy_points([*own, *best], SPACE)}
    regret = points["p"].regret
    assert regret is not None
    assert regret.value == 0.5
    assert points["oracle"].regret is None


def test_a_paired_difference_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        hard = rng.random(120)
        own = [outcome(i, score=float(rng.random() < h)) for i, h in enumerate(hard)]
        other = [outcome(i, score=float(rng.random() < h * 0.8)) for i, h in enumerate(hard)]
        difference = paired_difference(own, other)
        assert difference.low is not None
        assert difference.high is not None
        covered += difference.low <= 0.1 <= difference.high
    assert 0.92 <= covered / 400 <= 0.985


def test_no_difference_among_few_is_not_certainty() -> None:
    same = [outcome(i) for i in range(20)]
    difference = paired_difference(same, same)
    assert difference.value == 0
    assert difference.high is not None
    assert difference.high > 0.1
    with pytest.raises(LaptimeError, match="without a question in common"):
        paired_difference([outcome(1)], [outcome(2)])


def test_differences_are_given_only_where_both_kept_the_budget() -> None:
    own = [outcome(i) for i in range(40)]
    late = [outcome(i, policy="late", total_ms=30.0 if i < 4 else 10.0) for i in range(40)]
    good = [outcome(i, policy="good", score=0.0) for i in range(40)]
    differences = same_budget_differences([*own, *late, *good], ["p"], ["late", "good", "p"])
    assert [(one.policy, one.than, one.accuracy.value) for one in differences] == [("p", "good", 1.0)]
    assert equal_attainment_difference(own, late) is None
    less = judged_by([msgspec.structs.replace(one, budget_ms=15.0, total_ms=14.0) for one in late], 20.0)
    pair = equal_attainment_difference(own, less)
    assert pair is not None
    assert (pair.at, pair.budget_ms, pair.than_budget_ms) == ("equal attainment", 20.0, 15.0)


def test_an_answer_without_a_time_or_a_score_is_no_outcome() -> None:
    with pytest.raises(LaptimeError, match="without a time"):
        policy_points([outcome(0, total_ms=float("nan"))], SPACE)
    with pytest.raises(LaptimeError, match="no answer has a score"):
        policy_points([outcome(0, score=float("nan"))], SPACE)


def test_a_replay_looks_up_what_was_measured() -> None:
    answered = replay(STATIC, WORLD.held_out, HELD_OUT, WORLD.bounds, 20.0)
    assert [one.sample_id for one in answered] == list(WORLD.held_out.sample_ids)
    for row, one in enumerate(answered):
        assert one.total_ms == WORLD.held_out.total_ms[row, one.choice]
        assert one.score == WORLD.held_out.score[row, one.choice]
    with pytest.raises(LaptimeError, match="hold other questions"):
        replay(STATIC, WORLD.held_out, TRAIN, WORLD.bounds, 20.0)
    hole = msgspec.structs.replace(WORLD.held_out, total_ms=np.full_like(WORLD.held_out.total_ms, np.nan))
    with pytest.raises(LaptimeError, match="was not timed"):
        replay(STATIC, hole, HELD_OUT, WORLD.bounds, 20.0)


def test_a_budget_that_nothing_fits_takes_the_fastest_and_says_so() -> None:
    answered = replay(STATIC, WORLD.held_out, HELD_OUT, WORLD.bounds, 1.0)
    assert all(one.unfit and not one.kept for one in answered)
    assert {one.choice for one in answered} == {0}


def test_a_peer_gets_the_largest_budget_that_keeps_the_level() -> None:
    def run(ms: float) -> list[Outcome]:
        return replay(LOOKUP, WORLD.held_out, HELD_OUT, WORLD.bounds, ms)

    assert attainment(run(22.0)) < 0.95
    answered = at_equal_attainment(run, 22.0)
    assert attainment(answered) >= 0.95
    smaller = answered[0].decided_ms
    assert smaller is not None
    assert smaller < 22.0
    assert {one.budget_ms for one in answered} == {22.0}
    assert attainment(judged_by(run(smaller + 0.3), 22.0)) < 0.95
    assert at_equal_attainment(run, 60.0)[0].decided_ms is None


def test_an_evaluation_names_everything_once_and_survives_json() -> None:
    policies = [STATIC, LOOKUP, Oracle(table=WORLD.held_out)]
    budgets = spread_budgets(WORLD.train, WORLD.bounds, TRAIN.language, STATIC)
    assert budgets == sorted(budgets)
    assert len(budgets) == 5
    bound, _ = WORLD.bounds.for_questions(TRAIN.language)
    everyone = (bound <= 1.02 * np.quantile(bound.min(axis=1), 0.95)).mean()
    enough = STATIC.bound_ms[STATIC.accuracy >= STATIC.accuracy.max() - 0.01].min()
    most = (bound <= enough).mean()
    assert everyone < most < 1
    for ms, way in zip(budgets, (0.05, 0.275, 0.5, 0.725, 0.95), strict=True):
        share = everyone + (most - everyone) * way
        assert (bound < ms - 0.1).mean() <= share <= (bound <= ms + 0.1).mean()
    assert budgets[-1] < enough  # there one setting does all, and nothing is left to gain
    assert ((bound <= budgets[0]).any(axis=1)).mean() >= 0.95
    evaluation = replayed_evaluation(
        policies, WORLD.held_out, WORLD.features, WORLD.bounds, EvaluationScope(budgets_ms=budgets, compared=["static"])
    )
    assert [(point.policy, point.budget_ms) for point in evaluation.points] == [
        (policy.name, ms) for ms in budgets for policy in policies
    ]
    assert (evaluation.way, evaluation.questions, evaluation.confidence) == ("replayed", len(WORLD.held_out), 0.95)
    assert {one.at for one in evaluation.differences} == {"same budget", "equal attainment"}
    assert all(point.attainment.value >= 0.95 for point in evaluation.points if point.policy == "static")
    best = {p.budget_ms: p.accuracy.value for p in evaluation.points if p.policy == "oracle"}
    in_time = [p for p in evaluation.points if p.attainment.value == 1.0]
    assert all(p.accuracy.value <= best[p.budget_ms] for p in in_time)
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=ControlEvaluation) == evaluation
    with pytest.raises(LaptimeError, match="same name"):
        replayed_evaluation(
            [STATIC, STATIC], WORLD.held_out, WORLD.features, WORLD.bounds, EvaluationScope(budgets_ms=budgets)
        )


@pytest.fixture(scope="module")
def streams() -> dict[bool, list[Outcome]]:
    streams = {}
    for online in (True, False):
        settings = StreamSettings(budget_ms=26.0, requests=300, at=120, factor=1.6, settling=40, online=online)
        streams[online] = slow_stream(STATIC, WORLD.held_out, HELD_OUT, WORLD.bounds, settings)
    return streams


def test_a_slow_machine_breaks_promises_unless_it_is_noticed(streams: dict[bool, list[Outcome]]) -> None:
    result = {
        online: slow_down(some, at=120, settling=40, factor=1.6, how="set", online=online)
        for online, some in streams.items()
    }
    assert result[False].before.value >= 0.95
    assert result[True].before.value >= 0.93
    assert result[False].after.value < 0.8
    assert result[True].after.value >= 0.93
    assert len(result[True].requests) == 300
    assert result[True].requests[-1].factor > result[True].requests[100].factor * 1.3
    assert {request.factor for request in result[False].requests} == {1.0}


def test_nothing_is_learnt_before_an_answer_ends() -> None:
    """Requests that arrive before the first answer is there are all decided by what was known at first."""
    given = StreamSettings(budget_ms=26.0, requests=100, at=50, settling=10, in_flight=50)
    answered = slow_stream(STATIC, WORLD.held_out, HELD_OUT, WORLD.bounds, given)
    first = min(number * 26.0 / 50 + one.total_ms for number, one in enumerate(answered))
    early = [one.factor for number, one in enumerate(answered) if number * 26.0 / 50 < first]
    assert len(early) > 5
    assert len(set(early)) == 1
    assert len({one.factor for one in answered}) > 5


def test_a_stream_that_is_cut_nowhere_is_one_line() -> None:
    with pytest.raises(LaptimeError, match="some must be left"):
        StreamSettings(budget_ms=26.0, requests=100, at=90, settling=20)
    with pytest.raises(LaptimeError, match="none is left"):
        slow_down([outcome(0)], at=1, settling=0, factor=1.5, how="set", online=False)


def test_one_knob_alone_fits_only_where_a_setting_of_that_knob_does() -> None:
    """Others fit, and it may not take them: its answer counts as one for which nothing fitted."""
    bound, _ = WORLD.bounds.for_questions(HELD_OUT.language)
    alone = per_type_policy(WORLD.train, "tier")
    between = float((bound.min(axis=1).max() + bound[:, alone.choosable].min()) / 2)
    assert bound.min(axis=1).max() < between < bound[:, alone.choosable].min()
    for policy, unfit in ((per_type_policy(WORLD.train), False), (alone, True)):
        answered = replay(policy, WORLD.held_out, HELD_OUT, WORLD.bounds, between)
        assert {one.unfit for one in answered} == {unfit}
