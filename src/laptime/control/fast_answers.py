"""Answers of an adaptive model on FastModel: a graph for each choice of blocks and experts, weights shared.

A choice that is known beforehand is one graph up to the first token. A late one is two: up to the early block, and from
there as it was chosen. Each is captured at its first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from laptime.data.record import Sample
from laptime.decoder.fast_model import FastModel, LateSetting, Setting
from laptime.decoder.timed import CallTimer
from laptime.errors import LaptimeError
from laptime.models.knob_switch import KnobSwitch, LateKnobs


class FastAnswers:
    """FastModel with the knobs of a switch.

    Raises LaptimeError, with the reason, for a model that FastModel can't answer with.
    """

    def __init__(self, model: Any, switch: KnobSwitch) -> None:
        self.model = FastModel(model)
        self._switch = switch
        self._timer = CallTimer(model)

    @property
    def captured(self) -> int:
        """The graphs captured so far. A call in which this rises takes longer than later ones."""
        return self.model.made

    def close(self) -> None:
        """Free caches and graphs."""
        self.model.close()

    def answer(
        self,
        inputs: Mapping[str, Any],
        arguments: Mapping[str, Any],
        knobs: LateKnobs,
        late: Callable[[torch.Tensor], LateKnobs] | None,
    ) -> Sample:
        """One measured call. late: chooses the knobs after the early block; None: `knobs` hold from the first one on.

        Raises LaptimeError for arguments with which FastModel would take the model's own prefill.
        """
        call = {**inputs, **arguments}
        ids = call.pop("input_ids")
        if (reason := self.model.why_not(call)) is not None:
            raise LaptimeError(f"this call can't run on FastModel: {reason}")
        setting: Setting | LateSetting = self._setting(knobs)
        if late is not None:
            choose = late
            setting = LateSetting(
                self._switch.early, self._switch.early_experts, lambda hidden: self._setting(choose(hidden))
            )

        def run(mark: Callable[[str], None], _: Any) -> tuple[torch.Tensor, int]:
            return self.model.run(ids, call, mark=mark, setting=setting)

        return self._timer(run, ids, probed=False)

    def _setting(self, knobs: LateKnobs) -> Setting:
        active = None if knobs.blocks in (None, self._switch.block_count) else self._switch.active(knobs.blocks)
        return Setting(active, self._switch.experts(knobs.top_k))
