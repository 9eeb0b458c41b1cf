"""Tiny random-weight instances of any text model type of transformers: its own config class with small numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.models import tiny

LAYERS = 5
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "num_key_value_heads"), 2),
    **dict.fromkeys(("moe_num_shared_experts", "n_shared_experts", "n_group", "topk_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 16),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "rotary_dim": 4,
    "sliding_window": 6,  # shorter than a prompt, so that it matters which blocks it is for
    "max_position_embeddings": 256,
    "vocab_size": tiny.VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu")  # one key head for each query head
MORE: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention", "conv"]},
    "gemma3_text": {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] + ["sliding_attention"] * 2
    },
    "aria_text": {"moe_topk": 2},
}


def tiny_config(model_type: str, layers: int = LAYERS) -> Any:
    """The config of that type with small numbers, wherever it knows their names."""
    kind = CONFIG_MAPPING[model_type]
    default = kind()
    known = default.to_dict()
    names = {**getattr(kind, "attribute_map", {})}
    small = {names.get(name, name): value for name, value in SMALL.items()}
    small = {name: value for name, value in small.items() if known.get(name, {}) != {} or name == "q_lora_rank"}
    if known.get("sliding_window") is None:
        small.pop("sliding_window", None)
    small = {name: value for name, value in small.items() if name in known}
    if model_type in LATENT:
        small.pop("head_dim", None)
        small["num_key_value_heads"] = 4
    if "layer_types" in known:
        small["layer_types"] = None  # made anew from the number of layers
    return kind(**{**small, **MORE.get(model_type, {})})


def build_text(model_type: str, config: Any = None, seed: int = 0) -> nn.Module:
    """A tiny model of that type, float32, in eval mode, whose blocks and experts matter and which never stops."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config or tiny_config(model_type), dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model
