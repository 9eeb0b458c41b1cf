"""Knobs of a loaded model, set for a while and undone: crops, top-k, active blocks, attention implementation.

A knob is an attribute of the model and its config, set before a configuration runs. No code of laptime runs inside a
forward: no hook, no wrapper. Compiled graphs are thrown away at both ends, since they hold the old settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import torch
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.active_blocks import always_active, check_blocks, choose_blocks, only_blocks
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.block_experts import NAMES, check_experts, own_experts, routed_by_block
from laptime.models.config_changes import all_configs, changed, text_configs
from laptime.models.image_tiles import check_crops, cutting
from laptime.models.loading import ATTENTIONS


class ModelKnobs(msgspec.Struct, frozen=True, kw_only=True):
    """What to change in a model; None leaves it as it is.

    crops: (lowest, highest) number of crops that an image is cut into; top_k: experts each token is sent to;
    experts: the same for each block of the whole model, first to last, instead of top_k (0: a block without experts);
    blocks: active decoder blocks; active: which ones these are, ascending (None: those that choose_blocks takes by
    their position); attention: the attention implementation, as transformers calls it.
    """

    crops: tuple[int, int] | None = None
    top_k: int | None = None
    experts: tuple[int, ...] | None = None
    blocks: int | None = None
    active: tuple[int, ...] | None = None
    attention: str | None = None


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a model runs with while knobs are applied.

    active_blocks: which of the blocks it had before run, ascending; top_k: None in a model without experts; experts:
    how many each of the blocks before sends a token to, where they differ.
    """

    active_blocks: tuple[int, ...]
    top_k: int | None
    crops: tuple[int, int] | None
    attention: str | None
    experts: tuple[int, ...] | None = None


def check_knobs(model: Any, knobs: ModelKnobs) -> None:
    """Raise LaptimeError, with the allowed range, for a knob that this model can't take.

    model: a model or what load_model gave; one on the device "meta" (no weights) is enough.
    """
    model = getattr(model, "model", model) if not hasattr(model, "generate") else model
    anatomy = find_anatomy(model)
    name = _kind(model.config, model)
    if knobs.crops is not None:
        check_crops(name, model.config, knobs.crops)
    if knobs.top_k is not None:
        check_top_k(_kind(text_configs(model)[0], model), anatomy, knobs.top_k)
    if knobs.experts is not None:
        _check_experts(model, anatomy, knobs)
    if knobs.blocks is not None or knobs.active is not None:
        check_blocks(model, anatomy, len(anatomy.layers) if knobs.blocks is None else knobs.blocks, knobs.active)
    if knobs.attention is not None:
        check_attention(name, model, knobs.attention)


@contextlib.contextmanager
def applied(model: Any, knobs: ModelKnobs) -> Iterator[Applied]:
    """The model with the knobs set, inside the block; afterwards, whatever happened, the model as it was.

    Blocks inside blocks work: the inner ones start from the model as the outer ones left it, and are numbered as there.
    Raises LaptimeError, before anything is changed, for a knob that the model can't take.
    """
    check_knobs(model, knobs)
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
        if knobs.experts is not None:
            stack.enter_context(routed_by_block(anatomy, knobs.experts))
        if knobs.blocks is not None:
            active = knobs.active or choose_blocks(count, knobs.blocks, always_active(model, count))
            stack.enter_context(only_blocks(model, anatomy, active))
        top_k = anatomy.experts.top_k if anatomy.experts is not None else None
        yield Applied(
            active_blocks=active,
            top_k=top_k if knobs.top_k is None else knobs.top_k,
            crops=knobs.crops,
            attention=getattr(model.config, "_attn_implementation", None),
            experts=knobs.experts,
        )


def _check_experts(model: Any, anatomy: Anatomy, knobs: ModelKnobs) -> None:
    name = _kind(text_configs(model)[0], model)
    assert knobs.experts is not None
    if knobs.top_k is not None:
        raise LaptimeError("top_k and experts by block are given: both set the same thing; give one of them")
    if name in FIXED:
        raise LaptimeError(f"experts by block: {name}'s routing is fixed by its code; leave them out")
    check_experts(name, anatomy, knobs.experts)


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


def check_attention(name: str, model: Any, attention: str) -> None:
    """Raise LaptimeError unless the model can use this implementation here.

    Its class must have it, and its package must be installed.
    """
    with attending(name, model, attention):
        pass


@contextlib.contextmanager
def attending(name: str, model: Any, attention: str) -> Iterator[None]:
    """All parts of the model use this attention implementation inside the block.

    Raises LaptimeError for a name that isn't one, and for one that this model, or this machine, doesn't have.
    """
    if attention not in ATTENTIONS:
        raise LaptimeError(f"attention {attention!r} is unknown: use {', '.join(ATTENTIONS)}")
    with contextlib.ExitStack() as stack:
        for config in all_configs(model):
            before = getattr(config, "_attn_implementation_internal", None)
            stack.enter_context(changed(config, "_attn_implementation_internal", before))
        try:
            model.set_attn_implementation(attention)
        except (ValueError, ImportError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise LaptimeError(f"attention {attention!r}: {name} can't use it here: {reason}") from None
        if model.config._attn_implementation != attention:
            raise LaptimeError(f"attention {attention!r}: {name} can't change it once loaded; load it with it instead")
        yield


FIXED = ("phimoe", "jetmoe", "llama4_text")
"""Families whose top-k can't be changed: PhiMoE's mixer always takes two, JetMoE's also sets its attention heads, and
Llama 4 sends every token through every expert, whatever its top-k."""
_CONFIG_KEYS = NAMES[1:]


def check_top_k(name: str, anatomy: Anatomy, top_k: int) -> None:
    """Raise LaptimeError unless the model routes and `top_k` is within 1 and its number of experts."""
    experts = anatomy.experts
    if name in FIXED:
        raise LaptimeError(f"top_k {top_k}: {name}'s routing is fixed by its code; leave top_k out")
    if experts is None:
        raise LaptimeError(f"top_k {top_k}: {name} has no experts to route to; leave top_k out")
    if experts.count is None:
        raise LaptimeError(f"top_k {top_k}: can't tell how many experts {name} has; leave top_k out")
    if not 1 <= top_k <= experts.count:
        raise LaptimeError(f"top_k {top_k}: the model has {experts.count} experts; use 1 to {experts.count}")


@contextlib.contextmanager
def routed_to(model: nn.Module, anatomy: Anatomy, top_k: int) -> Iterator[None]:
    """Every gate picks `top_k` experts inside the block. Check it before (check_top_k).

    A gate reads the number from its own attribute, or the model reads it from its config. Both are set, so that
    they agree. Whether the weights of the chosen experts are made to sum to
    one (norm_topk_prob) stays as the model has it.
    """
    with contextlib.ExitStack() as stack:
        for holder, name in places_of_top_k(model, anatomy):
            stack.enter_context(changed(holder, name, top_k))
        yield


def places_of_top_k(model: nn.Module, anatomy: Anatomy) -> list[tuple[Any, str]]:
    """Every (holder, attribute) that says how many experts a token is sent to: modules, then configs."""
    experts = anatomy.experts
    assert experts is not None
    before = {experts.top_k, *own_experts(model)}  # they differ inside `applied` with experts by block
    holders = [(module, name) for module in model.modules() for name in NAMES]
    configs = [(config, name) for config in text_configs(model) for name in _CONFIG_KEYS]
    return [(h, n) for h, n in [*holders, *configs] if type(vars(h).get(n)) is int and vars(h)[n] in before]
