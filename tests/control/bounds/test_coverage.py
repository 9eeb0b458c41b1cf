"""What proves the promise."""

from __future__ import annotations

from math import comb

from hypothesis import given
from hypothesis import strategies as st

from laptime.control.bounds.coverage import SURE, most_late


@given(st.integers(1, 400), st.floats(0.5, 0.99))
def test_what_proves_the_promise_is_the_binomial_test(questions: int, confidence: float) -> None:
    most, miss = most_late(questions, confidence), 1 - confidence

    def at_most(count: int) -> float:
        terms = (comb(questions, k) * miss**k * confidence ** (questions - k) for k in range(count + 1))
        return sum(terms)

    assert most == -1 or at_most(most) <= 1 - SURE + 1e-9
    assert at_most(most + 1) > 1 - SURE - 1e-9


def test_fifty_nine_questions_in_time_prove_95_per_cent() -> None:
    assert (most_late(58, 0.95), most_late(59, 0.95), most_late(93, 0.95)) == (-1, 0, 1)
