"""The stages of a fast call: a Sample as StageTimer gives it, closed to the nanosecond."""

import pytest
import torch

import laptime
from laptime.decoder import FastDecoder, FastModel, timed_generate
from laptime.decoder.timed import CallTimer
from tests.models.tiny import build, tiny_inputs


def prepared(family, **more):
    model = build(family).requires_grad_(False)
    inputs = tiny_inputs(family, text=9, **more)
    return model, inputs.pop("input_ids"), inputs


@pytest.mark.parametrize("family", ["llama", "internvl", "qwen3_vl"])
@pytest.mark.parametrize("per_token", [False, True])
def test_stages_close_and_every_token_is_counted(family, per_token):
    model, ids, inputs = prepared(family, batch=2)
    with FastDecoder(model) as decoder:
        output, sample = timed_generate(decoder, ids, per_token=per_token, max_new_tokens=6, do_sample=False, **inputs)
        assert torch.equal(output, decoder.generate(ids, max_new_tokens=6, do_sample=False, **inputs))
    assert sample.stages.closes()
    assert sample.host_stages.closes()
    assert (sample.stages.vision_ms > 0) is (family != "llama")
    assert sample.stages.prefill_ms > 0
    assert sample.stages.decode_ms > 0
    assert (sample.output_tokens, sample.decode_forwards, sample.batch) == (6, 5, 2)
    assert (sample.itl_ms is None) is not per_token
    assert sample.output_ids == output[:, ids.shape[1] :].tolist()
    if per_token:
        assert len(sample.itl_ms) == 5


def test_eos_stops_the_steps_too():
    model, ids, inputs = prepared("llama")
    with FastDecoder(model) as decoder:
        free = decoder.generate(ids, max_new_tokens=12, **inputs)[0, ids.shape[1] :].tolist()
        _, sample = timed_generate(decoder, ids, max_new_tokens=12, eos_token_id=free[4], **inputs)
    assert sample.output_tokens == free.index(free[4]) + 1
    assert sample.decode_forwards == sample.output_tokens - 1
    assert "forwards-mismatch" not in sample.flags


@pytest.mark.parametrize("fast", [FastDecoder, FastModel])
def test_a_sample_says_what_the_model_s_own_timer_says(fast):
    model, ids, inputs = prepared("internvl", batch=2)
    free = model.generate(ids, max_new_tokens=8, do_sample=False, **inputs)[:, ids.shape[1] :].tolist()
    end = next(token for token in free[0] if token not in free[1])
    call = {**inputs, "max_new_tokens": 8, "do_sample": False, "eos_token_id": end}
    with laptime.StageTimer(model, per_token=True) as own:
        model.generate(ids, **call)
    with fast(model) as decoder:
        _, sample = timed_generate(decoder, ids, per_token=True, **call)
    same = ("prompt_tokens", "image_tokens", "output_tokens", "output_ids", "batch", "generated_tokens")
    for name in same:
        assert getattr(sample, name) == getattr(own.last, name), name
    assert sample.image_tokens == 1
    assert len(sample.output_ids[0]) < len(sample.output_ids[1])
    assert len(sample.itl_ms) == len(own.last.itl_ms) == 7
    assert sample.config == {**own.last.config, "answered_by": fast.__name__}


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_steps_behind_the_end_are_counted_apart_and_belong_to_no_stage(kept, per_token):
    """As on a GPU, where the next steps run while the host looks whether the answer has ended."""
    model, ids, inputs = prepared("llama")
    call = {**inputs, "max_new_tokens": 6, "do_sample": False, "eos_token_id": []}
    with FastDecoder(model) as decoder:

        def run(mark, processors):
            whole, steps = decoder.run(ids, call, mark=mark, per_token=True, processors=processors)
            return whole[:, : ids.shape[1] + kept], steps

        sample = CallTimer(model)(run, ids, per_token=per_token)
    assert (sample.output_tokens, sample.decode_forwards, sample.surplus_forwards) == (kept, kept - 1, 6 - kept)
    assert sample.flags == []
    assert sample.stages.closes()
    assert len([mark for mark in sample.marks if mark.kind == "logits"]) == (
        kept - 1 if per_token else min(1, kept - 1)
    )
    if kept == 1:
        assert sample.stages.decode_ms is None
        assert sample.tpot_ms is None
        return
    assert sample.decode_per_token_ms == pytest.approx(sample.stages.decode_ms / (kept - 1))
    last = [mark for mark in sample.marks if mark.kind == "logits"][-1]
    assert sample.stages.total_ms > sample.ttft_ms + sample.stages.decode_ms
    assert sample.tpot_ms == pytest.approx(
        ((last.device_ns - sample.marks[0].device_ns) / 1e6 - sample.ttft_ms) / (kept - 1)
    )
    if per_token:
        assert len(sample.itl_ms) == kept - 1


def test_fewer_steps_than_tokens_are_still_a_finding():
    model, ids, inputs = prepared("llama")
    with FastDecoder(model) as decoder:

        def run(mark, processors):
            whole, steps = decoder.run(ids, {**inputs, "max_new_tokens": 6}, mark=mark, processors=processors)
            return whole, steps - 1

        sample = CallTimer(model)(run, ids)
    assert sample.flags == ["forwards-mismatch"]
    assert sample.surplus_forwards == 0


def test_a_single_token_has_no_decode():
    model, ids, inputs = prepared("llama")
    with FastDecoder(model) as decoder:
        _, sample = timed_generate(decoder, ids, max_new_tokens=1, **inputs)
    assert sample.stages.decode_ms is None
    assert sample.tpot_ms is None


def test_one_timer_serves_many_calls_and_the_model_s_own_timer_sees_none_of_them():
    model, ids, inputs = prepared("llama")
    timer = CallTimer(model)
    with laptime.StageTimer(model) as own, FastDecoder(model) as decoder:
        samples = [timed_generate(decoder, ids, timer=timer, max_new_tokens=4, **inputs)[1] for _ in range(2)]
        assert own.samples == []
        model.generate(ids, max_new_tokens=4, do_sample=False, **inputs)
    assert [sample.sample_id for sample in samples] == ["0", "1"]
    assert own.last.output_ids == samples[0].output_ids
