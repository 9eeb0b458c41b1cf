"""A model that became another one after its decoder was made: refused in one line that says what is other."""

import pytest
import torch
from torch import nn

from laptime.decoder import FastDecoder, FastModel
from laptime.errors import LaptimeError
from tests.decoder.test_decoder import built
from tests.models.tiny import tiny_inputs

GREEDY = {"max_new_tokens": 4, "do_sample": False}


class Adapter(nn.Module):
    """A linear layer with something added, as adapters wrap one."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base

    def forward(self, x):
        return 2 * self.base_layer(x)


def adapted(model):
    model.model.layers[0].self_attn.q_proj = Adapter(model.model.layers[0].self_attn.q_proj)


def loaded(model):
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)


def other_weight(model):
    model.model.layers[1].mlp.down_proj.weight = nn.Parameter(model.model.layers[1].mlp.down_proj.weight + 1)


def other_block(model):
    model.model.layers[1] = built("llama").model.layers[0]


def hooked(path):
    def change(model):
        model.get_submodule(path).register_forward_hook(lambda module, args, out: out)

    return change


CHANGES = {
    "an adapter": (adapted, r"layers\.0\.self_attn\.q_proj is another module"),
    "a checkpoint": (loaded, r"embed_tokens\.weight is another parameter"),
    "a weight": (other_weight, r"layers\.1\.mlp\.down_proj\.weight is another parameter"),
    "a block": (other_block, r"layers\.1 is another module"),
    "a hook in a block": (hooked("model.layers.1.mlp"), r"layers\.1\.mlp has a forward hook"),
    "a hook in the norm": (hooked("model.norm"), r"model\.norm has a forward hook"),
    "a hook in the head": (hooked("lm_head"), r"lm_head has a forward hook"),
    "another dtype": (lambda model: model.to(torch.bfloat16), "weights have moved"),
    "another device": (lambda model: model.to("meta"), "another parameter"),
    "training": (lambda model: model.train(), r"training mode; call model\.eval\(\)"),
}


@pytest.mark.parametrize("fast", [FastDecoder, FastModel])
@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_was_changed_is_refused(what, fast):
    change, says = CHANGES[what]
    model = built("llama")
    inputs = tiny_inputs("llama")
    with fast(model) as decoder:
        decoder.generate(**inputs, **GREEDY)
        change(model)
        with pytest.raises(LaptimeError, match=says) as said:
            decoder.generate(**inputs, **GREEDY)
    assert "\n" not in str(said.value)


def test_an_adapter_that_is_there_before_has_to_be_merged():
    model = built("llama")
    adapted(model)
    with pytest.raises(LaptimeError, match=r"block 0: q_proj has an adapter; merge it"):
        FastModel(model)


def test_weights_that_an_adapter_was_merged_into_in_place_are_read():
    model = built("llama")
    inputs = tiny_inputs("llama")
    with FastModel(model) as fast:
        before = fast.generate(**inputs, **GREEDY)
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.data += torch.randn_like(layer.self_attn.q_proj.weight)
            layer.mlp.down_proj.weight.data += torch.randn_like(layer.mlp.down_proj.weight)
        merged = fast.generate(**inputs, **GREEDY)
        assert torch.equal(merged, model.generate(**inputs, **GREEDY))
    assert not torch.equal(merged, before)


def test_of_two_decoders_of_one_model_each_answers_until_the_first_is_closed():
    model = built("llama")
    inputs = tiny_inputs("llama")
    own = model.generate(**inputs, **GREEDY)
    first, second, third = FastModel(model), FastModel(model), FastDecoder(model)
    for one in (first, second, third):
        assert torch.equal(one.generate(**inputs, **GREEDY), own)
    second.close()
    assert torch.equal(first.generate(**inputs, **GREEDY), own)
    first.close()  # it had merged the weights
    with pytest.raises(LaptimeError, match="weights have moved"):
        third.generate(**inputs, **GREEDY)
    third.close()
    third.close()
    assert torch.equal(model.generate(**inputs, **GREEDY), own)


def test_a_hook_outside_the_step_may_stay():
    model = built("llama")
    inputs = tiny_inputs("llama")
    model.register_forward_hook(lambda module, args, out: None)
    with FastDecoder(model) as decoder:
        assert torch.equal(decoder.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


@pytest.mark.parametrize("family", ["llama", "internvl"])
def test_hidden_states_may_have_been_asked_for_before(family):
    model = built(family)
    inputs = tiny_inputs(family)
    own = model.generate(**inputs, **GREEDY)
    asked = {"return_dict_in_generate": True, "output_hidden_states": True}  # transformers leaves hooks behind
    with FastModel(model) as fast:
        model.generate(**inputs, **GREEDY, **asked)
        assert torch.equal(fast.generate(**inputs, **GREEDY), own)
    with FastModel(model) as fast:
        assert torch.equal(fast.generate(**inputs, **GREEDY), own)
        assert fast.passed_by == {}
