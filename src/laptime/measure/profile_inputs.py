"""The inputs of a profile: synthetic ones of the sizes asked for, or the questions of a file."""

from __future__ import annotations

from collections.abc import Iterator

from laptime.data.record import Scalar
from laptime.errors import LaptimeError
from laptime.measure.profile_request import ProfileRequest
from laptime.models.loading import Loaded
from laptime.workload.datasets import inputs_from_examples
from laptime.workload.inputs import Inputs, make_inputs, make_sound_inputs
from laptime.workload.jsonl import read_jsonl

DEFAULT_IMAGE_SIZE = (672, 672)
DEFAULT_AUDIO_S = 10.0


def workload(request: ProfileRequest, loaded: Loaded) -> Iterator[tuple[str, Inputs]]:
    """(sample id, what generate() gets) of each call. Raises LaptimeError for what the model can't take."""
    return _questions(request, loaded) if request.data is not None else _synthetic(request, loaded)


def sizes(request: ProfileRequest, loaded: Loaded) -> dict[str, Scalar]:
    """What a configuration says of the inputs; None where it doesn't apply."""
    size, seconds = image_size(request, loaded), audio_s(request, loaded)
    synthetic = request.data is None
    return {
        "batch": request.batch,
        "prompt_tokens": request.prompt_tokens if synthetic and _reads_text(loaded) else None,
        "new_tokens": request.new_tokens,
        "image_size": None if size is None else f"{size[0]}x{size[1]}",
        "image_tokens_limit": loaded.image_tokens,
        "audio_s": seconds,
        "data": None if request.data is None else request.data.name,
    }


def image_size(request: ProfileRequest, loaded: Loaded) -> tuple[int, int] | None:
    """The size of a synthetic image; None where none is made."""
    if request.data is not None or request.image_size is not None:
        return request.image_size
    return DEFAULT_IMAGE_SIZE if loaded.is_vlm and request.audio_s is None else None


def audio_s(request: ProfileRequest, loaded: Loaded) -> float | None:
    """The length of a synthetic sound; None where none is made."""
    if request.data is not None or request.audio_s is not None:
        return request.audio_s
    return DEFAULT_AUDIO_S if loaded.takes_sound and not loaded.is_vlm else None


def _reads_text(loaded: Loaded) -> bool:
    return bool(loaded.model.main_input_name == "input_ids")


def _synthetic(request: ProfileRequest, loaded: Loaded) -> Iterator[tuple[str, Inputs]]:
    size, seconds = image_size(request, loaded), audio_s(request, loaded)
    if size is not None and seconds is not None:
        raise LaptimeError("`image_size` and `audio_seconds`: one of them; `data` takes questions with both")
    for number in range(request.samples):
        if seconds is not None:
            made = make_sound_inputs(
                loaded,
                prompt_tokens=request.prompt_tokens,
                seconds=seconds,
                batch=request.batch,
                seed=request.seed + number,
                new_tokens=request.new_tokens,
            )
        else:
            made = make_inputs(
                loaded,
                prompt_tokens=request.prompt_tokens,
                image_size=size,
                batch=request.batch,
                seed=request.seed + number,
                new_tokens=request.new_tokens,
            )
        yield f"{number:04d}", made


def _questions(request: ProfileRequest, loaded: Loaded) -> Iterator[tuple[str, Inputs]]:
    """Rows of `batch` questions; those that are left over at the end make no call."""
    assert request.data is not None
    examples = read_jsonl(request.data)
    if len(examples) < request.batch:
        raise LaptimeError(
            f"{request.data}: {len(examples)} questions make no batch of {request.batch}; use a smaller `batch`"
        )
    for number in range(min(request.samples, len(examples) // request.batch)):
        rows = examples[number * request.batch : (number + 1) * request.batch]
        name = "+".join(row.id for row in rows)
        yield name, inputs_from_examples(loaded, rows, new_tokens=request.new_tokens)
