"""Knobs of a loaded model, set for a while and undone: crops, top-k, active blocks, attention implementation.

A knob is an attribute of the model and its config, set before a configuration runs. No code of laptime runs inside a
forward: no hook, no wrapper. Compiled graphs are thrown away at both ends, since they hold the old settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import torch

from laptime.models.active_blocks import always_active, check_blocks, choose_blocks, only_blocks
from laptime.models.anatomy import find_anatomy
from laptime.models.attention import attending, check_attention
from laptime.models.config_changes import text_configs
from laptime.models.image_tiles import check_crops, cutting
from laptime.models.top_k import check_top_k, routed_to


class ModelKnobs(msgspec.Struct, frozen=True, kw_only=True):
    """What to change in a model; None leaves it as it is.

    crops: (lowest, highest) number of crops that an image is cut into; top_k: experts each token is sent to;
    blocks: active decoder blocks; attention: the attention implementation, as transformers calls it.
    """

    crops: tuple[int, int] | None = None
    top_k: int | None = None
    blocks: int | None = None
    attention: str | None = None


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a model runs with while knobs are applied.

    active_blocks: which of the blocks it had before run, ascending; top_k: None in a model without experts.
    """

    active_blocks: tuple[int, ...]
    top_k: int | None
    crops: tuple[int, int] | None
    attention: str | None


def check_knobs(model: Any, knobs: ModelKnobs, importance: Sequence[float] | None = None) -> None:
    """Raise LaptimeError, with the allowed range, for a knob that this model can't take.

    model: a model or what load_model gave; one on the device "meta" (no weights) is enough. importance: one number
    for each decoder block.
    """
    model = getattr(model, "model", model) if not hasattr(model, "generate") else model
    anatomy = find_anatomy(model)
    name = _kind(model.config, model)
    if knobs.crops is not None:
        check_crops(name, model.config, knobs.crops)
    if knobs.top_k is not None:
        check_top_k(_kind(text_configs(model)[0], model), anatomy, knobs.top_k)
    if knobs.blocks is not None or importance is not None:
        check_blocks(model, anatomy, len(anatomy.layers) if knobs.blocks is None else knobs.blocks, importance)
    if knobs.attention is not None:
        check_attention(name, model, knobs.attention)


@contextlib.contextmanager
def applied(model: Any, knobs: ModelKnobs, *, importance: Sequence[float] | None = None) -> Iterator[Applied]:
    """The model with the knobs set, inside the block; afterwards, whatever happened, the model as it was.

    importance: one number for each decoder block, for which of them stay active. Blocks inside blocks work: the inner
    ones start from the model as the outer ones left it.
    Raises LaptimeError, before anything is changed, for a knob that the model can't take.
    """
    check_knobs(model, knobs, importance)
    anatomy = find_anatomy(model)
    count = len(anatomy.layers)
    active = tuple(range(count))
    with contextlib.ExitStack() as stack:
        if knobs != ModelKnobs():
            stack.enter_context(without_compiled_calls(model))
        if knobs.crops is not None:
            stack.enter_context(cutting(model, knobs.crops))
        if knobs.attention is not None:
            stack.enter_context(attending(_kind(model.config, model), model, knobs.attention))
        if knobs.top_k is not None:
            stack.enter_context(routed_to(model, anatomy, knobs.top_k))
        if knobs.blocks is not None:
            active = choose_blocks(count, knobs.blocks, always_active(model, count), importance)
            stack.enter_context(only_blocks(model, anatomy, active))
        top_k = anatomy.experts.top_k if anatomy.experts is not None else None
        yield Applied(
            active_blocks=active,
            top_k=top_k if knobs.top_k is None else knobs.top_k,
            crops=knobs.crops,
            attention=getattr(model.config, "_attn_implementation", None),
        )


def _kind(config: Any, model: Any) -> str:
    return str(getattr(config, "model_type", type(model).__name__))


_COMPILED = ("_compiled_call", "_last_compile_config")  # where transformers keeps its compiled decode step


@contextlib.contextmanager
def without_compiled_calls(model: Any) -> Iterator[None]:
    """No graph compiled before is used inside the block, and none compiled inside is used after it.

    Dynamo's caches are emptied both times, of every model in the process. Its guards see these changes, but it keeps
    eight graphs of one function and, after one warning, runs the model eagerly from the ninth setting on
    (benchmarks/knob_changes.py: 7 to 9 times as slow).
    """
    _forget(model)
    try:
        yield
    finally:
        _forget(model)


def _forget(model: Any) -> None:
    for name in _COMPILED:
        vars(model).pop(name, None)
    torch.compiler.reset()
