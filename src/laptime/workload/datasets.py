"""Questions as inputs for generate(), and generated ids as the text of an answer, by the model's own processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.crops import has_overview, processor_cutting
from laptime.workload.example import Example
from laptime.workload.inputs import Inputs, check_context, crop_count, image_placeholder, image_token_id, on_model


def inputs_from_example(
    loaded: Loaded, example: Example, *, new_tokens: int = 0, crops: tuple[int, int] | None = None
) -> Inputs:
    """The example through the model's processor, by its chat template when it has one.

    new_tokens: what generate() will add, for the context check. crops: as in make_inputs.
    Raises LaptimeError: an image for a text-only model, an image that can't be read, no tokenizer, no room for it.
    """
    image = None if example.image is None else open_image(example.image, example.place)
    return inputs_from_question(loaded, example.prompt, image, example.place, new_tokens=new_tokens, crops=crops)


def inputs_from_question(
    loaded: Loaded,
    question: str,
    image: Image.Image | None,
    place: str,
    *,
    new_tokens: int = 0,
    crops: tuple[int, int] | None = None,
) -> Inputs:
    """The same for a question and an image that are at hand; `place` is what an error calls them."""
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so it can't read questions")
    if image is not None and loaded.processor is None:
        raise LaptimeError(f"{place}: has an image, and {loaded.name} takes text only")
    text = _prompt(loaded, question, with_image=image is not None)
    if image is None:
        tokens = loaded.tokenizer([text], return_tensors="pt", add_special_tokens=not _has_template(loaded))
        processed = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    else:
        options = {"add_special_tokens": False} if _has_template(loaded) else {}  # the template has set them already
        processor: Any = loaded.processor
        if crops is not None:
            processor, (image,) = processor_cutting(loaded, [image], crops)
        try:
            processed = processor(images=[[image]], text=[text], return_tensors="pt", **options)
        except (ValueError, TypeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise LaptimeError(f"{place}: {loaded.name}'s processor refused it: {first}") from error
    kwargs = on_model(loaded, dict(processed))
    width = kwargs["input_ids"].shape[1]
    image_tokens = 0
    if image is not None:
        image_tokens = int((processed["input_ids"][0] == image_token_id(loaded)).sum())
    check_context(loaded, width, new_tokens, image_tokens)
    return Inputs(
        kwargs=kwargs,
        prompt_tokens=width,
        text_tokens=width - image_tokens,  # markers count as text here: nobody asked for a number of text tokens
        image_tokens=image_tokens,
        marker_tokens=0,
        images=int(image is not None),
        crops=crop_count(kwargs, 1, overview=has_overview(loaded.model)),
        batch=1,
    )


def open_image(path: Path, place: str) -> Image.Image:
    """The image in RGB. Raises LaptimeError when the file is none."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LaptimeError(f"{place}: {path} is no readable image: {str(error).splitlines()[0]}") from None


def _has_template(loaded: Loaded) -> bool:
    return getattr(loaded.processor or loaded.tokenizer, "chat_template", None) is not None


def _prompt(loaded: Loaded, question: str, *, with_image: bool) -> str:
    """The question as the model expects it: its chat template, or the image's placeholder before the question."""
    if _has_template(loaded):
        images: list[dict[str, str]] = [{"type": "image"}] if with_image else []
        content: Any = [*images, {"type": "text", "text": question}]
        if loaded.processor is None:
            content = question
        speaker: Any = loaded.processor or loaded.tokenizer
        messages = [{"role": "user", "content": content}]
        text: str = speaker.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text
    return f"{image_placeholder(loaded)}\n{question}" if with_image else question


def answer_text(loaded: Loaded, output_ids: Sequence[int]) -> str:
    """The text of one row of generated ids (a row of Sample.output_ids: without the prompt), special tokens left out.

    `answer_text(loaded, sample.output_ids[0])` is what laptime.workload.scoring.score takes as the prediction.
    Raises LaptimeError when the model has no tokenizer.
    """
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so its answers can't be read; leave 'score' out")
    text: str = loaded.tokenizer.decode(list(output_ids), skip_special_tokens=True)
    return text.strip()
