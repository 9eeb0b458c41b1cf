"""`image_tokens`: the most tokens that one image may become, set on a copy of the model's processor.

Every family has its own word for it: Qwen-VL and GLM-V a number of pixels, Pixtral the longest side, Gemma 4 soft
tokens, InternVL, Cohere2-Vision, Ovis2 and Llama 4 tiles, SmolVLM and Idefics3 whether and how an image is split. Where
a family allows some numbers only, the largest of them that is not above the one asked for is set, and recorded.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.placeholders import image_token_id

PIXELS = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
    *("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "exaone4_5", "ernie4_5_vl_moe", "paddleocr_vl"),
    *("glm4v", "glm4v_moe", "glm46v", "glm_ocr"),
)
"""Families that resize an image to a number of pixels; each token is patch_size * merge_size pixels square."""
SOFT_TOKENS = (70, 140, 280, 560, 1120)
"""The budgets that Gemma 4's processor allows."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """least: the fewest tokens that an image can be made. set: how many it becomes at most, now."""

    least: int
    set: int


def with_image_tokens(loaded: Loaded, image_tokens: int) -> Loaded:
    """The model with a processor that makes at most so many tokens of an image. The processor in `loaded` stays.

    What the family really allows, `image_tokens` or the nearest number below it, is the result's `image_tokens`.
    Raises LaptimeError for a family without such a setting, and for a number below the least that it can make.
    """
    if image_tokens < 1:
        raise LaptimeError(f"image tokens {image_tokens}: must be at least 1")
    kind = str(loaded.model.config.model_type)
    budget = _budget_of(kind, loaded.processor)
    if loaded.processor is None or budget is None:
        raise LaptimeError(
            f"image tokens {image_tokens}: the number of {kind}'s image tokens can't be chosen; it can for "
            f"{', '.join(_BUDGETS)}"
        )
    processor: Any = copy.copy(loaded.processor)
    processor.image_processor = copy.deepcopy(processor.image_processor)
    allowed = budget(loaded, processor, image_tokens)
    if image_tokens < allowed.least:
        raise LaptimeError(
            f"image tokens {image_tokens}: {loaded.name} makes at least {allowed.least} of an image; use more"
        )
    return dataclasses.replace(loaded, processor=processor, image_tokens=allowed.set)


def check_budget(loaded: Loaded, ids: torch.Tensor, images: int) -> None:
    """Raise LaptimeError where the images of a row became more tokens than its budget allows.

    ids: the row's tokens. A very long and narrow image can't always be made as small as asked.
    """
    token = image_token_id(loaded)
    if loaded.image_tokens is None or token is None or not images:
        return
    became = int((ids == token).sum())
    if became > loaded.image_tokens * images:
        raise LaptimeError(
            f"image tokens {loaded.image_tokens}: {loaded.name}'s processor makes {became} of "
            f"{'this image' if images == 1 else f'these {images} images'}; use a larger number, or another shape"
        )


def _budget_of(kind: str, processor: Any) -> Callable[[Loaded, Any, int], Budget] | None:
    if kind == "llava" and getattr(processor, "spatial_merge_size", None):  # Pixtral's tower in LLaVA's class
        return _longest_side
    return _BUDGETS.get(kind)


def _pixels(loaded: Loaded, processor: Any, image_tokens: int) -> Budget:
    images = processor.image_processor
    side = images.patch_size * images.merge_size
    frames = images.temporal_patch_size if "glm" in loaded.model.config.model_type else 1
    most = ((image_tokens + 1) * side * side - 1) * frames  # a token is whole; less would lose one to rounding
    size = dict(images.size)
    images.size = {"shortest_edge": min(size["shortest_edge"], most), "longest_edge": most}
    for name, value in (("min_pixels", images.size["shortest_edge"]), ("max_pixels", most)):
        if getattr(images, name, None) is not None:
            setattr(images, name, value)
    return Budget(1, image_tokens)


def _longest_side(loaded: Loaded, processor: Any, image_tokens: int) -> Budget:
    """Pixtral: an image is made smaller until its longest side fits; a square one has the most tokens."""
    along = math.isqrt(image_tokens)
    processor.image_processor.size = {"longest_edge": along * processor.patch_size * processor.spatial_merge_size}
    return Budget(1, along * along)


def _soft_tokens(loaded: Loaded, processor: Any, image_tokens: int) -> Budget:
    most = max((one for one in SOFT_TOKENS if one <= image_tokens), default=SOFT_TOKENS[0])
    processor.image_processor.max_soft_tokens = most
    processor.image_seq_length = most
    return Budget(SOFT_TOKENS[0], most)


def _tiles(loaded: Loaded, processor: Any, image_tokens: int) -> Budget:
    """Whole tiles, and an overview where there are several of them."""
    a_tile = _tile_tokens(loaded, processor)
    always_two = loaded.source == "preset"  # MolmoE's shapes always have the overview
    tiles = image_tokens // a_tile
    images = processor.image_processor
    images.max_patches = max(1, tiles - 1)
    if getattr(images, "min_patches", None) is not None:
        images.min_patches = min(images.min_patches, images.max_patches)
    whole = tiles if tiles > 2 or always_two else 1
    return Budget(a_tile * (2 if always_two else 1), a_tile * whole)


def _tile_tokens(loaded: Loaded, processor: Any) -> int:
    kind = loaded.model.config.model_type
    if kind == "cohere2_vision":
        return int(processor.patch_size**2)
    if kind == "llama4":
        vision = loaded.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 * vision.pixel_shuffle_ratio**2)
    return int(processor.image_seq_length)


def _splits(loaded: Loaded, processor: Any, image_tokens: int) -> Budget:
    images, a_tile = processor.image_processor, processor.image_seq_len
    along = math.isqrt(max(0, image_tokens // a_tile - 1))
    images.do_image_splitting = along > 1
    if along > 1:
        images.size = {"longest_edge": along * images.max_image_size["longest_edge"]}
    return Budget(int(a_tile), int(a_tile) * (along * along + 1 if along > 1 else 1))


_BUDGETS: dict[str, Callable[[Loaded, Any, int], Budget]] = {
    **dict.fromkeys(PIXELS, _pixels),
    "mistral3": _longest_side,
    "gemma4": _soft_tokens,
    **dict.fromkeys(("internvl", "llama4", "cohere2_vision", "ovis2"), _tiles),
    **dict.fromkeys(("smolvlm", "idefics3"), _splits),
}
