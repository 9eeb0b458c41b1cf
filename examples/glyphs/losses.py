"""The model on packed pages, and what it is trained for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from laptime.models.config_changes import changed

from .images import pixel_values
from .packing import ATTENTION, packed_mask
from .pages import CODE, CODE_UNREAD, NAMES, SHOWN
from .questions import TYPES

PLACES = 6
"""Places in a text: none, 1 to 5."""
UNREAD_BELOW = 20
"""A grid of fewer patches a side can't tell the code's letters apart."""


@dataclass(frozen=True)
class Forward:
    """logits: (answer tokens, vocabulary) at `where` = (rows, positions) of the packed questions; features: of the
    overview and of the whole page, (batch, patches a side, patches a side, width)."""

    logits: torch.Tensor
    where: tuple[torch.Tensor, torch.Tensor]
    features: tuple[torch.Tensor, torch.Tensor]


def forward(model: Any, batch: Mapping[str, torch.Tensor], tiling: int) -> Forward:
    """What the model says for every answer token, with the blocks and experts that it has right now."""
    inner = model.model
    pixels = pixel_values(batch["pages"], tiling).to(inner.image_newline.dtype)
    overview, whole = image_features(inner, pixels, tiling)
    newline = inner.image_newline.expand(*whole.shape[:2], 1, -1)
    asked = inner.language_model.embed_tokens(batch["ids"])
    embedded = torch.cat([overview.flatten(1, 2), torch.cat([whole, newline], 2).flatten(1, 2), asked], 1)
    prefix = embedded.shape[1] - asked.shape[1]
    rows = len(asked)
    before = torch.arange(prefix, device=embedded.device).expand(rows, -1)
    with changed(inner.language_model.config, "_attn_implementation", ATTENTION):
        hidden = inner.language_model(
            inputs_embeds=embedded,
            attention_mask=packed_mask(batch["owners"], prefix, embedded.dtype),
            position_ids=torch.cat([before, prefix + batch["places"]], 1),
            use_cache=False,
        ).last_hidden_state
    where = (batch["rows"], batch["positions"])
    return Forward(model.lm_head(hidden[:, prefix:][where]), where, (overview, whole))


def image_features(inner: Any, pixels: torch.Tensor, tiling: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The projector's features of the overview and of the tiles put together, as LLaVA-NeXT lays them out."""
    batch = len(pixels)
    seen = inner.vision_tower(pixels.flatten(0, 1)).last_hidden_state[:, 1:]
    features = inner.multi_modal_projector(seen)
    side = round(features.shape[1] ** 0.5)
    tiles = features.view(batch, 1 + tiling * tiling, side, side, -1)
    grid = tiles[:, 1:].unflatten(1, (tiling, tiling)).transpose(2, 3)
    return tiles[:, 0], grid.flatten(3, 4).flatten(1, 2)


def answer_loss(output: Forward, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the answers' tokens and their ends."""
    return cross_entropy(output.logits.float(), batch["labels"][output.where])


def right_by_type(output: Forward, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(types, 2): questions answered right in every token, and questions asked."""
    owners, kinds, labels = (batch[name][output.where] for name in ("owners", "kinds", "labels"))
    most = int(batch["owners"].max()) + 1
    question = output.where[0] * most + owners
    count = len(batch["owners"]) * most
    wrong = torch.zeros(count, device=owners.device).index_add_(
        0, question, (output.logits.argmax(-1) != labels).float()
    )
    kind = torch.zeros(count, dtype=torch.int64, device=owners.device).index_copy_(0, question, kinds)
    asked = torch.zeros(count, device=owners.device).index_fill_(0, question, 1.0)
    table = torch.zeros(len(TYPES), 2, device=owners.device)
    return table.index_add_(0, kind, torch.stack([asked * (wrong == 0), asked], 1))


class PatchReader(nn.Module):
    """Says of each patch's features what its left and right half show. Trains the vision tower; it isn't saved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = (SHOWN, SHOWN, 1 + len(NAMES), 1 + len(NAMES), PLACES, PLACES, 2)
        self.read = nn.Linear(width, sum(self.sizes))

    def loss(self, features: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Features (batch, side, side, width) against a page's labels (batch, 4, map, map)."""
        said = self.read(features).flatten(0, 2).float().split(self.sizes, 1)
        total = features.new_zeros((), dtype=torch.float32)
        for logits, truth in zip(said, _truths(shown.long(), features.shape[1]), strict=True):
            weight = torch.where(truth == 0, 0.1, 1.0)  # most of a page is background
            each = cross_entropy(logits, truth.flatten(), reduction="none")
            total = total + (each * weight.flatten()).sum() / weight.sum()
        return total


def _truths(shown: torch.Tensor, side: int) -> Iterator[torch.Tensor]:
    """What each patch's left and right half show, their colours and places in a text; whether a centre lies in it."""
    points = shown.shape[-1] // side
    start = torch.arange(side, device=shown.device) * points
    at = shown[:, :, start + points // 2]
    left, right = at[..., start + points // 4], at[..., start + points * 3 // 4]
    for half in (left, right):
        yield half[:, 0] if side >= UNREAD_BELOW else half[:, 0].masked_fill(half[:, 0] >= CODE, CODE_UNREAD)
    for plane in (1, 2):
        yield left[:, plane]
        yield right[:, plane]
    yield shown[:, 3].unflatten(2, (side, points)).unflatten(1, (side, points)).amax((2, 4))


@contextlib.contextmanager
def router_balance(layers: Any) -> Iterator[list[torch.Tensor]]:
    """Fills the list with one number for each block that runs: 0 when its experts are used alike, up to experts - 1."""
    losses: list[torch.Tensor] = []

    def note(_gate: Any, _inputs: Any, output: Any) -> None:
        logits, _, chosen = output
        experts = logits.shape[-1]
        share = torch.histc(chosen.float(), bins=experts, min=0, max=experts - 1) / chosen.numel()
        losses.append(experts * (share * logits.float().softmax(-1).mean(0)).sum() - 1)

    hooks = [layer.mlp.gate.register_forward_hook(note) for layer in layers]
    try:
        yield losses
    finally:
        for hook in hooks:
            hook.remove()
