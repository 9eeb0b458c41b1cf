"""The bodies of requests: made-up prompts that no cache has seen, or the questions of a data set."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example

Api = Literal["chat", "completions"]

WORDS = (
    *("time", "river", "house", "green", "light", "water", "stone", "small", "paper", "north", "seven", "table"),
    *("music", "field", "glass", "round", "cloud", "bread", "quiet", "early", "market", "letter", "window"),
)
"""Short common words, about one token each. How many tokens they are in truth is what the endpoint counts."""

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What every request asks for. extra: further fields of the body, as the user gave them."""

    api: Api
    model: str | None
    prompt_tokens: int
    new_tokens: int
    extra: dict[str, Any] = {}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question: its id, and the body that asks it."""

    id: str
    body: bytes


def synthetic(asking: Asking, number: int, nonce: str, seed: int) -> Question:
    """A made-up prompt. It begins with `nonce`, so that its prefix is in no cache; "" shares one prompt among all."""
    source = random.Random(f"{seed}:{number if nonce else 0}")  # noqa: S311 - no secret
    head = f"{nonce} {number}: " if nonce else ""
    text = head + " ".join(source.choices(WORDS, k=max(1, asking.prompt_tokens - (8 if nonce else 0))))
    return Question(id=f"made-up-{number}", body=_body(asking, text, None))


def of_examples(asking: Asking, examples: Sequence[Example]) -> list[Question]:
    """The questions of a data set. Raises LaptimeError for an image that this API or this client can't send."""
    return [Question(id=example.id, body=_body(asking, example.prompt, example)) for example in examples]


def _body(asking: Asking, text: str, example: Example | None) -> bytes:
    body: dict[str, Any] = {"model": asking.model} if asking.model else {}
    image = example.image if example is not None else None
    if asking.api == "completions":
        if image is not None and example is not None:
            raise LaptimeError(f"{example.place}: has an image, which completions can't carry; use `api` chat")
        body["prompt"] = text
    elif image is not None and example is not None:
        kind = MEDIA_TYPES.get(image.suffix.lower())
        if kind is None:
            raise LaptimeError(f"{example.place}: {image.name} is none of {', '.join(MEDIA_TYPES)}; convert it")
        try:
            content = base64.b64encode(image.read_bytes()).decode()
        except OSError as error:
            raise LaptimeError(f"{example.place}: {image}: {error.strerror}") from None
        parts = [
            {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{content}"}},
            {"type": "text", "text": text},
        ]
        body["messages"] = [{"role": "user", "content": parts}]
    else:
        body["messages"] = [{"role": "user", "content": text}]
    asked = {"max_tokens": asking.new_tokens, "stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**body, **asked, **asking.extra})
