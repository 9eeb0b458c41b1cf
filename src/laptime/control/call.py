"""One call's choice, as far as it has been made."""

from __future__ import annotations

from time import perf_counter_ns

import torch

from laptime.control.choices import Choice
from laptime.control.policies.ready import Opened
from laptime.control.seen import Budget
from laptime.control.tables.hidden import hidden_features
from laptime.models.knob_switch import LateKnobs


class Call:
    """number: the choice so far. waited_ms: until the early block's output was there; inside_ms: deciding, after that.

    matrix: what hidden states are multiplied by on the device, if anything.
    """

    def __init__(self, choices: list[Choice], opened: Opened, matrix: torch.Tensor | None, budget: Budget) -> None:
        self.budget = budget
        self.number = opened.number
        self.waited_ms = 0.0
        self.inside_ms = 0.0
        self._choices = choices
        self._opened = opened
        self._matrix = matrix

    def decide_late(self, hidden: torch.Tensor) -> LateKnobs:
        """Top-k and blocks from what the early block gave."""
        entered = perf_counter_ns()
        features = hidden_features(hidden, self._matrix)[0]
        arrived = perf_counter_ns()
        self.number = self._opened.close(features)
        choice = self._choices[self.number]
        self.waited_ms = (arrived - entered) / 1e6
        self.inside_ms = (perf_counter_ns() - arrived) / 1e6
        return LateKnobs(choice.top_k, choice.blocks)
