"""A prompt as prefill reads it: each row's tokens from the first cache slot on, in buffers of a bucket's size.

Padding is left out and each row stands at its beginning, as in the cache of the decode step. What fills a row up to the
bucket's length stands behind it. A causal token never looks there, so attention needs no mask, and the next tokens
overwrite what prefill leaves there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from laptime.decoder.plan import DecodePlan
from laptime.errors import LaptimeError

FINEST = 64
"""Positions between two buckets of short prompts."""
BUCKETS_OF_A_DOUBLING = 32
"""Buckets between a long prompt and one twice as long: at most one part in 32 of a bucket is unused."""


def bucket_of(tokens: int) -> int:
    """The length of the bucket for prompts of this many tokens."""
    step = max(FINEST, (1 << (tokens - 1).bit_length()) // (2 * BUCKETS_OF_A_DOUBLING))
    return -(-tokens // step) * step


def check_prompt(input_ids: Any, mask: Any) -> None:
    """Raises LaptimeError for ids that are not rows of token numbers, and for a mask of another shape."""
    if input_ids is None:
        raise LaptimeError("input_ids is missing; give a tensor of rows and tokens, (B, S)")
    if not isinstance(input_ids, torch.Tensor):
        raise LaptimeError(f"input_ids is a {type(input_ids).__name__}; give a tensor of rows and tokens, (B, S)")
    shape = tuple(input_ids.shape)
    if input_ids.ndim != 2 or 0 in shape:
        raise LaptimeError(f"input_ids has the shape {shape}; give one token or more in each row, (B, S)")
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise LaptimeError(f"input_ids are {str(input_ids.dtype).removeprefix('torch.')}; give int64 or int32")
    if isinstance(mask, torch.Tensor) and tuple(mask.shape) != shape:
        raise LaptimeError(f"attention_mask has the shape {tuple(mask.shape)} and input_ids {shape}; give equal ones")


@dataclass(frozen=True, eq=False)
class Prompt:
    """Buffers of B rows of L positions. They stay where they are, so a captured prefill reads each new prompt there.

    ids (B, L): tokens. picked (B, L): 0 where a token is embedded, k + 1 where it is image feature k.
    lengths (B,): tokens of a row. shift (B,): the next token's rope position minus its cache slot.
    place (3, B, L): rope positions, for a model whose positions aren't the cache slots; else None.
    features (B L, hidden), deep (levels, B L, hidden): image features; None for a model without images.
    packed: one buffer behind all integers. staged: its copy on the host.
    """

    ids: torch.Tensor
    picked: torch.Tensor
    lengths: torch.Tensor
    shift: torch.Tensor
    place: torch.Tensor | None
    features: torch.Tensor | None
    deep: torch.Tensor | None
    packed: torch.Tensor
    staged: torch.Tensor

    @property
    def batch(self) -> int:
        return self.ids.shape[0]

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        images = (self.features, self.deep)
        return self.packed.nbytes + sum(buffer.nbytes for buffer in images if buffer is not None)


def new_prompt(plan: DecodePlan, batch: int, length: int, *, images: bool, levels: int = 0) -> Prompt:
    """Buffers for `batch` rows of `length` positions, empty. levels: blocks that image features are added to again."""
    streams = 3 if plan.streams > 1 else 0
    each = batch * length
    size = (2 + streams) * each + 2 * batch
    packed = torch.zeros(size, dtype=torch.int32, device=plan.device)
    staged = torch.zeros(size, dtype=torch.int32, pin_memory=plan.device.type == "cuda")

    def floats(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=plan.dtype, device=plan.device)

    parts = packed.split([each, each, batch, batch, streams * each])
    return Prompt(
        ids=parts[0].view(batch, length),
        picked=parts[1].view(batch, length),
        lengths=parts[2],
        shift=parts[3],
        place=parts[4].view(streams, batch, length) if streams else None,
        features=floats(each, plan.hidden) if images else None,
        deep=floats(levels, each, plan.hidden) if images and levels else None,
        packed=packed,
        staged=staged,
    )


@dataclass(frozen=True, eq=False)
class Layout:
    """A call's prompt on the host, as its processor gave it.

    ids (B, S). kept (B, S): which positions are tokens. images (B, S): which are image features; None without images.
    place (3, B, S): rope positions; None where they are the cache slots.
    """

    ids: np.ndarray[Any, Any]
    kept: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any] | None
    place: np.ndarray[Any, Any] | None

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.kept.sum(axis=1).max())

    @property
    def features(self) -> int:
        """How many image features the prompt takes."""
        return 0 if self.images is None else int(self.images.sum())


def read_layout(
    input_ids: torch.Tensor,
    mask: torch.Tensor | None,
    image_token: int | None,
    places: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor] | None,
    vocabulary: int,
) -> Layout:
    """The prompt on the host. It waits for the device once for each tensor.

    vocabulary: how many tokens the model knows.
    image_token: the id that stands for image features; None for a call without images.
    places: gives the rope positions, (3, B, S), of ids and mask on the host; None where they are the cache slots.

    Raises LaptimeError for a prompt that ends in a masked token, or in an image where positions don't agree, and for an
    id that the model has no embedding of.
    """
    on_host = input_ids.cpu()
    mask_on_host = None if mask is None else mask.cpu()
    ids = on_host.numpy()
    kept = np.ones(ids.shape, dtype=bool) if mask_on_host is None else mask_on_host.numpy() > 0
    if not kept[:, -1].all():
        raise LaptimeError("attention_mask: the last token of a row is masked; pad on the left")
    used = ids[kept]
    if used.min() < 0 or used.max() >= vocabulary:
        wrong = int(used.min() if used.min() < 0 else used.max())
        raise LaptimeError(f"input_ids hold {wrong}; the model knows the tokens 0 to {vocabulary - 1}")
    place = None if places is None else places(on_host, mask_on_host).numpy()
    if place is not None and not (place[:, :, -1] == place[0, :, -1]).all():
        raise LaptimeError("the prompt ends in an image or video: text must follow it, so that positions agree again")
    return Layout(ids, kept, None if image_token is None else ids == image_token, place)


def fill(prompt: Prompt, layout: Layout) -> None:
    """Write a prompt into its buffers: one copy to the device."""
    batch, length = prompt.batch, prompt.length
    each = batch * length
    packed = prompt.staged.numpy()
    ids, picked = (packed[i * each : (i + 1) * each].reshape(batch, length) for i in (0, 1))
    lengths, shift = packed[2 * each : 2 * each + batch], packed[2 * each + batch : 2 * each + 2 * batch]
    places = packed[2 * each + 2 * batch :].reshape(-1, batch, length)
    numbers = None
    if layout.images is not None:
        numbers = np.where(layout.images, layout.images.cumsum().reshape(layout.images.shape), 0)
    packed[:] = 0
    for row, kept in enumerate(layout.kept):
        tokens = int(kept.sum())
        lengths[row] = tokens
        ids[row, :tokens] = layout.ids[row, kept]
        if numbers is not None:
            picked[row, :tokens] = numbers[row, kept]
        if prompt.place is None:
            continue
        if layout.place is None:
            places[:, row] = np.arange(length)
        else:
            places[:, row, :tokens] = layout.place[:, row, kept]
            shift[row] = int(layout.place[0, row, -1]) + 1 - tokens
    if shift.max() > 0:
        raise LaptimeError(
            "positions run ahead of the number of tokens (a video?); the fast decoder can't go on from it"
        )
    prompt.packed.copy_(prompt.staged, non_blocking=True)
