"""What is asked of an adaptive model: a text, with or without an image, not cut into crops yet."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from laptime.models.loading import Loaded
from laptime.workload.datasets import inputs_from_question, open_image
from laptime.workload.example import Example
from laptime.workload.inputs import Inputs


@dataclass(frozen=True)
class Question:
    """A question at hand. `id` names it in samples and messages."""

    text: str
    image: Image.Image | None = None
    id: str = "question"


@dataclass(frozen=True)
class Asked:
    """A question with its image opened."""

    id: str
    text: str
    image: Image.Image | None


def asked(question: Question | Example | Asked | str) -> Asked:
    """Any way to put a question, as one. Raises LaptimeError for an image that can't be read."""
    if isinstance(question, Asked):
        return question
    if isinstance(question, str):
        return Asked("question", question, None)
    if isinstance(question, Question):
        image = None if question.image is None else question.image.convert("RGB")
        return Asked(question.id, question.text, image)
    image = None if question.image is None else open_image(question.image, question.place)
    return Asked(question.id, question.prompt, image)


def inputs_for(loaded: Loaded, question: Asked, crops: tuple[int, int] | None, new_tokens: int = 0) -> Inputs:
    """generate()'s inputs, the image cut into so many crops; the model must expect them already (KnobSwitch.crops)."""
    cut = crops if question.image is not None else None
    return inputs_from_question(
        loaded, question.text, question.image, f"question {question.id}", new_tokens=new_tokens, crops=cut
    )
