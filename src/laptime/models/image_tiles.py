"""Crops: which tilings an image may be cut into, and where a model's config has to agree with its processor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from laptime.errors import LaptimeError
from laptime.models.config_changes import changed

MOST_CROPS = 64
PINPOINTS = ("llava_next", "llava_onevision")
"""Families whose model and processor choose a tiling each, from one list of sizes: image_grid_pinpoints."""
PATCH_COUNTS = ("internvl",)
"""Families whose processor takes a lowest and a highest number of tiles: min_patches, max_patches."""
SPLIT_SIZES = ("aria",)
"""Families whose processor chooses a tiling from a list of sizes; crops only, no overview."""
MULTIPLES = ("idefics3", "smolvlm")
"""Families whose processor cuts an image at every multiple of the crop's side, whatever number that gives."""
CUTTING = (*PINPOINTS, *PATCH_COUNTS, *SPLIT_SIZES, *MULTIPLES)
NATIVE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
"""Families that take an image at its own resolution, as one sequence of patches."""


def tilings(low: int, high: int) -> list[tuple[int, int]]:
    """Every (columns, rows) with low <= columns * rows <= high, fewest crops first."""
    every = [(c, r) for c in range(1, high + 1) for r in range(1, high // c + 1) if c * r >= low]
    return sorted(every, key=lambda tiling: (tiling[0] * tiling[1], tiling))


def pinpoints(crops: tuple[int, int], side: int) -> list[list[int]]:
    """The tilings as LLaVA-NeXT lists them: [height, width] in pixels, for crops of `side` pixels."""
    return [[rows * side, columns * side] for columns, rows in tilings(*crops)]


def check_crops(name: str, config: Any, crops: tuple[int, int]) -> None:
    """Raise LaptimeError unless the range makes sense and the family cuts images into crops."""
    low, high = crops
    if not 1 <= low <= high <= MOST_CROPS:
        raise LaptimeError(f"crops {low}-{high}: the lowest and the highest number, within 1 and {MOST_CROPS}")
    if getattr(config, "vision_config", None) is None:
        raise LaptimeError(f"crops {low}-{high}: {name} takes text only; leave crops out")
    if name in NATIVE:
        raise LaptimeError(
            f"crops {low}-{high}: {name} takes an image at its own resolution and cuts no crops; vary image_tokens"
        )
    if name not in CUTTING:
        raise LaptimeError(
            f"crops {low}-{high}: {name}'s crops can't be chosen; leave crops out, or use one of {', '.join(CUTTING)}"
        )


@contextlib.contextmanager
def cutting(model: Any, crops: tuple[int, int]) -> Iterator[None]:
    """The model expects images cut so inside the block. (Only some families' models ask; see PINPOINTS.)"""
    with contextlib.ExitStack() as stack:
        config = model.config
        if config.model_type in PINPOINTS:
            side = config.vision_config.image_size
            stack.enter_context(changed(config, "image_grid_pinpoints", pinpoints(crops, side)))
        yield
