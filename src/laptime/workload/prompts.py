"""Prompts of a given length: random token ids with no special token among them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from laptime.errors import LaptimeError

_SPECIAL_IN_CONFIG = ("image", "video", "audio", "vision", "boi", "eoi", "bos", "eos", "pad", "sep", "decoder_start")


def special_ids(config: Any, tokenizer: Any | None) -> frozenset[int]:
    """Ids that mean more than text: the tokenizer's special and added tokens, and every `*_token_id` of the config."""
    ids: set[int] = set()
    if tokenizer is not None:
        ids.update(getattr(tokenizer, "all_special_ids", ()) or ())
        ids.update(getattr(tokenizer, "added_tokens_decoder", None) or ())
    get_text_config = getattr(config, "get_text_config", None)
    for source in (config, get_text_config() if callable(get_text_config) else None):
        for key, value in vars(source).items() if source is not None else ():
            if key.endswith(("_token_id", "_token_index")) and key.startswith(_SPECIAL_IN_CONFIG):
                ids.update(value if isinstance(value, (list, tuple)) else () if value is None else (value,))
    return frozenset(i for i in ids if isinstance(i, int))


def random_ids(length: int, *, vocab_size: int, banned: Collection[int], seed: int) -> torch.Tensor:
    """`length` token ids, (length,) int64 on the CPU, uniform over the vocabulary without `banned`.

    Equal seeds give equal ids. Raises LaptimeError when length is negative or every id is banned.
    """
    if length < 0:
        raise LaptimeError(f"a prompt of {length} tokens: its length can't be negative")
    allowed = torch.ones(vocab_size, dtype=torch.bool)
    out = [i for i in banned if 0 <= i < vocab_size]
    allowed[out] = False
    choices = allowed.nonzero().flatten()
    if not len(choices):
        raise LaptimeError(f"a vocabulary of {vocab_size} tokens without {len(out)} special ones leaves none to choose")
    generator = torch.Generator().manual_seed(seed)
    return choices[torch.randint(len(choices), (length,), generator=generator)]
