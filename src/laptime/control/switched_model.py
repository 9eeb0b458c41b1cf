"""A model whose knobs are set for each call: the question's inputs at these crops, and the measured call. It decides
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import torch

from laptime.control.choices import Choice, ChoiceSpace
from laptime.control.fast_answers import FastAnswers
from laptime.control.question import OpenedQuestion, inputs_for
from laptime.data.record import Sample, Scalar
from laptime.measure.stage_timer import StageTimer
from laptime.models.block_list import written_blocks, written_experts
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded
from laptime.workload.inputs import Inputs, generation_arguments


class PlainAnswers:
    """The model's own generate(). It captures no graph."""

    captured = 0

    def __init__(self, model: Any, switch: KnobSwitch) -> None:
        self._switch = switch
        self._timer = StageTimer(model)

    def answer(
        self,
        inputs: Mapping[str, Any],
        arguments: Mapping[str, Any],
        knobs: LateKnobs,
        late: Callable[[torch.Tensor], LateKnobs] | None,
    ) -> Sample:
        """One measured call. late: chooses the knobs after the early block; None: `knobs` hold from the start."""
        setting = self._switch.fixed(knobs) if late is None else self._switch.late(late)
        with setting, self._timer as timer:
            timer.model.generate(**inputs, **arguments)
            return timer.samples.pop()


class SwitchedModel:
    """A model with the choices of a space, answering by its own generate() or on FastModel.

    early: how many blocks run before a late choice.

    Raises LaptimeError for a choice that the model can't take, and when it has to answer on FastModel and can't.
    """

    def __init__(self, loaded: Loaded, space: ChoiceSpace, *, early: int, fast: bool) -> None:
        self.loaded = loaded
        self.switch = KnobSwitch(
            loaded.model,
            crops=[(tier.low, tier.high) for tier in space.tiers],
            top_ks=space.top_ks,
            blocks=space.blocks,
            active=space.active_blocks,
            experts=space.experts_by_block,
            early=max(0, early - 1),
        )
        self.fast = FastAnswers(loaded.model, self.switch) if fast else None
        self._answers = PlainAnswers(loaded.model, self.switch) if self.fast is None else self.fast
        # The inputs of the newest question, by crops: the same question may be asked under many budgets.
        self._newest: OpenedQuestion | None = None
        self._inputs_by_crops: dict[tuple[int, int] | None, Inputs] = {}

    @property
    def captured(self) -> int:
        """The graphs captured so far. A call in which this rises takes longer than later ones."""
        return self._answers.captured

    def call(
        self,
        question: OpenedQuestion,
        choice: Choice,
        most: int,
        *,
        late: Callable[[torch.Tensor], LateKnobs] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Sample:
        """One measured call of at most so many tokens. late: chooses experts and blocks instead of `choice`."""
        tier = choice.tier
        crops = None if tier is None or question.image is None else (tier.low, tier.high)
        arguments = {**generation_arguments(new_tokens=most, cache=None, compile=False), **(options or {})}
        with self.switch.crops(crops):
            inputs = self._inputs(question, crops, most)
            sample = self._answers.answer(inputs.kwargs, arguments, LateKnobs(choice.top_k, choice.blocks), late)
        return msgspec.structs.replace(sample, sample_id=question.id or sample.sample_id, crops=inputs.crops)

    def config(self, choice: Choice) -> dict[str, Scalar]:
        """What runs under a choice, as samples record it."""
        tier, active, experts = choice.tier, self.switch.active(choice.blocks), self.switch.experts(choice.top_k)
        known: dict[str, Scalar] = {
            "model": self.loaded.name,
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "tier": None if tier is None else tier.name,
            "crops": None if tier is None else f"{tier.low}-{tier.high}",
            "top_k": choice.top_k if choice.top_k is not None else self.switch.own_top_k,
            "experts": written_experts(experts) if isinstance(experts, tuple) else None,
            "blocks": choice.blocks if choice.blocks is not None else self.switch.block_count,
            "active_blocks": written_blocks(active) if len(active) < self.switch.block_count else None,
            "answered_by": None if self.fast is None else "FastModel",
        }
        return {name: value for name, value in known.items() if value is not None}

    def close(self) -> None:
        """Free FastModel's caches and graphs, and give the model its separate weights back."""
        if self.fast is not None:
            self.fast.close()

    def _inputs(self, question: OpenedQuestion, crops: tuple[int, int] | None, most: int) -> Inputs:
        if question is not self._newest:
            self._newest, self._inputs_by_crops = question, {}
        if crops not in self._inputs_by_crops:
            self._inputs_by_crops[crops] = inputs_for(self.loaded, question, crops, most)
        return self._inputs_by_crops[crops]
