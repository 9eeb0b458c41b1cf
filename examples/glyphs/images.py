"""Pages as the image processor makes them, for a whole batch on the model's device."""

from __future__ import annotations

from functools import cache

import torch
from torch.nn.functional import interpolate
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from .model import TILE


def pixel_values(pages: torch.Tensor, tiling: int) -> torch.Tensor:
    """(batch, 1 + tiling², 3, TILE, TILE) float32 of pages (batch, side, side, 3) uint8: the overview, then tiles."""
    whole = pages.permute(0, 3, 1, 2).float()
    batch = whole.shape[0]
    sized = _resized(whole, tiling * TILE)
    tiles = sized.view(batch, 3, tiling, TILE, tiling, TILE).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    both = torch.cat([_resized(whole, TILE)[:, None], tiles], 1) / 255
    mean, std = _mean_and_std(pages.device)
    return (both - mean) / std


@cache
def _mean_and_std(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return mean, std


def _resized(images: torch.Tensor, side: int) -> torch.Tensor:
    if images.shape[-1] == side:
        return images
    for size in ((images.shape[-2], side), (side, side)):  # as Pillow: first the rows, and bytes after each pass
        images = interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).round().clamp(0, 255)
    return images
