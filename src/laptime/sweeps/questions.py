"""The samples of a sweep by their ids. A sample has the same image and text under every configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch

from laptime.data.record import Sample
from laptime.models.loading import Loaded
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.grid import SweepSettings
from laptime.workload.datasets import answer_text, inputs_from_example
from laptime.workload.example import Example
from laptime.workload.image_budget import with_image_tokens
from laptime.workload.inputs import Inputs, check_context, make_inputs
from laptime.workload.reading import read_examples
from laptime.workload.scoring import scorer

SYNTHETIC_SAMPLES = 8
CACHE_BYTES = 1 << 30


class SweepQuestions(Protocol):
    """The samples of a sweep."""

    ids: list[str]

    def inputs(self, loaded: Loaded, settings: SweepSettings, sample_id: str) -> Inputs:
        """The inputs of generate(), in main memory; `on_device` brings them to the model.

        Raises LaptimeError when this model can't take this sample.
        """
        ...

    def judged(self, loaded: Loaded, sample: Sample) -> dict[str, Any]:
        """The fields that a finished sample gets: text and score."""
        ...


def questions_for(sweep_config: SweepConfig) -> SweepQuestions:
    """The sweep's samples. Raises LaptimeError when its data can't be read."""
    workload = sweep_config.workload
    if workload.data is None:
        return _Synthetic(workload.samples or SYNTHETIC_SAMPLES, sweep_config.seed)
    examples = read_examples(
        workload.data,
        annotations=workload.annotations,
        images=workload.images,
        samples=workload.samples,
        seed=sweep_config.seed,
    )
    return _FromFiles(examples, workload.score)


class _Synthetic:
    """Random text and images, numbered."""

    def __init__(self, count: int, seed: int) -> None:
        self.ids = [f"{number:04d}" for number in range(count)]
        self._seed = seed
        self._cache = _InputCache()

    def inputs(self, loaded: Loaded, settings: SweepSettings, sample_id: str) -> Inputs:
        what = (
            *(settings.dtype, settings.image_size, settings.crops, settings.image_tokens_limit),
            *(settings.prompt_tokens, settings.batch, sample_id),
        )

        def make() -> Inputs:
            return make_inputs(
                _with_budget(loaded, settings),
                prompt_tokens=settings.prompt_tokens or 1,
                image_size=settings.image_size,
                batch=settings.batch,
                seed=self._seed + int(sample_id),
                new_tokens=settings.new_tokens,
                crops=settings.crops,
            )

        return self._cache.get(what, loaded, settings.new_tokens, make)

    def judged(self, loaded: Loaded, sample: Sample) -> dict[str, Any]:
        return {}


class _FromFiles:
    """Questions from files, under the ids that they have there."""

    def __init__(self, examples: list[Example], kind: str | None) -> None:
        self._examples = {example.id: example for example in examples}
        self.ids = list(self._examples)
        self._score = None if kind is None else scorer(kind, examples)
        self._cache = _InputCache()

    def inputs(self, loaded: Loaded, settings: SweepSettings, sample_id: str) -> Inputs:
        return self._cache.get(
            (settings.dtype, settings.crops, settings.image_tokens_limit, sample_id),
            loaded,
            settings.new_tokens,
            lambda: inputs_from_example(
                _with_budget(loaded, settings),
                self._examples[sample_id],
                new_tokens=settings.new_tokens,
                crops=settings.crops,
            ),
        )

    def judged(self, loaded: Loaded, sample: Sample) -> dict[str, Any]:
        if loaded.tokenizer is None:
            return {}
        text = answer_text(loaded, sample.output_ids[0])
        scored = {} if self._score is None else {"score": self._score(text, self._examples[sample.sample_id])}
        return {"text": text, **scored}


def _with_budget(loaded: Loaded, settings: SweepSettings) -> Loaded:
    limit = settings.image_tokens_limit
    return loaded if limit is None else with_image_tokens(loaded, limit)


class _InputCache:
    """Keeps inputs, since preparing an image takes longer than measuring a small model with it.

    They are kept off the GPU, so that a sample's memory peak never holds the inputs of another one.
    """

    def __init__(self) -> None:
        self._inputs: dict[Any, Inputs] = {}
        self._bytes = 0

    def get(self, what: Any, loaded: Loaded, new_tokens: int, make: Callable[[], Inputs]) -> Inputs:
        cached = self._inputs.get(what)
        if cached is not None:
            check_context(loaded, cached.prompt_tokens, new_tokens, cached.image_tokens)
            return cached
        inputs = make()
        if loaded.device.type == "meta":  # only its size is asked for
            return inputs
        inputs = replace(inputs, kwargs={name: value.cpu() for name, value in inputs.kwargs.items()})
        size = sum(value.numel() * value.element_size() for value in inputs.kwargs.values())
        if self._bytes + size <= CACHE_BYTES:
            self._inputs[what] = inputs
            self._bytes += size
        return inputs


def on_device(loaded: Loaded, inputs: Inputs) -> dict[str, torch.Tensor]:
    """The tensors that generate() is called with, on the model's device."""
    return {name: value.to(loaded.device) for name, value in inputs.kwargs.items()}
