"""What is kept of a call that has returned, until its sample is built.

A sample is built when somebody looks at it, or before the next call. What the user may change or free by then is
copied or read at once: the ids that came back, the shapes of what went in, the kind of cache. No tensor of the user's
is kept, so that memory is freed when the user frees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from laptime.data.record import Flag, Scalar
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes, how_drafted
from laptime.measure.call_settings import Asked, asked_of, given_cache, prompt_ids
from laptime.measure.clock import Clock
from laptime.measure.probes import Probes
from laptime.measure.returned_rows import is_encoder_decoder, sequences
from laptime.measure.timed_call import TimedCall, TimedModel
from laptime.measure.watch import Circumstances

Key = tuple[str, int]
"""A sample's name and its repeat."""


@dataclass(frozen=True, kw_only=True)
class ReturnedCall:
    """A call whose sample is not built yet.

    clock: it holds the call's marks, so no other call can have it meanwhile. ids: what generate() returned, on the
    host. prompt: the first row's ids where `ids` does not begin with them. cache: the kind of cache that the call
    brought. how: precision, attention, and what drafted. flags: what was known beforehand.
    """

    key: Key
    clock: Clock
    probes: Probes
    module: Any
    settings: GenerationConfig
    asked: Asked
    ids: torch.Tensor
    prompt: torch.Tensor | None
    around: Circumstances
    cache: str | None
    how: Mapping[str, Scalar]
    flags: tuple[Flag, ...]
    inner: bool
    cached_tokens: int | None
    preprocess_ms: float | None


def returned_call(call: TimedCall, timed: TimedModel, key: Key, flags: tuple[Flag, ...]) -> ReturnedCall:
    """Keep what the sample needs. Raises LaptimeError, or what a mark failed with, where there can be no sample.

    flags: what was known of the call before it ran.
    """
    if call.probes.error is not None:
        raise call.probes.error
    if call.watch.circumstances is None:
        raise LaptimeError("what happened around the call could not be read")
    returned = sequences(call.result)
    asked = asked_of(call.module, call.arguments)
    drafted = how_drafted(call.settings, call.arguments) if isinstance(call.probes, AssistedProbes) else {}
    return ReturnedCall(
        key=key,
        clock=call.clock,
        probes=call.probes,
        module=call.module,
        settings=call.settings,
        asked=asked,
        ids=returned.to("cpu", copy=True),
        prompt=_prompt_elsewhere(call, timed, asked, returned),
        around=call.watch.circumstances,
        cache=given_cache(call.arguments),
        how={**call.how, **drafted},
        flags=(*flags, "overlapped") if call.overlapped else flags,
        inner=call.inner,
        cached_tokens=call.cached_tokens,
        preprocess_ms=call.preprocess_ms,
    )


def _prompt_elsewhere(call: TimedCall, timed: TimedModel, asked: Asked, returned: torch.Tensor) -> torch.Tensor | None:
    """The first row of the prompt where what came back does not begin with it, and image tokens are counted in it."""
    prompt = prompt_ids(call.arguments)
    if prompt is None or not timed.placeholders:
        return None
    elsewhere = is_encoder_decoder(timed.core) or returned.shape[1] < asked.width
    return prompt[0].to("cpu", copy=True) if elsewhere else None
