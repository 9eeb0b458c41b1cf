"""Questions in batches of inputs of equal shapes: nothing is padded, so each row is computed as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from laptime.control.question import Question, asked, inputs_for
from laptime.models.loading import Loaded
from laptime.workload.example import Example
from laptime.workload.inputs import Inputs


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
