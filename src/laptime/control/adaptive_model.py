"""AdaptiveModel: each answer with the knobs that a policy chooses for it, so that it is in time.

    adaptive = AdaptiveModel.load("examples/glyphs/model", "policy")
    answer = adaptive.generate(Question("read the code", image), budget_ms=40)
    print(answer.text, answer.sample.decision)

Knobs are set for one call only. The tier is chosen before the image is cut; top-k and blocks in the middle of the
prefill, from what an early block gave, if the policy looks at that. Nothing of ours runs in the decode loop.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median as median_of
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from laptime.control.bounds.bounds import Bounds, read_bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.choices import Choice, ChoiceSpace
from laptime.control.known_texts import Call, KnownTexts
from laptime.control.policies.policy import Policy
from laptime.control.policies.ready import Plain, Ready, ready
from laptime.control.question import Asked, Question, asked, inputs_for
from laptime.control.seen import Budget, Seen, corrected
from laptime.control.tables.features import pixel_features
from laptime.control.tables.files import check_model, read_policy
from laptime.control.tables.hidden import facts_of, hidden_features
from laptime.data.record import Decision, Sample, Scalar, config_id
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.measure.stage_timer import StageTimer
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded, load_model
from laptime.workload.datasets import answer_text
from laptime.workload.example import Example
from laptime.workload.inputs import Inputs, generation_arguments

REMEMBERED = 16
"""So many calls' deciding times say what the next one's will take; so many policies are kept ready."""
UNKNOWN_COST = ("cache_implementation", "prefill_chunk_size", "assistant_model", "custom_generate", "num_beams")
"""What generate() may not be told: the time of what it then runs is not what the bounds were made from."""


@dataclass(frozen=True)
class Answer:
    """One answer: its text, the choice's number in the space, and the measured call.

    spent_ms: the call's total and what was decided before it; the budget is kept when it is not above it.
    """

    text: str
    choice: int
    sample: Sample
    spent_ms: float


class AdaptiveModel:
    """A model that sets its knobs for each question.

    policy: anything with `decide(seen, budget)`; it may be replaced between calls. bounds: what each choice takes on
    this machine. online: the state of a stream of requests (laptime.estimate.online); each call then corrects the
    bounds for the next ones, and the newest state is `adaptive.online`. early_block: how many blocks run before a
    policy that looks at hidden states makes its late choice. leeway: how much of what is promised over all questions a
    choice of this policy may use up, replaced with it; without it each choice has to keep the promise by itself.

    Raises LaptimeError when the model doesn't have the knobs that the policy was trained for.
    """

    def __init__(
        self,
        loaded: Loaded,
        policy: Policy,
        bounds: Bounds,
        *,
        online: streams.Online | None = None,
        early_block: int = 1,
        leeway: Leeway | None = None,
    ) -> None:
        if different := bounds.model.differences(facts_of(loaded)):
            raise LaptimeError(f"{loaded.name}: its policy was made for another model ({', '.join(different)})")
        self.loaded = loaded
        self._prepared: dict[int, _Prepared] = {}  # by the policy's identity, which _Prepared keeps alive
        self.policy = policy
        self.bounds = bounds
        self.space: ChoiceSpace = bounds.space
        self.leeway = leeway
        self.online = online
        self.switch = KnobSwitch(
            loaded.model,
            crops=[(tier.low, tier.high) for tier in self.space.tiers],
            top_ks=self.space.top_ks,
            blocks=self.space.blocks,
            early=max(0, early_block - 1),
        )
        self._choices = [self.space.choice(number) for number in range(len(self.space))]
        self._timer = StageTimer(loaded.model)
        self._newest: Asked | None = None  # and its inputs by crops: one question may be asked under many budgets
        self._made: dict[tuple[int, int] | None, Inputs] = {}
        self._known = KnownTexts(bounds)
        self._calls = 0
        self._deciding_ms: dict[str, deque[float]] = {}  # by policy: they differ in what they look at
        self._usual_ms: dict[str, float] = {}  # their medians
        self._late_ms = 0.0  # what a late choice takes besides deciding; warm_up() measures it
        self._now = self._correction()

    @property
    def policy(self) -> Policy:
        """The policy that decides; another one may be set between calls."""
        return self._policy.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = self._prepared.get(id(policy)) or self._prepare(policy)

    def _prepare(self, policy: Policy) -> _Prepared:
        runs = ready(policy)
        matrix = None if runs.matrix is None else torch.from_numpy(runs.matrix).to(self.loaded.device)
        made = _Prepared(policy, runs, matrix)
        if not isinstance(runs, Plain):
            while len(self._prepared) >= REMEMBERED:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[id(policy)] = made
        return made

    @classmethod
    def load(cls, model: Loaded | str, policy: str | Path, *, online: streams.Online | None = None) -> AdaptiveModel:
        """A model, or its name as load_model takes it, with what `laptime control train` wrote.

        Raises LaptimeError for a folder that is damaged or foreign, and for a policy of another model or other knobs.
        """
        saved = read_policy(policy)
        loaded = load_model(model) if isinstance(model, str) else model
        check_model(saved, facts_of(loaded))
        early = max(1, saved.early_block)
        return cls(loaded, saved.policy, read_bounds(policy), online=online, early_block=early, leeway=saved.leeway)

    def generate(
        self,
        question: Question | Example | Asked | str,
        *,
        budget_ms: float,
        max_new_tokens: int | None = None,
        **options: Any,
    ) -> Answer:
        """Answer within `budget_ms`, if any choice of the knobs is known to keep it; else the fastest one, flagged.

        max_new_tokens: at most so many tokens; without it, as many as the longest answer that the bounds know.
        options: further arguments of the model's generate().
        Raises LaptimeError for a budget that is no time, options whose time no bound knows, an image that can't be
        read, or a question that the model can't take.
        """
        _check(budget_ms, max_new_tokens, options)
        question = asked(question)
        most = self.bounds.lengths.most if max_new_tokens is None else max_new_tokens
        began = perf_counter_ns()
        seen, budget, asked_of = self._look(question, budget_ms, most)
        policy, runs, matrix = self._policy
        opened = runs.open(seen, budget)
        if not policy.needs.hidden:  # nothing more will be known later
            opened = opened._replace(number=opened.close(None))
        before_ms = (perf_counter_ns() - began) / 1e6
        tier = self._choices[opened.number].tier
        crops = None if tier is None or question.image is None else (tier.low, tier.high)
        call = Call(self._choices, opened, matrix, budget)
        arguments = {**generation_arguments(new_tokens=most, cache=None, compile=False), **options}
        with self.switch.crops(crops):
            inputs = self._inputs(question, crops, most)
            with self._knobs(call), self._timer as timer:
                self._calls += 1
                timer.label(question.id, self._calls)
                timer.model.generate(**inputs.kwargs, **arguments)
                sample = timer.samples.pop()
        lately = self._deciding_ms.setdefault(self.policy.name, deque(maxlen=REMEMBERED))
        lately.append(before_ms + call.inside_ms)
        self._usual_ms[self.policy.name] = median_of(lately)
        sample = self._finished(sample, call, inputs, budget_ms, before_ms, asked_of.leeway)
        if self.online is not None:
            self._learn(sample, float(asked_of.bound_ms[call.number]))
        return Answer(sample.text or "", call.number, sample, sample.stages.total_ms + before_ms)

    def warm_up(self, question: Question | Example | Asked | str, rounds: int = 3) -> None:
        """Call with each choice of the space, set beforehand and set late: a first call of a shape takes longer.

        From the second round on the pairs say what choosing late takes more than the bounds' own calls (hooks, a copy
        to the host); later budgets of policies that do so are less by it. It is that of choices with the fewest
        experts: those with more save something up to the early block.
        """
        question = asked(question)
        extra = []
        for number in range(rounds):
            for choice in self._choices:
                in_turn = [False, True] if number % 2 else [True, False]
                took = {late: self._rehearsed_ms(question, choice, late=late) for late in in_turn}
                if number and choice.top_k == self.switch.early_top_k:
                    extra.append(took[True] - took[False])
        self._late_ms = max(0.0, median_of(extra)) if extra else 0.0

    def _rehearsed_ms(self, question: Asked, choice: Choice, *, late: bool) -> float:
        tier, most = choice.tier, self.bounds.lengths.most
        crops = None if tier is None or question.image is None else (tier.low, tier.high)
        knobs = LateKnobs(choice.top_k, choice.blocks)
        matrix = self._policy.matrix
        setting = self.switch.late(lambda hidden: _given(hidden, matrix, knobs)) if late else self.switch.fixed(knobs)
        with self.switch.crops(crops):
            inputs = self._inputs(question, crops, most)
            arguments = generation_arguments(new_tokens=most, cache=None, compile=False)
            with setting, self._timer as timer:
                timer.model.generate(**inputs.kwargs, **arguments)
                return timer.samples.pop().stages.total_ms

    def _look(self, question: Asked, budget_ms: float, most: int) -> tuple[Seen, Budget, _AskedOf]:
        words = self._known.of(question.text)
        pixels = None
        if self.policy.needs.pixels and question.image is not None:
            pixels = pixel_features(question.image)
        factor, median_factor = self._factors()
        # The bounds are of calls that decide nothing: what deciding takes is taken off the budget.
        deciding_ms = self._usual_ms.get(self._policy.policy.name, 0.0)
        left_ms = max(1e-6, budget_ms - deciding_ms - (self._late_ms if self.policy.needs.hidden else 0.0))
        room = room_at(self.leeway, left_ms / factor)
        bound, median = words.bound_ms, words.median_ms
        loose = words.with_room(room)
        if most < self.bounds.lengths.most:  # no answer can be longer then
            longest = np.full(len(self.space), most, dtype=np.int32)
            at_most = self.bounds.at_tokens(longest)
            loose, bound = np.minimum(loose, at_most), np.minimum(bound, at_most)
            median = np.minimum(median, self.bounds.at_tokens(longest, median=True))
        told = loose if factor == 1 else loose * factor
        told_median = median if median_factor == 1 else median * median_factor
        budget = Budget(ms=left_ms, bound_ms=told, median_ms=told_median, factor=factor)
        return Seen(language=words.language, pixels=pixels), budget, _AskedOf(bound, room.times)

    @contextlib.contextmanager
    def _knobs(self, call: Call) -> Iterator[None]:
        if self.policy.needs.hidden:
            with self.switch.late(call.decide_late):
                yield
        else:
            choice = self._choices[call.number]
            with self.switch.fixed(LateKnobs(choice.top_k, choice.blocks)):
                yield

    def _inputs(self, question: Asked, crops: tuple[int, int] | None, most: int) -> Inputs:
        if question is not self._newest:
            self._newest, self._made = question, {}
        if crops not in self._made:
            self._made[crops] = inputs_for(self.loaded, question, crops, most)
        return self._made[crops]

    def _finished(
        self, sample: Sample, call: Call, inputs: Inputs, budget_ms: float, before_ms: float, leeway: float
    ) -> Sample:
        choice = self._choices[call.number]
        bound = float(call.budget.bound_ms[call.number])
        decision = Decision(
            policy=self.policy.name,
            budget_ms=budget_ms,
            bound_ms=bound if math.isfinite(bound) else None,
            factor=call.budget.factor,
            tier=None if choice.tier is None else choice.tier.name,
            top_k=choice.top_k,
            blocks=choice.blocks,
            before_ms=before_ms,
            waited_ms=call.waited_ms,
            inside_ms=call.inside_ms,
            confidence=1 - (1 - self.bounds.confidence) * leeway,
        )
        config = self._config(choice)
        return msgspec.structs.replace(
            sample,
            config=config,
            config_id=config_id(config),
            crops=inputs.crops,
            text=answer_text(self.loaded, sample.output_ids[0]),
            flags=sample.flags if call.budget.fits.any() else [*sample.flags, "no-choice-fits"],
            decision=decision,
        )

    def _config(self, choice: Choice) -> dict[str, Scalar]:
        tier = choice.tier
        known: dict[str, Scalar] = {
            "model": self.loaded.name,
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "tier": None if tier is None else tier.name,
            "crops": None if tier is None else f"{tier.low}-{tier.high}",
            "top_k": choice.top_k if choice.top_k is not None else self.switch.own_top_k,
            "blocks": choice.blocks if choice.blocks is not None else self.switch.block_count,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _learn(self, sample: Sample, bound_ms: float) -> None:
        """The call that has just ended, as one request of the stream."""
        assert self.online is not None
        if not math.isfinite(bound_ms):
            return
        key, started = str(self._calls), sample.started_unix_ms
        given = bound_ms * (1.0 if self._now is None else corrected(self._now)[0])
        state = streams.issued(self.online, key, bound_ms, given, started)
        self.online = streams.finished(state, key, sample.stages.total_ms)
        self._now = self._correction(started + sample.stages.total_ms)

    def _correction(self, now_ms: float = 0.0) -> streams.Correction | None:
        return None if self.online is None else streams.correction(self.online, now_ms)

    def _factors(self) -> tuple[float, float]:
        return (1.0, 1.0) if self._now is None else corrected(self._now, self.leeway is not None)


class _AskedOf(NamedTuple):
    """What a call was asked to keep: each choice's own bound, uncorrected and without leeway, and the leeway."""

    bound_ms: npt.NDArray[np.float64]
    leeway: float


class _Prepared(NamedTuple):
    """A policy as it was set, what runs for it, and on the model's device what hidden states are multiplied by."""

    policy: Policy
    runs: Ready
    matrix: torch.Tensor | None


def _given(hidden: torch.Tensor, matrix: torch.Tensor | None, knobs: LateKnobs) -> LateKnobs:
    hidden_features(hidden, matrix)
    return knobs


def _check(budget_ms: Any, max_new_tokens: Any, options: dict[str, Any]) -> None:
    if isinstance(budget_ms, bool) or not isinstance(budget_ms, int | float | np.number):
        raise LaptimeError(f"budget {budget_ms!r}: a time in milliseconds, above 0, is needed")
    if not (math.isfinite(budget_ms) and budget_ms > 0):
        raise LaptimeError(f"budget {budget_ms} ms: a time in milliseconds, above 0, is needed")
    if max_new_tokens is not None and (not isinstance(max_new_tokens, int) or max_new_tokens < 1):
        raise LaptimeError(f"max_new_tokens {max_new_tokens!r}: a whole number of 1 or more is needed")
    for name in UNKNOWN_COST:
        if options.get(name) not in (None, 1):
            raise LaptimeError(f"{name}={options[name]!r}: no bound knows what that takes; leave it out")
