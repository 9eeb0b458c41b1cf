"""One generate() call while it runs: what is needed to time it, and the call itself between its first and last mark.

An inner generate() (BLIP-2 calls its language model's) is where the tokens are made. It puts its own arguments,
settings and result here, so that they are what is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from laptime.data.record import Scalar
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes, check_assisted
from laptime.measure.call_settings import (
    bind,
    cached_tokens,
    certain_length,
    is_assisted,
    refuse_only_sound,
    refuse_unmeasurable,
    refuse_windows,
    resolve,
)
from laptime.measure.clock import Clock
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.model_facts import how_it_runs
from laptime.measure.probes import Probes
from laptime.measure.stand_in import StandIn
from laptime.measure.watch import Watch
from laptime.models.anatomy import Anatomy


@dataclass(frozen=True)
class TimedModel:
    """A model whose calls are timed, its parts, and what is measured of each call.

    core: the transformers model in a wrapper such as PEFT's, or the model itself. decoding: the part whose generate()
    runs the decode loop. placeholders: the ids that stand for image or video features.
    """

    model: Any
    core: Any
    decoding: Any
    anatomy: Anatomy
    device: torch.device
    placeholders: frozenset[int]
    monitor: GpuMonitor | None
    per_token: bool
    energy: bool
    memory: bool
    assisted: bool


@dataclass
class TimedCall:
    """One generate() call. `returned` is what the user gets, `result` what the tokens are counted from."""

    at: StandIn
    module: Any  # whose steps are marked
    arguments: dict[str, Any]
    settings: GenerationConfig
    probes: Probes
    clock: Clock
    watch: Watch
    how: dict[str, Scalar]  # precision and attention
    cached_tokens: int | None
    preprocess_ms: float | None = None
    overlapped: bool = False
    inner: bool = False  # an inner generate() was entered: its result is what is counted
    result: Any = None
    returned: Any = None

    def run(self, others: Iterable[TimedCall]) -> None:
        """Call generate() between the first mark and the last.

        others: calls that other threads are in. All of them overlap.
        """
        for other in others:
            other.overlapped = self.overlapped = True
        with self.watch, self.probes:
            self.probes.start()
            self.returned = self.at.original(**self.arguments)
            self.probes.take("end")
        if not self.inner:
            self.result = self.returned

    def enter(self, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A generate() that this call has called. The first one is where the tokens are made."""
        probes = self.probes
        given = list(kwargs.get("logits_processor") or ())
        carried = any(processor is probes for processor in given)
        if probes.logits or (self.at.takes_processors and not carried):  # a second one, or not for the text
            if carried:
                kwargs = {**kwargs, "logits_processor": LogitsProcessorList([p for p in given if p is not probes])}
            return at.original(*args, **kwargs)
        try:
            call = bind(at.original, args, kwargs)
            settings = resolve(at.module, call)
            probes.follow(at.module, certain_length(at.module, settings, call))
            if not carried:
                call["logits_processor"] = LogitsProcessorList([probes, *given])
        except Exception as error:  # the call goes on without its sample
            probes.error = probes.error or error
            return at.original(*args, **kwargs)
        self.module, self.arguments, self.settings, self.inner = at.module, call, settings, True
        self.result = at.original(**call)
        return self.result


def prepare_call(
    timed: TimedModel, clock: Clock, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> TimedCall:
    """What is needed to time this call. Raises LaptimeError for what can't be measured."""
    call = bind(at.original, args, kwargs)
    module = timed.core if at.module is timed.model else at.module
    weight = next(timed.core.parameters())
    if weight.device != timed.device:
        raise LaptimeError(
            f"the model is on {weight.device} now, and this StageTimer was made when it was on {timed.device}; "
            "make another"
        )
    refuse_only_sound(at.original, call)
    refuse_windows(module, call)
    settings = resolve(module, call)
    refuse_unmeasurable(settings, call, timed.device, assisted=timed.assisted)
    if timed.decoding is not timed.core:
        refuse_unmeasurable(resolve(timed.decoding, call), call, timed.device, assisted=timed.assisted)
    drafts = is_assisted(settings, call)
    if drafts:
        check_assisted(module, settings, call)
    # A generate() that the user has put there may stop the model's own earlier.
    last_step = certain_length(module, settings, call) if at.own is None else None
    make = AssistedProbes if drafts else Probes
    probes = make(module, timed.anatomy, clock, per_token=timed.per_token, last_step=last_step)
    if isinstance(probes, AssistedProbes):
        call["stopping_criteria"] = StoppingCriteriaList([*(call.get("stopping_criteria") or ()), probes.criterion])
    if at.takes_processors:
        # The first of those given: what a grammar takes to choose a token is no time of the model.
        call["logits_processor"] = LogitsProcessorList([probes, *(call.get("logits_processor") or ())])
    if timed.per_token:
        clock.reserve((settings.max_new_tokens or 0) + 64)
    watch = Watch(timed.device, timed.monitor, energy=timed.energy, memory=timed.memory)
    how = how_it_runs(timed.core, weight)
    return TimedCall(at, module, call, settings, probes, clock, watch, how, cached_tokens(call))
