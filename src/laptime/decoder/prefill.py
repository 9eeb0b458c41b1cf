"""Prefill by the model itself: its own generate() for one token. The state gets a copy of the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from laptime.decoder.plan import DecodePlan
from laptime.decoder.settings import GenerationSettings
from laptime.decoder.state import MOST_EOS, DecodeState
from laptime.errors import LaptimeError


def prefill(
    model: Any,
    plan: DecodePlan,
    state: DecodeState,
    inputs: Mapping[str, Any],
    settings: GenerationSettings,
    processors: list[LogitsProcessor],
) -> torch.Tensor:
    """Fill the state for a prompt and return its last logits, (B, V) in float32.

    The rope positions are those that the model itself computed.

    processors: logits processors for the model's generate(); they set the marks.

    Raises LaptimeError when the model's cache doesn't hold one entry for each prompt token, and when positions don't
    advance by one for each token.
    """
    places: list[torch.Tensor] = []

    def remember(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        at = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        places[:] = [at[..., -1]]

    once = GenerationConfig(
        max_new_tokens=1,
        do_sample=False,
        num_beams=1,
        pad_token_id=settings.pad,
        prefill_chunk_size=settings.prefill_chunk,
        return_dict_in_generate=True,
        output_logits=True,
    )
    handle = plan.rotary.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        out = type(model).generate(
            model, **inputs, generation_config=once, logits_processor=LogitsProcessorList(processors)
        )
    finally:
        handle.remove()
    mask = inputs.get("attention_mask")
    _copy_cache(out.past_key_values, state, mask, inputs["input_ids"].shape)
    _place(state, places[0], mask, inputs["input_ids"].shape)
    state.ended.zero_()
    write_ends(state, settings)
    logits: torch.Tensor = out.logits[0].float()
    return logits


def write_ends(state: DecodeState, settings: GenerationSettings) -> None:
    """Tell the state which tokens end a row, what follows them, and which are never chosen."""
    ends = [*settings.eos, *[-1] * (MOST_EOS - len(settings.eos))]
    state.eos.copy_(torch.tensor(ends, dtype=torch.int32))
    state.pad.fill_(settings.pad)
    state.bias.zero_()
    known = [token for token in settings.suppressed if 0 <= token < state.bias.shape[0]]  # others never come anyway
    if known:
        state.bias[torch.tensor(known, device=state.bias.device)] = float("-inf")


def _copy_cache(cache: Any, state: DecodeState, mask: torch.Tensor | None, shape: torch.Size) -> None:
    if len(cache.layers) != len(state.keys) or cache.get_seq_length() != shape[1]:
        raise LaptimeError(
            f"the model's cache holds {cache.get_seq_length()} positions in {len(cache.layers)} layers for "
            f"{shape[1]} prompt tokens and {len(state.keys)} blocks; the fast decoder can't go on from it"
        )
    full = mask is None or bool(mask.all())
    for layer, keys, values in zip(cache.layers, state.keys, state.values, strict=True):
        for target, source in ((keys, layer.keys), (values, layer.values)):
            if full:
                target[:, :, : shape[1]] = source
                continue
            for row, kept in enumerate(mask.bool()):  # type: ignore[union-attr]
                only = source[row][:, kept]
                target[row, :, : only.shape[1]] = only
        layer.keys = layer.values = None  # copied: free it


def _place(state: DecodeState, last: torch.Tensor, mask: torch.Tensor | None, shape: torch.Size) -> None:
    """Set each row's length, and the rope position of the next token: one after its last."""
    if last.ndim > 1:  # (streams, B)
        last = last[-3:]
        if not bool((last == last[0]).all()):
            raise LaptimeError(
                "the prompt ends in an image or video: text must follow it, so that positions agree again"
            )
        last = last[0]
    if mask is None:
        lengths = torch.full((shape[0],), shape[1], device=last.device)
    else:
        lengths = mask.sum(dim=1)
        if not bool(mask[:, -1].all()):
            raise LaptimeError("attention_mask: the last token of a row is masked; pad on the left")
    state.position.copy_(lengths)
    state.begin.copy_(lengths)
    shift = (last + 1).expand(shape[0]) - lengths
    if int(shift.max()) > 0:
        raise LaptimeError(
            "positions run ahead of the number of tokens (a video?); the fast decoder can't go on from it"
        )
    state.shift.copy_(shift)
