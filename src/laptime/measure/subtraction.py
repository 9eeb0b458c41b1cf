"""Stages by subtraction, to show how wrong it is: three separate calls, decode is what is left.

Vision, prefill and the total are timed in three separate calls. Decode is the total minus the other two, and a negative
rest is stored as 0. This is what programs without marks do, with all its flaws: vision runs outside autocast, no part
is warmed up, the allocator's cache is emptied before the total only, and every border waits for the device.
No other number of laptime is obtained this way.
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

GENERATION_ONLY = {"max_new_tokens", "min_new_tokens", "do_sample", "cache_implementation", "generation_config",
                   "tokenizer"}  # fmt: skip


def subtract(
    model: Any, anatomy: Anatomy, item: Input, *, repeat: int, autocast: str | None, direct: Sample | None
) -> Subtraction:
    """Time one input by subtraction. `model.generate` must be the model's own, not one that a StageTimer times.

    direct: the same input measured directly, to be stored beside it.
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
        raise LaptimeError(f"{type(model).__name__} has no get_image_features(), which `method` subtract calls")
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
