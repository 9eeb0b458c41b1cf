"""The smaller model of assisted decoding: `laptime profile MODEL --assistant SMALLER`."""

from __future__ import annotations

from typing import Any

from laptime.errors import LaptimeError
from laptime.measure.profile_request import ProfileRequest
from laptime.models.loading import Loaded, LoadingPlan, load_as


def assistant_arguments(request: ProfileRequest, loaded: Loaded) -> dict[str, Any]:
    """What generate() gets so that the assistant drafts; nothing where none was asked for.

    A model of other ids needs both tokenizers: each draft is then read as text and cut anew.
    Raises LaptimeError for an assistant that can't draft for this model.
    """
    if request.assistant is None:
        return {}
    if loaded.is_encoder_decoder:
        raise LaptimeError(
            f"`assistant`: {loaded.name} is an encoder-decoder; assisted decoding of one is not measured"
        )
    plan = LoadingPlan(
        dtype=request.dtype,
        device=str(loaded.device),
        attn_implementation=request.attention,
        trust_remote_code=request.trust_remote_code,
        seed=request.seed,
    )
    assistant = load_as(request.assistant, plan)
    if assistant.is_encoder_decoder:
        raise LaptimeError(f"`assistant` {request.assistant}: an encoder-decoder can't draft for {loaded.name}")
    arguments: dict[str, Any] = {"assistant_model": assistant.model}
    if _ids(loaded) == _ids(assistant):
        return arguments
    if loaded.tokenizer is None or assistant.tokenizer is None:
        raise LaptimeError(
            f"`assistant` {request.assistant}: it has {_ids(assistant):,} token ids and {loaded.name} has "
            f"{_ids(loaded):,}; without a tokenizer of each, its drafts can't be read; name a model of the same family"
        )
    return {**arguments, "tokenizer": loaded.tokenizer, "assistant_tokenizer": assistant.tokenizer}


def _ids(loaded: Loaded) -> int:
    return int(loaded.model.config.get_text_config().vocab_size)
