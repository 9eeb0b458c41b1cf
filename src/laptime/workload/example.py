"""One question of a data set, as the readers give it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Example:
    """One question, and the image it is about (None: text only). `place` says where it stands, for messages.

    answers: every answer that counts as right; for VQA accuracy what each annotator said, repeats included.
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

    @property
    def prompt(self) -> str:
        """What the model is asked: the question, and the options by their letters if there are any."""
        if not self.choices:
            return self.question
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False))
        return f"{self.question}\n{options}\nAnswer with the option's letter from the given choices directly."
