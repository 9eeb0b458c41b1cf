"""An adaptive model on FastModel gives the answers of the plain path, for every choice, and learns its bounds there."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import read_bounds, write_bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.bounds.measured_bounds import MeasuredTimes, measured_bounds
from laptime.control.choices import Choice
from laptime.control.tables.features import LANGUAGE
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.models.block_experts import own_experts
from tests.control.adaptive import SPACE, TOKENS, adaptive, bounds_of, fixed, question


@pytest.mark.parametrize("hidden", [False, True])
def test_every_choice_answers_as_on_the_plain_path(hidden: bool) -> None:
    plain, quick = (adaptive(fixed(0, hidden=hidden), fast=fast) for fast in (False, True))
    assert quick.fast is not None
    for number in (*range(len(SPACE)), 0):
        plain.policy = quick.policy = fixed(number, hidden=hidden)
        own, answer = (one.generate(question(number), budget_ms=60_000) for one in (plain, quick))
        assert answer.sample.output_ids == own.sample.output_ids
        assert answer.sample.config == own.sample.config
        assert (answer.choice, answer.text) == (number, own.text)
        assert answer.sample.stages.closes()
        assert answer.sample.stages.vision_ms is not None
        assert answer.sample.stages.vision_ms > 0
        decision = answer.sample.decision
        assert decision is not None
        assert (decision.waited_ms > 0) is hidden
    whole = {part.bucket for part in quick.fast.model.parts() if part.part == "vision"}
    assert len(whole) == len(SPACE.tiers)
    quick.close()


@pytest.mark.parametrize("hidden", [False, True])
def test_experts_by_block_answer_as_on_the_plain_path(hidden: bool) -> None:
    """What the choices' space says of top-3 is what runs, seen inside the plain model."""
    space = msgspec.structs.replace(SPACE, experts=((), (3, 1, 2)))
    number = space.number(Choice(tier=SPACE.tiers[0], top_k=3, blocks=3))
    policy = fixed(number, hidden=hidden)
    with_experts = []
    for fast in (False, True):
        usual = adaptive(policy, fast=False)
        bounds = msgspec.structs.replace(usual.bounds, space=space)
        with_experts.append(AdaptiveModel(usual.loaded, policy, bounds, fast=fast))
    plain, quick = with_experts
    ran: list[tuple[int, ...]] = []
    model = plain.loaded.model
    handle = model.lm_head.register_forward_pre_hook(lambda *_: ran.append(own_experts(model)))
    own = plain.generate(question(1), budget_ms=60_000)
    handle.remove()
    assert set(ran) == {(3, 1, 2)}
    answer = quick.generate(question(1), budget_ms=60_000)
    assert answer.sample.output_ids == own.sample.output_ids
    assert answer.sample.config["experts"] == own.sample.config["experts"] == "3,1,2"
    quick.close()


def test_the_stream_corrects_bounds_on_this_path() -> None:
    stream = streams.begin(np.linspace(-0.2, -0.01, 40), q=0.95, window=40)
    quick = adaptive(fixed(0, hidden=False), [0.01] * len(SPACE), online=stream, fast=True)
    answers = [quick.generate(question(0), budget_ms=60_000) for _ in range(4)]
    factors = [answer.sample.decision.factor for answer in answers if answer.sample.decision is not None]
    assert factors[0] < factors[-1]
    quick.close()


def test_bounds_are_learnt_on_the_path_that_answers_take() -> None:
    quick = adaptive(fixed(1, hidden=False), fast=True)
    quick.leeway = Leeway(budgets_ms=[1.0], times=[2.0])
    quick.bounds = msgspec.structs.replace(quick.bounds, confidence=0.75)
    quick.warm_up(question(), 1)
    with pytest.raises(LaptimeError, match=r"2 questions: bounds that hold for 75% .* at least 3"):
        quick.learn_bounds([question(seed) for seed in range(2)])
    assert not quick.bounds.fast
    assert quick.leeway is not None, "nothing was learnt"
    quick.learn_bounds([question(seed) for seed in range(3)])
    assert quick.bounds.fast
    assert quick.leeway is None, "it was proven with the bounds before"
    assert (quick.bounds.known_ms < 60_000).all()
    answer = quick.generate(question(30), budget_ms=60_000)
    assert answer.sample.decision is not None
    assert answer.sample.decision.bound_ms is not None
    assert answer.sample.decision.bound_ms < 60_000
    quick.close()


def test_a_call_that_fastmodel_would_pass_by_is_refused() -> None:
    quick = adaptive(fixed(0, hidden=False), fast=True)
    with pytest.raises(LaptimeError, match="can't run on FastModel: position_ids"):
        quick.generate(question(), budget_ms=60_000, position_ids=torch.zeros(1, 1, dtype=torch.long))
    quick.close()


def test_measured_bounds_hold_for_as_many_calls_as_they_say_and_survive_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    truth = np.linspace(10, 40, len(SPACE))

    def calls(n: int) -> MeasuredTimes:
        before = truth * rng.lognormal(0, 0.1, (n, len(SPACE)))
        step = 0.1 * truth * rng.lognormal(0, 0.1, (n, len(SPACE)))
        return MeasuredTimes(before, step, before + (TOKENS - 1) * step)

    language = np.zeros((60, LANGUAGE), dtype=np.float32)
    learnt = measured_bounds(bounds_of([60_000.0] * len(SPACE)), calls(60), language)
    late = calls(4000).total_ms > learnt.for_question(language[0])[0]
    assert (late.mean(axis=0) < 0.1).all()
    assert late.mean() < 0.07
    assert (learnt.for_question(language[0])[0] < 2 * 1.3 * truth).all()
    assert (np.diff(learnt.known_ms, axis=0) >= 0).all()
    write_bounds(msgspec.structs.replace(learnt, fast=True), tmp_path)
    read = read_bounds(tmp_path)
    assert read.fast
    np.testing.assert_allclose(read.known_ms, learnt.known_ms, rtol=1e-6)
    one = calls(60)
    with pytest.raises(LaptimeError, match="time of a step isn't known"):
        measured_bounds(learnt, one._replace(step_ms=np.full_like(one.step_ms, np.nan)), language)
