"""Ways of calling generate() that a user comes to: what is recorded is what ran, and no time is the wrong stage's."""

import time

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StaticCache,
    T5Config,
    T5ForConditionalGeneration,
)

import laptime
from laptime.errors import LaptimeError
from tests.models.tiny import build, tiny_inputs

GREEDY = {"do_sample": False, "max_new_tokens": 4}
INPUTS = tiny_inputs("llama")


@pytest.fixture
def llama():
    return build("llama")


class Grammar(LogitsProcessor):
    """Takes 60 ms to change the logits."""

    def __call__(self, input_ids, scores):
        time.sleep(0.06)
        return scores


def test_what_is_done_to_the_logits_is_no_prefill(llama):
    entered = []
    hooks = [
        llama.register_forward_pre_hook(lambda *_: entered.append(time.perf_counter())),
        llama.register_forward_hook(lambda *_: entered.append(time.perf_counter())),
    ]
    with laptime.StageTimer(llama) as timer:
        llama.generate(**INPUTS, **GREEDY, logits_processor=LogitsProcessorList([Grammar()]))
        entered.clear()
        llama.generate(**INPUTS, **GREEDY, guidance_scale=1.5)  # runs the model twice a token
    for hook in hooks:
        hook.remove()
    grammar, guided = timer.samples
    assert grammar.ttft_ms - grammar.stages.prefill_ms >= 60
    assert grammar.stages.other_ms >= 2 * 60  # after the first logits and after the last
    assert len(entered) == 2 * 8
    assert (guided.decode_forwards, guided.output_tokens) == (3, 4)
    second_ms = (entered[3] - entered[2]) * 1e3
    assert guided.ttft_ms - guided.stages.prefill_ms >= second_ms  # of the first token


class Renamed(LlamaForCausalLM):
    """Its generate() has a signature of its own."""

    def generate(self, question, length=4):
        return super().generate(question, max_new_tokens=length, do_sample=False)


class OnlyNew(Renamed):
    """It returns the new ids without the prompt's."""

    def generate(self, question, length=4):
        return super().generate(question, length)[:, question.shape[1] :]


@pytest.mark.parametrize("kind", [Renamed, OnlyNew])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_a_generate_of_another_signature_is_counted_by_what_ran_inside(llama, kind, length):
    model = kind(llama.config).eval()
    with laptime.StageTimer(model) as timer:
        model.generate(INPUTS["input_ids"], length=length)
    sample = timer.last
    assert (sample.output_tokens, sample.prompt_tokens) == (length, INPUTS["input_ids"].shape[1])
    assert "forwards-mismatch" not in sample.flags


def test_a_generate_inside_a_processor_leaves_the_call_its_own_steps(llama):
    class Asks(LogitsProcessor):
        def __call__(self, input_ids, scores):
            llama.generate(input_ids, max_new_tokens=2, do_sample=False)
            return scores

    with laptime.StageTimer(llama) as timer:
        llama.generate(**INPUTS, **GREEDY, logits_processor=LogitsProcessorList([Asks()]))
    (sample,) = timer.samples
    assert (sample.decode_forwards, sample.output_tokens) == (3, 4)
    assert sample.stages.closes()


def test_what_changed_between_two_calls_is_recorded(llama):
    with laptime.StageTimer(llama) as timer:
        llama.generate(**INPUTS, **GREEDY)
        llama.to(torch.bfloat16).set_attn_implementation("eager")
        llama.generate(**INPUTS, **GREEDY)
        llama.to("meta")
        with pytest.raises(LaptimeError, match="the model is on meta now"):
            llama.generate(**INPUTS, **GREEDY)
    told = [(sample.config["dtype"], sample.config["attention"]) for sample in timer.samples]
    assert told == [("float32", "sdpa"), ("bfloat16", "eager")]
    assert len({sample.config_id for sample in timer.samples}) == 2


def test_a_cache_that_the_call_brings_is_what_ran(llama):
    static = StaticCache(config=llama.config, max_cache_len=64)
    with laptime.StageTimer(llama) as timer:
        llama.generate(**INPUTS, **GREEDY, past_key_values=static)
        llama.generate(**INPUTS, **GREEDY, past_key_values=DynamicCache(config=llama.config))
        llama.generate(**INPUTS, **GREEDY, cache_implementation="static")
    given, dynamic, named = timer.samples
    assert given.config_id == named.config_id
    assert "cache" not in dynamic.config


def test_answers_at_the_limit_are_counted_however_the_limit_is_given(llama):
    never = 319  # an EOS that is not said
    embeddings = llama.get_input_embeddings()(INPUTS["input_ids"])
    with laptime.StageTimer(llama) as timer:
        llama.generate(**INPUTS, do_sample=False, max_length=12, eos_token_id=never)
        llama.generate(**INPUTS, do_sample=False, eos_token_id=never)
        llama.generate(inputs_embeds=embeddings, do_sample=False, max_length=12, eos_token_id=never)
    assert [(sample.output_tokens, sample.cut_rows) for sample in timer.samples] == [(4, 1), (20, 1), (4, 1)]


def test_states_of_an_encoder_that_ran_before_are_the_prompt():
    sizes = {"vocab_size": 100, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    ids = torch.arange(5, 12)[None]
    states = model.get_encoder()(input_ids=ids)
    with laptime.StageTimer(model) as timer:
        model.generate(input_ids=ids, **GREEDY)
        model.generate(encoder_outputs=states, **GREEDY)
    whole, rest = timer.samples
    assert whole.prompt_tokens == rest.prompt_tokens == 7
    assert whole.stages.encode_ms > 0
    assert rest.stages.encode_ms is None
    assert whole.output_ids == rest.output_ids
