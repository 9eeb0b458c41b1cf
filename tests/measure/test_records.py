"""A sample is built after its call, when somebody looks or before the next call, and is what it would have been."""

import gc
import warnings
import weakref

import pytest
import torch
from transformers import StaticCache

import laptime
from laptime.measure.clock import HostClock
from tests.models.tiny import build, tiny_inputs

GREEDY = {"max_new_tokens": 5, "do_sample": False}


class Broken(HostClock):
    """Its marks can't be read: only once where it is an interrupt."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def resolve(self):
        error, self.error = self.error, None if isinstance(self.error, KeyboardInterrupt) else self.error
        if error is not None:
            raise error
        return super().resolve()


def counted(sample):
    return (
        sample.output_ids, sample.output_tokens, sample.generated_tokens, sample.prompt_tokens, sample.image_tokens,
        sample.cut_rows, sample.batch, sample.config, sample.flags,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "llava_next"])
def test_what_the_user_changes_after_a_call_changes_no_sample(family):
    model = build(family)
    call = {**tiny_inputs(family), **GREEDY}
    with laptime.StageTimer(model) as timer:
        model.generate(**call)
        plain = timer.last
    model.generation_config.max_length = None
    with laptime.StageTimer(model) as timer:
        returned = model.generate(**call)
        returned.fill_(1)
        call["input_ids"].zero_()
        model.generation_config.max_length = 3
        model.generation_config.eos_token_id = 1
        timer.label("another", 7, ("cold",))
        changed = timer.last
    assert changed.sample_id == "0"
    assert counted(changed)[:-1] == counted(plain)[:-1]
    assert "cold" not in changed.flags


def test_nothing_of_the_users_is_held_until_the_sample_is_built():
    model = build("llava_next")
    inputs = tiny_inputs("llava_next")
    cache = StaticCache(config=model.config.get_text_config(), max_cache_len=128)
    with laptime.StageTimer(model) as timer:
        result = model.generate(
            **inputs, **GREEDY, past_key_values=cache, return_dict_in_generate=True, output_scores=True
        )
        held = [weakref.ref(one) for one in (inputs["pixel_values"], cache, result.sequences, result.scores[0])]
        del inputs, cache, result
        gc.collect()
        assert [one() is None for one in held] == [True] * 4
        assert timer.last.config["cache"] == "static"


@pytest.mark.parametrize("looks", ["next call", "leaving", "samples", "failures", "summary"])
def test_a_sample_that_cannot_be_built_is_warned_of_when_that_is_found(looks):
    model, inputs = build("llama"), tiny_inputs("llama")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with laptime.StageTimer(model) as timer:
            model.generate(**inputs, **GREEDY)
            assert len(timer.samples) == 1
            timer._clocks[:] = [Broken(RuntimeError("no marks"))]
            bare = model.generate(**inputs, **GREEDY)
            assert not [w for w in seen if w.category is RuntimeWarning]
            if looks == "next call":
                assert torch.equal(model.generate(**inputs, **GREEDY), bare)
            elif looks != "leaving":
                _ = timer.summary() if looks == "summary" else getattr(timer, looks)
            found = [str(w.message) for w in seen if w.category is RuntimeWarning]
            assert len(found) == (looks != "leaving")
    assert len([w for w in seen if w.category is RuntimeWarning]) == 1
    calls = 2 if looks == "next call" else 1  # both have the same clock
    assert [failure.error for failure in timer.failures] == ["RuntimeError: no marks"] * calls
    assert [s.sample_id for s in timer.samples] == ["0"]


def test_an_interrupt_while_a_sample_is_built_loses_no_sample():
    model = build("llama")
    with laptime.StageTimer(model) as timer:
        timer._clocks[:] = [Broken(KeyboardInterrupt())]
        model.generate(**tiny_inputs("llama"), **GREEDY)
        with pytest.raises(KeyboardInterrupt):
            _ = timer.samples
        model.generate(**tiny_inputs("llama"), **GREEDY)
    assert [sample.sample_id for sample in timer.samples] == ["0", "1"]
    assert timer.failures == []


def test_the_list_of_samples_is_the_users_to_empty():
    model = build("llama")
    with laptime.StageTimer(model) as timer:
        for _ in range(3):
            model.generate(**tiny_inputs("llama"), **GREEDY)
        timer.samples.clear()
        model.generate(**tiny_inputs("llama"), **GREEDY)
        assert timer.samples.pop().sample_id == "3"
    assert timer.samples == []
