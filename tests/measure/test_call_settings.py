"""The settings of a call are resolved as transformers resolves them, and what can't be measured is refused on entry."""

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

import laptime
from laptime.data.summary import summarise
from laptime.errors import LaptimeError
from laptime.measure.call_settings import resolve
from tests.models.tiny import build, tiny_inputs

VALUES = {
    "eos_token_id": [None, 5, [5, 6]],
    "pad_token_id": [None, 0],
    "do_sample": [None, True, False],
    "num_beams": [None, 1, 3],
    "max_time": [None, 10.0],
    "max_new_tokens": [None, 4],
    "stop_strings": [None, ["stop"]],
    "cache_implementation": [None, "static", "hybrid"],
    "prefill_chunk_size": [None, 4],
    "prompt_lookup_num_tokens": [None, 3],
    "penalty_alpha": [None, 0.6],
}
some = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()})


@pytest.fixture(scope="module")
def llama():
    return build("llama")


@settings(deadline=None, max_examples=60)
@given(of_model=some, of_config=st.none() | some, of_call=some)
def test_every_setting_is_the_one_that_transformers_goes_by(llama, of_model, of_config, of_call):
    kept = llama.generation_config
    call = dict(of_call)
    if of_config is not None:
        call["generation_config"] = GenerationConfig(**of_config)
    llama.generation_config = GenerationConfig(**of_model)
    try:
        theirs, _ = llama._prepare_generation_config(call.get("generation_config"), **of_call)
        ours = resolve(llama, call)
    finally:
        llama.generation_config = kept
    for name in VALUES:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_generation_mode() == theirs.get_generation_mode()


def test_prompt_lookup_of_a_checkpoint_is_refused_by_name_and_runs_nothing():
    model = build("llama")
    model.generation_config.prompt_lookup_num_tokens = 3
    forwards = []
    model.model.layers[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    with laptime.StageTimer(model) as timer, pytest.raises(LaptimeError, match="prompt lookup"):
        model.generate(**tiny_inputs("llama"), generation_config=GenerationConfig(max_new_tokens=4, do_sample=False))
    assert (timer.samples, timer.failures, forwards) == ([], [], [])


def test_what_a_checkpoint_decided_is_recorded_as_what_ran():
    model = build("llama")
    model.generation_config.num_beams = 3
    model.generation_config.do_sample = True
    given = GenerationConfig(max_new_tokens=4, pad_token_id=0)
    with laptime.StageTimer(model) as timer:
        model.generate(**tiny_inputs("llama"), generation_config=given)
        model.generate(**tiny_inputs("llama"), max_new_tokens=4, num_beams=1, do_sample=False)
    searched, greedy = timer.samples
    assert (searched.config["num_beams"], searched.config["do_sample"]) == (3, True)
    assert set(greedy.config) == {"model", "dtype", "attention"}
    assert searched.config_id != greedy.config_id


def test_an_end_that_only_the_model_names_is_seen():
    model = build("llama")
    free = model.generate(**tiny_inputs("llama"), max_new_tokens=12, do_sample=False)[0, 8:].tolist()
    stop = next(token for token in free[1:] if token != free[0])
    length = free.index(stop) + 1
    with laptime.StageTimer(model) as timer:
        model.generate(**tiny_inputs("llama"), max_new_tokens=12, do_sample=False, eos_token_id=torch.tensor([stop]))
        model.generation_config.max_time = 1e-9
        model.generate(**tiny_inputs("llama"), generation_config=GenerationConfig(max_new_tokens=50))
    assert [sample.output_tokens for sample in timer.samples] == [length, 1]
    assert timer.failures == []


def test_rows_that_a_criterion_ends_are_counted_without_their_padding():
    model = build("llama")
    inputs = tiny_inputs("llama", batch=2, seed=3)
    free = model.generate(**inputs, max_new_tokens=10, do_sample=False)[:, 8:].tolist()
    stop = next(token for token in free[0] if token not in free[1])
    never = next(token for token in range(100, 300) if token not in free[0] + free[1])
    criteria = [lambda ids, scores, **_: ids[:, -1] == stop]
    with laptime.StageTimer(model) as timer:
        model.generate(**inputs, max_new_tokens=10, do_sample=False, eos_token_id=never, stopping_criteria=criteria)
    assert [len(row) for row in timer.last.output_ids] == [free[0].index(stop) + 1, 10]
    assert timer.last.generated_tokens == free[0].index(stop) + 11


def test_answers_at_the_limit_are_counted_where_something_could_have_ended_them():
    model = build("llama")
    inputs = tiny_inputs("llama", batch=2, seed=3)
    free = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, 8:].tolist()
    stop = next(token for token in free[0][:-1] if token not in free[1])
    with laptime.StageTimer(model) as timer:
        model.generate(**inputs, max_new_tokens=6, do_sample=False)
        model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=stop)
    assert [sample.cut_rows for sample in timer.samples] == [None, 1]
    undisturbed = [msgspec.structs.replace(sample, flags=[]) for sample in timer.samples]
    assert summarise(undisturbed).cut_short == 1
