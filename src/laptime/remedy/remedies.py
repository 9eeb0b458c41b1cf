"""The remedies as they are applied to a model. Each gives a function that makes one call, and undoes itself.

The cache of `buffers` stands here too: the model's own eager decode over keys and values that are allocated once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, CompileConfig, LogitsProcessor
from transformers.cache_utils import DynamicLayer

from laptime.data.record import Sample
from laptime.decoder.decoder import FastDecoder
from laptime.decoder.fast_model import FastModel
from laptime.decoder.timed import CallTimer, timed_generate
from laptime.measure.call_settings import CACHE
from laptime.measure.stage_timer import StageTimer
from laptime.models.anatomy import find_anatomy
from laptime.remedy.captured_forward import CapturedForward
from laptime.remedy.result import BASELINE

Call = Callable[[int], Sample]
"""Generates this many tokens. The sample holds the ids."""

COMPILED_STATE = ("_compiled_call", "_last_compile_config")
"""Where transformers keeps a model's compiled forward and its settings."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What the remedies are applied to: a model and its inputs. No call has more than `most_tokens` new tokens."""

    model: Any
    inputs: dict[str, Any]
    most_tokens: int

    @property
    def on_gpu(self) -> bool:
        return bool(next(self.model.parameters()).device.type == "cuda")

    @property
    def batch(self) -> int:
        return int(self.inputs["input_ids"].shape[0])

    @property
    def capacity(self) -> int:
        return int(self.inputs["input_ids"].shape[1]) + self.most_tokens


@dataclass(frozen=True)
class Remedy:
    """One remedy. parts: which of buffers, fusion and graph it consists of. open: applies it, for a `with` block."""

    name: str
    title: str
    parts: tuple[str, ...]
    open: Callable[[Subject], Any]
    needs_gpu: bool = False


def _transformers(subject: Subject, **extra: Any) -> Call:
    """The model's own generate() with these additional arguments."""
    timer = StageTimer(subject.model)

    def call(tokens: int) -> Sample:
        with timer:
            subject.model.generate(**subject.inputs, **extra, max_new_tokens=tokens, do_sample=False)
        return timer.last

    return call


@contextmanager
def eager(subject: Subject) -> Iterator[Call]:
    """The baseline: dynamic cache, every kernel launched by the host."""
    yield _transformers(subject)


@contextmanager
def buffers(subject: Subject) -> Iterator[Call]:
    """The baseline over a cache that is allocated once."""
    cache = preallocated_cache(len(find_anatomy(subject.model).layers), subject.capacity)
    timer = StageTimer(subject.model)

    def call(tokens: int) -> Sample:
        with timer:
            own = {**subject.inputs, CACHE: empty(cache)}
            subject.model.generate(**own, max_new_tokens=tokens, do_sample=False)
        return timer.last

    yield call


@contextmanager
def static(subject: Subject) -> Iterator[Call]:
    """transformers' static cache, not compiled."""
    yield _transformers(subject, cache_implementation="static", disable_compile=True)


@contextmanager
def fusion(subject: Subject) -> Iterator[Call]:
    """transformers' static cache, the step compiled by Inductor without CUDA graphs."""
    config = CompileConfig(mode="default")
    config._compile_all_devices = True
    yield _with_own_compilation(
        subject.model, _transformers(subject, cache_implementation="static", compile_config=config)
    )


@contextmanager
def compiled(subject: Subject) -> Iterator[Call]:
    """What transformers does on a GPU with cache_implementation="static": compiled, with CUDA graphs."""
    yield _with_own_compilation(subject.model, _transformers(subject, cache_implementation="static"))


@contextmanager
def graph(subject: Subject) -> Iterator[Call]:
    """The model's own forward over a static cache, captured once and replayed."""
    timer = CallTimer(subject.model)
    forward = CapturedForward(subject.model, subject.batch, subject.capacity)

    def call(tokens: int) -> Sample:
        def run(mark: Callable[[str], None], processors: list[LogitsProcessor]) -> tuple[torch.Tensor, int]:
            return forward.run(subject.inputs, tokens, mark, processors)

        return timer(run, subject.inputs["input_ids"])

    yield call


@contextmanager
def kernels(subject: Subject) -> Iterator[Call]:
    """FastDecoder's kernels and buffers, launched one by one."""
    with FastDecoder(subject.model, kernels="triton", graph=False) as decoder:
        yield _decoded(subject, decoder)


@contextmanager
def fast(subject: Subject) -> Iterator[Call]:
    """FastDecoder: buffers, fused kernels, one graph."""
    with FastDecoder(subject.model) as decoder:
        yield _decoded(subject, decoder)


@contextmanager
def whole(subject: Subject) -> Iterator[Call]:
    """FastModel: vision and prefill captured too."""
    with FastModel(subject.model) as model:
        yield _decoded(subject, model)


def _decoded(subject: Subject, decoder: FastDecoder | FastModel) -> Call:
    timer = CallTimer(subject.model)
    inputs = dict(subject.inputs)
    ids = inputs.pop("input_ids")

    def call(tokens: int) -> Sample:
        return timed_generate(decoder, ids, timer=timer, max_new_tokens=tokens, do_sample=False, **inputs)[1]

    return call


def _with_own_compilation(model: Any, call: Call) -> Call:
    """The call with a compiled forward of its own. transformers keeps one and compiles again for other settings."""
    kept: dict[str, Any] = {}

    def separate(tokens: int) -> Sample:
        before = {key: model.__dict__.pop(key) for key in COMPILED_STATE if key in model.__dict__}
        model.__dict__.update(kept)
        try:
            return call(tokens)
        finally:
            kept.update({key: model.__dict__.pop(key) for key in COMPILED_STATE if key in model.__dict__})
            model.__dict__.update(before)

    return separate


REMEDIES = (
    Remedy(BASELINE, "transformers, eager, dynamic cache", (), eager),
    Remedy("buffers", "preallocated cache", ("buffers",), buffers),
    Remedy("static", "transformers' static cache", ("buffers",), static),
    Remedy("fusion", "static cache, step compiled", ("buffers", "fusion"), fusion),
    Remedy("graph", "static cache, forward captured", ("buffers", "graph"), graph, needs_gpu=True),
    Remedy("compiled", "static cache, auto-compiled", ("buffers", "fusion", "graph"), compiled, needs_gpu=True),
    Remedy("kernels", "laptime's kernels, no graph", ("buffers", "fusion"), kernels, needs_gpu=True),
    Remedy("fast", "laptime's FastDecoder", ("buffers", "fusion", "graph"), fast),
    Remedy("whole", "laptime's FastModel", ("buffers", "fusion", "graph"), whole),
)
"""In the order in which they are shown. All others are compared with the first."""


class PreallocatedLayer(DynamicLayer):
    """A DynamicLayer that makes no new tensor in a step: keys and values are views of buffers with room for all."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.room is None:
            shape = (*key_states.shape[:2], self.capacity, key_states.shape[-1])
            self.room = (key_states.new_empty(shape), value_states.new_empty(shape))
        begin, self.length = self.length, self.length + key_states.shape[-2]
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, begin : self.length] = new
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def empty(self) -> None:
        """Forget the content and keep the buffers."""
        self.length = 0


def preallocated_cache(layers: int, capacity: int) -> Cache:
    """A cache that generate() takes as CACHE, with room for `capacity` positions."""
    return Cache(layers=[PreallocatedLayer(capacity) for _ in range(layers)])


def empty(cache: Any) -> Any:
    """The same cache, ready for another call."""
    for layer in cache.layers:
        layer.empty()
    return cache
