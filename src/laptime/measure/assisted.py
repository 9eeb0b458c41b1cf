"""Assisted decoding: a smaller model or a look into the prompt drafts candidates, and one forward verifies them.

A round is: draft candidates, run the model over all of them, keep those that it would have chosen itself and one more.
The marks of a round, beside those of any call (laptime.measure.timeline):

    verify-begin   the model's inputs for the round are asked for: the draft is there
    logits         the round's logits are there and processed
    chosen         the round's tokens are chosen; the next draft begins

They are taken where transformers itself calls out: the model's prepare_inputs_for_generation, a LogitsProcessor, which
sees the logits of each candidate, and a StoppingCriteria, which sees the ids after each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from transformers import GenerationConfig, StoppingCriteria

from laptime.data.record import Mark
from laptime.errors import LaptimeError
from laptime.measure.probes import PREPARE, Probes
from laptime.models.before_method import before

UNKNOWN_DRAFTS = ("assistant_early_exit", "use_mtp", "speculation_type")
"""Settings that draft with parts of the model itself, whose marks could not be told from the model's own."""


class DraftedCall(msgspec.Struct, frozen=True):
    """What a call's rounds came to. The first round's forward is the prefill, and its draft is in other."""

    draft_ms: float
    verify_ms: float
    drafted_tokens: int
    accepted_tokens: int


class AssistedProbes(Probes):
    """Takes the marks of one assisted call. `criterion` has to stand among its stopping criteria."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.criterion = _Rounds(self._on_ids)
        self.drafted: list[int] = []
        self.accepted: list[int] = []
        self._width = 0  # of the ids that the round's forward gets
        self._expected = 0  # logits of the round that have not come yet
        self._verifying = False

    def __enter__(self) -> AssistedProbes:
        super().__enter__()
        self._stop_waiting = before(self._model, PREPARE, self._on_inputs)
        return self

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """generate() calls this with the logits of each candidate, and so does the assistant with its own."""
        if not self._verifying:
            return scores
        if not self._expected:  # the first of the round: its ids are those that the round began with
            self._expected = self._width - input_ids.shape[1] + 1
            self.drafted.append(self._expected - 1)
            if not self.logits:
                self.take("first-logits")
                self._remove_hooks()
        self._expected -= 1
        if not self._expected:
            self._verifying = False
            self.logits += 1
            if self.logits > 1:
                self.take("logits")
        return scores

    def _on_inputs(self, prepare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        self._width = int(ids.shape[1])
        self._verifying, self._expected = True, 0
        if self.logits:
            self.take("verify-begin")
        return prepare(*args, **kwargs)

    def _on_ids(self, width: int) -> None:
        """The ids after a draft (nothing to note), or after a round."""
        if len(self.accepted) == self.logits:
            return
        began = self._width - self.drafted[-1]
        self.accepted.append(width - began - 1)
        if self.logits == 1:
            self.take("first-token")
            self.take("decode-begin")
        else:
            self.take("chosen")

    def rounds(self, marks: Sequence[Mark]) -> DraftedCall:
        """The call's drafts and verifications. Raises LaptimeError where a round's end was not seen."""
        if len(self.accepted) != self.logits:
            raise LaptimeError("a round of assisted decoding ended unseen: generate() drops stopping criteria")
        draft_ms, verify_ms = round_times(marks)
        return DraftedCall(draft_ms, verify_ms, sum(self.drafted), sum(self.accepted))


def round_times(marks: Sequence[Mark]) -> tuple[float, float]:
    """What drafting and verifying took in all rounds of decode, in ms."""
    draft_ns = verify_ns = begun = 0
    for mark in marks:
        if mark.kind == "verify-begin":
            draft_ns += mark.device_ns - begun
            begun = mark.device_ns
        elif mark.kind == "logits":
            verify_ns += mark.device_ns - begun
        elif mark.kind in ("decode-begin", "chosen"):
            begun = mark.device_ns
    return draft_ns / 1e6, verify_ns / 1e6


class _Rounds(StoppingCriteria):
    """Stops nothing: it tells how long the ids are."""

    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note

    def __deepcopy__(self, memo: Any) -> _Rounds:
        return self

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._note(int(input_ids.shape[1]))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def check_assisted(model: Any, settings: GenerationConfig, call: Mapping[str, Any]) -> None:
    """Raise LaptimeError for a way of drafting whose marks can't be told from the model's own."""
    for name in UNKNOWN_DRAFTS:
        if getattr(settings, name, None):
            raise LaptimeError(f"{name} drafts with the model's own parts, which can't be timed apart; leave it out")
    if call.get("assistant_model") is model:
        raise LaptimeError("assistant_model is the model itself, so drafts can't be told from checks; take another one")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise LaptimeError("assisted decoding of an encoder-decoder is not measured; leave the assistant out")


def how_drafted(settings: GenerationConfig, call: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that samples of an assisted call are recorded under."""
    assistant = call.get("assistant_model")
    named = getattr(getattr(assistant, "config", None), "name_or_path", "") or type(assistant).__name__
    facts = {"prompt_lookup": settings.prompt_lookup_num_tokens, "assistant": None if assistant is None else named}
    return {name: value for name, value in facts.items() if value is not None}
