"""An adaptive model runs with exactly the knobs that were decided, for one call, and says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.leeway import STEPS, Leeway
from laptime.control.choices import ModelFacts
from laptime.control.judge.live import Contestant, evaluate_live
from laptime.control.question import Question
from laptime.control.seen import Budget, Seen
from laptime.control.tables.collection import collect_features, hidden_features
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.models.anatomy import find_anatomy
from laptime.models.block_list import read_blocks
from laptime.models.knobs import ModelKnobs, applied
from laptime.workload.datasets import inputs_from_question
from laptime.workload.example import Example
from tests.control.adaptive import SPACE, TOKENS, Scripted, adaptive, fixed, question
from tests.models.test_knobs import assert_same


class Inside:
    """What a model does, seen from within: of each forward its image tokens and (block, experts a token)."""

    def __init__(self, model: Any) -> None:
        self.image_tokens: list[int] = []
        self.steps: list[list[tuple[int, int]]] = []
        self.hooks_seen: list[int] = []
        self._model = model
        self._hooks = []
        for index, layer in enumerate(find_anatomy(model).layers):
            experts = next(m for name, m in layer.named_modules() if name.endswith(".experts"))
            self._hooks.append(experts.register_forward_pre_hook(self._experts(index)))
        language = find_anatomy(model).language
        self._hooks.append(language.register_forward_pre_hook(self._entered, with_kwargs=True))
        projector = find_anatomy(model).projector
        assert projector is not None
        self._hooks.append(projector.register_forward_hook(self._projected))

    def _entered(self, *_: Any) -> None:
        self.steps.append([])
        modules = list(self._model.modules())
        hooks = [hook for m in modules for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
        ours = sum(hook.__module__.startswith("laptime.") for hook in hooks)
        self.hooks_seen.append(ours + sum("forward" in vars(m) for m in modules))

    def _projected(self, _: Any, args: Any, out: torch.Tensor) -> None:
        self.image_tokens.append(out.reshape(-1, out.shape[-1]).shape[0])

    def _experts(self, index: int) -> Any:
        def look(_: Any, args: Any) -> None:
            counts = {len(set(row)) for row in args[1].tolist()}
            assert len(counts) == 1
            self.steps[-1].append((index, counts.pop()))

        return look

    def gone(self) -> None:
        for hook in self._hooks:
            hook.remove()


def state(model: Any) -> list[Any]:
    return [
        list(model.state_dict()),
        model.config.to_dict(),
        [(name, id(module)) for name, module in model.named_modules()],
        [sorted(vars(module)) for module in model.modules()],
        [m.layer_idx for m in model.modules() if "layer_idx" in vars(m)],
        [m.top_k for m in model.modules() if "top_k" in vars(m)],
    ]


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("number", range(len(SPACE)))
def test_the_model_runs_with_exactly_what_was_decided(number: int, hidden: bool) -> None:
    """Experts of every token, blocks, image tokens, in prefill and in each decode step; afterwards it is as before."""
    adapted = adaptive(fixed(number, hidden=hidden))
    model = adapted.loaded.model
    choice = SPACE.choice(number)
    active = adapted.switch.active(choice.blocks)
    before = state(model)
    inside = Inside(model)
    answer = adapted.generate(question(), budget_ms=70_000)
    inside.gone()
    early = min(SPACE.top_ks) if hidden else choice.top_k  # the choice is made after it
    assert inside.steps[0] == [(0, early), *((index, choice.top_k) for index in active[1:])]
    assert inside.steps[1:] == [[(index, choice.top_k) for index in active]] * (TOKENS - 1)
    assert choice.tier is not None
    assert inside.image_tokens == [(choice.tier.low + 1) * 4]  # 2 x 2 patches a crop, and the overview
    assert inside.hooks_seen[0] > 0
    assert inside.hooks_seen[1:] == [0] * (TOKENS - 1)  # nothing of ours in the decode loop
    assert_same(before, state(model))
    decision = answer.sample.decision
    assert decision is not None
    assert (decision.tier, decision.top_k, decision.blocks) == (choice.tier.name, choice.top_k, choice.blocks)
    config = answer.sample.config
    assert config["blocks"] == choice.blocks
    ran = [index for index, _ in inside.steps[-1]]
    whole = len(ran) == adapted.switch.block_count
    assert ("active_blocks" not in config) if whole else read_blocks(str(config["active_blocks"])) == tuple(ran)
    assert answer.sample.crops == choice.tier.low
    assert answer.choice == number
    assert answer.sample.stages.closes()
    assert answer.spent_ms == answer.sample.stages.total_ms + decision.before_ms
    assert decision.bound_ms == 60_000
    assert answer.sample.flags.count("no-choice-fits") == 0


def test_an_early_choice_answers_as_the_model_set_so_does() -> None:
    """The ids of `applied` with the same knobs, the tier included."""
    for number in (0, len(SPACE) - 1):
        adapted = adaptive(fixed(number, hidden=False))
        choice = SPACE.choice(number)
        assert choice.tier is not None
        crops = (choice.tier.low, choice.tier.high)
        answer = adapted.generate(question(), budget_ms=70_000)
        with applied(adapted.loaded.model, ModelKnobs(crops=crops, top_k=choice.top_k, blocks=choice.blocks)):
            one = question()
            inputs = inputs_from_question(adapted.loaded, one.text, one.image, "here", crops=crops)
            out = adapted.loaded.model.generate(**inputs.kwargs, max_new_tokens=TOKENS, do_sample=False)
        assert answer.sample.output_ids == out[:, inputs.kwargs["input_ids"].shape[1] :].tolist()


def test_the_second_choice_sees_what_the_early_block_gave() -> None:
    """The tier is fixed then, and the hidden states are those that features are collected from."""
    policy = Scripted(lambda seen, budget: SPACE.late + (0 if seen.tier is None else 3), hidden=True)
    adapted = adaptive(policy)
    answer = adapted.generate(question(), budget_ms=70_000)
    first, second = policy.seen
    assert first.tier is None
    assert first.hidden is None
    assert second.tier == 1
    assert second.hidden is not None
    assert answer.choice == SPACE.late + 3
    collected = collect_features(adapted.loaded, [question()], SPACE).hidden[0]
    assert collected.shape == (2, len(second.hidden))
    np.testing.assert_allclose(collected[1], second.hidden, atol=1e-5)
    assert not np.allclose(collected[0], second.hidden, atol=1e-3)


def test_a_policy_that_looks_at_no_hidden_states_still_decides_twice() -> None:
    """Of its first answer only the tier binds; the second is asked for before the call."""
    policy = Scripted(lambda seen, budget: SPACE.late + (0 if seen.tier is None else 3), hidden=False)
    adapted = adaptive(policy)
    answer = adapted.generate(question(), budget_ms=70_000)
    assert [seen.tier for seen in policy.seen] == [None, 1]
    assert all(seen.hidden is None for seen in policy.seen)
    assert answer.choice == SPACE.late + 3


def test_where_nothing_fits_the_fastest_runs_and_a_flag_says_so() -> None:
    bounds = [50.0, 40.0, 30.0, 20.0, 25.0, 60.0, 70.0, 80.0]
    policy = Scripted(lambda seen, budget: budget.fastest, hidden=False)
    adapted = adaptive(policy, bounds)
    answer = adapted.generate(question(), budget_ms=19.9)
    assert answer.choice == 3
    assert answer.sample.flags.count("no-choice-fits") == 1
    assert adapted.generate(question(), budget_ms=30.0).sample.flags.count("no-choice-fits") == 0
    policy.choosable = np.arange(len(SPACE)) == len(SPACE) - 1  # type: ignore[attr-defined]
    assert adapted.generate(question(), budget_ms=30.0).sample.flags.count("no-choice-fits") == 1


def test_what_deciding_takes_is_taken_off_the_budget() -> None:
    """The bounds are of calls that decide nothing. The recorded budget is the caller's all the same."""
    budgets: list[Budget] = []

    def choose(seen: Seen, budget: Budget) -> int:
        budgets.append(budget)
        time.sleep(0.003)
        return 0

    adapted = adaptive(Scripted(choose, hidden=True))
    answers = [adapted.generate(question(), budget_ms=100.0) for _ in range(3)]
    unknown = answers[0].sample.decision
    assert unknown is not None
    assert all(100.0 - unknown.before_ms < budget.ms < 100.0 for budget in budgets[:2])  # but how long looking took
    assert all(budget.ms < 94.0 for budget in budgets[2:])  # two decisions of 3 ms
    assert all(answer.sample.decision is not None for answer in answers)
    quick = fixed(0, hidden=True)
    quick.name = "quick"
    adapted.policy = quick
    first = adapted.generate(question(), budget_ms=100.0).sample.decision
    assert first is not None
    second = adapted.generate(question(), budget_ms=100.0).sample.decision
    assert second is not None
    assert 100.0 - first.before_ms <= quick.budgets[0].ms < 100.0  # another policy's time is not its own
    most = second.before_ms + first.before_ms + first.inside_ms
    assert 100.0 - most <= quick.budgets[-1].ms < 100.0
    assert {answer.sample.decision.budget_ms for answer in answers if answer.sample.decision} == {100.0}


def test_what_a_late_choice_takes_besides_is_measured_and_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*given: Any) -> Any:
        time.sleep(0.15)  # far above what a busy machine adds to a call
        return hidden_features(*given)

    monkeypatch.setattr("laptime.control.rehearsal.hidden_features", slow)
    late, early = fixed(0, hidden=True), fixed(0, hidden=False)
    adapted = adaptive(late)
    before = state(adapted.loaded.model)
    adapted.warm_up(question(), rounds=2)
    assert_same(before, state(adapted.loaded.model))
    adapted.generate(question(), budget_ms=1000.0)
    early.name, adapted.policy = "early", early
    decision = adapted.generate(question(), budget_ms=1000.0).sample.decision
    assert decision is not None
    assert 500.0 < late.budgets[0].ms < 970.0
    assert 1000.0 - decision.before_ms <= early.budgets[0].ms < 1000.0


def test_a_call_that_raises_leaves_the_model_as_it_was() -> None:
    adapted = adaptive(fixed(0, hidden=True))
    before = state(adapted.loaded.model)
    with pytest.raises(LaptimeError, match="context"):
        adapted.generate("x" * 400, budget_ms=100)
    hook = find_anatomy(adapted.loaded.model).layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapted.generate(question(), budget_ms=100)
    hook.remove()
    assert_same(before, state(adapted.loaded.model))


def test_what_is_measured_corrects_the_bounds_of_the_next_calls() -> None:
    """Bounds a hundred times too low: the factor rises until nothing is promised any more."""
    stream = streams.begin(np.linspace(-0.2, -0.01, 40), q=0.95, window=40)
    adapted = adaptive(fixed(0, hidden=False), [0.01] * len(SPACE), online=stream)
    factors = [adapted.generate(question(), budget_ms=1000).sample.decision.factor for _ in range(30)]  # type: ignore[union-attr]
    assert factors[0] <= 1.0
    assert factors[-1] == float("inf")
    assert adapted.online is not None
    assert adapted.online.issued == 30
    last = adapted.generate(question(), budget_ms=1000).sample
    assert "no-choice-fits" in last.flags
    assert last.decision is not None
    assert last.decision.bound_ms is None


def test_with_leeway_a_choice_fits_that_its_own_bound_forbids() -> None:
    """The sample says with which confidence; what is learned is from the bounds as they were calibrated."""
    stream = streams.begin(np.linspace(-0.2, -0.01, 40), q=0.95, window=40)
    policy = Scripted(lambda seen, budget: 1 if budget.fits[1] else 0, hidden=False)
    adapted = adaptive(policy, [20_000.0, 60_000.0] + [90_000.0] * (len(SPACE) - 2), online=stream)
    assert adapted.generate(question(), budget_ms=50_000).choice == 0
    adapted.leeway = Leeway(budgets_ms=[40_000.0, 49_000.0, 70_000.0], times=[1.0, STEPS[-1], 1.0])
    answer = adapted.generate(question(), budget_ms=50_000)  # its median, 48 s, is in time
    decision = answer.sample.decision
    assert decision is not None
    assert answer.choice == 1
    assert decision.confidence == pytest.approx(1 - 0.05 * STEPS[-1])
    assert decision.bound_ms is not None
    assert 48_000 <= decision.bound_ms <= 50_000
    assert adapted.online is not None
    assert adapted.online.ended[-1].log_ratio == pytest.approx(np.log(answer.sample.stages.total_ms / 60_000))
    assert adapted.generate(question(), budget_ms=45_000).choice == 0  # the leeway of 40 s: none
    adapted.leeway = None
    plain = adapted.generate(question(), budget_ms=50_000)
    assert plain.choice == 0
    assert plain.sample.decision is not None
    assert plain.sample.decision.confidence == 0.95


def test_a_slower_machine_leaves_less_leeway() -> None:
    """Calls twice as long as when it was proven, within bounds that had ten times as much: all of that counts."""
    state = streams.begin(np.linspace(-2.5, -2.2, 40), q=0.95, window=40, step=0.0)
    for number in range(80):  # long after the jump; right after it bounds allow for the largest step seen
        state = streams.issued(state, str(number), 100.0, 100.0, 0.0)
        state = streams.finished(state, str(number), 2 * 100.0 * float(np.exp(-2.5 + 0.3 * (number % 10) / 9)))
    policy = Scripted(lambda seen, budget: 1 if budget.fits[1] else 0, hidden=False)
    adapted = adaptive(policy, [20_000.0, 60_000.0] + [90_000.0] * (len(SPACE) - 2), online=state)
    plain = adapted.generate(question(), budget_ms=100_000).sample.decision
    assert plain is not None
    assert plain.factor == 1.0  # the bounds hold as they are
    adapted = adaptive(policy, [20_000.0, 60_000.0] + [90_000.0] * (len(SPACE) - 2), online=state)
    adapted.leeway = Leeway(budgets_ms=[40_000.0, 60_000.0], times=[STEPS[-1], 1.0])
    shared = adapted.generate(question(), budget_ms=100_000).sample.decision
    assert shared is not None
    assert shared.factor == pytest.approx(2.0, rel=0.1)
    assert shared.confidence == pytest.approx(1 - 0.05 * STEPS[-1])  # that of 50 s, not of 100 s


def test_each_contestant_has_its_own_leeway(tmp_path: Path) -> None:
    """They take turns with one model."""
    adapted = adaptive(fixed(0, hidden=False), [20_000.0, 60_000.0] + [90_000.0] * (len(SPACE) - 2))
    loose = Leeway(budgets_ms=[49_000.0, 70_000.0], times=[STEPS[-1], 1.0])
    policies = [Scripted(lambda seen, budget: 1 if budget.fits[1] else 0, hidden=False) for _ in range(2)]
    policies[1].name = "strict"
    both = [
        Contestant(policy=one, adaptive=adapted, leeway=room) for one, room in zip(policies, (loose, None), strict=True)
    ]
    question().image.save(tmp_path / "page.png")
    examples = [Example(str(n), "what is it?", tmp_path / "page.png", ("x",), "here") for n in range(3)]
    outcomes, ended = evaluate_live(both, examples, [50_000.0], kind="exact")
    assert ended == "all"
    assert {(one.policy, one.choice) for one in outcomes} == {("scripted", 1), ("strict", 0)}


@pytest.mark.parametrize(
    ("budget", "options", "line"),
    [
        (0, {}, "budget 0 ms"),
        (-3.0, {}, "above 0"),
        (float("nan"), {}, "above 0"),
        ("soon", {}, "budget 'soon'"),
        (True, {}, "budget True"),
        (10, {"max_new_tokens": 0}, "max_new_tokens 0"),
        (10, {"cache_implementation": "static"}, "cache_implementation='static': no bound knows"),
        (10, {"num_beams": 4}, "num_beams=4"),
    ],
)
def test_what_no_bound_knows_is_refused(budget: Any, options: dict[str, Any], line: str) -> None:
    adapted = adaptive(fixed(0, hidden=False))
    with pytest.raises(LaptimeError, match=line):
        adapted.generate(question(), budget_ms=budget, **options)


def test_a_question_without_an_image_looks_as_it_did_in_training() -> None:
    """A policy that looks at images answers it too: a set may have both kinds."""
    policy = fixed(0, hidden=False)
    adapted = adaptive(policy)
    adapted.generate("what is it?", budget_ms=70_000)
    live = policy.seen[0].pixels
    collected = collect_features(adapted.loaded, [question(), Question("what is it?")], SPACE)
    assert live is not None
    np.testing.assert_array_equal(live, collected.pixels[1])


def test_a_policy_for_other_knobs_than_the_model_has_is_one_clear_line() -> None:
    with pytest.raises(LaptimeError, match="blocks 12 instead of 3"):
        adaptive(fixed(0, hidden=False), facts=ModelFacts(blocks=12))
    assert isinstance(adaptive(fixed(0, hidden=False), facts=ModelFacts(blocks=3, experts=4, top_k=2)), AdaptiveModel)
