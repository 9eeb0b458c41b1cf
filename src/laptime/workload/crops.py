"""Crops: how many pieces an image is cut into, chosen by its shape, and the processor that cuts it so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL.Image import Resampling

from laptime.errors import LaptimeError
from laptime.models.image_tiles import PATCH_COUNTS, PINPOINTS, SPLIT_SIZES, check_crops, pinpoints, tilings

if TYPE_CHECKING:
    from PIL import Image

    from laptime.models.loading import Loaded


def choose_tiling(width: int, height: int, low: int, high: int, side: int = 336) -> tuple[int, int]:
    """(columns, rows) for an image of width x height pixels: the tiling nearest to it in aspect ratio.

    Of equally near ones the larger, as long as the image fills more than half of its pixels (crops are `side` pixels
    each way). This is InternVL's rule (arXiv 2404.16821, section 3.1).
    Raises LaptimeError for a range without a tiling.
    """
    if not 1 <= low <= high:
        raise LaptimeError(f"crops {low}-{high}: the lowest and the highest number, at least 1")
    best, nearest = (1, 1), float("inf")
    for columns, rows in tilings(low, high):
        off = abs(width / height - columns / rows)
        if off < nearest or (off == nearest and width * height > 0.5 * side * side * columns * rows):
            best, nearest = (columns, rows), off
    return best


def processor_cutting(
    loaded: Loaded, images: list[Image.Image], crops: tuple[int, int]
) -> tuple[Callable[..., Any], list[Image.Image]]:
    """The model's processor, set to cut every image into `crops` pieces (lowest, highest), and the images to give it.

    The processor in `loaded` stays as it is. Every family cuts by its own rule among the tilings in the range
    (docs/knobs.md); where it has none, by choose_tiling.
    Raises LaptimeError for a family that doesn't cut, and for one whose model isn't set to the same crops.
    """
    config = loaded.model.config
    check_crops(config.model_type, config, crops)
    processor: Any = copy.copy(loaded.processor)
    cutter = processor.image_processor = copy.copy(processor.image_processor)
    if config.model_type in PINPOINTS:
        listed = pinpoints(crops, config.vision_config.image_size)
        if config.image_grid_pinpoints != listed:
            raise LaptimeError(
                f"crops {crops[0]}-{crops[1]}: {loaded.name} chooses the tiling in the model too; "
                "make its inputs inside applied(model, ModelKnobs(crops=...))"
            )
        cutter.image_grid_pinpoints = listed  # its count of tokens reads this, and no argument
        return processor, images
    if config.model_type in PATCH_COUNTS:
        low, high = crops
        return partial(processor, crop_to_patches=True, min_patches=low, max_patches=high), images
    if config.model_type in SPLIT_SIZES:
        sizes = pinpoints(crops, cutter.max_image_size)
        return partial(processor, split_image=True, split_resolutions=sizes), images
    side = cutter.max_image_size["longest_edge"]
    sized = [_on_canvas(image, side, crops, cutter.resample) for image in images]
    return partial(processor, do_image_splitting=True, do_resize=False), sized


def has_overview(model: Any) -> bool:
    """Whether a small view of the whole image goes with the crops of one (when there is more than one)."""
    return model.config.model_type not in SPLIT_SIZES


def _on_canvas(image: Image.Image, side: int, crops: tuple[int, int], resample: Any) -> Image.Image:
    columns, rows = choose_tiling(image.width, image.height, *crops, side=side)
    return image.resize((columns * side, rows * side), Resampling(int(resample)))
