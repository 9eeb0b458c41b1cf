"""Calls whose choice is known beforehand: to warm a model up, and to measure what each choice takes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

from laptime.control.choices import Choice, ChoiceSpace
from laptime.control.question import OpenedQuestion
from laptime.control.switched_model import SwitchedModel
from laptime.control.tables.collection import hidden_features
from laptime.data.record import Sample
from laptime.measure.session import quiet_collector
from laptime.models.knob_switch import LateKnobs

CAPTURES = 2
"""The most calls of one question under one choice that are not counted because they captured a graph."""


def choosing_late_ms(
    model: SwitchedModel, space: ChoiceSpace, question: OpenedQuestion, most: int, rounds: int
) -> float:
    """What a late choice takes besides deciding (hooks, a copy to the host), from so many rounds over all choices.

    A first call of a shape takes longer, so the first round counts for nothing: with one round it is 0. It is measured
    on choices of the fewest experts: other choices save some time up to the early block.
    """
    extra = []
    for number in range(rounds):
        for choice in map(space.choice, range(len(space))):
            in_turn = [False, True] if number % 2 else [True, False]
            took = {late: _rehearsed(model, question, choice, most, late=late).stages.total_ms for late in in_turn}
            if number and choice.top_k == model.switch.early_top_k:
                extra.append(took[True] - took[False])
    return max(0.0, median(extra)) if extra else 0.0


def rehearsed_calls(
    model: SwitchedModel, space: ChoiceSpace, questions: Sequence[OpenedQuestion], most: int, rounds: int
) -> list[list[Sample]]:
    """For each question the middle one of so many calls of each choice, in the order of the choices."""
    with quiet_collector():
        return [
            [_usual_call(model, question, choice, most, rounds) for choice in map(space.choice, range(len(space)))]
            for question in questions
        ]


def _usual_call(model: SwitchedModel, question: OpenedQuestion, choice: Choice, most: int, rounds: int) -> Sample:
    """The middle one of so many calls, not counting those in which a graph was captured."""
    counted: list[Sample] = []
    for _ in range(rounds + CAPTURES):
        captured = model.captured
        sample = _rehearsed(model, question, choice, most, late=False)
        if model.captured == captured:
            counted.append(sample)
        if len(counted) == rounds:
            break
    return sorted(counted or [sample], key=lambda one: one.stages.total_ms)[(max(1, len(counted)) - 1) // 2]


def _rehearsed(model: SwitchedModel, question: OpenedQuestion, choice: Choice, most: int, *, late: bool) -> Sample:
    """A call with the knobs set before it, or late in it as a policy that looks at hidden states does."""

    def set_late(hidden: torch.Tensor) -> LateKnobs:
        hidden_features(hidden)
        return LateKnobs(choice.top_k, choice.blocks)

    return model.call(question, choice, most, late=set_late if late else None)
