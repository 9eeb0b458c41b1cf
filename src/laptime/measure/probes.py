"""What takes the marks of one call: public hooks, a LogitsProcessor and one short-lived wrapper, removed afterwards.

Nothing of laptime runs inside a compiled forward: the hooks are removed when the first logits arrive, before
transformers compiles or replays its decode step. In a decode step there is only one call of a LogitsProcessor. It
compares two integers where the last step is known beforehand; where EOS can make any step the last one, it moves one
event.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import LogitsProcessor

from laptime.measure.clock import Clock
from laptime.models.anatomy import Anatomy
from laptime.models.encoders import EncoderWatch

PREPARE = "prepare_inputs_for_generation"

STEP_SIGNATURE = inspect.Signature(
    [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("input_ids", "scores")]
)


class Probes(LogitsProcessor):
    """Takes the marks of one generate() call. On exit the model is as it was, whatever happened inside."""

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, clock: Clock, *, per_token: bool, last_step: int | None
    ) -> None:
        """last_step: the number of tokens when the call can't end earlier, else None (EOS can come)."""
        self._model = model
        self._anatomy = anatomy
        self._clock = clock
        self._take = clock.mark if per_token else clock.remark
        self._only_step = None if per_token else last_step
        self._encoders = EncoderWatch(anatomy.encoders, clock.mark, clock.remark)
        self._handles: list[Any] = []
        self._own_prepare = model.__dict__.get(PREPARE)  # the instance's own, if somebody has set one
        self.logits = 0  # the number of forwards with logits; a chunked prefill counts once
        self._sign()

    def __enter__(self) -> Probes:
        self._encoders.start()
        self._handles.append(self._anatomy.language.register_forward_pre_hook(self._on_language_model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_hooks()
        self._restore_prepare()
        self.__dict__.pop("__call__", None)  # it refers to self: leave the garbage collector no cycle

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """generate() calls this with each step's logits. They are returned unchanged."""
        self.logits += 1
        if self.logits > 1:
            if self._only_step is None or self.logits == self._only_step:
                self._take("logits")
        else:
            self._clock.mark("first-logits")
            self._remove_hooks()
            self._watch_first_decode()
        return scores

    def _sign(self) -> None:
        """Let transformers read the signature of __call__ quickly, as it does at every step.

        Reading it from a method takes 9 µs a step; from an attribute with a signature of its own, 1 µs.
        """

        def step(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return self(input_ids, scores)

        step.__signature__ = STEP_SIGNATURE  # type: ignore[attr-defined]
        self.__dict__["__call__"] = step

    def _on_language_model(self, *_: Any) -> None:
        self._clock.mark("prefill-begin")
        self._handles.pop().remove()  # this hook, the last one: later chunks of a prefill need no mark

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._encoders.stop()

    def _watch_first_decode(self) -> None:
        """Mark the first decode forward's entry, which no hook can see once that forward is compiled.

        generate() asks the model's public prepare_inputs_for_generation for the step's inputs, and then calls the
        forward with them. For that one call an attribute of the instance stands before the method.
        """
        model, mark = self._model, self._clock.mark
        prepare: Callable[..., Any] = model.prepare_inputs_for_generation

        def prepare_first_decode(*args: Any, **kwargs: Any) -> Any:
            mark("first-token")
            self._restore_prepare()
            inputs = prepare(*args, **kwargs)
            mark("decode-begin")
            return inputs

        model.__dict__[PREPARE] = prepare_first_decode

    def _restore_prepare(self) -> None:
        if self._own_prepare is None:
            self._model.__dict__.pop(PREPARE, None)
        else:
            self._model.__dict__[PREPARE] = self._own_prepare
