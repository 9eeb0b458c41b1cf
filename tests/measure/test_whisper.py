"""Whisper's own generate(): it may run a forward before its loop, loop several times, and give the ids another way."""

import copy
import time

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

import laptime
from laptime.errors import LaptimeError
from tests.models import tiny_encoders

SLEEP_MS = 40.0


@pytest.fixture
def whisper():
    torch.manual_seed(0)
    model, inputs = tiny_encoders.build("whisper")
    settings = model.generation_config
    settings.no_timestamps_token_id, settings.max_initial_timestamp_index = 300, 50
    return model, {**inputs, "max_new_tokens": 5, "do_sample": False}


def test_a_forward_that_finds_the_language_is_no_prefill(whisper):
    model, call = whisper
    settings = model.generation_config
    settings.is_multilingual, settings.lang_to_id = True, {"<|en|>": 10, "<|fr|>": 11}
    settings.task_to_id = {"transcribe": 20, "translate": 21}
    forwards = []

    def slow(*_):
        forwards.append(len(forwards))
        time.sleep(SLEEP_MS / 1e3 if len(forwards) == 1 else 0.0)

    model.model.decoder.layers[0].register_forward_pre_hook(slow)
    model.model.encoder.layers[0].register_forward_pre_hook(lambda *_: time.sleep(SLEEP_MS / 1e3))
    with laptime.StageTimer(model) as timer:
        model.generate(**call)
    sample = timer.last
    assert len(forwards) == 6
    assert sample.stages.encode_ms >= 2 * SLEEP_MS  # it hears the sound twice
    assert sample.stages.other_ms >= SLEEP_MS
    assert (sample.output_tokens, sample.decode_forwards) == (5, 4)
    assert sample.stages.closes()
    assert not any(module._forward_pre_hooks for module in (model, model.model.decoder))


def test_a_sound_longer_than_a_window_is_refused_before_it_runs(whisper):
    model, call = whisper
    model.model.encoder.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    with laptime.StageTimer(model) as timer, pytest.raises(LaptimeError, match="250 frames is heard in windows of 100"):
        model.generate(**{**call, "input_features": torch.randn(1, 16, 250)}, return_timestamps=True)
    assert timer.failures == []


def test_a_second_try_at_another_temperature_is_no_sample(whisper):
    model, call = whisper
    with laptime.StageTimer(model) as timer, pytest.warns(RuntimeWarning, match="ran its loop several times"):
        result = model.generate(
            **{**call, "do_sample": None}, temperature=(0.0, 0.4), logprob_threshold=-0.1, compression_ratio_threshold=9
        )
    assert result.shape == (1, 5)
    assert (timer.samples, len(timer.failures)) == ([], 1)


def test_segments_hold_the_ids(whisper):
    model, call = whisper
    with laptime.StageTimer(model) as timer:
        result = model.generate(**call, return_segments=True)
    assert timer.last.output_tokens == result["sequences"].shape[1] == 5


@pytest.mark.parametrize("beams", [1, 2])
def test_given_decoder_ids_are_no_new_tokens(whisper, beams):
    model, call = whisper
    with laptime.StageTimer(model) as timer:
        model.generate(**call, num_beams=beams, decoder_input_ids=torch.tensor([[3, 7, 8]]))
    assert timer.last.output_tokens == 5
    assert "forwards-mismatch" not in timer.last.flags


def test_arguments_that_a_wrapper_copies_are_marked_all_the_same():
    """As PEFT's prompt tuning of T5 does."""
    model, call = tiny_encoders.build("t5")
    own = model.generate
    model.generate = lambda **kwargs: own(**copy.deepcopy(kwargs))

    class Asked(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores

    with laptime.StageTimer(model) as timer:
        model.generate(**call, max_new_tokens=4, do_sample=False, logits_processor=LogitsProcessorList([Asked()]))
    assert (timer.failures, timer.last.output_tokens, timer.last.decode_forwards) == ([], 4, 3)
