"""What takes the marks of one call: public hooks, a LogitsProcessor and one short-lived wrapper, removed afterwards.

Nothing of laptime runs inside a compiled forward: the hooks are removed before the first decode forward, which is when
transformers compiles or replays its decode step. In a decode step there is only one call of a LogitsProcessor. It
compares two integers where the last step is known beforehand; where EOS can make any step the last one, it moves one
event. A mark that can't be taken never ends the call: the first error is kept in `error`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, LogitsProcessor

from laptime.errors import LaptimeError
from laptime.measure.clock import Clock
from laptime.models.anatomy import Anatomy
from laptime.models.before_method import before
from laptime.models.encoders import EncoderWatch

PREPARE = "prepare_inputs_for_generation"
PROCESSORS = "_get_logits_processor"

SEVERAL_LOOPS = (
    "generate() ran its loop several times (Whisper with timestamps, or a second try at another temperature), so its "
    "stages can't be told apart; give each window a call of its own, without timestamps, at one temperature"
)

STEP_SIGNATURE = inspect.Signature(
    [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("input_ids", "scores")]
)


class Probes(LogitsProcessor):
    """Takes the marks of one generate() call. On exit the model is as it was, whatever happened inside.

    The marks are those of the thread that entered: what other threads do on the same model meanwhile takes none.
    """

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, clock: Clock, *, per_token: bool, last_step: int | None
    ) -> None:
        """model: whose steps are marked. last_step: the number of tokens when the call can't end earlier, else None."""
        self._model = model
        self._anatomy = anatomy
        self._clock = clock
        self._per_token = per_token
        self._step_mark = clock.mark if per_token else clock.remark
        self._only_step = None if per_token else last_step
        self._encoders = EncoderWatch(anatomy.encoders, self.take, self._move)
        self._handles: list[Any] = []
        self._stop_waiting: Callable[[], None] = _nothing
        self._stop_joining: Callable[[], None] = _nothing
        self._thread = get_ident()
        self.logits = 0  # the number of forwards with logits; a chunked prefill counts once
        self._plain = True  # the model's class has no generate() of its own
        self.error: Exception | None = None
        self.joined: tuple[GenerationConfig, int] | None = None  # what a loop inside works with: settings, prompt width
        self._sign()

    def follow(self, model: nn.Module, last_step: int | None) -> None:
        """Mark the steps of this model instead: the one whose generate() the outer generate() has called."""
        self._model = model
        self._only_step = None if self._per_token else last_step

    def __enter__(self) -> Probes:
        self._thread = get_ident()
        self._encoders.start()
        self._plain = type(self._model).__dict__.get("generate") is None
        if hasattr(self._model, PROCESSORS):
            self._stop_joining = before(self._model, PROCESSORS, self._join)
        self._handles.append(self._anatomy.language.register_forward_pre_hook(self._on_language_model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_hooks()
        self._stop_waiting()
        self._stop_joining()
        self.__dict__.pop("__call__", None)  # it refers to self: leave the garbage collector no cycle

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """generate() calls this with each step's logits. They are returned unchanged."""
        self.logits += 1
        if self.logits > 1:
            if self._only_step is None or self.logits == self._only_step:
                self._guarded(self._step_mark, "logits")
        else:
            self.take("first-logits")
            self._leave_language_model()
            self._stop_waiting = before(self._model, PREPARE, self._first_decode)
        return scores

    def __deepcopy__(self, memo: Any) -> Probes:
        """Who copies a call's arguments (PEFT's prompt tuning of T5) goes on with the marks of this call."""
        return self

    def start(self) -> None:
        """Wait until the device is idle and take the mark "start"."""
        self._guarded(lambda _: self._clock.start(), "start")

    def take(self, kind: str) -> None:
        """Take a mark."""
        self._guarded(self._clock.mark, kind)

    def _move(self, kind: str) -> None:
        self._guarded(self._clock.remark, kind)

    def _guarded(self, take: Callable[[str], None], kind: str) -> None:
        try:
            take(kind)
        except Exception as error:  # the call goes on without its sample
            self.error = self.error or error

    def _first_decode(self, prepare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Mark the first decode forward's entry, which no hook can see once that forward is compiled.

        generate() asks the model's public prepare_inputs_for_generation for the step's inputs, and then calls the
        forward with them. For that one call an attribute of the instance stands before the method.
        """
        self.take("first-token")
        self._stop_waiting()
        inputs = prepare(*args, **kwargs)
        self._encoders.stop()  # until here, since a model that hears as it writes may encode in a step (Kyutai)
        self.take("decode-begin")
        return inputs

    def _join(self, listed: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Stand first among the call's logits processors, also where a class's own generate() has dropped those given.

        What the others take to change the logits (guidance runs the model again) is no time of the forward before.
        """
        processors = listed(*args, **kwargs)
        given = any(one is self for one in processors)
        if given or not self._plain:  # else it is another generate() inside this one
            processors[:] = [self, *(one for one in processors if one is not self)]
            if self.logits:
                self.error = self.error or LaptimeError(SEVERAL_LOOPS)
            elif not self._handles:  # a forward before the loop (Whisper hears which language it is)
                self.take("loop-begin")
                self._handles.append(self._anatomy.language.register_forward_pre_hook(self._on_language_model))
            if self.joined is None and kwargs.get("input_ids_seq_length"):
                self.joined = kwargs["generation_config"], kwargs["input_ids_seq_length"]
        return processors

    def _sign(self) -> None:
        """Let transformers read the signature of __call__ quickly, as it does at every step.

        Reading it from a method takes 9 µs a step; from an attribute with a signature of its own, 1 µs.
        """

        def step(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return self(input_ids, scores)

        step.__signature__ = STEP_SIGNATURE  # type: ignore[attr-defined]
        self.__dict__["__call__"] = step

    def _on_language_model(self, *_: Any) -> None:
        if get_ident() == self._thread:
            self.take("prefill-begin")
            self._handles.pop().remove()  # this hook, the last one: later chunks of a prefill need no mark

    def _remove_hooks(self) -> None:
        self._leave_language_model()
        self._encoders.stop()

    def _leave_language_model(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _nothing() -> None:
    """What undoes nothing."""
