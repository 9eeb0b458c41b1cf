"""Answers of an adaptive model by the model's own generate(), with the knobs of a switch set for one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from laptime.data.record import Sample
from laptime.measure.stage_timer import StageTimer
from laptime.models.knob_switch import KnobSwitch, LateKnobs


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
