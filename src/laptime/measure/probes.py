"""What is hung on a model for one call, and taken off again: public hooks, a LogitsProcessor, one short-lived wrapper.

Nothing of ours runs inside a compiled forward: the hooks go when the first logits arrive, before transformers
compiles or replays its decode step. What stays in a decode step is one call of a LogitsProcessor that compares two
integers where the last step is known beforehand, and moves one event where EOS may make any step the last.
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

PREPARE = "prepare_inputs_for_generation"

STEP_SIGNATURE = inspect.Signature(
    [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("input_ids", "scores")]
)


class Probes(LogitsProcessor):
    """Marks one generate() call. A context manager: whatever happens inside, the model leaves it as it came."""

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, clock: Clock, *, per_token: bool, last_step: int | None
    ) -> None:
        """`last_step`: the number of tokens where the call can't end before it, else None (EOS may come)."""
        self._model = model
        self._anatomy = anatomy
        self._clock = clock
        self._take = clock.mark if per_token else clock.remark
        self._only_step = None if per_token else last_step
        self._handles: list[Any] = []
        self._own_prepare = model.__dict__.get(PREPARE)  # the instance's own, where somebody has set one
        self.logits = 0  # how often logits came: forwards, a chunked prefill counted once
        self._sign()

    def __enter__(self) -> Probes:
        mark = self._clock.mark
        vision, projector = self._anatomy.vision, self._anatomy.projector
        if vision is not None:
            last = projector if projector is not None else vision
            self._handles.append(vision.register_forward_pre_hook(lambda *_: mark("vision-begin")))
            self._handles.append(last.register_forward_hook(lambda *_: mark("vision-end")))
        self._handles.append(self._anatomy.language.register_forward_pre_hook(self._on_language_model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_hooks()
        self._restore_prepare()
        self.__dict__.pop("__call__", None)  # it refers to us: no cycle is left for the collector

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Called by generate() with each step's logits; returns them as they are."""
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
        """Let transformers read our signature quickly: it asks for processor.__call__'s at every step.

        Taking it from a method costs 9 us a step, from an attribute that brings its own 1 us.
        """

        def step(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return self(input_ids, scores)

        step.__signature__ = STEP_SIGNATURE  # type: ignore[attr-defined]
        self.__dict__["__call__"] = step

    def _on_language_model(self, *_: Any) -> None:
        self._clock.mark("prefill-begin")
        self._handles.pop().remove()  # itself, the last one: the chunks of a chunked prefill need no mark

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch_first_decode(self) -> None:
        """Mark the first decode forward's entry, which no hook can see once that forward is compiled.

        generate() asks the model's public prepare_inputs_for_generation for the step's inputs and calls the
        forward with them at once. The instance's attribute shadows the method for that one call, then it is gone.
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
