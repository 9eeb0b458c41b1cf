"""Training finds the best policy of a world in which it is known, the same one for the same seed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.judge.outcomes import Outcome
from laptime.control.judge.replay import replay
from laptime.control.policies.oracle import Judged, Oracle
from laptime.control.policies.policy import Needs, decide_twice
from laptime.control.policies.static import static_policy
from laptime.control.training import grpo
from laptime.control.training.grpo import GrpoSettings, train_grpo
from laptime.control.training.layers import dropped, folded, project, unchanged
from laptime.control.training.lessons import budget_range, make_lessons
from laptime.control.training.supervised import SupervisedSettings, expected_scores, train_supervised
from laptime.errors import LaptimeError
from laptime.estimate.reward import rewards
from tests.control.worlds import SPACE, TOKENS, World, world

WORLD = world(320, noise=0.01)
TRAIN = WORLD.features.of(WORLD.train.sample_ids, SPACE)
HELD_OUT = WORLD.features.of(WORLD.held_out.sample_ids, SPACE)
ALL = Needs(language=True, pixels=True, hidden=True)
BUDGETS = np.geomspace(10.0, 26.0, 8).tolist()
SHORT = GrpoSettings(steps=12, imitation=10, draws=64, check_every=4)


def accuracy(policy: Judged, data: World = WORLD) -> np.ndarray:
    """Mean score at each budget, late answers counting as wrong."""
    features = data.features.of(data.held_out.sample_ids, SPACE)
    runs = (replay(policy, data.held_out, features, data.bounds, ms) for ms in BUDGETS)
    return np.array([np.mean([one.score if one.kept else 0.0 for one in run]) for run in runs])


def best_in_bounds() -> np.ndarray:
    """What a policy could reach that knows each answer, but has to keep the bounds."""
    bound, _ = WORLD.bounds.for_questions(HELD_OUT.language)
    scores = np.where(bound[:, :, None] <= np.array(BUDGETS), WORLD.held_out.score[:, :, None], 0.0)
    result: np.ndarray = scores.max(axis=1).mean(axis=0)
    return result


def test_grpo_comes_within_two_points_of_the_best_and_beats_static() -> None:
    policy, curve = train_grpo(WORLD.train, WORLD.features, WORLD.bounds)
    learned, static = accuracy(policy), accuracy(static_policy(WORLD.train, WORLD.bounds))
    assert (best_in_bounds() - learned).mean() <= 0.02
    assert (learned - static).mean() >= 0.1
    assert (learned >= static - 1e-9).all()
    assert (accuracy(Oracle(table=WORLD.held_out)) >= learned - 1e-9).all()
    assert curve.decisions >= 100_000


def test_words_are_worth_something() -> None:
    """Where all answers are of one length: else the bounds, and so what fits the budget, tell of the words."""
    data = world(320, noise=0.01, tokens=dict.fromkeys(TOKENS, 3))
    by_budget, by_words = (
        train_grpo(data.train, data.features, data.bounds, needs=needs, settings=GrpoSettings(steps=150))[0]
        for needs in (Needs(), Needs(language=True))
    )
    assert accuracy(by_words, data).mean() > accuracy(by_budget, data).mean() + 0.02
    assert accuracy(by_budget, data).mean() >= accuracy(static_policy(data.train, data.bounds), data).mean() - 0.01


def test_words_say_which_choices_are_right() -> None:
    """Also of questions whose own scores were turned round: similar questions are learned together."""
    data = world(320, noise=0.01, wrong=0.1)
    said = expected_scores(data.train, data.features, data.bounds)
    kinds = np.array(data.train.question_types)
    blocks = np.array([SPACE.choice(number).blocks for number in range(len(SPACE))])
    assert said.shape == data.train.score.shape
    assert (said[kinds == "count"][:, blocks == 8] > 0.7).all()
    assert (said[kinds == "count"][:, blocks == 4] < 0.3).all()
    assert (said[kinds == "colour"] > 0.5).all()


def test_supervised_finds_the_best_too() -> None:
    policy, curve = train_supervised(WORLD.train, WORLD.features, WORLD.bounds)
    assert (best_in_bounds() - accuracy(policy)).mean() <= 0.02
    assert curve.points[-1].reward > curve.points[0].reward  # the held-out loss fell


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, two, other = (
        train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=msgspec.structs.replace(SHORT, seed=seed))
        for seed in (1, 1, 2)
    )
    for network in ("early", "late"):
        for learned, again, else_ in zip(*(getattr(x[0], network).weights for x in (one, two, other)), strict=True):
            assert np.array_equal(learned, again)
            assert not np.array_equal(learned, else_)
    assert one[1].points == two[1].points
    short = SupervisedSettings(steps=20)
    first, second = (train_supervised(WORLD.train, WORLD.features, WORLD.bounds, settings=short)[0] for _ in range(2))
    assert all(map(np.array_equal, first.late.weights, second.late.weights))


def test_the_order_of_features_is_not_what_counts() -> None:
    turned = WORLD.features.of(tuple(reversed(WORLD.features.sample_ids)), SPACE)
    one, two = (train_grpo(WORLD.train, some, WORLD.bounds, settings=SHORT)[0] for some in (WORLD.features, turned))
    assert all(map(np.array_equal, one.early.weights, two.early.weights))


def test_what_runs_is_what_was_trained() -> None:
    """The masks and inputs of training are those of `decide`: the exported networks give the same logits."""
    policy, _ = train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=SHORT)
    lessons = make_lessons(WORLD.train, WORLD.features, WORLD.bounds, ALL, budget=True)
    rows = np.arange(len(WORLD.train))
    for ms in BUDGETS:
        room, kept = lessons.room(rows, np.full(len(rows), ms)), lessons.mask(rows, np.full(len(rows), ms))
        for row in rows[:10]:
            budget = WORLD.bounds.budget(ms, TRAIN.language[row])
            number = decide_twice(policy, TRAIN, row, budget)
            tier, late = divmod(number, SPACE.late)
            assert kept[row, tier, late]
            raw = np.concatenate([room[row], TRAIN.language[row], TRAIN.pixels[row]]).astype(np.float32)
            logits = np.where(kept[row].ravel(), policy.early.forward(raw), -np.inf)
            assert int(logits.argmax()) // SPACE.late == tier


def test_folding_projections_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(60, 30)) * rng.uniform(0.1, 100, 30) + 50
    parts = [unchanged(3), project(states, 8, standardised=True), project(rng.normal(size=(60, 5)), 2)]
    x = [rng.normal(size=3), states[7], rng.normal(size=5)]
    weights = [rng.normal(size=(3 + parts[1].matrix.shape[1] + parts[2].matrix.shape[1], 6)), rng.normal(size=(6, 2))]
    biases = [rng.normal(size=6), rng.normal(size=2)]
    projected = np.concatenate([part.apply(one) for part, one in zip(parts, x, strict=True)])
    wanted = np.tanh(projected @ weights[0] + biases[0]) @ weights[1] + biases[1]
    result = folded(parts, weights, biases).forward(np.concatenate(x).astype(np.float32))
    assert np.allclose(result, wanted, atol=1e-3)
    assert np.allclose(parts[1].apply(states).std(axis=0), 1, atol=0.02)


@given(st.integers(0, 2**31), st.floats(1.0, 100.0))
def test_a_late_answer_is_never_paid(seed: int, budget: float) -> None:
    lessons = make_lessons(WORLD.train, WORLD.features, WORLD.bounds, Needs(), budget=True)
    rows = np.random.default_rng(seed).integers(0, len(WORLD.train), 4)
    own = lessons.own_bound_ms[rows]
    earned = rewards(lessons.score[rows], own, budget)
    late = own > budget
    assert (earned[late] < 0).all()
    assert (earned[~late] >= 0).all()
    assert (lessons.own_bound_ms == WORLD.bounds.at_tokens(WORLD.train.output_tokens)).all()


@given(st.floats(0.5, 200.0))
def test_training_masks_what_running_masks(ms: float) -> None:
    from laptime.control.policies.policy import allowed

    lessons = make_lessons(WORLD.train, WORLD.features, WORLD.bounds, Needs(), budget=True)
    rows = np.arange(0, len(WORLD.train), 17)
    kept = lessons.mask(rows, np.full(len(rows), ms)).reshape(len(rows), -1)
    for mask, row in zip(kept, rows, strict=True):
        assert (mask == allowed(SPACE, WORLD.bounds.budget(ms, TRAIN.language[row]), None)).all()


def test_the_fastest_choice_is_kept_wherever_it_stands() -> None:
    lessons = make_lessons(WORLD.train, WORLD.features, WORLD.bounds, Needs(), budget=True)
    turned = msgspec.structs.replace(lessons, bound_ms=lessons.bound_ms[:, ::-1].copy())
    kept = turned.mask(np.arange(3), np.full(3, 0.1)).reshape(3, -1)
    assert (kept.sum(axis=1) == 1).all()
    assert (kept.argmax(axis=1) == turned.bound_ms[:3].argmin(axis=1)).all()


def test_a_trajectory_is_as_likely_as_its_two_decisions() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.log_softmax(torch.randn(4, 3, generator=generator), dim=1)
    second = torch.log_softmax(torch.randn(4, 3, 5, generator=generator), dim=2)
    tier, late = (torch.randint(0, most, (4, 7), generator=generator) for most in (3, 5))
    result = grpo._of_chosen(first, second, tier, late)
    for n in range(4):
        for g in range(7):
            assert result[n, g, 0] == first[n, tier[n, g]]
            assert result[n, g, 1] == second[n, tier[n, g], late[n, g]]


def test_budgets_and_tiers_are_never_dropped_out_and_the_mean_stays() -> None:
    result = dropped(torch.ones(4000, 10), 0.3, 4, torch.Generator().manual_seed(0))
    assert (result[:, :4] == 1).all()
    assert 0.25 < float((result[:, 4:] == 0).float().mean()) < 0.35
    assert abs(float(result[:, 4:].mean()) - 1) < 0.03


def test_seeds_begin_at_other_weights() -> None:
    idle = GrpoSettings(steps=1, imitation=0, rate=1e-12, weight_decay=0.0)
    one, two = (
        train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=msgspec.structs.replace(idle, seed=seed))[0]
        for seed in (1, 2)
    )
    assert not np.allclose(one.late.weights[0], two.late.weights[0], atol=0.01)


def test_questions_kept_aside_are_not_trained_on() -> None:
    lessons = make_lessons(WORLD.train, WORLD.features, WORLD.bounds, ALL, budget=True)
    assert not set(lessons.fitted) & set(lessons.checked)
    assert len(lessons.fitted) + len(lessons.checked) == len(WORLD.train)
    low, high = budget_range(lessons)
    assert low < BUDGETS[0]
    assert high > BUDGETS[-1]
    nothing = msgspec.structs.replace(lessons, bound_ms=np.full_like(lessons.bound_ms, np.inf))
    with pytest.raises(LaptimeError, match="too few of the training questions were timed"):
        budget_range(nothing)


def test_what_can_not_be_trained_is_one_line() -> None:
    bare = msgspec.structs.replace(WORLD.features, hidden=WORLD.features.hidden[:, :, :0])
    with pytest.raises(LaptimeError, match="looks at hidden: they were not collected"):
        train_grpo(WORLD.train, bare, WORLD.bounds, needs=ALL)
    few = WORLD.train.take(np.arange(10))
    with pytest.raises(LaptimeError, match="10 training questions are too few to train on"):
        train_grpo(few, WORLD.features, WORLD.bounds)
    never = WORLD.bounds.known_ms * np.inf
    nothing = msgspec.structs.replace(WORLD.bounds, within=WORLD.bounds.within * 0, known_ms=never)
    with pytest.raises(LaptimeError, match="promises nothing"):
        train_grpo(WORLD.train, WORLD.features, nothing)
    with pytest.raises(LaptimeError, match="a group is at least 2"):
        GrpoSettings(group=1)
    with pytest.raises(LaptimeError, match="ascending"):
        GrpoSettings(budgets=(5.0, 2.0))


def test_where_nothing_is_surely_better_it_decides_as_the_supervised_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same seed, at every budget, for every question."""
    monkeypatch.setattr(grpo, "SURE", np.inf)
    policy, _ = train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=GrpoSettings(steps=12))
    start, _ = train_supervised(WORLD.train, WORLD.features, WORLD.bounds)
    assert not policy.moved
    for ms in BUDGETS:
        for row in range(0, len(HELD_OUT), 3):
            budget = WORLD.bounds.budget(ms, HELD_OUT.language[row])
            assert decide_twice(policy, HELD_OUT, row, budget) == decide_twice(start, HELD_OUT, row, budget)


def test_a_start_that_knows_nothing_is_left() -> None:
    policy, _ = train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=GrpoSettings(imitation=1, steps=120))
    assert policy.moved


def test_the_uniform_reference_works_too() -> None:
    given = GrpoSettings(steps=60, imitation=0, reference="uniform")
    policy, curve = train_grpo(WORLD.train, WORLD.features, WORLD.bounds, settings=given)
    assert curve.points[-1].reward > curve.points[0].reward + 0.05
    result: list[Outcome] = replay(policy, WORLD.held_out, HELD_OUT, WORLD.bounds, BUDGETS[2])
    assert np.mean([one.kept for one in result]) >= 0.95
