"""Questions as inputs for generate(), and generated ids as the text of an answer, by the model's own processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.crops import has_overview, processor_cutting
from laptime.workload.example import Example
from laptime.workload.image_budget import check_budget
from laptime.workload.inputs import Inputs, check_context, crop_count, on_model
from laptime.workload.media import open_image, open_sound, open_video
from laptime.workload.placeholders import check_question, count_image_tokens, media_word, process_images


@dataclass(frozen=True)
class Asked:
    """One row of a call: the question and what is shown and played with it. `place` is what an error calls it."""

    question: str
    images: tuple[Image.Image, ...]
    place: str
    video: tuple[Image.Image, ...] = ()
    sound: Any = None  # one channel of float32, at the processor's rate


def inputs_from_example(
    loaded: Loaded, example: Example, *, new_tokens: int = 0, crops: tuple[int, int] | None = None
) -> Inputs:
    """The example through the model's processor, by its chat template when it has one.

    new_tokens: what generate() will add, for the context check. crops: as in make_inputs.
    Raises LaptimeError: an image for a text-only model, an image that can't be read, no tokenizer, no room for it.
    """
    return inputs_from_examples(loaded, [example], new_tokens=new_tokens, crops=crops)


def inputs_from_examples(
    loaded: Loaded, examples: Sequence[Example], *, new_tokens: int = 0, crops: tuple[int, int] | None = None
) -> Inputs:
    """The same for several examples as the rows of one call, shorter rows padded on the left."""
    return _inputs(loaded, [_opened(loaded, example) for example in examples], new_tokens, crops)


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
    return _inputs(loaded, [Asked(question, () if image is None else (image,), place)], new_tokens, crops)


def _opened(loaded: Loaded, example: Example) -> Asked:
    images = tuple(open_image(path, example.place) for path in example.pictures)
    video = () if example.video is None else tuple(open_video(example.video, example.place))
    sound = None
    if example.sound is not None:
        if not loaded.takes_sound:
            raise LaptimeError(f"{example.place}: has a sound, and {loaded.name} takes none")
        rate = int(loaded.processor.feature_extractor.sampling_rate)  # type: ignore[union-attr]
        sound = open_sound(example.sound, rate, example.place)
    return Asked(example.prompt, images, example.place, video, sound)


def _inputs(loaded: Loaded, rows: Sequence[Asked], new_tokens: int, crops: tuple[int, int] | None) -> Inputs:
    for row in rows:
        if (row.images or row.video) and not (loaded.processor is not None and loaded.is_vlm):
            what = "an image" if row.images else "a video"
            raise LaptimeError(f"{row.place}: has {what}, and {loaded.name} takes {_takes(loaded)} only")
    if loaded.model.main_input_name != "input_ids" and any(row.sound is not None for row in rows):
        return _only_heard(loaded, rows, new_tokens)
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so it can't read questions")
    for row in rows:
        check_question(loaded, row.question, row.place)
    begin = perf_counter()
    if any(row.images or row.video or row.sound is not None for row in rows):
        processed = _through_processor(loaded, rows, crops)
    else:
        processed = _through_tokenizer(loaded, rows)
    kwargs = on_model(loaded, processed)
    spent_ms = (perf_counter() - begin) * 1e3
    width = kwargs["input_ids"].shape[1]
    images = sum(len(row.images) for row in rows)
    image_tokens = 0
    if images:
        image_tokens = count_image_tokens(loaded, processed["input_ids"][0])
        for row, ids in zip(rows, processed["input_ids"], strict=True):
            check_budget(loaded, ids, len(row.images))
    check_context(loaded, width, new_tokens, image_tokens)
    return Inputs(
        kwargs=kwargs,
        prompt_tokens=width,
        text_tokens=width - image_tokens,  # markers count as text here: nobody asked for a number of text tokens
        image_tokens=image_tokens,
        marker_tokens=0,
        images=images,
        crops=crop_count(kwargs, max(1, images), overview=has_overview(loaded.model)),
        batch=len(rows),
        preprocess_ms=spent_ms,
    )


def _takes(loaded: Loaded) -> str:
    return "text and sound" if loaded.takes_sound else "text"


def _only_heard(loaded: Loaded, rows: Sequence[Asked], new_tokens: int) -> Inputs:
    """Of a model that writes down what it hears: the features alone."""
    for row in rows:
        if row.question.strip() or row.sound is None:
            raise LaptimeError(f"{row.place}: {loaded.name} takes a sound and no question; leave the question out")
    extractor = loaded.processor.feature_extractor  # type: ignore[union-attr]
    rate = int(extractor.sampling_rate)
    begin = perf_counter()
    made = on_model(loaded, dict(extractor([row.sound for row in rows], sampling_rate=rate, return_tensors="pt")))
    spent_ms = (perf_counter() - begin) * 1e3
    check_context(loaded, 0, new_tokens)
    return Inputs(made, 0, 0, 0, 0, images=0, crops=0, batch=len(rows), preprocess_ms=spent_ms)


def _through_tokenizer(loaded: Loaded, rows: Sequence[Asked]) -> dict[str, Any]:
    tokenizer: Any = loaded.tokenizer
    texts = [_prompt(loaded, row, "") for row in rows]
    listed = [tokenizer(text, add_special_tokens=not _has_template(loaded))["input_ids"] for text in texts]
    width = max(len(ids) for ids in listed)
    if width == 0:
        raise LaptimeError(f"{rows[0].place}: the tokenizer of {loaded.name} makes no token of the question")
    pad = tokenizer.pad_token_id
    padding = pad if isinstance(pad, int) else tokenizer.eos_token_id if isinstance(tokenizer.eos_token_id, int) else 0
    missing = [width - len(ids) for ids in listed]
    if loaded.is_encoder_decoder:  # the encoder reads from the left, so its rows are padded on the right
        ids = [row + [padding] * empty for row, empty in zip(listed, missing, strict=True)]
        mask = [[1] * len(row) + [0] * empty for row, empty in zip(listed, missing, strict=True)]
    else:
        ids = [[padding] * empty + row for row, empty in zip(listed, missing, strict=True)]
        mask = [[0] * empty + [1] * len(row) for row, empty in zip(listed, missing, strict=True)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _through_processor(loaded: Loaded, rows: Sequence[Asked], crops: tuple[int, int] | None) -> dict[str, Any]:
    options: dict[str, Any] = {"add_special_tokens": False} if _has_template(loaded) else {}  # the template set them
    if len(rows) > 1:
        options |= {"padding": True, "padding_side": "left"}
    images = [list(row.images) for row in rows]
    processor: Any = loaded.processor
    if crops is not None:
        if any(len(row) != 1 for row in images):
            raise LaptimeError(f"{rows[0].place}: crops are for one image in each question")
        processor, flat = processor_cutting(loaded, [row[0] for row in images], crops)
        images = [[image] for image in flat]
    if any(row.video for row in rows):
        options["videos"] = [list(row.video) for row in rows if row.video]
    if any(row.sound is not None for row in rows):
        options["audio"] = [row.sound for row in rows if row.sound is not None]
    try:
        if any(images):
            return process_images(
                loaded, processor, images, lambda word: [_prompt(loaded, row, word) for row in rows], **options
            )
        texts = [_prompt(loaded, row, "") for row in rows]
        return dict(processor(text=texts, return_tensors="pt", **options))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LaptimeError(f"{rows[0].place}: {loaded.name}'s processor refused it: {first}") from error


def _has_template(loaded: Loaded) -> bool:
    return getattr(loaded.processor or loaded.tokenizer, "chat_template", None) is not None


def _prompt(loaded: Loaded, row: Asked, image_word: str) -> str:
    """The question as the model expects it: its chat template, or the places of what is shown before the question.

    image_word: the text that stands for an image, where there is no template.
    """
    if _has_template(loaded):
        content: Any = [{"type": "image"} for _ in row.images]
        content += [{"type": "video"}] if row.video else []
        content += [{"type": "audio"}] if row.sound is not None else []
        content += [{"type": "text", "text": row.question}] if row.question else []
        if loaded.processor is None:
            content = row.question
        speaker: Any = loaded.processor or loaded.tokenizer
        messages = [{"role": "user", "content": content}]
        text: str = speaker.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text
    places = [image_word] * len(row.images)
    places += [media_word(loaded, "video")] if row.video else []
    places += [media_word(loaded, "audio")] if row.sound is not None else []
    return "\n".join([*(one for one in places if one), row.question])


def answer_text(loaded: Loaded, output_ids: Sequence[int]) -> str:
    """The text of one row of generated ids (a row of Sample.output_ids: without the prompt), special tokens left out.

    `answer_text(loaded, sample.output_ids[0])` is what laptime.workload.scoring.score takes as the prediction.
    Raises LaptimeError when the model has no tokenizer.
    """
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so its answers can't be read; leave 'score' out")
    text: str = loaded.tokenizer.decode(list(output_ids), skip_special_tokens=True)
    return text.strip()
