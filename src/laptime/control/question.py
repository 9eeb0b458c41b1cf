"""What is asked of an adaptive model: a text, with or without an image that is not cut into crops yet."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from laptime.models.loading import Loaded
from laptime.workload.datasets import inputs_from_question
from laptime.workload.example import Example, prompt_of
from laptime.workload.inputs import Inputs
from laptime.workload.media import open_image


@dataclass(frozen=True)
class Question:
    """A question. `id` names it in samples and messages. `choices`: the options of a multiple-choice question."""

    text: str
    image: Image.Image | None = None
    id: str = "question"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenedQuestion:
    """A question whose image has been read."""

    id: str
    text: str
    image: Image.Image | None


AnyQuestion = Question | Example | OpenedQuestion | str
"""Every form in which a question may be given."""


def opened(question: AnyQuestion) -> OpenedQuestion:
    """The question with its image read. Raises LaptimeError for an image that can't be read."""
    if isinstance(question, OpenedQuestion):
        return question
    if isinstance(question, str):
        return OpenedQuestion("question", question, None)
    if isinstance(question, Question):
        image = None if question.image is None else question.image.convert("RGB")
        return OpenedQuestion(question.id, prompt_of(question.text, question.choices), image)
    image = None if question.image is None else open_image(question.image, question.place)
    return OpenedQuestion(question.id, question.prompt, image)


def inputs_for(loaded: Loaded, question: OpenedQuestion, crops: tuple[int, int] | None, new_tokens: int = 0) -> Inputs:
    """The arguments of generate() for a question.

    crops: least and most crops of the image; the model must already expect them (KnobSwitch.crops).
    """
    cut = crops if question.image is not None else None
    return inputs_from_question(
        loaded, question.text, question.image, f"question {question.id}", new_tokens=new_tokens, crops=cut
    )
