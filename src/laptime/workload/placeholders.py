"""How a family's processor is asked to place images, videos and sounds in a prompt; which words it keeps for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded

_KEPT = ("image_token", "boi_token", "eoi_token", "video_token", "audio_token", "image_break_token", "image_end_token")


def image_token_id(loaded: Loaded) -> int | None:
    """The id of the placeholder that image features replace; None for a model without one."""
    for holder, names in (
        (loaded.model.config, ("image_token_id", "image_token_index")),
        (loaded.processor, ("image_token_id",)),
    ):
        for name in names:
            if isinstance(value := getattr(holder, name, None), int):
                return value
    return None


def count_image_tokens(loaded: Loaded, ids: torch.Tensor) -> int:
    """How many of a row's ids image features replace."""
    token = image_token_id(loaded)
    return 0 if token is None else int((ids == token).sum())


def image_words(loaded: Loaded) -> list[str]:
    """The texts that may stand for one image in a prompt, the likeliest first; "" where images have no place in it."""
    processor = loaded.processor
    if getattr(processor, "num_query_tokens", None):  # BLIP-2 sets all of its image tokens by itself
        return [""]
    words = [word(processor, name) for name in ("image_token", "boi_token")]  # Gemma 3 is asked by the second
    return [*dict.fromkeys(one for one in words if one), ""]


def word(processor: Any, name: str) -> str | None:
    """A processor's special token of that name as text; None where it has none."""
    token = getattr(processor, name, None)
    token = getattr(token, "content", token)
    return token if isinstance(token, str) and token else None


def media_word(loaded: Loaded, kind: str) -> str:
    """The text that stands for one video or sound. Raises LaptimeError when the processor names none."""
    found = word(loaded.processor, f"{kind}_token")
    if found is None:
        raise LaptimeError(
            f"{loaded.name}: its processor names no {kind} token, so a {kind} can't be placed in a prompt"
        )
    return found


def check_question(loaded: Loaded, question: str, place: str) -> None:
    """Raise LaptimeError for a question that no processor takes: with its word for an image, or half a character."""
    if not question.isascii() and any("\ud800" <= letter <= "\udfff" for letter in question):
        raise LaptimeError(f"{place}: the question holds half a character (a lone surrogate); write it anew")
    for name in _KEPT if loaded.processor is not None else ():
        kept = word(loaded.processor, name)
        if kept is not None and kept in question:
            raise LaptimeError(
                f"{place}: the question holds {kept!r}, which {loaded.name}'s processor takes for a place of an image "
                "or a sound; leave it out: laptime places them before the question"
            )


def process_images(
    loaded: Loaded,
    processor: Callable[..., Any],
    images: Sequence[Sequence[Any]],
    texts: Callable[[str], list[str]],
    **options: Any,
) -> dict[str, Any]:
    """What the processor makes of each row's images and text, by the first image word that it takes.

    texts: the rows' texts for an image word. Raises ValueError or TypeError, the processor's own, when it takes none.
    """
    token = image_token_id(loaded)
    refused: Exception | None = None
    for of_image in image_words(loaded):
        rows = texts(of_image)
        try:
            try:
                made = processor(images=[list(row) for row in images], text=rows, return_tensors="pt", **options)
            except (ValueError, TypeError, AttributeError):
                if any(len(row) != 1 for row in images):
                    raise
                made = processor(images=[row[0] for row in images], text=rows, return_tensors="pt", **options)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            refused = refused or error
            continue
        ids = made["input_ids"]
        if token is None or not isinstance(ids, torch.Tensor) or bool((ids == token).any()):
            return dict(made)
    raise ValueError(str(refused) if refused else "it places no image token in the prompt")
