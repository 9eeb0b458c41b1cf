"""What is collected from a loaded model: facts, early hidden states, and untimed answers under every choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from laptime.control.choices import ChoiceSpace, ModelFacts
from laptime.control.question import Question, inputs_for, opened
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import DecisionTable, question_type
from laptime.control.tables.feature_table import FeatureArrays, FeatureTable, feature_table
from laptime.control.tables.features import language_features, pixel_features
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.anatomy import find_anatomy
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded
from laptime.workload.datasets import answer_text
from laptime.workload.example import Example, prompt_of
from laptime.workload.inputs import Inputs, generation_arguments
from laptime.workload.placeholders import check_question
from laptime.workload.scoring import scorer

Progress = Callable[[int, int], None]


class _EarlyBlockReachedError(Exception):
    """The early block's output is known. The rest of the forward isn't needed."""


class AskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How further questions are asked.

    kind: the score, as laptime.workload.scoring names it. new_tokens: the most tokens of an answer. batch: the most
    questions of a call. early_block: how many blocks run before the late choice.
    """

    kind: str
    new_tokens: int
    batch: int = 64
    early_block: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.new_tokens < 1:
            raise LaptimeError(
                f"batches of {self.batch} questions, {self.new_tokens} new tokens: at least 1 of each is needed"
            )


def collect_answers(
    loaded: Loaded,
    examples: Sequence[Example],
    space: ChoiceSpace,
    settings: AskSettings,
    progress: Progress = lambda done, of: None,
) -> tuple[DecisionTable, FeatureTable]:
    """Ask every question under every choice: scores and lengths, with times unknown (NaN), and the features.

    Raises LaptimeError for questions that can't be scored, or that the model can't take.
    """
    check_all(loaded, examples)
    right = scorer(settings.kind, examples)
    shape = (len(examples), len(space))
    scores = np.zeros(shape, dtype=np.float32)
    counts = {name: np.zeros(shape, dtype=np.int32) for name in ("output", "prompt", "image", "crops")}
    crops = [None if tier is None else (tier.low, tier.high) for tier in space.tiers or (None,)]
    switch = KnobSwitch(
        loaded.model,
        crops=[one for one in crops if one],
        top_ks=space.top_ks,
        blocks=space.blocks,
        active=space.active_blocks,
        experts=space.experts_by_block,
    )
    timer = StageTimer(loaded.model)
    arguments = generation_arguments(new_tokens=settings.new_tokens, cache=None, compile=False)

    def answer(some: EqualBatch, choice: int) -> None:
        knobs = space.choice(choice)
        with switch.fixed(LateKnobs(knobs.top_k, knobs.blocks)), timer:
            timer.model.generate(**some.kwargs, **arguments)
        rows_ids = timer.last.output_ids
        timer.samples.clear()
        for row, ids in zip(some.rows, rows_ids, strict=True):
            scores[row, choice] = right(answer_text(loaded, ids), examples[row])
            counts["output"][row, choice] = len(ids)
        counts["prompt"][some.rows, choice] = some.one.prompt_tokens
        counts["image"][some.rows, choice] = some.one.image_tokens
        counts["crops"][some.rows, choice] = some.one.crops

    for tier, cut in enumerate(crops):
        done = 0
        with switch.crops(cut):
            for some in equal_batches(loaded, examples, cut, settings.batch, settings.new_tokens):
                for late in range(space.late):
                    answer(some, tier * space.late + late)
                done += len(some.rows)
                progress(tier * len(examples) + done, len(crops) * len(examples))
    ids = tuple(example.id for example in examples)
    table = DecisionTable(
        space=space,
        model=facts_of(loaded),
        sample_ids=ids,
        question_types=tuple(map(question_type, ids)),
        score=scores,
        output_tokens=counts["output"],
        total_ms=np.full(shape, np.nan),
        prompt_tokens=counts["prompt"],
        image_tokens=counts["image"],
        crops=counts["crops"],
        most_tokens=max(settings.new_tokens, int(counts["output"].max())),
    )
    return table, collect_features(loaded, examples, space, early_block=settings.early_block, batch=settings.batch)


def collect_features(
    loaded: Loaded,
    examples: Sequence[Example | Question],
    space: ChoiceSpace,
    *,
    early_block: int = 1,
    batch: int = 1,
    progress: Progress = lambda done, of: None,
) -> FeatureTable:
    """Words, pixels and hidden states (under every tier) of these questions.

    early_block: how many blocks run before the late choice. Blocks after it don't run here. batch: the most questions
    of a call; they have equal input shapes. Raises LaptimeError for a question that the model can't take.
    """
    if early_block < 1:
        raise LaptimeError(f"early block {early_block}: at least one block runs before a late choice")
    check_all(loaded, examples)
    crops = [(tier.low, tier.high) for tier in space.tiers]
    switch = KnobSwitch(
        loaded.model, crops=crops, top_ks=space.top_ks, experts=space.experts_by_block, early=early_block - 1
    )
    language, pixels = [], []
    for example in examples:
        question = opened(example)
        language.append(language_features(question.text))
        pixels.append(pixel_features(question.image))
    hidden: list[Floats32] = []
    for tier, cut in enumerate(crops or [None]):
        rows: dict[int, Floats32] = {}
        with switch.crops(cut):
            for some in equal_batches(loaded, examples, cut, batch):
                rows.update(zip(some.rows, _early(loaded.model, switch, some.kwargs), strict=True))
                progress(tier * len(examples) + len(rows), max(1, len(crops)) * len(examples))
        hidden.append(np.stack([rows[row] for row in range(len(examples))]))
    ids = tuple(example.id for example in examples)
    with_images = any(example.image is not None for example in examples)
    arrays = FeatureArrays(np.stack(language), np.stack(pixels) if with_images else None, np.stack(hidden, axis=1))
    return feature_table(ids, facts_of(loaded), space, arrays, early_block)


def hidden_features(hidden: torch.Tensor) -> Floats32:
    """The last position, then the mean over positions: (rows, 2 * width) on the host from (rows, positions, width).

    They are copied from the device once; the copy waits for what was queued before it.
    """
    features: Floats32 = torch.cat([hidden[:, -1], hidden.mean(dim=1)], dim=1).float().cpu().numpy()
    return features


def _early(model: Any, switch: KnobSwitch, kwargs: dict[str, torch.Tensor]) -> Floats32:
    """The early block's features of one batch, (rows, 2 * width)."""
    seen: list[Floats32] = []

    def look(hidden: torch.Tensor) -> LateKnobs:
        seen.append(hidden_features(hidden))
        raise _EarlyBlockReachedError

    try:
        with torch.no_grad(), switch.late(look):
            model(**kwargs)
    except _EarlyBlockReachedError:
        return seen[0]
    raise LaptimeError(f"{type(model).__name__}: its early block never ran; choose another early block")


def check_all(loaded: Loaded, examples: Sequence[Example | Question]) -> None:
    """Raise LaptimeError for a question that the processor can't take, before the first of them is asked."""
    for example in examples:
        if isinstance(example, Example):
            check_question(loaded, example.prompt, example.place)
        else:
            check_question(loaded, prompt_of(example.text, example.choices), f"question {example.id}")


class EqualBatch(NamedTuple):
    """rows: places of the questions. kwargs: generate()'s arguments for all of them. one: the first one's inputs."""

    rows: list[int]
    kwargs: dict[str, torch.Tensor]
    one: Inputs


def equal_batches(
    loaded: Loaded,
    examples: Sequence[Example | Question],
    crops: tuple[int, int] | None,
    most: int,
    new_tokens: int = 0,
) -> Iterator[EqualBatch]:
    """Batches of at most `most` questions of equal input shapes. Nothing is padded, and every question comes once.

    crops: the model must already expect them (KnobSwitch.crops). Incomplete batches come last. Raises LaptimeError for
    a question that the model can't take.
    """
    waiting: dict[object, list[tuple[int, Inputs]]] = {}
    for row, example in enumerate(examples):
        inputs = inputs_for(loaded, opened(example), crops, new_tokens)
        shape = tuple((name, tuple(value.shape)) for name, value in inputs.kwargs.items())
        alike = waiting.setdefault(shape, [])
        alike.append((row, inputs))
        if len(alike) == most:
            yield _joined(waiting.pop(shape))
    for alike in waiting.values():
        yield _joined(alike)


def _joined(alike: list[tuple[int, Inputs]]) -> EqualBatch:
    one = alike[0][1]
    kwargs = {name: torch.cat([inputs.kwargs[name] for _, inputs in alike]) for name in one.kwargs}
    return EqualBatch([row for row, _ in alike], kwargs, one)


def facts_of(loaded: Loaded) -> ModelFacts:
    """The model's kind, its blocks, its experts and its own top-k."""
    anatomy = find_anatomy(loaded.model)
    experts = anatomy.experts
    return ModelFacts(
        name=loaded.name,
        kind=loaded.model.config.model_type,
        blocks=len(anatomy.layers),
        experts=experts.count if experts is not None else None,
        top_k=experts.top_k if experts is not None else None,
    )
