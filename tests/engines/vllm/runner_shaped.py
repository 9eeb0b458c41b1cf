"""What looks like vLLM's model runner to the plug-in: the same methods, driven by what looks like its SchedulerOutput.

The work of a step is real (a matrix product that the device takes a known number of times), so device marks can be held
against a clock of the test's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch


@dataclass
class NewRequest:
    req_id: str
    prompt_len: int
    num_computed_tokens: int = 0


@dataclass
class Scheduled:
    """A SchedulerOutput. cached: request -> how many of its tokens were computed before."""

    num_scheduled_tokens: dict[str, int]
    scheduled_new_reqs: list[NewRequest] = field(default_factory=list)
    cached: dict[str, int] = field(default_factory=dict)
    scheduled_encoder_inputs: dict[str, list[int]] = field(default_factory=dict)
    finished_req_ids: set[str] = field(default_factory=set)

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())

    @property
    def scheduled_cached_reqs(self):
        return SimpleNamespace(req_ids=list(self.cached), num_computed_tokens=list(self.cached.values()))


class Runner:
    """execute_model, then sample_tokens. turns: how much work each part is."""

    def __init__(self, device: str = "cpu", size: int = 32, turns: int = 1) -> None:
        self.device = torch.device(device)
        self.turns = turns
        self.weight = torch.randn(size, size, device=self.device) / size
        self.state = torch.randn(size, size, device=self.device)

    def execute_model(self, scheduler_output, intermediate_tensors=None):
        if not scheduler_output.total_num_scheduled_tokens:
            return "empty"
        self._execute_mm_encoder(scheduler_output)
        self._model_forward()
        return None

    def sample_tokens(self, grammar_output=None):
        self.work()
        return "tokens"

    def _model_forward(self):
        self.work()

    def _execute_mm_encoder(self, scheduler_output):
        if scheduler_output.scheduled_encoder_inputs:
            self.work()

    def work(self) -> None:
        for _ in range(self.turns):
            self.state = self.state @ self.weight
