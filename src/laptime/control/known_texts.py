"""What questions' words say, kept by their text: questions are often put in the same words. No torch."""

from __future__ import annotations

from time import perf_counter_ns

import msgspec
import numpy as np
import torch

from laptime.control.bounds.bounds import Bounds
from laptime.control.choices import Choice
from laptime.control.policies.ready import Opened
from laptime.control.seen import Budget, Floats32, Room
from laptime.control.tables.features import language_features
from laptime.control.tables.hidden import hidden_features
from laptime.data.stats import Floats
from laptime.models.knob_switch import LateKnobs

REMEMBERED = 1024
"""So many texts; then the oldest is forgotten."""


class KnownText(msgspec.Struct, frozen=True):
    """language (L,); bound_ms, median_ms (choices,): of each choice by itself, from share, `bounds`' own distributions.

    loose: bounds with leeway, by times, each made when it is first asked for.
    """

    bounds: Bounds
    language: Floats32
    share: Floats32
    bound_ms: Floats
    median_ms: Floats
    loose: dict[float, Floats]

    def with_room(self, room: Room) -> Floats:
        """`Bounds.bound_of` with this room, (choices,)."""
        if room.times == 1:
            return self.bound_ms
        known = self.loose.get(room.times)
        if known is None:
            known = self.loose[room.times] = self.bounds.bound_of(self.share, Room(room.times, 1.0))
        stretched: Floats = known * room.stretch
        return np.minimum(self.bound_ms, stretched)


class KnownTexts:
    """What is known of the newest texts."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._known: dict[str, KnownText] = {}

    def of(self, text: str) -> KnownText:
        """What a question's words say of every choice."""
        known = self._known.get(text)
        if known is None:
            bounds, language = self._bounds, language_features(text)
            share = bounds.share_of(language)
            known = KnownText(bounds, language, share, bounds.bound_of(share), bounds.median_of(share), {})
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[text] = known
        return known


class Call:
    """number: the choice so far. waited_ms: until the early block's output was there; inside_ms: deciding, after that.

    matrix: what hidden states are multiplied by on the device, if anything.
    """

    def __init__(self, choices: list[Choice], opened: Opened, matrix: torch.Tensor | None, budget: Budget) -> None:
        self.budget = budget
        self.number = opened.number
        self.waited_ms = 0.0
        self.inside_ms = 0.0
        self._choices = choices
        self._opened = opened
        self._matrix = matrix

    def decide_late(self, hidden: torch.Tensor) -> LateKnobs:
        """Top-k and blocks from what the early block gave."""
        entered = perf_counter_ns()
        features = hidden_features(hidden, self._matrix)[0]
        arrived = perf_counter_ns()
        self.number = self._opened.close(features)
        choice = self._choices[self.number]
        self.waited_ms = (arrived - entered) / 1e6
        self.inside_ms = (perf_counter_ns() - arrived) / 1e6
        return LateKnobs(choice.top_k, choice.blocks)
