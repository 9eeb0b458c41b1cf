"""What generate() gets: synthetic inputs of a given size through the model's processor, and the arguments of the call.

The questions of a data set become inputs in laptime.workload.datasets, by the same rules.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.crops import has_overview, processor_cutting
from laptime.workload.image_budget import check_budget
from laptime.workload.images import synthetic_image
from laptime.workload.media import synthetic_sound
from laptime.workload.placeholders import count_image_tokens, media_word, process_images


@dataclass(frozen=True)
class Inputs:
    """What one generate() call gets: `model.generate(**kwargs)`.

    kwargs: tensors on the model's device, floating ones in its dtype. Of a row: `prompt_tokens` is its width, which
    is text_tokens + image_tokens + marker_tokens (+ padding, in a batch of unequal rows); image_tokens are the
    places that image features fill; marker_tokens are what the processor sets around them (start, end, rows).
    Counts are of row 0. `images` is the number of images in the batch, `crops` the tiles that one image is cut
    into, its overview not counted. preprocess_ms: how long the tokenizer or processor took; None where none ran.
    """

    kwargs: dict[str, torch.Tensor]
    prompt_tokens: int
    text_tokens: int
    image_tokens: int
    marker_tokens: int
    images: int
    crops: int
    batch: int
    preprocess_ms: float | None = None


def make_inputs(
    loaded: Loaded,
    *,
    prompt_tokens: int,
    image_size: tuple[int, int] | None = None,
    batch: int = 1,
    seed: int = 0,
    new_tokens: int = 0,
    crops: tuple[int, int] | None = None,
) -> Inputs:
    """Synthetic inputs with exactly `prompt_tokens` text tokens and, if image_size is given, one image in each row.

    Image tokens come on top. image_size: (width, height) in pixels. Every (seed, row) has its own text and image.
    new_tokens: what generate() will add, for the context check. crops: (lowest, highest) number of crops to cut an
    image into (laptime.workload.crops); LLaVA-NeXT and OneVision need `applied` around it.

    Raises LaptimeError: fewer than one token or row, an image for a text-only model, more than the context holds.
    """
    if prompt_tokens < 1:
        raise LaptimeError(f"prompt tokens must be at least 1, not {prompt_tokens}")
    if batch < 1:
        raise LaptimeError(f"the batch must have at least 1 row, not {batch}")
    if new_tokens < 0:
        raise LaptimeError(f"new tokens can't be negative: {new_tokens}")
    if seed < 0:
        raise LaptimeError(f"the seed can't be negative: {seed}")
    check_context(loaded, prompt_tokens, new_tokens)  # before any image is drawn: the text alone may be too long
    preprocess_ms: float | None = None
    if image_size is None:
        base, fixed = _text_base(loaded, prompt_tokens, batch)
    else:
        base, fixed, preprocess_ms = _image_base(loaded, image_size, batch, seed, crops)
    ids = base["input_ids"]
    image_tokens = count_image_tokens(loaded, ids[0]) if image_size is not None else 0
    check_budget(loaded, ids[0], 0 if image_size is None else 1)
    fixed_text = min(fixed, prompt_tokens)
    check_context(loaded, ids.shape[1] - fixed_text + prompt_tokens, new_tokens, image_tokens)
    random = torch.stack([_row_text(loaded, prompt_tokens - fixed_text, seed, row) for row in range(batch)])
    kwargs = on_model(loaded, _append_text(base, random))
    width = kwargs["input_ids"].shape[1]
    return Inputs(
        kwargs=kwargs,
        prompt_tokens=width,
        text_tokens=prompt_tokens,
        image_tokens=image_tokens,
        marker_tokens=width - prompt_tokens - image_tokens,
        images=0 if image_size is None else batch,
        crops=crop_count(kwargs, batch, overview=has_overview(loaded.model)),
        batch=batch,
        preprocess_ms=preprocess_ms,
    )


def context_length(loaded: Loaded) -> int | None:
    """How many tokens the language model has positions for; None when its config doesn't say."""
    config = loaded.model.config
    text = config.get_text_config() if callable(getattr(config, "get_text_config", None)) else config
    limit = getattr(text, "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


def check_context(loaded: Loaded, width: int, new_tokens: int, image_tokens: int = 0) -> None:
    """Raise LaptimeError when a row of `width` tokens and `new_tokens` more don't fit the model's context."""
    limit = context_length(loaded)
    if loaded.is_encoder_decoder:
        _check_both_sides(loaded, width, new_tokens)
    elif limit is not None and width + new_tokens > limit:
        of_image = f" ({image_tokens} of them for the image)" if image_tokens else ""
        raise LaptimeError(
            f"{loaded.name}: a prompt of {width} tokens{of_image} and {new_tokens} new ones don't fit its context of "
            f"{limit}: use a shorter prompt{', a smaller image' if image_tokens else ''} or fewer new tokens"
        )


def _check_both_sides(loaded: Loaded, width: int, new_tokens: int) -> None:
    """The same for an encoder-decoder: the prompt is the encoder's, the answer the decoder's."""
    config = loaded.model.config
    both = getattr(config, "max_position_embeddings", None)
    written = getattr(config, "max_target_positions", None) or both
    if isinstance(both, int) and width > both:
        raise LaptimeError(
            f"{loaded.name}: a prompt of {width} tokens doesn't fit its encoder's {both}: use a shorter one"
        )
    if isinstance(written, int) and new_tokens >= written:
        raise LaptimeError(
            f"{loaded.name}: {new_tokens} new tokens don't fit its decoder's {written}: use fewer (`new_tokens`)"
        )


def crop_count(kwargs: dict[str, torch.Tensor], images: int, *, overview: bool = True) -> int:
    """The tiles that one image is cut into, its overview (if the family makes one) not counted; 0 without an image."""
    pixels = kwargs.get("pixel_values")
    if pixels is None:
        return 0
    if pixels.ndim == 5:  # (row, tile, channel, height, width)
        tiles = pixels.shape[1]
    elif pixels.ndim == 4:  # (tile of any row, channel, height, width)
        tiles = pixels.shape[0] // images
    else:  # patches of whole images (Qwen)
        tiles = 1
    return max(1, tiles - overview)


def on_model(loaded: Loaded, processed: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors among `processed` but the labels (PaliGemma adds them), on the model's device and in its dtype."""
    tensors = {name: value for name, value in processed.items() if isinstance(value, torch.Tensor) and name != "labels"}
    return {
        name: value.to(loaded.device, loaded.dtype if value.is_floating_point() else None)
        for name, value in tensors.items()
    }


def make_sound_inputs(
    loaded: Loaded, *, prompt_tokens: int, seconds: float, batch: int = 1, seed: int = 0, new_tokens: int = 0
) -> Inputs:
    """The same with one synthetic sound of `seconds` in each row instead of an image.

    A model that only writes down what it hears (Whisper) gets no text. Raises LaptimeError as make_inputs.
    """
    if not loaded.takes_sound:
        raise LaptimeError(f"{loaded.name}: takes no sound: leave `audio_seconds` out, or use a model of sound")
    extractor = loaded.processor.feature_extractor  # type: ignore[union-attr]
    rate = int(extractor.sampling_rate)
    sounds = [synthetic_sound(seconds, rate, _row_seed(seed, row)) for row in range(batch)]
    if loaded.model.main_input_name != "input_ids":
        begin = perf_counter()
        made = on_model(loaded, dict(extractor(sounds, sampling_rate=rate, return_tensors="pt")))
        spent_ms = (perf_counter() - begin) * 1e3
        check_context(loaded, 0, new_tokens)
        return Inputs(made, 0, 0, 0, 0, images=0, crops=0, batch=batch, preprocess_ms=spent_ms)
    check_context(loaded, prompt_tokens, new_tokens)
    begin = perf_counter()
    try:
        base = dict(
            loaded.processor(  # type: ignore[misc]
                text=[media_word(loaded, "audio")] * batch, audio=sounds, return_tensors="pt", padding=True
            )
        )
    except (ValueError, TypeError) as error:
        raise LaptimeError(f"{loaded.name}: its processor refused a sound of {seconds} s: {error}") from error
    spent_ms = (perf_counter() - begin) * 1e3
    width = base["input_ids"].shape[1]
    check_context(loaded, width + prompt_tokens, new_tokens)
    random = torch.stack([_row_text(loaded, prompt_tokens, seed, row) for row in range(batch)])
    kwargs = on_model(loaded, _append_text(base, random))
    marks = width - len(_opening_ids(loaded))
    return Inputs(
        kwargs, width + prompt_tokens, prompt_tokens, 0, marks, images=0, crops=0, batch=batch, preprocess_ms=spent_ms
    )


def _text_base(loaded: Loaded, prompt_tokens: int, batch: int) -> tuple[dict[str, torch.Tensor], int]:
    """What stands before random text: the tokenizer's own opening, if it has one (BOS)."""
    opening = _opening_ids(loaded)[:prompt_tokens]
    ids = torch.tensor([opening] * batch, dtype=torch.long).reshape(batch, len(opening))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, len(opening)


def _image_base(
    loaded: Loaded, image_size: tuple[int, int], batch: int, seed: int, crops: tuple[int, int] | None
) -> tuple[dict[str, torch.Tensor], int, float]:
    """Each row's image through the processor, with no text but what it sets there itself; that text's length; ms."""
    if loaded.processor is None or not loaded.is_vlm:
        raise LaptimeError(f"{loaded.name}: takes text only: leave the image size out, or use a vision-language model")
    images = [synthetic_image(*image_size, seed=_row_seed(seed, row)) for row in range(batch)]
    processor: Any = loaded.processor
    if crops is not None:
        processor, images = processor_cutting(loaded, images, crops)
    rows = [[image] for image in images]
    begin = perf_counter()
    try:
        processed = process_images(loaded, processor, rows, lambda word: [word] * batch, padding=True)
    except (ValueError, TypeError) as error:
        raise LaptimeError(
            f"{loaded.name}: its processor refused an image of {image_size[0]}x{image_size[1]}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return processed, len(_opening_ids(loaded)), (perf_counter() - begin) * 1e3


def _opening_ids(loaded: Loaded) -> list[int]:
    """What the tokenizer adds to any text by itself (BOS), asked with an empty one."""
    if loaded.tokenizer is None:
        return []
    return [int(i) for i in loaded.tokenizer("")["input_ids"]]


def _row_text(loaded: Loaded, length: int, seed: int, row: int) -> torch.Tensor:
    config, tokenizer = loaded.model.config, loaded.tokenizer
    rows = loaded.model.get_input_embeddings().num_embeddings
    vocab_size = rows if tokenizer is None else min(rows, len(tokenizer))
    banned = special_ids(config, tokenizer)
    return random_ids(length, vocab_size=vocab_size, banned=banned, seed=_row_seed(seed, row))


def _row_seed(seed: int, row: int) -> int:
    """One number for (seed, row), so that no two pairs share an image or a prompt (batches below 2^20 rows)."""
    return (seed << 20) + row


def _append_text(base: dict[str, torch.Tensor], text: torch.Tensor) -> dict[str, torch.Tensor]:
    """`base` with the ids of `text`, (batch, n), at the end of every row; masks and type ids grow along."""
    shape = base["input_ids"].shape
    grown = dict(base)
    for name, value in base.items():
        if not isinstance(value, torch.Tensor):
            continue
        if name == "input_ids":
            grown[name] = torch.cat([value, text], dim=1)
        elif value.shape == shape and name.endswith(("_mask", "_ids")):
            fill = 1 if name == "attention_mask" else 0  # type 0 is text in every family's type ids
            grown[name] = torch.cat([value, torch.full_like(text, fill, dtype=value.dtype)], dim=1)
        elif value.ndim > 2 and value.shape[:2] == shape and name.endswith("_mask"):  # Mllama: what each token sees
            grown[name] = torch.cat([value, value[:, -1:].expand(-1, text.shape[1], *value.shape[2:])], dim=1)
    return grown


def generation_arguments(
    *, new_tokens: int, cache: str | None, compile: bool, prefill_chunk: int | None = None
) -> dict[str, Any]:
    """The arguments of generate() for a greedy answer.

    cache: transformers' cache_implementation; None is its dynamic cache.
    """
    arguments: dict[str, Any] = {"max_new_tokens": new_tokens, "do_sample": False}
    if cache is not None:
        arguments["cache_implementation"] = cache
    if not compile:
        arguments["disable_compile"] = True
    if prefill_chunk is not None:
        arguments["prefill_chunk_size"] = prefill_chunk
    return arguments


def compiles(*, cache: str | None, compile: bool, device: torch.device) -> bool:
    """Whether transformers compiles the decode step: it was not forbidden, the cache is static, the device no CPU."""
    return compile and cache is not None and device.type != "cpu"


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
