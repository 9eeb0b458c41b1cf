"""Active blocks: the language model as if it had fewer decoder blocks.

The other blocks are taken off the model's list. Those that stay are numbered anew, in the modules and in the config.
So every cache and mask has room for exactly the blocks that run. A block that only lets its input through would
leave a hole in the cache: a static cache asks its first layer how long it is, and a hole at layer 0 says 0 for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from laptime.errors import LaptimeError
from laptime.models.anatomy import Anatomy
from laptime.models.block_list import written_blocks
from laptime.models.config_changes import changed, text_configs

_LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


def always_active(model: Any, count: int) -> set[int]:
    """The blocks that stay whatever is asked: the first, the last, the first of every kind (a cache without any
    attention has no length), and those that image features are added after (Qwen3-VL's first few)."""
    kinds = getattr(text_configs(model)[0], "layer_types", None) or ()
    vision = getattr(model.config, "vision_config", None)
    stacked = len(getattr(vision, "deepstack_visual_indexes", None) or ())
    first_of_kind = {kinds.index(kind) for kind in kinds[:count]}
    return {0, count - 1, *range(min(stacked, count)), *first_of_kind}


def check_blocks(model: Any, anatomy: Anatomy, blocks: int, active: Sequence[int] | None = None) -> None:
    """Raise LaptimeError unless exactly `blocks` blocks, and those of `active` if given, can stay active."""
    count = len(anatomy.layers)
    if active is not None:
        _check_active(model, count, blocks, active)
    if blocks == count:
        return
    kind = str(getattr(text_configs(model)[0], "model_type", type(model).__name__))
    if kind not in PROVED:
        raise LaptimeError(f"blocks {blocks}: leaving blocks out is not proved right for {kind}; leave blocks out")
    text = text_configs(model)[0]
    if getattr(text, "num_kv_shared_layers", 0) or getattr(text, "hidden_size_per_layer_input", 0):
        raise LaptimeError(
            f"blocks {blocks}: this {kind} model's blocks share keys and values or have inputs of their own; leave "
            "blocks out"
        )
    kept = always_active(model, count)
    if not len(kept) <= blocks <= count:
        raise LaptimeError(
            f"blocks {blocks}: the model has {count} and {len(kept)} of them always run; use {len(kept)} to {count}"
        )


def _check_active(model: Any, count: int, blocks: int, active: Sequence[int]) -> None:
    shown = written_blocks(active)
    if list(active) != sorted(set(active)) or not active or active[0] < 0 or active[-1] >= count:
        raise LaptimeError(f"active blocks {shown}: the model has blocks 0 to {count - 1}; name each once, ascending")
    if len(active) != blocks:
        raise LaptimeError(f"active blocks {shown}: {len(active)} of them, and blocks is {blocks}; make them agree")
    if missing := sorted(always_active(model, count) - set(active)):
        raise LaptimeError(f"active blocks {shown}: block {missing[0]} of this model always runs; name it too")


def choose_blocks(
    count: int, blocks: int, kept: set[int], importance: Sequence[float] | None = None
) -> tuple[int, ...]:
    """Which `blocks` of `count` blocks stay active, in ascending order; `kept` are always among them.

    With an importance for each block the most important stay, of equals the earlier one. Without one, the blocks right
    before the last are left out: deeper blocks change the hidden states least (Gromov et al., arXiv 2403.17887).
    """
    free = [index for index in range(count) if index not in kept]
    if importance is not None:
        free.sort(key=lambda index: (-importance[index], index))
    return tuple(sorted([*kept, *free[: blocks - len(kept)]]))


@contextlib.contextmanager
def only_blocks(model: Any, anatomy: Anatomy, active: Sequence[int]) -> Iterator[None]:
    """The language model has the blocks `active` alone, as its blocks 0 to len(active) - 1, inside the block."""
    layers = list(anatomy.layers)
    parent_path, _, name = anatomy.layers_path.rpartition(".")
    parent = model.get_submodule(parent_path)
    with contextlib.ExitStack() as stack:
        for module, number in new_numbers(layers, active):
            stack.enter_context(changed(module, "layer_idx", number))
        for config in text_configs(model):
            for key, value in cut_values(config, len(layers), active):
                stack.enter_context(changed(config, key, value))
        stack.enter_context(changed(parent, name, nn.ModuleList(layers[index] for index in active)))
        yield


def new_numbers(layers: Sequence[nn.Module], active: Sequence[int]) -> list[tuple[nn.Module, int]]:
    """The modules of the `active` blocks that know their block's number, with the number that they get."""
    return [
        (module, number)
        for number, index in enumerate(active)
        for module in layers[index].modules()
        if vars(module).get("layer_idx") == index
    ]


def cut_values(config: Any, count: int, active: Sequence[int]) -> Iterator[tuple[str, Any]]:
    """The config's values about all blocks, cut down to the `active` ones: the count, lists of one value a block."""
    for key, value in list(vars(config).items()):
        if key in _LAYER_COUNTS and value == count:
            yield key, len(active)
        elif isinstance(value, list) and len(value) == count and key.startswith(("layer_", "mlp_layer_", "no_rope_l")):
            yield key, [value[index] for index in active]


_NAMES = """
    afmoe apertus arcee aria_text bitnet bloom codegen cohere cohere2 cwm deepseek_v2 deepseek_v3 dots1 ernie4_5
    ernie4_5_moe exaone4 falcon flex_olmo gemma gemma2 gemma3_text gemma4_text glm glm4 glm4_moe glm4_moe_lite
    glm4v_moe_text glm4v_text gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granite_swa granitemoe
    granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe jetmoe lfm2 lfm2_moe llama minicpm3 minimax minimax_m2
    ministral ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmo_hybrid olmoe opt phi phi3 phimoe
    qwen2 qwen2_5_omni_text qwen2_5_vl_text qwen2_moe qwen2_vl_text qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe
    qwen3_next qwen3_omni_moe_text qwen3_vl_moe_text qwen3_vl_text seed_oss smollm3 solar_open stablelm starcoder2
    vaultgemma youtu
"""
PROVED: tuple[str, ...] = tuple(_NAMES.split())
"""Families for which a test proves the result right, by the model_type of their text config."""
