"""Tiny random-weight instances of every supported family, and inputs for them. No network, no processor.

`build(family)` gives a model in eval mode (float32, CPU) with a few thousand to a few hundred thousand weights;
`tiny_inputs(family)` gives the keyword arguments of its forward() and generate(), one image per row for a VLM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    AriaConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Idefics3Config,
    InternVLConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    PaliGemmaConfig,
    Qwen2_5_VLConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    SmolVLMConfig,
)

VOCAB = 320  # room for 256 bytes, so that real processors can be put in front of these models
IMAGE = 310  # the image placeholder's id in every family
VIDEO, START, END = 311, 312, 313
LAYERS = 3
VISION_LAYERS = 2
SIDE = 28  # pixels; two patches of 14 each way

TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
QWEN = {"head_dim": 8}
OLMOE = {"model_type": "olmoe", **TEXT, "num_experts": 4, "num_experts_per_tok": 2}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": VISION_LAYERS,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 14,
    "projection_dim": 16,
}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
QWEN3_VISION = {
    "depth": VISION_LAYERS,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 14,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}


def _llava() -> LlavaConfig:
    return LlavaConfig(
        vision_config=dict(CLIP),
        text_config={"model_type": "llama", **TEXT},
        image_token_index=IMAGE,
        image_seq_length=4,
    )


def _llava_next() -> LlavaNextConfig:
    return LlavaNextConfig(
        vision_config=dict(CLIP),
        text_config=dict(OLMOE),
        image_token_index=IMAGE,
        image_grid_pinpoints=[[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]],
    )


def _llava_onevision() -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        vision_config=dict(SIGLIP),
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE]],
    )


def _internvl() -> InternVLConfig:
    vision = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
    }
    return InternVLConfig(vision_config=vision, text_config={"model_type": "qwen2", **TEXT}, image_token_id=IMAGE)


def _gemma3() -> Gemma3Config:
    return Gemma3Config(
        vision_config=dict(SIGLIP),
        text_config={"model_type": "gemma3_text", **TEXT, "head_dim": 8, "sliding_window": 64},
        image_token_id=IMAGE,
        boi_token_index=START,
        eoi_token_index=END,
        mm_tokens_per_image=1,
    )


def _paligemma() -> PaliGemmaConfig:
    return PaliGemmaConfig(
        vision_config={**SIGLIP, "projection_dim": 32},
        text_config={"model_type": "gemma", **TEXT, "head_dim": 8},
        image_token_index=IMAGE,
        projection_dim=32,
    )


def _aria() -> AriaConfig:
    return AriaConfig(
        vision_config={**SIGLIP, "model_type": "idefics3_vision"},
        text_config={
            "model_type": "aria_text",
            **TEXT,
            "moe_num_experts": 4,
            "moe_topk": 2,
            "moe_num_shared_experts": 1,
        },
        projector_patch_to_query_dict={4: 2},
        image_token_index=IMAGE,
    )


def _idefics3() -> Idefics3Config:
    return Idefics3Config(
        vision_config={**SIGLIP, "model_type": "idefics3_vision"},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )


def _smolvlm() -> SmolVLMConfig:
    return SmolVLMConfig(
        vision_config={**SIGLIP, "model_type": "smolvlm_vision"},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )


def _qwen2_5_vl() -> Qwen2_5_VLConfig:
    vision = {
        "depth": VISION_LAYERS,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "out_hidden_size": 32,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": MROPE}, **QWEN_IDS)


def _qwen3_vl() -> Qwen3VLConfig:
    text = {**TEXT, **QWEN, "rope_parameters": MROPE}
    return Qwen3VLConfig(vision_config=dict(QWEN3_VISION), text_config=text, **QWEN_IDS)


def _qwen3_vl_moe() -> Qwen3VLMoeConfig:
    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    text = {**TEXT, **QWEN, **moe, "rope_parameters": MROPE}
    return Qwen3VLMoeConfig(vision_config=dict(QWEN3_VISION), text_config=text, **QWEN_IDS)


TEXT_CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Qwen3Config(**TEXT, **QWEN),
    "llama": lambda: LlamaConfig(**TEXT),
    "mistral": lambda: MistralConfig(**TEXT),
    "olmoe": lambda: OlmoeConfig(**{k: v for k, v in OLMOE.items() if k != "model_type"}),
    "mixtral": lambda: MixtralConfig(**TEXT, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **TEXT, **QWEN, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, decoder_sparse_step=1
    ),
}
VLM_CONFIGS: dict[str, Callable[[], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "paligemma": _paligemma,
    "aria": _aria,
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl_moe,
}
TEXT_FAMILIES = tuple(TEXT_CONFIGS)
VLM_FAMILIES = tuple(VLM_CONFIGS)
FAMILIES = (*TEXT_FAMILIES, *VLM_FAMILIES)

IMAGE_TOKENS = {  # placeholder ids a row needs for the one image that tiny_inputs makes
    "llava": 4,
    "llava_next": 24,  # overview 2*2, four tiles 4*4, one newline for each of 4 rows
    "llava_onevision": 10,
    "internvl": 1,
    "gemma3": 1,
    "paligemma": 4,
    "aria": 2,
    "idefics3": 1,
    "smolvlm": 1,
    "qwen2_5_vl": 4,
    "qwen3_vl": 4,
    "qwen3_vl_moe": 4,
}


def build(family: str, seed: int = 0, config: Any = None) -> nn.Module:
    """A tiny model of the family with random weights, in eval mode, that never stops early and emits no image token."""
    torch.manual_seed(seed)
    vlm = family in VLM_CONFIGS
    config = config or (VLM_CONFIGS if vlm else TEXT_CONFIGS)[family]()
    auto = AutoModelForImageTextToText if vlm else AutoModelForCausalLM
    model = auto.from_config(config, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    if vlm:
        model.generation_config.suppress_tokens = [IMAGE, VIDEO, START, END]
    return model


def tiny_inputs(family: str, *, text: int = 8, batch: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Keyword arguments for the family's forward() and generate(): `text` random tokens a row, one image for a VLM."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 100, (batch, text), generator=generator)
    if family not in VLM_CONFIGS:
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    start = torch.full((batch, int(family.startswith("qwen"))), START)
    ids = torch.cat([ids[:, :1], start, torch.full((batch, IMAGE_TOKENS[family]), IMAGE), ids[:, 1:]], dim=1)
    out = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **_pixels(family, batch, generator)}
    if family in {"gemma3", "paligemma"}:
        out["token_type_ids"] = (ids == IMAGE).long() if family == "gemma3" else torch.zeros_like(ids)
    if family.startswith("qwen"):
        out["mm_token_type_ids"] = (ids == IMAGE).int()
    return out


def _pixels(family: str, batch: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    if family.startswith("qwen"):
        grid = torch.tensor([[1, 4, 4]] * batch)  # 16 patches, merged two by two into 4 tokens
        return {
            "pixel_values": torch.randn(16 * batch, 3 * 2 * 14 * 14, generator=generator),
            "image_grid_thw": grid,
        }
    tiles = {"llava_next": (5,), "llava_onevision": (2,), "idefics3": (1,), "smolvlm": (1,)}.get(family, ())
    out = {"pixel_values": torch.randn(batch, *tiles, 3, SIDE, SIDE, generator=generator)}
    if family == "llava_next":
        out["image_sizes"] = torch.tensor([[2 * SIDE, 2 * SIDE]] * batch)
    if family == "llava_onevision":
        out["image_sizes"] = torch.tensor([[SIDE, SIDE]] * batch)
    return out
