"""An adaptive model on FastModel gives the answers of the plain path, for every choice, and learns its bounds there."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import read_paired_bounds, write_bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.bounds.lengths import fit_lengths
from laptime.control.bounds.measured_bounds import MeasuredTimes, decode_by_tokens, measured_bounds
from laptime.control.choices import Choice
from laptime.control.tables.features import LANGUAGE, language_features
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
        own, answer = (one.generate(question(number), budget_ms=70_000) for one in (plain, quick))
        assert answer.sample.output_ids == own.sample.output_ids
        assert answer.sample.config == {**own.sample.config, "answered_by": "FastModel"}
        assert (answer.choice, answer.text) == (number, own.text)
        assert answer.sample.stages.closes()
        assert answer.sample.stages.vision_ms is not None
        assert answer.sample.stages.vision_ms > 0
        decision = answer.sample.decision
        assert decision is not None
        assert (decision.waited_ms > 0) is hidden
    made = quick.fast.model.made
    quick.generate(question(0), budget_ms=70_000)
    assert quick.fast.model.made == made, "nothing is captured twice"
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
    own = plain.generate(question(1), budget_ms=70_000)
    handle.remove()
    assert set(ran) == {(3, 1, 2)}
    answer = quick.generate(question(1), budget_ms=70_000)
    assert answer.sample.output_ids == own.sample.output_ids
    assert answer.sample.config["experts"] == own.sample.config["experts"] == "3,1,2"
    quick.close()


def test_the_stream_corrects_bounds_on_this_path() -> None:
    stream = streams.begin(np.linspace(-0.2, -0.01, 40), q=0.95, window=40)
    quick = adaptive(fixed(0, hidden=False), [0.01] * len(SPACE), online=stream, fast=True)
    answers = [quick.generate(question(0), budget_ms=70_000) for _ in range(5)]  # the first captures
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
    answer = quick.generate(question(30), budget_ms=70_000)
    assert answer.sample.decision is not None
    assert answer.sample.decision.bound_ms is not None
    assert answer.sample.decision.bound_ms < 60_000
    quick.close()


def test_a_call_that_fastmodel_would_pass_by_is_refused() -> None:
    quick = adaptive(fixed(0, hidden=False), fast=True)
    with pytest.raises(LaptimeError, match="can't run on FastModel: position_ids"):
        quick.generate(question(), budget_ms=70_000, position_ids=torch.zeros(1, 1, dtype=torch.long))
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
    read = read_paired_bounds(tmp_path)[0]
    assert read.fast
    np.testing.assert_allclose(read.known_ms, learnt.known_ms, rtol=1e-6)
    one = calls(60)
    with pytest.raises(LaptimeError, match="time of a step isn't known"):
        measured_bounds(learnt, one._replace(step_ms=np.full_like(one.step_ms, np.nan)), language)


def steps_at_once(n: int, seed: int) -> tuple[MeasuredTimes, np.ndarray[Any, np.dtype[np.float32]]]:
    """Calls as FastModel makes them: five steps whatever the answer's length, 2 to 6 tokens, noise of 3 %."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(1.2, 2.1, len(SPACE))
    kinds = np.arange(n) % 2
    language = np.stack([language_features(("how many are there", "read the code")[kind]) for kind in kinds])
    tokens = np.where(kinds == 0, 2, 6)[:, None]
    noise = rng.lognormal(0, 0.03, (n, len(SPACE)))
    decode = 0.3 * noise
    return MeasuredTimes(truth * noise, decode / (tokens - 1), truth * noise + decode), language


def test_an_answers_length_costs_what_it_was_seen_to_cost() -> None:
    """One step's time, taken six times, would be three times too much where all steps run anyway."""
    times, language = steps_at_once(120, seed=0)
    lengths, _ = fit_lengths(language, np.tile(np.where(np.arange(120) % 2, 6, 2)[:, None], len(SPACE)), 6, SPACE)
    before = msgspec.structs.replace(bounds_of([60_000.0] * len(SPACE)), lengths=lengths)
    learnt = measured_bounds(before, times, language)
    others, words = steps_at_once(2000, seed=1)
    bound = learnt.for_questions(words)[0]
    kept = (others.total_ms <= bound).mean()
    assert 0.94 <= kept <= 0.985
    assert (bound < 1.1 * np.median(others.total_ms, axis=0)).all()


def test_decode_never_falls_with_longer_answers() -> None:
    decode = np.array([3.0, 3.1, 2.9, 5.0, 5.2, 4.9, 4.0])
    tokens = np.array([2, 2, 2, 4, 4, 4, 5])
    usual = decode_by_tokens(decode, tokens, 9)
    assert (np.diff(usual) >= 0).all()
    assert usual[0] == usual[1] == 3.0, "nothing is known of shorter answers"
    assert usual[2] == (usual[1] + usual[3]) / 2
    assert usual[8] == pytest.approx(2 * usual[4]), "twice as many steps as the longest that was seen"
