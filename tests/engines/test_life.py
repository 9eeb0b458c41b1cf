"""A request's time is cut without a hole; time and cost of a shared step are two things."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.engines.life import lives_of
from laptime.engines.request import Instant
from laptime.engines.step import NewRow, Row
from tests.engines.lived import REQUESTS, STEPS, ms, request, step


def parts(life) -> dict[str, float]:
    return {kind: ns / 1e6 for kind, ns in life.kinds.items()}


def test_what_each_request_did_and_waited_for():
    (a, b), missing = lives_of(REQUESTS, STEPS)
    assert not missing
    assert parts(a) == {
        "preprocessing": 2, "queue": 6.5, "start": 0.5, "prefill": 10, "between": 4, "decode": 8, "beside-prefill": 14,
        "others-vision": 6, "stalled": 4, "output": 1.5,
    }  # fmt: skip
    assert parts(b) == {"preprocessing": 3, "queue": 17.5, "start": 0.5, "prefill": 14, "vision": 6, "between": 2,
                        "decode": 8, "output": 1.5}  # fmt: skip
    assert {name: ns / 1e6 for name, ns in a.stages.items()} == {
        "preprocessing": 2, "queue": 6.5, "prefill": 10, "decode": 36, "other": 2,
    }  # fmt: skip
    assert b.stages["vision"] == ms(6) and b.stages["prefill"] == ms(14)


def test_an_image_is_the_vision_of_its_own_request_only():
    (a, b), _ = lives_of(REQUESTS, STEPS)
    assert "vision" not in a.stages and b.stages["vision"] == ms(6)


def test_flags_and_counts():
    (a, b), _ = lives_of(REQUESTS, STEPS)
    assert "shared-step" in a.request.flags and "surplus-step" in b.request.flags
    assert a.decode_steps == 3 and a.tokens_per_step == 1
    assert b.steps == 3 and b.prefill_steps == 1


def test_costs_add_up_to_the_steps_and_times_do_not():
    lives, _ = lives_of(REQUESTS, STEPS)
    used = [one for one in STEPS if one.number != 5]
    machine = sum(one.end - one.begin for one in used)
    assert abs(sum(life.cost_ns for life in lives) - machine) <= len(STEPS)
    waited = sum(sum(span.end - span.begin for span in life.spans if span.step is not None) for life in lives)
    assert waited > machine


def test_speculative_decoding_is_tokens_per_step():
    rows = [step(0, 0, 4, [Row(0, 4, True)], [NewRow(0, "a", 4, 0)]), step(1, 5, 8, [Row(0, 4, False)])]
    (life,), _ = lives_of([request("a", 0, 0, 0, (4.1, 8.1), 4, 4, 0)], rows)
    assert life.tokens_per_step == 3


def test_a_request_without_its_instants_is_named_and_not_guessed():
    unknown = msgspec.structs.replace(REQUESTS[0], first_token=None)
    lives, missing = lives_of([unknown, REQUESTS[1]], STEPS)
    assert len(lives) == 1 and missing == [unknown]


def test_a_clock_that_is_joined_badly_shows():
    early = msgspec.structs.replace(REQUESTS[0], scheduled=Instant(ms(2.5), "engine"))
    (life, _), _ = lives_of([early, REQUESTS[1]], STEPS)
    assert life.out_of_order_ns == ms(0.5)


@given(
    gaps=st.lists(st.floats(0, 50), min_size=1, max_size=12),
    lengths=st.lists(st.floats(0.01, 50), min_size=12, max_size=12),
    beside=st.lists(st.booleans(), min_size=12, max_size=12),
    client=st.floats(0, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_parts_sum_to_the_total_whatever_the_engine_did(gaps, lengths, beside, client):
    steps, at = [], 5.0
    for place, gap in enumerate(gaps):
        begin = at + gap
        at = begin + lengths[place]
        rows = [Row(0, 1 + 3 * (place == 0), place == 0)] if place == 0 or place % 3 else []
        if beside[place] or not rows:
            rows.append(Row(1, 5, True))
        steps.append(step(place, begin, at, rows, [NewRow(0, "a", 4, 0)] if place == 0 else []))
    own = [one for one in steps if any(row.number == 0 for row in one.rows)]
    first, last = own[0].end / 1e6, own[-1].end / 1e6
    asked = request("a", 1, 2, min(5.0, steps[0].begin / 1e6), (first, last), 3, 4, 0)
    asked = msgspec.structs.replace(asked, due=Instant(ms(1 - client)), sent=Instant(ms(1)), done=Instant(ms(last + 9)))
    (life,), _ = lives_of([asked], steps)
    assert sum(life.stages.values()) == sum(life.kinds.values()) == asked.done.ns - asked.due.ns
    assert all(a.end == b.begin for a, b in zip(life.spans, life.spans[1:], strict=False))
    assert life.out_of_order_ns <= 1
