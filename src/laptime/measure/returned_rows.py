"""The rows of ids that generate() returned: where the new ones begin, where they end, and what ended them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import GenerationMixin

from laptime.errors import LaptimeError
from laptime.measure.call_settings import Asked


def rows_begin_at(
    model: Any, asked: Asked, returned: list[list[int]], settings: GenerationConfig, loop_width: int | None = None
) -> int:
    """Where the new ids begin in a row that generate() returned.

    An encoder-decoder returns the decoder's row, which begins with its start token or the ids that the call gives it.
    A generate() of the class's own may take them off again (Whisper), or have given ids of its own (SeamlessM4T).
    loop_width: of the decoder's ids when transformers' loop began, where it is known.
    """
    if is_encoder_decoder(model):
        plain = getattr(type(model), "generate", None) is GenerationMixin.generate
        if asked.decoder_width is not None and plain:
            return asked.decoder_width
        opening = settings.decoder_start_token_id
        opening = settings.bos_token_id if opening is None else opening
        starts = torch.as_tensor(-1 if opening is None else opening).flatten().tolist()
        begins = all(row[:1] and row[0] in starts for row in returned)
        return (loop_width or 1) if begins and not plain else int(begins)
    return 0 if asked.embeddings and not asked.ids else asked.width


def generated_rows(returned: list[list[int]], start: int, asked: Asked, settings: GenerationConfig) -> list[list[int]]:
    """The new ids of each returned row, padding after a row's end cut off.

    start: where the new ids begin (rows_begin_at).
    """
    ends = _eos_ids(settings)
    rows: list[list[int]] = []
    for whole in returned:
        ids = whole[start:]
        stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1) if ends else len(ids) - 1
        rows.append(ids[: stop + 1])
    return _without_padding(rows, settings, asked, ends)


def cut_rows(rows: list[list[int]], limit: int | None, asked: Asked, settings: GenerationConfig) -> int | None:
    """How many rows ended at the limit on new tokens; None where nothing else could end them.

    limit: token_limit's.
    """
    if settings.eos_token_id is None and not settings.stop_strings and not asked.criteria:
        return None
    ends = _eos_ids(settings)
    return None if limit is None else sum(len(row) >= limit and row[-1] not in ends for row in rows)


def token_limit(model: Any, asked: Asked, settings: GenerationConfig, start: int) -> int | None:
    """The most new tokens of a row.

    start: where the new ids of an encoder-decoder's row begin. max_length counts what stands before the new ids, unless
    nobody has set it.
    Source: GenerationMixin._prepare_generated_length of transformers 5.17.
    """
    if settings.max_new_tokens is not None or settings.max_length is None:
        return settings.max_new_tokens
    if asked.max_length is None:
        return settings.max_length
    return settings.max_length - (start if is_encoder_decoder(model) else asked.width)


def is_encoder_decoder(model: Any) -> bool:
    """Whether the prompt goes into an encoder and what comes back is the decoder's."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _eos_ids(settings: GenerationConfig) -> set[int]:
    """The ids that end a row: an int, a list or a tensor in the settings."""
    eos = settings.eos_token_id
    return set(torch.as_tensor(eos).flatten().tolist()) if eos is not None else set()


def sequences(result: Any) -> torch.Tensor:
    """The ids in what generate() returned: a tensor, an output with `sequences`, or a tuple that begins with one.

    Raises LaptimeError when there are none.
    """
    first = result[0] if type(result) in (tuple, list) and result else result
    first = first.get("sequences") if type(first) is dict else first  # Whisper's with return_segments
    ids = getattr(first, "sequences", first)
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.is_floating_point():
        raise LaptimeError(
            f"generate() returned a {type(result).__name__} without token ids, so the tokens can't be counted"
        )
    return ids


def _without_padding(
    rows: list[list[int]], settings: GenerationConfig, asked: Asked, ends: set[int]
) -> list[list[int]]:
    """Cut what follows the end of rows that a criterion other than EOS has ended.

    The last row to end has no padding, so where every row seems to have some, nothing is cut from the longest.
    """
    beams = (settings.num_beams or 1) > 1
    by_criteria = (asked.criteria or settings.stop_strings) and ends  # without an EOS nothing is padded
    if len(rows) < 2 or not (by_criteria or beams):
        return rows
    pad = settings.pad_token_id if settings.pad_token_id is not None else min(ends, default=-1)
    padding = {-1, *torch.as_tensor(pad).flatten().tolist()} - ends
    lengths = [max((i + 1 for i, token in enumerate(row) if token not in padding), default=1) for row in rows]
    longest = max(lengths)
    return [row if length == longest else row[:length] for row, length in zip(rows, lengths, strict=True)]
