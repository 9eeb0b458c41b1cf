"""What questions' words say of every choice, remembered by their text: many questions use the same words. No torch."""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.policies.one_pass import OnePass, TextDecisions, one_pass
from laptime.control.policies.policy import Policy
from laptime.control.policies.two_steps import TextSteps, TwoSteps, two_steps
from laptime.control.seen import Floats32, Room
from laptime.control.tables.features import language_features
from laptime.data.stats import Floats

REMEMBERED = 1024
"""The number of texts that are remembered. Then the oldest is forgotten."""
POLICIES = 16
"""The number of policies that are prepared. Then all are forgotten."""


class KnownText(msgspec.Struct, frozen=True):
    """What one text says of every choice.

    language (L,): its features. share (choices, GRID): P(T <= grid_ms) (Bounds.share_of). bound_ms, median_ms
    (choices,): without leeway. loose: bounds with leeway, by Room.times; each is computed when it is first needed.
    decisions: by id of a prepared policy, its decisions for this text.
    """

    bounds: Bounds
    language: Floats32
    share: Floats32
    bound_ms: Floats
    median_ms: Floats
    loose: dict[float, Floats]
    decisions: dict[int, TextDecisions | TextSteps]

    def with_room(self, room: Room) -> Floats:
        """`Bounds.bound_of` with this room, (choices,)."""
        if room.times == 1:
            return self.bound_ms
        loose = self.loose.get(room.times)
        if loose is None:
            loose = self.loose[room.times] = self.bounds.bound_of(self.share, Room(room.times, 1.0))
        stretched: Floats = loose * room.stretch
        return np.minimum(self.bound_ms, stretched)


class KnownTexts:
    """The newest texts."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._texts: dict[str, KnownText] = {}
        # By id of the policy. It is kept, so that no other object gets its id.
        self._prepared: dict[int, tuple[Policy, OnePass | TwoSteps]] = {}

    def of(self, text: str) -> KnownText:
        """What this text says, computed when it is asked for the first time."""
        known = self._texts.get(text)
        if known is None:
            bounds, language = self._bounds, language_features(text)
            share = bounds.share_of(language)
            known = KnownText(bounds, language, share, bounds.bound_of(share), bounds.median_of(share), {}, {})
            if len(self._texts) >= REMEMBERED:
                del self._texts[next(iter(self._texts))]
            self._texts[text] = known
        return known

    def decisions(self, policy: Policy, known: KnownText) -> TextDecisions | TextSteps | None:
        """A learnt policy's decisions for a text; None for a policy that has to be asked by `decide`."""
        of_text = known.decisions.get(id(policy))
        if of_text is not None and id(policy) in self._prepared:
            return of_text
        prepared = self._prepared.get(id(policy))
        if prepared is None:
            whole = one_pass(policy) or two_steps(policy)
            if whole is None:
                return None
            if len(self._prepared) >= POLICIES:
                self._forget()
            prepared = self._prepared[id(policy)] = policy, whole
        of_text = known.decisions[id(policy)] = prepared[1].of_words(known.language)
        return of_text

    def _forget(self) -> None:
        """All policies, and what texts know of them: another one may get an id that was theirs."""
        self._prepared.clear()
        for known in self._texts.values():
            known.decisions.clear()
