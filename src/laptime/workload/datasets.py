"""Questions about images from a JSONL file, as inputs for generate() by the model's own processor.

One object a line: {"image": "path", "question": "text"}, with optional "id" and "answer". Image paths are relative to
the file. Only local files are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.inputs import Inputs, check_context, crop_count, image_placeholder, image_token_id, on_model


@dataclass(frozen=True)
class Example:
    """One question, and the image it is about (None: text only). `place` says where it stands, for messages."""

    id: str
    question: str
    image: Path | None
    answers: tuple[str, ...]
    place: str


def read_jsonl(path: Path | str) -> list[Example]:
    """All examples of the file, in its order; empty lines are skipped.

    Raises LaptimeError that names file and line: not JSON, not an object, no question, an image that isn't there or
    isn't local, an id used twice, or a file without any example.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LaptimeError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise LaptimeError(f"{path}: can't be read: {error.strerror}") from None
    examples = [
        _example(line, number, path.parent, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not examples:
        raise LaptimeError(f"{path}: holds no example (one JSON object a line, with question and image)")
    first: dict[str, str] = {}
    for example in examples:
        if example.id in first:
            raise LaptimeError(f"{example.place}: id {example.id!r} was used before, at {first[example.id]}")
        first[example.id] = example.place
    return examples


def inputs_from_example(loaded: Loaded, example: Example, *, new_tokens: int = 0) -> Inputs:
    """The example through the model's processor, by its chat template when it has one.

    new_tokens: what generate() will add, for the context check.
    Raises LaptimeError: an image for a text-only model, an image that can't be read, no tokenizer, no room for it.
    """
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so it can't read questions")
    if example.image is not None and loaded.processor is None:
        raise LaptimeError(f"{example.place}: has an image, and {loaded.name} takes text only")
    text = _prompt(loaded, example)
    if example.image is None:
        tokens = loaded.tokenizer([text], return_tensors="pt", add_special_tokens=not _has_template(loaded))
        made = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    else:
        image = _open_image(example.image, example.place)
        options = {"add_special_tokens": False} if _has_template(loaded) else {}  # the template has set them already
        try:
            made = loaded.processor(images=[[image]], text=[text], return_tensors="pt", **options)  # type: ignore[misc]
        except (ValueError, TypeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise LaptimeError(f"{example.place}: {loaded.name}'s processor refused it: {first}") from error
    kwargs = on_model(loaded, dict(made))
    width = kwargs["input_ids"].shape[1]
    image_tokens = 0
    if example.image is not None:
        image_tokens = int((kwargs["input_ids"][0] == image_token_id(loaded)).sum())
    check_context(loaded, width, new_tokens, image_tokens)
    return Inputs(
        kwargs=kwargs,
        prompt_tokens=width,
        text_tokens=width - image_tokens,  # markers count as text here: nobody asked for a number of text tokens
        image_tokens=image_tokens,
        marker_tokens=0,
        images=int(example.image is not None),
        crops=crop_count(kwargs, 1),
        batch=1,
    )


def _example(line: str, number: int, folder: Path, place: str) -> Example:
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        what = getattr(error, "msg", "nested too deep")
        raise LaptimeError(f"{place}: not JSON: {what} (column {getattr(error, 'colno', 1)})") from None
    if not isinstance(entry, dict):
        raise LaptimeError(f"{place}: must be a JSON object, not {type(entry).__name__}")
    question = entry.get("question")
    if not isinstance(question, str) or not question.strip():
        raise LaptimeError(f"{place}: 'question' must be text that isn't empty")
    name = entry.get("id", f"{number:04d}")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise LaptimeError(f"{place}: 'id' must be text or a whole number")
    return Example(str(name), question, _image_path(entry.get("image"), folder, place), _answers(entry, place), place)


def _image_path(value: Any, folder: Path, place: str) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise LaptimeError(f"{place}: 'image' must be the path of an image file")
    if "://" in value or value.startswith("data:"):
        raise LaptimeError(f"{place}: image {value[:60]!r} is no local file; save it and name its path")
    path = folder / value
    if not path.is_file():
        raise LaptimeError(f"{place}: no image file at {path}")
    return path


def _answers(entry: dict[str, Any], place: str) -> tuple[str, ...]:
    value = entry.get("answer")
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float) for v in values):
        raise LaptimeError(f"{place}: 'answer' must be text, a number, or a list of them")
    return tuple(str(v) for v in values)


def _open_image(path: Path, place: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LaptimeError(f"{place}: {path} is no readable image: {str(error).splitlines()[0]}") from None


def _has_template(loaded: Loaded) -> bool:
    return getattr(loaded.processor or loaded.tokenizer, "chat_template", None) is not None


def _prompt(loaded: Loaded, example: Example) -> str:
    """The question as the model expects it: its chat template, or the image's placeholder before the question."""
    if _has_template(loaded):
        with_image: list[dict[str, str]] = [] if example.image is None else [{"type": "image"}]
        content: Any = [*with_image, {"type": "text", "text": example.question}]
        if loaded.processor is None:
            content = example.question
        speaker: Any = loaded.processor or loaded.tokenizer
        messages = [{"role": "user", "content": content}]
        text: str = speaker.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text
    return example.question if example.image is None else f"{image_placeholder(loaded)}\n{example.question}"
