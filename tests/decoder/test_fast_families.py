"""FastModel answers with vision-language families that are put together of supported parts as their models do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from laptime.decoder import FastModel
from tests.models.tiny import CLIP, IMAGE, QWEN, SIDE, SIGLIP, TEXT

PIXTRAL = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 2 * SIDE,
    "patch_size": 14,
    "head_dim": 16,
}
LLAMA, MISTRAL = ({"model_type": kind, **TEXT} for kind in ("llama", "mistral"))
SQUARE = torch.tensor([[2 * SIDE, 2 * SIDE]])


def _vipllava() -> nn.Module:
    config = transformers.VipLlavaConfig(
        vision_config=dict(CLIP), text_config=LLAMA, image_token_index=IMAGE, vision_feature_layers=[-1, -2]
    )
    return transformers.VipLlavaForConditionalGeneration(config)


def _mistral3() -> nn.Module:
    config = transformers.Mistral3Config(
        vision_config=dict(PIXTRAL), text_config=MISTRAL, image_token_index=IMAGE, spatial_merge_size=2
    )
    return transformers.Mistral3ForConditionalGeneration(config)


def _lighton_ocr() -> nn.Module:
    text = {"model_type": "qwen3", **TEXT, **QWEN}
    config = transformers.LightOnOcrConfig(vision_config=dict(PIXTRAL), text_config=text, image_token_id=IMAGE)
    return transformers.LightOnOcrForConditionalGeneration(config)


def _idefics2() -> nn.Module:
    vision = {name: value for name, value in CLIP.items() if name not in ("model_type", "projection_dim")}
    perceiver = {
        "resampler_n_latents": 2,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 8,
        "num_key_value_heads": 1,
        "hidden_size": 32,
    }
    config = transformers.Idefics2Config(
        vision_config=vision, perceiver_config=perceiver, text_config=MISTRAL, image_token_id=IMAGE
    )
    return transformers.Idefics2ForConditionalGeneration(config)


def _deepseek_vl() -> nn.Module:
    vision = {name: value for name, value in SIGLIP.items() if name not in ("projection_dim", "vision_use_head")}
    config = transformers.DeepseekVLConfig(vision_config=vision, text_config=LLAMA, image_token_id=IMAGE)
    return transformers.DeepseekVLForConditionalGeneration(config)


def _llava_mixtral() -> nn.Module:
    text = {"model_type": "mixtral", **TEXT, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = transformers.LlavaConfig(vision_config=dict(CLIP), text_config=text, image_token_index=IMAGE)
    return transformers.LlavaForConditionalGeneration(config)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {  # model, shape of pixels, image tokens
    "vipllava": (_vipllava, (1, 3, SIDE, SIDE), 4),
    "mistral3": (_mistral3, (1, 3, 2 * SIDE, 2 * SIDE), 4),
    "lighton_ocr": (_lighton_ocr, (1, 3, 2 * SIDE, 2 * SIDE), 4),
    "idefics2": (_idefics2, (1, 1, 3, SIDE, SIDE), 2),
    "deepseek_vl": (_deepseek_vl, (1, 3, SIDE, SIDE), 4),
    "llava with mixtral": (_llava_mixtral, (1, 3, SIDE, SIDE), 4),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_model(family: str) -> None:
    make, shape, tokens = FAMILIES[family]
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3.0)
    settings: Any = model.generation_config
    settings.eos_token_id, settings.pad_token_id, settings.suppress_tokens = None, 0, [IMAGE]
    words = torch.randint(3, 100, (1, 9), generator=torch.Generator().manual_seed(1))
    ids = torch.cat([words[:, :2], torch.full((1, tokens), IMAGE), words[:, 2:]], dim=1)
    images = {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(2))}
    if shape[-1] > SIDE:
        images["image_sizes"] = SQUARE
    call = {"max_new_tokens": 8, "do_sample": False}
    with FastModel(model) as fast:
        for inputs in ({"input_ids": ids, **images}, {"input_ids": words}):
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            assert torch.equal(fast.generate(**inputs, **call), model.generate(**inputs, **call))
        assert fast.passed_by == {}
        assert {part.part for part in fast.parts()} == {"vision", "prefill"}
