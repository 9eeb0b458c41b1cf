"""What is remembered of a text is what its words say, and not more texts are remembered than there is room for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.bounds.leeway import STEPS
from laptime.control.known_texts import REMEMBERED, KnownTexts
from laptime.control.seen import NO_ROOM, Room
from laptime.control.tables.features import language_features
from tests.control.worlds import WORDS, world

BOUNDS = world(120).bounds
TEXTS = KnownTexts(BOUNDS)


@given(st.sampled_from([*WORDS.values(), "other words", ""]), st.sampled_from(STEPS), st.floats(1.0, 1.5))
def test_it_is_what_the_words_say(text: str, times: float, stretch: float) -> None:
    """However often it was asked before, and with whatever room."""
    known, language = TEXTS.of(text), language_features(text)
    assert (known.language == language).all()
    bound, median = BOUNDS.for_question(language)
    assert (known.median_ms == median).all()
    assert (known.with_room(NO_ROOM) == bound).all()
    room = Room(times, stretch)
    assert np.allclose(known.with_room(room), BOUNDS.bound_of(known.share, room))
    assert TEXTS.of(text) is known


def test_the_oldest_text_is_forgotten() -> None:
    texts = KnownTexts(BOUNDS)
    first, second = texts.of("text 0"), texts.of("text 1")
    for number in range(2, REMEMBERED + 1):
        texts.of(f"text {number}")
    assert texts.of("text 1") is second
    assert texts.of("text 0") is not first
