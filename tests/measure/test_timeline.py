import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.record import Mark
from laptime.errors import LaptimeError
from laptime.measure.timeline import Span, inter_token, partition, spans

BEFORE = ["vision-begin", "vision-end"]


def marks(*instants):
    return [Mark(kind, ns, ns) for kind, ns in instants]


WHOLE = marks(
    ("start", 0),
    ("vision-begin", 10),
    ("vision-end", 40),
    ("prefill-begin", 50),
    ("first-logits", 80),
    ("first-token", 85),
    ("decode-begin", 90),
    ("logits", 120),
    ("end", 130),
)


def ns(stages):
    values = (stages.vision_ms, stages.prefill_ms, stages.decode_ms, stages.other_ms, stages.total_ms)
    return tuple(None if value is None else round(value * 1e6) for value in values)


def test_each_stage_runs_between_its_own_marks():
    result = partition(WHOLE)
    assert ns(result.stages) == (30, 30, 30, 40, 130)
    assert result.ttft_ms == 85e-6
    assert result.last_token_ms == 120e-6
    assert result.tpot_ms(2) == pytest.approx(35e-6)


def test_marking_every_step_changes_no_stage():
    every = [*WHOLE[:7], *marks(("logits", 100), ("logits", 110)), *WHOLE[7:]]
    assert partition(every) == partition(WHOLE)
    assert inter_token(every) == pytest.approx([15e-6, 10e-6, 10e-6])


def test_one_token_has_no_decode_and_its_time_to_first_token_is_the_total():
    result = partition(marks(("start", 0), ("prefill-begin", 5), ("first-logits", 20), ("end", 25)))
    assert ns(result.stages) == (0, 15, None, 10, 25)
    assert result.ttft_ms == 25e-6
    assert (result.last_token_ms, result.tpot_ms(1)) == (25e-6, None)


def test_a_vision_tower_inside_the_language_model_is_vision_not_prefill():
    inside = marks(
        ("start", 0), ("prefill-begin", 5), ("vision-begin", 10), ("vision-end", 30), ("first-logits", 60), ("end", 70)
    )
    assert ns(partition(inside).stages) == (20, 35, None, 15, 70)


def test_spans_follow_one_another_from_start_to_end():
    inside = marks(
        ("start", 0),
        ("prefill-begin", 10),
        ("vision-begin", 20),
        ("vision-end", 50),
        ("vision-end", 55),
        ("first-logits", 90),
        ("end", 100),
    )
    assert spans(inside) == [
        Span("other", 0, 10),
        Span("prefill", 10, 20),
        Span("vision", 20, 55),
        Span("prefill", 55, 90),
        Span("other", 90, 100),
    ]


def test_all_calls_of_the_tower_are_summed_and_chunks_of_prefill_are_one():
    several = marks(
        ("start", 0),
        ("vision-begin", 1),
        ("vision-end", 3),
        ("vision-begin", 5),
        ("vision-end", 9),
        ("vision-end", 11),  # the projector once more without the tower: belongs to the span before
        ("prefill-begin", 20),
        ("prefill-begin", 30),
        ("first-logits", 50),
        ("end", 60),
    )
    assert ns(partition(several).stages) == (8, 30, None, 22, 60)


def test_what_was_not_seen_is_said_not_guessed():
    with pytest.raises(LaptimeError, match="`language_module`"):
        partition([m for m in WHOLE if m.kind != "prefill-begin"])
    with pytest.raises(LaptimeError, match="`projector_module`"):
        partition([m for m in WHOLE if m.kind != "vision-end"])
    with pytest.raises(LaptimeError, match="nothing was generated"):
        partition([m for m in WHOLE if m.kind not in ("first-logits", "logits", "first-token", "decode-begin")])


@given(
    gaps=st.lists(st.integers(min_value=0, max_value=10**10), min_size=12, max_size=12),
    towers=st.integers(min_value=0, max_value=2),
    nested=st.booleans(),
    decode=st.booleans(),
)
def test_whatever_the_instants_the_partition_closes_and_nothing_is_negative(gaps, towers, nested, decode):
    kinds = ["start"]
    kinds += ["prefill-begin", *BEFORE * towers] if nested else [*BEFORE * towers, "prefill-begin"]
    kinds += ["first-logits"]
    kinds += ["first-token", "decode-begin", "logits"] if decode else []
    kinds += ["end"]
    now, instants = 0, []
    for kind, gap in zip(kinds, [0, *gaps], strict=False):
        now += gap
        instants.append((kind, now))
    result = partition(marks(*instants))
    laid_out = spans(marks(*instants))
    assert [a.end_ns for a in laid_out[:-1]] == [b.begin_ns for b in laid_out[1:]]
    assert (laid_out[0].begin_ns, laid_out[-1].end_ns) == (0, now)
    assert result.stages.closes()
    assert 0 <= result.ttft_ms <= result.stages.total_ms


@given(gaps=st.lists(st.integers(min_value=0, max_value=10**10), min_size=5, max_size=24))
def test_each_instant_of_a_call_is_in_the_first_token_or_in_one_gap(gaps):
    """TTFT + the sum of the gaps is the last token's instant, wherever the marks lie."""
    kinds = ["prefill-begin", "first-logits", "first-token", "decode-begin", *["logits"] * (len(gaps) - 5), "end"]
    now, instants = 0, [("start", 0)]
    for kind, gap in zip(kinds, gaps, strict=True):
        now += gap
        instants.append((kind, now))
    taken = marks(*instants)
    result, between = partition(taken), inter_token(taken)
    assert len(between) == len(gaps) - 5
    assert all(gap >= 0 for gap in between)
    assert result.ttft_ms + sum(between) == pytest.approx(result.last_token_ms)
    assert result.ttft_ms <= result.last_token_ms <= result.stages.total_ms
    assert result.tpot_ms(len(between) + 1) == (pytest.approx(sum(between) / len(between)) if between else None)
