"""The whole call: answers of other lengths than the measured ones, what pays when, and the promised range."""

from pathlib import Path

import msgspec
import pytest

import laptime
from laptime.decoder import FastModel
from laptime.remedy.call_floor import PartFloor, prefill_work
from laptime.remedy.call_promise import AROUND_MS, PER_KERNEL_US, prefill_promise, traced_promise, vision_promise
from laptime.remedy.result import Promise
from laptime.remedy.whole_call import answer_ms, answer_time, decode_promise, promised_call, stage_figures
from tests.models.tiny import build
from tests.samples import sample as a_sample

DATA = Path(__file__).parents[1] / "trace" / "data"


def called(vision, prefill, decode, other, tokens):
    sample = a_sample()
    total = vision + prefill + decode + other
    stages = msgspec.structs.replace(
        sample.stages, vision_ms=vision, prefill_ms=prefill, decode_ms=decode, other_ms=other, total_ms=total
    )
    return msgspec.structs.replace(sample, stages=stages, output_tokens=tokens)


FAST, SLOW = [called(4.0, 6.0, 14.0, 1.0, 8)], [called(20.0, 50.0, 140.0, 10.0, 8)]
STEP = Promise(low_ms=1.5, high_ms=2.5, source="", assumptions=[])


def test_an_answer_of_another_length_is_the_call_without_its_steps_and_its_own():
    assert answer_ms(FAST, 8) == pytest.approx(25.0)
    assert answer_ms(FAST, 2) == pytest.approx(13.0)
    assert answer_ms(FAST, 256) == pytest.approx(11.0 + 255 * 2.0)


def test_preparation_pays_after_as_many_answers_as_make_up_for_it():
    answer = answer_time("whole", 2, FAST, SLOW, prepare_s=1.0)
    assert answer.baseline_ms == pytest.approx(100.0)
    assert answer.pays_after_answers == 12  # 1,000 ms over 87 ms
    assert not answer.measured
    assert answer_time("whole", 2, SLOW, FAST, prepare_s=1.0).pays_after_answers is None
    assert answer_time("eager", 8, SLOW, SLOW, prepare_s=None).pays_after_answers is None


def test_answers_and_tokens_pay_by_one_rule():
    """The median of all calls says faster, but most rounds' pairs say slower: then it never pays, for either."""
    remedy = [called(0.0, 5.0, decode, 1.0, 8) for decode in (71.0, 141.0, 211.0)]
    base = [called(0.0, 5.0, decode, 1.0, 8) for decode in (70.0, 210.0, 205.0)]
    assert answer_ms(remedy, 256) < answer_ms(base, 256)
    assert answer_time("whole", 256, remedy, base, prepare_s=0.01).pays_after_answers is None


def test_a_call_s_promise_is_the_sum_of_its_parts_and_is_judged_only_where_it_was_measured():
    parts = [Promise(low_ms=3.0, high_ms=5.0, source="", assumptions=[])] * 2
    low, high = promised_call(parts, 8, STEP)
    assert (low, high) == (pytest.approx(6 + 10.5 + AROUND_MS[0]), pytest.approx(10 + 17.5 + AROUND_MS[1]))
    assert answer_time("whole", 8, FAST, SLOW, prepare_s=1.0, promised=(low, high)).kept is True
    assert answer_time("whole", 8, SLOW, SLOW, prepare_s=1.0, promised=(low, high)).kept is False
    assert answer_time("whole", 2, FAST, SLOW, prepare_s=1.0, promised=(low, high)).kept is None
    assert promised_call([None], 8, STEP) is None
    assert promised_call(parts, 8, None) is None


def test_stages_that_no_call_had_are_left_out_and_the_others_judged():
    text = [called(0.0, 6.0, 14.0, 1.0, 8)]
    promises = {
        "prefill": Promise(low_ms=7.0, high_ms=9.0, source="", assumptions=[]),
        "decode": decode_promise(STEP, 8),
    }
    stages = stage_figures(text, promises, {"prefill": 5.0})
    assert [(s.stage, s.kept, s.floor_ms) for s in stages] == [("prefill", False, 5.0), ("decode", True, None)]


def test_promises_grow_with_work_and_kernels_and_routed_experts_have_their_own():
    ranges = {}
    for family in ("llama", "olmoe"):
        with FastModel(build(family)) as fast:
            for tokens in (100, 1000):
                tflop, gb = prefill_work(fast.plan, [tokens])
                ms = max(tflop / 1e-3, gb / 1.0) * 1e3
                ranges[family, tokens] = prefill_promise(fast.plan, PartFloor(tflop, gb, ms), 1e-3, 1.0)
                assert ranges[family, tokens].low_ms > ms
    assert ranges["llama", 1000].low_ms > ranges["llama", 100].high_ms
    assert "9" not in ranges["olmoe", 100].assumptions[0][:1]
    assert vision_promise(PartFloor(1.0, 1.0, None), 24, packed=False) is None
    tower = vision_promise(PartFloor(1.0, 1.0, 1e-9), 10, packed=False)
    assert tower.high_ms / tower.low_ms == pytest.approx(PER_KERNEL_US[1] / PER_KERNEL_US[0])
    plain, packed = (vision_promise(PartFloor(1.0, 1.0, 5.0), 10, packed=packed) for packed in (False, True))
    assert packed.low_ms > plain.low_ms
    with FastModel(build("llama")) as fast:
        assert prefill_promise(fast.plan, PartFloor(1.0, 1.0, 1.0), None, 1.0) is None


@pytest.fixture(scope="module")
def traced_prefill():
    (one,) = laptime.read_trace(DATA / "decode-eager.json.gz").passes
    return one


def test_a_traced_pass_promises_its_products_to_its_merged_kernels(traced_prefill):
    promise = traced_promise(traced_prefill, PartFloor(0.001, 0.001, 0.05), None, same=True)
    assert promise.low_ms == pytest.approx(traced_prefill.products_ns / 1e6, abs=1e-4)
    assert promise.low_ms < promise.high_ms < traced_prefill.busy_ns / 1e6
    assert promise.source == "trace, small kernels merged"
    assert traced_promise(traced_prefill, PartFloor(1, 1, 0.3), None, same=True).low_ms == 0.3, "never below the floor"


def test_what_fastmodel_computes_otherwise_is_bounded_from_above_alone(traced_prefill):
    wide = Promise(low_ms=0.1, high_ms=9.0, source="operations and bytes", assumptions=["a"])
    floor = PartFloor(0.001, 0.001, 0.05)
    bounded = traced_promise(traced_prefill, floor, wide, same=False)
    assert bounded.low_ms == 0.1
    assert bounded.high_ms == traced_promise(traced_prefill, floor, None, same=True).high_ms
    written_out = msgspec.structs.replace(traced_prefill, attention_kernels=0)
    assert traced_promise(written_out, floor, wide, same=True) == bounded
    narrow = msgspec.structs.replace(wide, high_ms=0.2)
    assert traced_promise(traced_prefill, floor, narrow, same=False) is narrow


def test_a_pass_that_is_a_guess_promises_nothing(traced_prefill):
    wide = Promise(low_ms=0.1, high_ms=9.0, source="operations and bytes", assumptions=[])
    guess = msgspec.structs.replace(traced_prefill, unsure=True)
    for one in (None, guess, msgspec.structs.replace(traced_prefill, merged_ns=None)):
        assert traced_promise(one, PartFloor(1, 1, 0.05), wide, same=True) is wide
