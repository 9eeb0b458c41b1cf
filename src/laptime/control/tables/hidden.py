"""What a policy is told of the hidden states after the early block, and how a table of that is collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from laptime.control.choices import ChoiceSpace
from laptime.control.question import Question, asked, inputs_for
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import ModelFacts
from laptime.control.tables.feature_table import FeatureTable, feature_table
from laptime.control.tables.features import PIXELS, language_features, pixel_features
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded
from laptime.workload.example import Example
from laptime.workload.inputs import Inputs

Progress = Callable[[int, int], None]


class _EnoughSeenError(Exception):
    """The early block has been looked at; the rest of the forward isn't needed."""


def hidden_features(hidden: torch.Tensor, matrix: torch.Tensor | None = None) -> Floats32:
    """(rows, 2 * width) float32 on the host from (rows, positions, width): the last position, then the mean.

    matrix (2 * width, k): on the same device; what comes to the host then is their product with it, (rows, k).
    One copy from the device, which waits for what was queued before it.
    """
    both = torch.cat([hidden[:, -1], hidden.mean(dim=1)], dim=1).float()
    found: Floats32 = (both if matrix is None else both @ matrix).cpu().numpy()
    return found


def collect_features(
    loaded: Loaded,
    examples: Sequence[Example | Question],
    space: ChoiceSpace,
    *,
    early_block: int = 1,
    batch: int = 1,
    progress: Progress = lambda done, of: None,
) -> FeatureTable:
    """Words, pixels and hidden states (under every tier) of these questions, for training policies on.

    early_block: how many blocks run before the late choice; none after it runs. batch: questions of equal input shapes
    a call. Raises LaptimeError for a question that can't be taken.
    """
    if early_block < 1:
        raise LaptimeError(f"early block {early_block}: one block at least runs before a late choice")
    crops = [(tier.low, tier.high) for tier in space.tiers]
    switch = KnobSwitch(loaded.model, crops=crops, top_ks=space.top_ks, early=early_block - 1)
    language, pixels = [], []
    for example in examples:
        one = asked(example)
        language.append(language_features(one.text))
        pixels.append(np.zeros(PIXELS, np.float32) if one.image is None else pixel_features(one.image))
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
    return feature_table(
        ids,
        facts_of(loaded),
        space,
        np.stack(language),
        np.stack(pixels) if with_images else None,
        np.stack(hidden, axis=1),
        early_block,
    )


def _early(model: Any, switch: KnobSwitch, kwargs: dict[str, torch.Tensor]) -> Floats32:
    seen: list[Floats32] = []

    def look(hidden: torch.Tensor) -> LateKnobs:
        seen.append(hidden_features(hidden))
        raise _EnoughSeenError

    try:
        with torch.no_grad(), switch.late(look):
            model(**kwargs)
    except _EnoughSeenError:
        return seen[0]
    raise LaptimeError(f"{type(model).__name__}: its early block was never entered; choose another early block")


class EqualBatch(NamedTuple):
    """rows: places of the questions; kwargs: generate()'s arguments for all of them; one: the first one's inputs."""

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
    """At most `most` questions each; what is left of each shape comes last. Every question comes once.

    The model must expect the crops already (KnobSwitch.crops). Raises LaptimeError for a question that it can't take.
    """
    waiting: dict[object, list[tuple[int, Inputs]]] = {}
    for row, example in enumerate(examples):
        inputs = inputs_for(loaded, asked(example), crops, new_tokens)
        shape = tuple((name, tuple(value.shape)) for name, value in inputs.kwargs.items())
        mine = waiting.setdefault(shape, [])
        mine.append((row, inputs))
        if len(mine) == most:
            yield _joined(waiting.pop(shape))
    for some in waiting.values():
        yield _joined(some)


def _joined(some: list[tuple[int, Inputs]]) -> EqualBatch:
    one = some[0][1]
    kwargs = {name: torch.cat([inputs.kwargs[name] for _, inputs in some]) for name in one.kwargs}
    return EqualBatch([row for row, _ in some], kwargs, one)


def facts_of(loaded: Loaded) -> ModelFacts:
    """Its kind, its blocks, its experts and its own top-k."""
    anatomy = find_anatomy(loaded.model)
    experts = anatomy.experts
    return ModelFacts(
        name=loaded.name,
        kind=loaded.model.config.model_type,
        blocks=len(anatomy.layers),
        experts=experts.count if experts is not None else None,
        top_k=experts.top_k if experts is not None else None,
    )
