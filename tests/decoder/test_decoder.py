"""FastDecoder on a CPU: the model's own tokens, the model unchanged, everything else refused by name."""

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, OlmoeConfig, Qwen2Config

from laptime.decoder import FastDecoder
from laptime.decoder.state import Sampling
from laptime.errors import LaptimeError
from tests.models.tiny import FAMILIES, OLMOE, TEXT, TEXT_CONFIGS, build, tiny_inputs

REFUSED = {"gemma3": "Gemma3DecoderLayer", "paligemma": "GemmaDecoderLayer", "aria": "AriaTextDecoderLayer"}
SUPPORTED = [family for family in FAMILIES if family not in REFUSED]
NEW = 10


def built(family, config=None):
    """A tiny model whose matrices are large enough for its tokens to depend on all of them."""
    model = build(family, config=config).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3.0)
    return model


def padded(inputs, lengths):
    """The same inputs with only the last `lengths` tokens of each row unmasked."""
    mask = inputs["attention_mask"].clone()
    for row, length in enumerate(lengths):
        mask[row, : mask.shape[1] - length] = 0
    return {**inputs, "attention_mask": mask}


@pytest.mark.parametrize("family", SUPPORTED)
def test_tokens_are_those_of_the_model_in_every_family(family):
    model = built(family)
    for batch in (1, 2):
        inputs = tiny_inputs(family, batch=batch, text=9)
        call = {"max_new_tokens": NEW, "do_sample": False}
        own = model.generate(**inputs, **call)
        with FastDecoder(model) as decoder:
            assert torch.equal(decoder.generate(**inputs, **call), own)
            state = decoder.session(batch, own.shape[1], Sampling()).state
            logits = model.generate(**inputs, **call, return_dict_in_generate=True, output_logits=True).logits
            torch.testing.assert_close(state.logits, logits[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "olmoe", "qwen2_5_vl"])
def test_left_padded_rows_get_their_own_positions(family):
    model = built(family)
    inputs = tiny_inputs(family, batch=3, text=14)
    if family == "qwen2_5_vl":  # a row that starts later keeps its image
        inputs["attention_mask"][0, 0] = 0
    else:
        inputs = padded(inputs, (14, 9, 3))
    own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    with FastDecoder(model) as decoder:
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW, do_sample=False), own)


CONFIGS = {
    "qwen2 with biases": lambda: Qwen2Config(**TEXT),
    "tied head": lambda: LlamaConfig(**{**TEXT, "tie_word_embeddings": True}),
    "biases everywhere in attention": lambda: LlamaConfig(**TEXT, attention_bias=True),
    "llama3 rope": lambda: LlamaConfig(
        **TEXT,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "yarn rope": lambda: LlamaConfig(
        **TEXT,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "normalised experts": lambda: OlmoeConfig(
        **{k: v for k, v in OLMOE.items() if k != "model_type"}, norm_topk_prob=True
    ),
    "another head width": lambda: LlamaConfig(**TEXT, head_dim=12),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_variants_of_a_family(what):
    model = built("llama", config=CONFIGS[what]())
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    inputs = tiny_inputs("llama", batch=2, text=11)
    own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    with FastDecoder(model) as decoder:
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW, do_sample=False), own)


def test_top_k_is_what_the_gates_say_now():
    model = built("olmoe")
    inputs = tiny_inputs("olmoe", text=11)
    seen = []
    with FastDecoder(model) as decoder:
        for top_k in (2, 1, 3):
            for layer in model.model.layers:
                layer.mlp.gate.top_k = top_k
            own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
            assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW, do_sample=False), own)
            state = decoder.session(1, own.shape[1], Sampling()).state
            seen.append(state.logits.clone())
    assert not torch.allclose(seen[0], seen[1], rtol=1e-3)
    assert not torch.allclose(seen[0], seen[2], rtol=1e-3)


def test_the_model_keeps_its_bits_and_its_memory_while_merged_and_afterwards():
    model = built("qwen3")
    inputs = tiny_inputs("qwen3", text=11)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logits = model(**inputs).logits
    decoder = FastDecoder(model)
    attention = model.model.layers[1].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()
    whole = attention.q_proj.weight.nbytes + attention.k_proj.weight.nbytes + attention.v_proj.weight.nbytes
    assert attention.k_proj.weight.untyped_storage().nbytes() == whole
    assert decoder.plan.layers[1].qkv.data_ptr() == attention.q_proj.weight.data_ptr()
    assert torch.equal(model(**inputs).logits, logits)
    decoder.generate(**inputs, max_new_tokens=4)
    assert torch.equal(model(**inputs).logits, logits)
    decoder.close()
    assert attention.k_proj.weight.untyped_storage().nbytes() == attention.k_proj.weight.nbytes
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    with pytest.raises(LaptimeError, match="closed"):
        decoder.generate(**inputs, max_new_tokens=4)


def test_weights_trained_on_while_merged_are_the_decoder_s_weights_too():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    with FastDecoder(model) as decoder:
        model.model.layers[0].self_attn.k_proj.weight.data.mul_(-1.5)
        model.model.layers[2].mlp.up_proj.weight.data.mul_(-1.5)
        own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW, do_sample=False), own)


def test_weights_that_were_moved_are_noticed():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    with FastDecoder(model) as decoder:
        decoder.generate(**inputs, max_new_tokens=2)
        model.to(torch.float64)
        with pytest.raises(LaptimeError, match="weights have moved"):
            decoder.generate(**inputs, max_new_tokens=2)


def test_inference_mode_may_come_and_go():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    with torch.inference_mode():
        decoder = FastDecoder(model)
        first = decoder.generate(**inputs, max_new_tokens=NEW)
    assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW), first)
    decoder.close()
    model.model.layers[0].self_attn.q_proj.weight.data.mul_(2)  # ordinary tensors, not inference tensors


def test_eos_ends_rows_and_pads_them():
    model = built("qwen3")
    inputs = padded(tiny_inputs("qwen3", batch=3, text=14), (14, 9, 3))
    free = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    new = free[:, 14:]
    for eos in ([int(new[0, 2])], [int(new[0, 1]), int(new[1, 4]), int(new[2, 6])], [int(new[1, 0])]):
        call = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": eos, "pad_token_id": 7}
        own = model.generate(**inputs, **call)
        with FastDecoder(model) as decoder:
            assert torch.equal(decoder.generate(**inputs, **call), own)


def test_a_single_token_and_a_call_after_a_longer_one():
    model = built("qwen3")
    with FastDecoder(model) as decoder:
        for text, new in ((40, 20), (6, 1), (9, 5), (3, 30)):
            inputs = tiny_inputs("qwen3", text=text, seed=text)
            own = model.generate(**inputs, max_new_tokens=new, do_sample=False)
            assert torch.equal(decoder.generate(**inputs, max_new_tokens=new, do_sample=False), own)


def test_a_prompt_longer_than_the_smallest_bucket():
    config = LlamaConfig(**{**TEXT, "max_position_embeddings": 4096})
    model = built("llama", config=config)
    inputs = tiny_inputs("llama", text=1020)
    own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    with FastDecoder(model) as decoder:
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW, do_sample=False), own)
        for length, capacity in ((1024, 1024), (1025, 1536), (1537, 2048), (2049, 3072), (4000, 4096)):
            assert decoder.session(1, length, Sampling()).state.capacity == capacity


def test_suppressed_tokens_never_come():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    free = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    banned = sorted({int(token) for token in free[0, 11:]})
    call = {"max_new_tokens": NEW, "do_sample": False, "suppress_tokens": banned}
    with FastDecoder(model) as decoder:
        fast = decoder.generate(**inputs, **call)
        assert torch.equal(fast, model.generate(**inputs, **call))
        assert not set(fast[0, 11:].tolist()) & set(banned)
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=NEW), free), "the ban ends with its call"


def test_sampling_is_seeded_and_drawn_from_the_model_s_distribution():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    call = {"max_new_tokens": NEW, "do_sample": True}
    with FastDecoder(model) as decoder:
        one = decoder.generate(**inputs, **call, seed=1)
        assert torch.equal(decoder.generate(**inputs, **call, seed=1), one)
        assert not torch.equal(decoder.generate(**inputs, **call, seed=2), one)
        greedy = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        for only_best in ({"top_k": 1}, {"top_p": 1e-6, "top_k": 0}, {"temperature": 1e-4}):
            assert torch.equal(decoder.generate(**inputs, **call, **only_best, seed=3), greedy)


def test_drawn_frequencies_are_the_probabilities():
    from laptime.decoder.state import Sampling, choose

    noise = torch.Generator().manual_seed(0)
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -9.0]])
    n = 40_000
    for sampling, kept in (
        (Sampling(draw=True), 5),
        (Sampling(draw=True, temperature=0.5), 5),
        (Sampling(draw=True, top_k=2), 2),
        (Sampling(draw=True, top_p=0.7), 2),  # 0.64 alone is below 0.7, so the second stays
        (Sampling(draw=True, top_k=4, top_p=0.6), 1),
    ):
        drawn = choose(logits.expand(n, -1), sampling, noise)
        share = torch.bincount(drawn, minlength=5) / n
        expected = torch.softmax(logits[0] / sampling.temperature, 0)
        expected[kept:] = 0
        torch.testing.assert_close(share, expected / expected.sum(), atol=0.012, rtol=0)


@pytest.mark.parametrize("family", REFUSED)
def test_unknown_blocks_are_refused_by_name_and_the_model_stays_usable(family):
    model = built(family)
    inputs = tiny_inputs(family)
    own = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    with pytest.raises(LaptimeError, match=REFUSED[family]):
        FastDecoder(model)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False), own)
    assert len(addresses) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (lambda: OlmoeConfig(**{k: v for k, v in OLMOE.items() if k != "model_type"}, clip_qkv=1.0), "clip_qkv"),
        (lambda: LlamaConfig(**TEXT, hidden_act="gelu"), "activation gelu"),
        (lambda: LlamaConfig(**TEXT, mlp_bias=True), "biases in the MLP"),
        (
            lambda: LlamaConfig(**TEXT, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rope",
        ),
    ],
)
def test_configs_that_change_the_step_are_refused(config, word):
    with pytest.raises(LaptimeError, match=word):
        FastDecoder(built("llama", config=config()))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"min_new_tokens": 3}, "min_new_tokens"),
        ({"stop_strings": ["x"]}, "stop_strings"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate"),
        ({"past_key_values": object()}, "past_key_values"),
        ({"streamer": object()}, "streamer"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"do_sample": True, "temperature": 0.0}, "temperature"),
        ({"do_sample": True, "top_p": 1.5}, "top_p"),
        ({"eos_token_id": list(range(20))}, "eos_token_id"),
    ],
)
def test_settings_that_it_can_t_honour_are_refused_by_name(call, word):
    with FastDecoder(built("llama")) as decoder, pytest.raises(LaptimeError, match=word):
        decoder.generate(**tiny_inputs("llama"), **{"max_new_tokens": 4, **call})


def test_a_sliding_window_may_not_be_outgrown():
    model = built("mistral", config=MistralConfig(**TEXT, sliding_window=32))
    inputs = tiny_inputs("mistral", text=20)
    with FastDecoder(model) as decoder:
        own = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        assert torch.equal(decoder.generate(**inputs, max_new_tokens=12), own)
        with pytest.raises(LaptimeError, match="sliding window of 32"):
            decoder.generate(**inputs, max_new_tokens=13)


def test_hooks_in_a_block_are_not_passed_by():
    model = built("llama")
    model.model.layers[1].mlp.register_forward_hook(lambda module, args, out: out * 2)
    with pytest.raises(LaptimeError, match=r"block 1.*hook"):
        FastDecoder(model)


def test_kernels_need_a_gpu_and_say_so():
    with pytest.raises(LaptimeError, match="need a CUDA GPU"):
        FastDecoder(built("llama"), kernels="triton")


def test_bfloat16_follows_the_model_closely():
    model = built("qwen3").to(torch.bfloat16)
    inputs = tiny_inputs("qwen3", text=11)
    with FastDecoder(model) as decoder:
        own = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        fast = decoder.generate(**inputs, max_new_tokens=4)
    assert torch.equal(own[:, :12], fast[:, :12])


def test_every_text_family_is_covered():
    assert set(TEXT_CONFIGS) <= set(SUPPORTED)
