"""The seeds' way, kept as a peer: vision, prefill and total timed in calls of their own, decode by subtraction.

Each flaw is theirs and on purpose: three calls instead of one, vision outside autocast, no warm-up of the parts,
the allocator's cache emptied before the total only, a synchronize at every border, and the remainder clamped at 0.
No number of laptime's own is made here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from time import perf_counter_ns
from typing import Any

import torch

from laptime.data.record import Sample, Subtraction
from laptime.errors import LaptimeError
from laptime.measure.session import Input
from laptime.models.anatomy import Anatomy

GENERATION_ONLY = {"max_new_tokens", "min_new_tokens", "do_sample", "cache_implementation", "generation_config"}


def subtract(
    model: Any, anatomy: Anatomy, item: Input, *, repeat: int, autocast: str | None, direct: Sample | None
) -> Subtraction:
    """Time one input the seeds' way. `model.generate` must be the model's own, not a timed one.

    Raises LaptimeError for a vision model without get_image_features().
    """
    device = next(model.parameters()).device
    inputs = {name: value for name, value in item.kwargs.items() if name not in GENERATION_ONLY}
    precision = torch.autocast(device.type, dtype=getattr(torch, autocast)) if autocast else nullcontext()
    with torch.no_grad():
        vision_ms = _time_vision(model, inputs, device)
        with precision:
            prefill_ms = _time_prefill(model, anatomy, inputs, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with precision:
        total_ms = _timed_ms(lambda: model.generate(**item.kwargs), device)
    residual_ms = total_ms - vision_ms - prefill_ms
    return Subtraction(
        sample_id=item.sample_id,
        repeat=repeat,
        vision_ms=vision_ms,
        prefill_ms=prefill_ms,
        total_ms=total_ms,
        residual_ms=residual_ms,
        decode_ms=max(0.0, residual_ms),
        direct=None if direct is None else direct.stages,
    )


def _time_vision(model: Any, inputs: Mapping[str, Any], device: torch.device) -> float:
    if not any(name.startswith("pixel_values") for name in inputs):
        return 0.0
    encode = getattr(model, "get_image_features", None)
    if encode is None:
        raise LaptimeError(f"{type(model).__name__} has no get_image_features(), which --method subtract calls")
    accepted = inspect.signature(encode).parameters
    arguments = {name: value for name, value in inputs.items() if name in accepted and name != "input_ids"}
    return _timed_ms(lambda: encode(**arguments), device)


def _time_prefill(model: Any, anatomy: Anatomy, inputs: Mapping[str, Any], device: torch.device) -> float:
    """First block's entry to last block's exit in a forward of its own (which runs the vision tower again)."""
    instants: list[int] = []

    def stamp(*_: Any) -> None:
        _wait(device)
        instants.append(perf_counter_ns())

    handles = [
        anatomy.layers[0].register_forward_pre_hook(stamp),
        anatomy.layers[-1].register_forward_hook(stamp),
    ]
    try:
        model(**inputs, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    return (instants[-1] - instants[0]) / 1e6


def _timed_ms(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    begin = perf_counter_ns()
    call()
    _wait(device)
    return (perf_counter_ns() - begin) / 1e6


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
