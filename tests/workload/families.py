"""Tiny models behind their family's real processor: `loaded(family)` is what load_model would give for such a model."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers.utils import is_torchvision_available

from laptime.models.loading import Loaded
from laptime.models.processors import byte_tokenizer, without_video
from tests.models import tiny

SIDE = {"height": tiny.SIDE, "width": tiny.SIDE}
NEEDS_TORCHVISION = ("idefics3", "smolvlm")  # transformers has no Pillow processor for these two that runs without it
SPECIAL = {
    0: "<pad>",
    1: "<bos>",
    tiny.IMAGE: "<image>",
    tiny.VIDEO: "<video>",
    tiny.START: "<start>",
    tiny.END: "<end>",
}


def loaded(family: str) -> Loaded:
    """A tiny model of the family with its processor. Skips where the processor can't be had without torchvision."""
    if family in NEEDS_TORCHVISION and not is_torchvision_available():
        pytest.skip(f"{family}'s image processor needs torchvision")
    if family == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor needs num2words")
    model = tiny.build(family, config=_aria_for_its_processor() if family == "aria" else None)
    tokenizer = tokenizer_of(family)
    is_vlm = family in tiny.VLM_FAMILIES
    processor = _processor(family, tokenizer) if is_vlm else None
    if family in NEEDS_TORCHVISION:  # their processors add special tokens of their own
        model.resize_token_embeddings(len(tokenizer))
    return Loaded(family, model, processor, tokenizer, "local", is_vlm)


def _aria_for_its_processor() -> Any:
    """Aria's processor makes images of 980 pixels and nothing smaller; with patches of 98 they stay cheap."""
    config = tiny.VLM_CONFIGS["aria"]()
    config.vision_config.image_size, config.vision_config.patch_size = 980, 98
    config.projector_patch_to_query_dict = {100: 2}
    return config


def tokenizer_of(family: str) -> Any:
    """A byte tokenizer with the family's special tokens, at the ids of the tiny models."""
    special = dict(SPECIAL)
    names = {"image_token": "<image>", "video_token": "<video>", "boi_token": "<start>", "eoi_token": "<end>"}
    if family in NEEDS_TORCHVISION:
        special[tiny.START] = "<fake_token_around_image>"
        names = {}
    if family == "internvl":
        names = {
            "start_image_token": "<start>",
            "end_image_token": "<end>",
            "context_image_token": "<image>",
            "video_token": "<video>",
        }
    tokenizer = byte_tokenizer(tiny.VOCAB, special, pad=0, context=256, names=names)
    if family == "paligemma":
        tokenizer.bos_token = "<bos>"
    return tokenizer


def _processor(family: str, tokenizer: Any) -> Any:
    t = transformers
    clip = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    grid = {"size": {"shortest_edge": tiny.SIDE}, "crop_size": SIDE}
    qwen_size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    if family == "llava":
        return t.LlavaProcessor(t.CLIPImageProcessorPil(**grid), tokenizer, **clip)
    if family == "llava_next":
        pinpoints = tiny.VLM_CONFIGS[family]().image_grid_pinpoints
        return t.LlavaNextProcessor(
            t.LlavaNextImageProcessorPil(**grid, image_grid_pinpoints=pinpoints), tokenizer, **clip
        )
    if family == "llava_onevision":
        pinpoints = tiny.VLM_CONFIGS[family]().image_grid_pinpoints
        images = t.LlavaOnevisionImageProcessorPil(size=SIDE, image_grid_pinpoints=pinpoints)
        return without_video(t.LlavaOnevisionProcessor)(
            images, tokenizer, num_image_tokens=4, vision_feature_select_strategy="full"
        )
    if family == "internvl":
        images = t.GotOcr2ImageProcessorPil(size=SIDE, crop_to_patches=True, max_patches=6)
        return without_video(t.InternVLProcessor)(images, tokenizer, image_seq_length=1)
    if family == "gemma3":
        return t.Gemma3Processor(t.Gemma3ImageProcessorPil(size=SIDE), tokenizer, image_seq_length=1)
    if family == "paligemma":
        images = t.SiglipImageProcessorPil(size=SIDE)
        images.image_seq_length = 4
        return t.PaliGemmaProcessor(images, tokenizer)
    if family == "aria":
        return t.AriaProcessor(t.AriaImageProcessorPil(), tokenizer, size_conversion={980: 2})
    if family in NEEDS_TORCHVISION:
        sizes = {"size": {"longest_edge": 2 * tiny.SIDE}, "max_image_size": {"longest_edge": tiny.SIDE}}
        if family == "idefics3":
            return t.Idefics3Processor(t.Idefics3ImageProcessor(**sizes), tokenizer, image_seq_len=1)
        images, videos = t.SmolVLMImageProcessor(**sizes), t.SmolVLMVideoProcessor()
        return t.SmolVLMProcessor(images, tokenizer, videos, image_seq_len=1)
    processor = t.Qwen2_5_VLProcessor if family == "qwen2_5_vl" else t.Qwen3VLProcessor
    return without_video(processor)(t.Qwen2VLImageProcessorPil(size=qwen_size), tokenizer)
