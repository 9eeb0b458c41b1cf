"""Tiny models of families beside those of tiny.py, for what is proved of their language model's knobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

from tests.models.tiny import MROPE, QWEN, QWEN3_VISION, QWEN_IDS, TEXT, VISION_LAYERS

LAYERS = 5
DEEP: dict[str, Any] = {**TEXT, "num_hidden_layers": LAYERS, "rope_parameters": MROPE}
MOE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION: dict[str, Any] = {
    "depth": VISION_LAYERS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 14,
    "out_hidden_size": 32,
}
STARTS = {"vision_start_token_id": 312, "audio_start_token_id": 314}
SOUND: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "num_mel_bins": 16,
    "output_dim": 32,
}


def _qwen2_vl() -> nn.Module:
    vision = {"depth": VISION_LAYERS, "embed_dim": 24, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(vision_config=vision, text_config=DEEP, **QWEN_IDS)
    return transformers.Qwen2VLForConditionalGeneration(config)


def _glm4v() -> nn.Module:
    config = transformers.Glm4vConfig(vision_config=VISION, text_config=DEEP, **QWEN_IDS)
    return transformers.Glm4vForConditionalGeneration(config)


def _glm4v_moe() -> nn.Module:
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1}
    text = {**DEEP, **experts, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "head_dim": 8}
    text["rope_parameters"] = {**MROPE, "partial_rotary_factor": 1.0}
    config = transformers.Glm4vMoeConfig(vision_config=VISION, text_config=text, **QWEN_IDS)
    return transformers.Glm4vMoeForConditionalGeneration(config)


def _qwen2_5_omni_thinker() -> nn.Module:
    config = transformers.Qwen2_5OmniThinkerConfig(
        audio_config=SOUND, vision_config={**VISION, "fullatt_block_indexes": [1]}, text_config=DEEP, **STARTS
    )
    return transformers.Qwen2_5OmniThinkerForConditionalGeneration(config)


def _qwen3_omni_moe_thinker() -> nn.Module:
    config = transformers.Qwen3OmniMoeThinkerConfig(
        audio_config=SOUND,
        vision_config=QWEN3_VISION,
        text_config={**DEEP, **QWEN, **MOE, "decoder_sparse_step": 1},
        **STARTS,
    )
    return transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config)


def _gemma4() -> nn.Module:
    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}
    kinds = ["sliding_attention"] * (LAYERS - 1) + ["full_attention"]
    text = {**TEXT, "num_hidden_layers": LAYERS, "layer_types": kinds, "head_dim": 8, "global_head_dim": 8}
    shared = {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 320}
    return transformers.Gemma4ForCausalLM(transformers.Gemma4TextConfig(**{**text, **experts, **shared}))


def _mllama() -> nn.Module:
    text = {**TEXT, "num_hidden_layers": LAYERS, "cross_attention_layers": [2]}
    return transformers.MllamaForCausalLM(transformers.MllamaTextConfig(**text))


def _llama4() -> nn.Module:
    text = {**TEXT, "num_hidden_layers": LAYERS, "num_local_experts": 4, "intermediate_size_mlp": 48, "head_dim": 8}
    return transformers.Llama4ForCausalLM(transformers.Llama4TextConfig(**text))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "qwen2_vl": _qwen2_vl,
    "glm4v": _glm4v,
    "glm4v_moe": _glm4v_moe,
    "qwen2_5_omni_thinker": _qwen2_5_omni_thinker,
    "qwen3_omni_moe_thinker": _qwen3_omni_moe_thinker,
    "gemma4": _gemma4,
    "mllama": _mllama,
    "llama4": _llama4,
}


def build(family: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model, whose blocks and experts matter and which never stops, and a prompt of text."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = torch.randint(3, 300, (1, 12), generator=torch.Generator().manual_seed(1))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
