"""Many questions after one image, each blind to the others: seen exactly as at inference, at a fraction of the cost.

A row is the image's tokens (the prefix), then question after question with its answer. Every question attends to the
prefix and to itself alone, and its positions start right after the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from .model import EOS, PAD, make_processor
from .questions import TYPES, Question

ATTENTION = "glyphs_packed"
NO_LABEL = -100


@cache
def _byte_ids() -> NDArray[np.int64]:
    """Each byte's token id. Bytes that no UTF-8 text holds keep the padding's."""
    ids = np.full(256, PAD, dtype=np.int64)
    tokenizer = _tokenizer()
    for byte in range(128):
        ids[byte] = tokenizer(chr(byte))["input_ids"][0]
    return ids


def token_ids(text: str) -> NDArray[np.int64]:
    """The tokenizer's ids of an ASCII text. Letters and digits that were drawn at random are quick: they are bytes."""
    if not text.isupper() and not text.isdigit():
        return _known_ids(text)
    ids: NDArray[np.int64] = _byte_ids()[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
    return ids


@cache
def _known_ids(text: str) -> NDArray[np.int64]:
    return np.array(_tokenizer()(text)["input_ids"], dtype=np.int64)


@cache
def _tokenizer() -> Any:
    return make_processor().tokenizer


def prompt(question: str) -> str:
    """What follows the image: as laptime.workload.datasets.inputs_from_example writes it."""
    return f"\n{question}"


def pack(rows: Sequence[Sequence[Question]], multiple: int = 32) -> dict[str, torch.Tensor]:
    """Rows of questions as (rows, length) int64 tensors, the length a multiple of `multiple`.

    ids; places: from 0, after the prefix; owners: which question of the row, from 1 (0: padding); labels: the next
    token where it is the answer's or the end, else NO_LABEL; kinds: the place of the question's type in TYPES. And
    rows and positions, (answer tokens,): where the labels are.
    """
    packed = [_row(questions) for questions in rows]
    length = max(-(-row.shape[1] // multiple) for row in packed) * multiple
    whole = np.zeros((len(rows), 5, length), dtype=np.int64)
    whole[:, 0], whole[:, 3] = PAD, NO_LABEL
    for index, row in enumerate(packed):
        whole[index, :, : row.shape[1]] = row
    names = ("ids", "places", "owners", "labels", "kinds")
    where = np.nonzero(whole[:, 3] != NO_LABEL)
    return {
        **{name: torch.from_numpy(whole[:, place].copy()) for place, name in enumerate(names)},
        **{name: torch.from_numpy(index) for name, index in zip(("rows", "positions"), where, strict=True)},
    }


def _row(questions: Sequence[Question]) -> NDArray[np.int64]:
    parts = []
    for owner, question in enumerate(questions, 1):
        asked, answer = token_ids(prompt(question.text)), token_ids(question.answer)
        ids = np.concatenate([asked, answer])
        labels = np.full(len(ids), NO_LABEL)
        labels[len(asked) - 1 :] = [*answer, EOS]
        fill = np.ones_like(ids)
        parts.append(np.stack([ids, np.arange(len(ids)), fill * owner, labels, fill * TYPES.index(question.kind)]))
    return np.concatenate(parts, 1)


def packed_mask(owners: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
    """(rows, 1, length, prefix + length) to add to the attention's scores: 0 where a question's token may look."""
    length = owners.shape[1]
    same = (owners[:, :, None] == owners[:, None, :]).tril()
    allowed = torch.cat([same.new_ones(len(owners), length, prefix), same], 2)
    return torch.zeros(allowed.shape, dtype=dtype, device=owners.device).masked_fill_(~allowed, torch.finfo(dtype).min)[
        :, None
    ]


def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention over the prefix, and what packed_mask allows for what follows it."""
    prefix = query.shape[2] - attention_mask.shape[2]
    head = (part[:, :, :prefix] for part in (query, key, value))
    image = scaled_dot_product_attention(*head, is_causal=True, scale=scaling)
    text = scaled_dot_product_attention(query[:, :, prefix:], key, value, attn_mask=attention_mask, scale=scaling)
    return torch.cat([image, text], 2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, _packed_attention)
