"""`image_tokens`: the most tokens that one image may become, set on a copy of the model's processor.

Every family has its own word for it: Qwen-VL and GLM-V a number of pixels, Gemma 4 soft tokens, InternVL and Llama 4
tiles, SmolVLM and Idefics3 whether and how an image is split.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded

PIXELS = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "glm4v",
    "glm4v_moe",
    "glm46v",
)
"""Families that resize an image to a number of pixels; each token is patch_size * merge_size pixels square."""
SOFT_TOKENS = {"gemma4": (70, 140, 280, 560, 1120)}
"""Families whose processor has a few allowed budgets of its own."""


def with_image_tokens(loaded: Loaded, image_tokens: int) -> Loaded:
    """The model with a processor that makes at most so many tokens of an image. The processor in `loaded` stays.

    Raises LaptimeError for a family without such a setting, and for a number below the least that it can make.
    """
    if image_tokens < 1:
        raise LaptimeError(f"--image-tokens {image_tokens}: must be at least 1")
    kind = str(loaded.model.config.model_type)
    budget = _BUDGETS.get(kind)
    if loaded.processor is None or budget is None:
        raise LaptimeError(
            f"--image-tokens {image_tokens}: the number of {kind}'s image tokens can't be chosen; it can for "
            f"{', '.join(_BUDGETS)}"
        )
    processor: Any = copy.copy(loaded.processor)
    processor.image_processor = copy.deepcopy(processor.image_processor)
    least = budget(loaded, processor, image_tokens)
    if image_tokens < least:
        raise LaptimeError(f"--image-tokens {image_tokens}: {loaded.name} makes at least {least} of an image; use more")
    return dataclasses.replace(loaded, processor=processor)


def _pixels(loaded: Loaded, processor: Any, image_tokens: int) -> int:
    images = processor.image_processor
    side = images.patch_size * images.merge_size
    most = image_tokens * side * side * (images.temporal_patch_size if "glm" in loaded.model.config.model_type else 1)
    size = dict(images.size)
    images.size = {"shortest_edge": min(size["shortest_edge"], most), "longest_edge": most}
    return 1


def _soft_tokens(loaded: Loaded, processor: Any, image_tokens: int) -> int:
    allowed = [one for one in SOFT_TOKENS[loaded.model.config.model_type] if one <= image_tokens]
    if allowed:
        processor.image_processor.max_soft_tokens = allowed[-1]
        processor.image_seq_length = allowed[-1]
    return SOFT_TOKENS[loaded.model.config.model_type][0]


def _tiles(loaded: Loaded, processor: Any, image_tokens: int) -> int:
    """InternVL and Llama 4: whole tiles, and an overview where there are several of them."""
    a_tile = processor.image_seq_length if hasattr(processor, "image_seq_length") else _llama4_tile(loaded)
    tiles = image_tokens // a_tile
    processor.image_processor.max_patches = max(1, tiles - 1)
    always_two = loaded.source == "preset"  # MolmoE's shapes always have the overview
    return int(a_tile * (2 if always_two else 1))


def _llama4_tile(loaded: Loaded) -> int:
    vision = loaded.model.config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 * vision.pixel_shuffle_ratio**2)


def _splits(loaded: Loaded, processor: Any, image_tokens: int) -> int:
    images, a_tile = processor.image_processor, processor.image_seq_len
    along = math.isqrt(max(0, image_tokens // a_tile - 1))
    images.do_image_splitting = along > 1
    if along > 1:
        images.size = {"longest_edge": along * images.max_image_size["longest_edge"]}
    return int(a_tile)


_BUDGETS: dict[str, Callable[[Loaded, Any, int], int]] = {
    **dict.fromkeys(PIXELS, _pixels),
    **dict.fromkeys(SOFT_TOKENS, _soft_tokens),
    **dict.fromkeys(("internvl", "llama4"), _tiles),
    **dict.fromkeys(("smolvlm", "idefics3"), _splits),
}
