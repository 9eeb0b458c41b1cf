"""One question of a data set, and what all readers of data sets do alike: pick, read a file, decode it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec

from laptime.data.outside import DAMAGE, read_regular
from laptime.errors import LaptimeError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Example:
    """One question, and the image it is about (None: text only). `place` says where it stands, for messages.

    answers: every answer that counts as right; for VQA accuracy what each annotator said, repeats included.
    images: all images, where there are several (then `image` is the first). video: a file, or a folder of frames.
    sound: a file. A sound needs no question.
    choices: the options of a multiple-choice question, in the order of their letters; answer_index: the right one's
    place, from 0 (None: unknown).
    """

    id: str
    question: str
    image: Path | None
    answers: tuple[str, ...]
    place: str
    choices: tuple[str, ...] = ()
    answer_index: int | None = None
    images: tuple[Path, ...] = ()
    video: Path | None = None
    sound: Path | None = None

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All images of the question, in their order."""
        return self.images or (() if self.image is None else (self.image,))

    @property
    def prompt(self) -> str:
        """What the model is asked: the question, and the options by their letters if there are any."""
        return prompt_of(self.question, self.choices)


def prompt_of(question: str, choices: Sequence[str]) -> str:
    """What a model is asked: the question, and the options by their letters if there are any."""
    if not choices:
        return question
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{question}\n{options}\nAnswer with the option's letter from the given choices directly."


T = TypeVar("T")


def pick(items: Sequence[T], ids: Sequence[str], samples: int | None, seed: int) -> list[T]:
    """`samples` of the items (all when None or too many), in their order.

    The items whose hashes of (seed, id) are smallest: the same on every machine and worker, whatever the order of the
    file, and a larger number keeps the smaller one's items, so that a run can be extended.
    """
    if samples is None or samples >= len(items):
        return list(items)
    keys = [blake2b(f"{seed}:{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in ids]
    chosen = sorted(sorted(range(len(items)), key=keys.__getitem__)[:samples])
    return [items[i] for i in chosen]


def read_bytes(path: Path) -> bytes:
    """A file's content without a byte order mark. Raises LaptimeError."""
    try:
        return read_regular(path).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise LaptimeError(f"{path}: can't be read: {error.strerror}") from None


def decode(content: bytes | msgspec.Raw, type_: type[T], place: str, means: str) -> T:
    """The JSON as `type_`. Raises LaptimeError that says where it isn't, and that it should be `means`."""
    try:
        return msgspec.json.decode(content, type=type_)
    except DAMAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LaptimeError(f"{place}: not {means}: {first}") from None
