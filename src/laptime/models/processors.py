"""Real processors made offline: transformers' own image processors around a small tokenizer built in memory.

The Pillow image processors are used everywhere, so a preset's pixels are the same with and without torchvision.
The tokenizer is byte-level: any text goes in, one token a byte, and every id of the vocabulary can be decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLProcessor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)


def byte_tokenizer(
    vocab_size: int, special: Mapping[int, str], *, pad: int, context: int, names: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of `vocab_size` ids, the `special` tokens at the given ids.

    Ids 0 to 255, as far as no special token sits there, are bytes; the ids that no byte needs are made-up words,
    so that whatever a random model emits can be shown. `names` gives special tokens an attribute (`image_token`).
    """
    pieces = iter(sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocab: dict[str, int] = {text: index for index, text in special.items()}
    for index in range(vocab_size):
        if index not in special:
            vocab[next(pieces, f"Ġw{index}")] = index
    core = Tokenizer(BPE(vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=special[pad],
        model_max_length=context,
        padding_side="left",
        extra_special_tokens=dict(names or {}),
    )


def llava_next_processor(tokenizer: Any, *, image_size: int, patch_size: int, grid: list[list[int]]) -> Any:
    """LLaVA-NeXT's processor: an overview and anyres tiles of `image_size` pixels on the best of the `grid` sizes."""
    side = {"height": image_size, "width": image_size}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": image_size}, crop_size=side, image_grid_pinpoints=grid)
    return LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the CLS token, which "default" takes off again
    )


def molmoe_processor(tokenizer: Any, *, image_size: int, tokens_per_tile: int, max_crops: int) -> Any:
    """InternVL's processor with 1 to `max_crops` crops and always the overview, as Molmo has it."""
    images = _CropsAndOverview(
        size={"height": image_size, "width": image_size}, crop_to_patches=True, min_patches=1, max_patches=max_crops
    )
    return without_video(InternVLProcessor)(images, tokenizer, image_seq_length=tokens_per_tile)


def qwen2_5_vl_processor(tokenizer: Any, *, min_pixels: int, max_pixels: int) -> Any:
    """Qwen2.5-VL's processor: native resolution between two pixel counts, 14-pixel patches merged two by two."""
    size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    return without_video(Qwen2_5_VLProcessor)(Qwen2VLImageProcessorPil(size=size), tokenizer)


class _CropsAndOverview(GotOcr2ImageProcessorPil):
    """InternVL's tiling leaves the overview out when there is one crop; Molmo never does: (crops + 1) tiles."""

    def crop_image_to_patches(self, *args: Any, **kwargs: Any) -> list[np.ndarray[Any, Any]]:
        tiles: list[np.ndarray[Any, Any]] = super().crop_image_to_patches(*args, **kwargs)
        return tiles * 2 if len(tiles) == 1 else tiles

    def _preprocess(self, images: list[np.ndarray[Any, Any]], *args: Any, max_patches: int, **kwargs: Any) -> Any:
        if max_patches > 1:
            return super()._preprocess(images, *args, max_patches=max_patches, **kwargs)
        twice = [image for image in images for _ in range(2)]  # asked for one crop, it doesn't come to the cutting
        made = super()._preprocess(twice, *args, max_patches=max_patches, **kwargs)
        made["num_patches"] = [2] * len(images)
        return made

    def get_number_of_image_patches(self, *args: Any, **kwargs: Any) -> int:
        return max(2, super().get_number_of_image_patches(*args, **kwargs))


def without_video(family: Any) -> Any:
    """The processor class `family` without its video part: every video processor demands torchvision, stills don't."""
    parts = [part for part in family.get_attributes() if part != "video_processor"]
    return type(family.__name__, (family,), {"get_attributes": classmethod(lambda _: parts)})
