"""What one generate() call was asked for, read as transformers itself reads it. What came back: returned_rows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from transformers import Cache, DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.generation import GenerationMixin, GenerationMode

from laptime.data.record import Scalar
from laptime.errors import LaptimeError

MEASURABLE = {
    GenerationMode.GREEDY_SEARCH,
    GenerationMode.SAMPLE,
    GenerationMode.BEAM_SEARCH,
    GenerationMode.BEAM_SAMPLE,
}
"""Modes with one forward a token. Others verify or try several tokens a forward: their stages mean something else."""

_UNSET = GenerationConfig()
"""What generate() begins with when a call brings no GenerationConfig: nearly everything in it is None."""
_UNSET_VALUES = {name: value for name, value in vars(_UNSET).items() if value is not None}
_DEFAULTS: dict[str, Any] = getattr(GenerationConfig, "_get_default_generation_params", dict)()


CACHE = (
    "cache"
    if "cache" in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    else "past_key_values"
)
"""What this version of transformers calls a cache that a call of generate() or of a forward brings."""


def bind(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments by name, so that a LogitsProcessor can be added wherever the user's stand."""
    if not args:
        return dict(kwargs)
    signature = inspect.signature(original)
    named = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named.update(named.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and named.pop(name, ()):
            raise LaptimeError("generate() was called with more positional arguments than it names; name them")
    return named


def takes_processors(original: Callable[..., Any]) -> bool:
    """Whether a generate() can be handed logits processors."""
    parameters = inspect.signature(original).parameters
    return "logits_processor" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def resolve(model: Any, call: Mapping[str, Any]) -> GenerationConfig:
    """What generate() will go by, at a hundredth of the time that transformers takes to work it out.

    An argument of the call comes first, then what the call's GenerationConfig has, then the model's, then the default.
    Source: GenerationMixin._prepare_generation_config of transformers 5.17; a test compares the two.
    """
    given = call.get("generation_config")
    settings = copy.copy(model.generation_config)
    known: dict[str, Any] = vars(settings)
    asked = vars(_UNSET if given is None else given)
    first = _UNSET_VALUES if given is None else {name: value for name, value in asked.items() if value is not None}
    known.update({**asked, **known, **first})
    for name, value in _DEFAULTS.items():
        if known.get(name) is None:
            known[name] = value
    for name, value in call.items():
        if hasattr(settings, name):
            setattr(settings, name, value)
    if settings.cache_implementation == "hybrid":  # an old checkpoint's name for what is now the dynamic cache
        settings.cache_implementation = None
    return settings


def refuse_unmeasurable(
    settings: GenerationConfig, call: Mapping[str, Any], device: torch.device, *, assisted: bool = False
) -> None:
    """Raise LaptimeError, before anything runs, for a way of generating that has no such stages.

    assisted: assisted decoding was asked for by name, so that nobody takes its rounds for steps.
    """
    if call.get("custom_generate") is not None:
        raise LaptimeError("generate(custom_generate=...) has no known stages; leave it out to measure")
    if call.get("cache_implementation") == "paged":
        raise LaptimeError(
            "cache_implementation='paged' is continuous batching, where several requests share a forward; a call has "
            "no stages of its own there; use another cache to measure"
        )
    mode = settings.get_generation_mode(call.get("assistant_model"))
    if mode not in MEASURABLE and not (assisted and mode is GenerationMode.ASSISTED_GENERATION):
        asked = mode is GenerationMode.ASSISTED_GENERATION
        raise LaptimeError(
            f"{_mode_words(settings, mode)} runs no single forward per token"
            + (
                "; ask for it by name to measure it: StageTimer(assisted=True), or "
                "laptime profile MODEL --generate prompt_lookup_num_tokens=3"
                if asked
                else ", so prefill and decode have no meaning there; measure greedy, sampling or beam search"
            )
        )
    compiles = settings.cache_implementation and device.type != "cpu" and not settings.disable_compile
    if settings.prefill_chunk_size and compiles:
        raise LaptimeError(
            "chunked prefill with an auto-compiled cache compiles the prefill itself, where no mark can be taken; "
            "pass disable_compile=True or leave out prefill_chunk_size"
        )


def refuse_only_sound(original: Callable[..., Any], call: Mapping[str, Any]) -> None:
    """Raise LaptimeError for a call that will return sound without its text (SeamlessM4T)."""
    known = inspect.signature(original).parameters
    if "return_intermediate_token_ids" not in known or call.get("return_intermediate_token_ids"):
        return
    default = known["generate_speech"].default if "generate_speech" in known else True
    if call.get("generate_speech", default):
        raise LaptimeError(
            "generate() returns sound here and no token ids; pass return_intermediate_token_ids=True to measure"
        )


def refuse_windows(model: Any, call: Mapping[str, Any]) -> None:
    """Raise LaptimeError for a sound that Whisper hears in several windows, each with an encoder and a loop."""
    sound = call.get("input_features")
    if "num_segment_frames" not in inspect.signature(type(model).generate).parameters or sound is None:
        return
    encoder = model.get_encoder()
    window = model.config.max_source_positions * encoder.conv1.stride[0] * encoder.conv2.stride[0]
    if sound.shape[-1] > window:
        raise LaptimeError(
            f"a sound of {sound.shape[-1]} frames is heard in windows of {window}, each with an encoder and a loop of "
            "its own (Whisper's long form); give each window a call of its own to measure"
        )


def _mode_words(settings: GenerationConfig, mode: GenerationMode) -> str:
    if mode is GenerationMode.ASSISTED_GENERATION and settings.prompt_lookup_num_tokens is not None:
        return "assisted generation by prompt lookup (prompt_lookup_num_tokens, of the call or of the model's config)"
    return mode.value.replace("_", " ")


def is_assisted(settings: GenerationConfig, call: Mapping[str, Any]) -> bool:
    """Whether candidates are drafted and verified, several tokens a forward."""
    return settings.get_generation_mode(call.get("assistant_model")) is GenerationMode.ASSISTED_GENERATION


def certain_length(model: Any, settings: GenerationConfig, call: Mapping[str, Any]) -> int | None:
    """The number of tokens the call will make, where nothing can end it sooner."""
    may_stop = (
        settings.eos_token_id is not None
        or settings.stop_strings
        or settings.max_time
        or call.get("stopping_criteria")
        or (settings.num_beams or 1) > 1
        or getattr(type(model), "generate", None) is not GenerationMixin.generate  # it may add criteria of its own
    )
    return None if may_stop else settings.max_new_tokens


def ran(settings: GenerationConfig, cache: str | None) -> dict[str, Scalar]:
    """What a call ran with, where that isn't greedy search with the dynamic cache; a checkpoint may have decided it.

    cache: the kind that the call brought (given_cache).
    """
    stops = settings.stop_strings
    facts: dict[str, Scalar] = {
        "cache": cache or settings.cache_implementation,
        "num_beams": settings.num_beams if (settings.num_beams or 1) > 1 else None,
        "do_sample": settings.do_sample or None,
        "prefill_chunk": settings.prefill_chunk_size,
        "stop_strings": stops if stops is None or isinstance(stops, str) else ", ".join(map(str, stops)),
    }
    return {name: value for name, value in facts.items() if value is not None}


def brought(call: Mapping[str, Any]) -> Any:
    """The cache that a call brings, by the newer name or by the older; None without one."""
    return call.get("past_key_values") if call.get("cache") is None else call["cache"]


def given_cache(call: Mapping[str, Any]) -> str | None:
    """The kind of the cache that a call brings, as cache_implementation would name it; None for a dynamic one."""
    cache = brought(call)
    if not isinstance(cache, Cache) or isinstance(cache, DynamicCache | EncoderDecoderCache):
        return "offloaded" if isinstance(cache, DynamicCache) and getattr(cache, "offloading", False) else None
    kind = type(cache).__name__.removesuffix("Cache").lower()
    return f"offloaded_{kind}" if getattr(cache, "offloading", False) else kind


def prompt_ids(call: Mapping[str, Any]) -> torch.Tensor | None:
    """The ids that the call brings; None where it brings embeddings, or nothing at all."""
    ids = call.get("input_ids")
    ids = call.get("inputs") if ids is None else ids
    if isinstance(ids, torch.Tensor) and ids.ndim == 2 and not ids.is_floating_point():
        return ids
    return None


def prompt_width(call: Mapping[str, Any]) -> int:
    """The tokens of a row before the first new one. A call without a prompt begins with the BOS token."""
    prompt, embeddings = prompt_ids(call), call.get("inputs_embeds")
    if prompt is None:
        encoded = call.get("encoder_outputs")  # of an encoder that ran before the call
        embeddings = encoded[0] if embeddings is None and encoded is not None else embeddings
        return 1 if embeddings is None else int(embeddings.shape[1])
    return int(prompt.shape[1])


def cached_tokens(call: Mapping[str, Any]) -> int | None:
    """How many of the prompt's tokens a cache holds that the call brings; None without one. Read before the call."""
    length = getattr(brought(call), "get_seq_length", None)
    if length is None:
        return None
    return min(int(length()), prompt_width(call))


class Asked(NamedTuple):
    """What a call's arguments say of its tokens. It holds none of them, so it stays true whatever becomes of them.

    width: prompt_width. ids, embeddings: what the prompt is. decoder_width: of the decoder's first ids, where given.
    criteria: stopping criteria are given. max_length: as the call, its GenerationConfig or the model's names it.
    """

    width: int
    ids: bool
    embeddings: bool
    decoder_width: int | None
    criteria: bool
    max_length: int | None


def asked_of(model: Any, call: Mapping[str, Any]) -> Asked:
    """Read it from the arguments."""
    decoder_ids = call.get("decoder_input_ids")
    lengths = (
        call.get("max_length"),
        getattr(call.get("generation_config"), "max_length", None),
        model.generation_config.max_length,
    )
    return Asked(
        width=prompt_width(call),
        ids=prompt_ids(call) is not None,
        embeddings=call.get("inputs_embeds") is not None,
        decoder_width=None if decoder_ids is None else int(decoder_ids.shape[1]),
        criteria=bool(call.get("stopping_criteria")),
        max_length=next((length for length in lengths if length is not None), None),
    )


def image_placeholders(model: Any) -> frozenset[int]:
    """The ids that stand for image or video features in a prompt, as the model's config names them."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    named = (getattr(model.config, name, None) for name in names)
    return frozenset(token for token in named if isinstance(token, int))


def image_tokens(placeholders: frozenset[int], row: list[int]) -> int:
    """How many of a prompt's ids stand for image or video features."""
    return sum(row.count(token) for token in placeholders) if placeholders else 0
