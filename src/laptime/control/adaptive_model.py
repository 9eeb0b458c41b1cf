"""AdaptiveModel: answers each question with the knobs that a policy chooses for it, so that the answer is in time.

    adaptive = AdaptiveModel.load("examples/glyphs/model", "policy")
    answer = adaptive.generate(Question("read the code", image), budget_ms=40)
    print(answer.text, answer.sample.decision)

Knobs are set for one call only. The tier is chosen before the image is cut. Top-k and blocks are chosen in the middle
of the prefill, from an early block's output, if the policy looks at that. Nothing of laptime runs in the decode loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median as median_of
from threading import RLock
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.leeway import Leeway, room_at
from laptime.control.bounds.measured_bounds import check_enough, measured_bounds, times_of
from laptime.control.call import Call, Sight, check_asked
from laptime.control.choices import ChoiceSpace
from laptime.control.correction import OnlineCorrection
from laptime.control.fast_answers import FastAnswers
from laptime.control.known_texts import KnownTexts
from laptime.control.policies.policy import Policy, can_keep
from laptime.control.policies.saved_policy import check_model, read_policy
from laptime.control.question import AnyQuestion, OpenedQuestion, opened
from laptime.control.rehearsal import choosing_late_ms, rehearsed_calls
from laptime.control.seen import Budget, Seen
from laptime.control.switched_model import SwitchedModel
from laptime.control.tables.collection import facts_of
from laptime.control.tables.features import pixel_features
from laptime.data.record import Sample, config_id
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.models.knob_switch import KnobSwitch
from laptime.models.loading import Loaded, load_model
from laptime.workload.datasets import answer_text

REMEMBERED = 16
"""The number of recent calls whose times for the rest of deciding predict that of the next one."""


@dataclass(frozen=True)
class AdaptiveAnswer:
    """One answer: its text, the number of the choice in the space, and the measured call.

    spent_ms: the call's total, and deciding before it. The budget is kept when spent_ms is not above it.
    """

    text: str
    choice: int
    sample: Sample
    spent_ms: float


class AdaptiveModel:
    """A model that sets its knobs for each question.

    policy: anything with `decide(seen, budget)`; it may be replaced between calls. bounds: what each choice takes on
    this machine. online: each call corrects the bounds for the next ones, so that the promise holds on a machine that
    has become slower; a state that `laptime.estimate.online` saved continues an earlier stream, False leaves the bounds
    as they were calibrated. early_block: how many blocks run before a policy that looks at hidden states makes its late
    choice. leeway: how often a choice of this policy may be late, as
    far as the promise over all questions allows it; without it each choice has to keep the promise by itself. It
    belongs to the policy, so replace both together.
    fast: answer on FastModel (laptime.decoder.fast_model), with one graph for each choice; None: where the bounds were
    learnt there (`learn_bounds`), as a bound is one of the path that it was measured on.
    Calls of several threads follow one another.

    Raises LaptimeError when the model doesn't have the knobs that the policy was trained for, and when it has to answer
    on FastModel and can't.
    """

    def __init__(
        self,
        loaded: Loaded,
        policy: Policy,
        bounds: Bounds,
        *,
        online: streams.Online | bool = True,
        early_block: int = 1,
        leeway: Leeway | None = None,
        fast: bool | None = None,
    ) -> None:
        if different := bounds.model.differences(facts_of(loaded)):
            raise LaptimeError(f"{loaded.name}: its policy was made for another model ({', '.join(different)})")
        self.policy = policy
        self.bounds = bounds
        self.leeway = leeway
        self.space: ChoiceSpace = bounds.space
        self.model = SwitchedModel(loaded, bounds.space, early=early_block, fast=bounds.fast if fast is None else fast)
        self._texts = KnownTexts(bounds)
        self._calls = 0
        self._deciding_ms: dict[str, deque[float]] = {}  # by policy: they differ in what they look at
        self._usual_ms: dict[str, float] = {}  # their medians
        self._late_ms = 0.0  # what a late choice takes besides deciding; warm_up() measures it
        self._correction = OnlineCorrection(bounds, online)
        self._one_call = RLock()

    @classmethod
    def load(
        cls,
        model: Loaded | str,
        policy: str | Path,
        *,
        online: streams.Online | bool = True,
        fast: bool | None = None,
    ) -> AdaptiveModel:
        """A model, or its name as load_model takes it, with the folder that `laptime control train` wrote.

        Raises LaptimeError for a folder that is damaged or foreign, and for a policy of another model or other knobs.
        """
        saved, bounds = read_policy(policy)
        loaded = load_model(model) if isinstance(model, str) else model
        check_model(saved, facts_of(loaded))
        early = max(1, saved.early_block)
        return cls(loaded, saved.policy, bounds, online=online, early_block=early, leeway=saved.leeway, fast=fast)

    def generate(
        self, question: AnyQuestion, *, budget_ms: float, max_new_tokens: int | None = None, **options: Any
    ) -> AdaptiveAnswer:
        """Answer within `budget_ms` if a choice of the knobs is known to keep it; else with the fastest one, flagged.

        max_new_tokens: the most tokens of the answer; None: those of the longest answer that the bounds know. options:
        further arguments of the model's generate().

        Raises LaptimeError for a budget that is not above 0, options whose time no bound knows, an image that can't be
        read, or a question that the model can't take.
        """
        check_asked(budget_ms, max_new_tokens, options)
        question = opened(question)
        most = self.bounds.lengths.most if max_new_tokens is None else max_new_tokens
        with self._one_call:
            began = perf_counter_ns()
            call = Call(self.policy, self._look(question, budget_ms, most, began), began)
            self._calls += 1
            late = call.decide_late if call.policy.needs.hidden else None
            captured = self.model.captured
            sample = self.model.call(question, call.choice, most, late=late, options=options)
            recent = self._deciding_ms.setdefault(self.policy.name, deque(maxlen=REMEMBERED))
            recent.append(call.deciding_ms - call.sight.looked_ms)
            self._usual_ms[self.policy.name] = median_of(recent)
            sample = self._finished(sample, call, budget_ms)
            if self.model.captured == captured:  # else it took longer than any later one will
                self._correction.learn(float(call.sight.own_bound_ms[call.number]), sample.stages.total_ms)
        return AdaptiveAnswer(sample.text or "", call.number, sample, sample.stages.total_ms + call.before_ms)

    def warm_up(self, question: AnyQuestion, rounds: int = 3) -> None:
        """Call with each choice of the space, set beforehand and set late. A first call of a shape takes longer.

        From the second round on, the pairs also tell what choosing late takes more than the bounds' own calls (hooks, a
        copy to the host). Later budgets of policies that choose late are lowered by that. It is measured on choices of
        the fewest experts: other choices save some time up to the early block.
        """
        question = opened(question)
        with self._one_call:
            most = self.bounds.lengths.most
            self._late_ms = choosing_late_ms(self.model, self.space, question, most, rounds)

    def learn_bounds(self, questions: Sequence[AnyQuestion], *, rounds: int = 1) -> None:
        """Measure every choice on these questions, on the path that answers take, and bound what they take there.

        The questions must be others than those that the policy learnt from. How long answers become is still what the
        bounds knew before. The path has to be warm (`warm_up`). Leeway was proven with the bounds before, so there is
        none afterwards. Correction begins anew.

        Raises LaptimeError for fewer questions than the promise's confidence needs: 19 for 95 %.
        """
        check_enough(len(questions), self.bounds.confidence)
        opened_ones = [opened(question) for question in questions]
        with self._one_call:
            samples = rehearsed_calls(self.model, self.space, opened_ones, self.bounds.lengths.most, rounds)
            language = np.stack([self._texts.of(question.text).language for question in opened_ones])
            learnt = measured_bounds(self.bounds, times_of(samples), language)
            self.bounds = msgspec.structs.replace(learnt, fast=self.model.fast is not None)
            self.leeway = None
            self._texts = KnownTexts(self.bounds)
            self._correction = OnlineCorrection(self.bounds, online=self._correction.asked)

    @property
    def loaded(self) -> Loaded:
        """The model that answers."""
        return self.model.loaded

    @property
    def switch(self) -> KnobSwitch:
        """What sets the model's knobs."""
        return self.model.switch

    @property
    def fast(self) -> FastAnswers | None:
        """FastModel with the knobs; None on the plain path."""
        return self.model.fast

    @property
    def online(self) -> streams.Online | None:
        """The state of the stream that corrects the bounds; None where nothing does."""
        return self._correction.state

    def close(self) -> None:
        """Free FastModel's caches and graphs, and give the model its separate weights back."""
        self.model.close()

    def _look(self, question: OpenedQuestion, budget_ms: float, most: int, began_ns: int) -> Sight:
        """What the policy is given. most: the most tokens of the answer. began_ns: when the call began to decide."""
        policy, text = self.policy, self._texts.of(question.text)
        pixels = pixel_features(question.image) if policy.needs.pixels else None
        decisions = self._texts.decisions(policy, text)
        factor, median_factor = self._correction.factors(leeway=self.leeway is not None)
        # Bounds are of calls that decide nothing. A new text takes longer to look at, the rest as long as usual.
        looked_ms = (perf_counter_ns() - began_ns) / 1e6
        rest_ms = self._usual_ms.get(policy.name, 0.0) + (self._late_ms if policy.needs.hidden else 0.0)
        left_ms = max(1e-6, budget_ms - looked_ms - rest_ms)
        room = room_at(self.leeway, left_ms / factor)
        own, median = text.bound_ms, text.median_ms
        bound = text.with_room(room)
        if most < self.bounds.lengths.most:  # no answer can be longer then
            longest = np.full(len(self.space), most, dtype=np.int32)
            at_most = self.bounds.at_tokens(longest)
            bound, own = np.minimum(bound, at_most), np.minimum(own, at_most)
            median = np.minimum(median, self.bounds.at_tokens(longest, median=True))
        budget = Budget(
            ms=left_ms,
            bound_ms=bound if factor == 1 else bound * factor,
            median_ms=median if median_factor == 1 else median * median_factor,
            factor=factor,
        )
        seen = Seen(language=text.language, pixels=pixels)
        return Sight(seen, budget, own, room.times, decisions, looked_ms)

    def _finished(self, sample: Sample, call: Call, budget_ms: float) -> Sample:
        """The sample with its configuration, its text and its decision."""
        config = self.model.config(call.choice)
        return msgspec.structs.replace(
            sample,
            config=config,
            config_id=config_id(config),
            repeat=self._calls,
            text=answer_text(self.loaded, sample.output_ids[0]),
            flags=sample.flags if can_keep(call.policy, call.sight.budget) else [*sample.flags, "no-choice-fits"],
            decision=call.decision(budget_ms, self.bounds.confidence),
        )
