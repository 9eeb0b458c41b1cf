import pytest
import torch
from examples.glyphs.model import IMAGE, TILE, make_model
from examples.glyphs.widen import widened

from laptime.decoder import FastModel
from laptime.decoder.fast_model import Setting
from laptime.models.knobs import ModelKnobs, applied


@pytest.fixture(scope="module")
def models():
    small = make_model("tiny", seed=3).eval()
    noise = torch.Generator().manual_seed(0)
    for name, weight in small.named_parameters():
        if "norm" in name or "bias" in name:  # else all ones and zeros, which hide a wrong order
            weight.data += 0.3 * torch.randn(weight.shape, generator=noise)
    return small, widened(small, 4)


def call():
    noise = torch.Generator().manual_seed(1)
    tokens = 300  # of one page in one crop
    text = torch.randint(3, 300, (1, 20), generator=noise)
    return {
        "input_ids": torch.cat([torch.full((1, tokens), IMAGE), text], 1),
        "pixel_values": torch.randn(1, 2, 3, TILE, TILE, generator=noise),
        "image_sizes": torch.tensor([[TILE, TILE]]),
    }


@pytest.mark.parametrize("knobs", [ModelKnobs(), ModelKnobs(top_k=1), ModelKnobs(top_k=2, blocks=3)], ids=str)
def test_a_wide_model_gives_the_logits_of_the_narrow_one_under_every_knob(models, knobs):
    with torch.no_grad():
        said = []
        for model in models:
            with applied(model, knobs):
                said.append(model(**call()).logits)
    assert torch.allclose(*said, atol=1e-4)
    assert said[0].std() > 0.05


def test_it_is_as_wide_as_was_asked_and_no_weight_is_rounded(models):
    small, wide = (model.config for model in models)
    assert wide.text_config.hidden_size == 4 * small.text_config.hidden_size
    assert wide.vision_config.intermediate_size == 4 * small.vision_config.intermediate_size
    assert wide.text_config.num_experts_per_tok == small.text_config.num_experts_per_tok
    values = [set(model.model.language_model.layers[0].mlp.gate.weight.flatten().tolist()) for model in models]
    assert {value / 4 for value in values[0]} == values[1]


def test_fast_model_says_the_wide_models_own_tokens_under_every_setting(models):
    wide, inputs = models[1], call()
    ids = inputs.pop("input_ids")
    with FastModel(wide) as fast:
        for top_k, blocks in ((1, 3), (4, 8)):
            with applied(wide, ModelKnobs(top_k=top_k, blocks=blocks)) as now:
                chosen = Setting(tuple(now.active_blocks), top_k)
                said = wide.generate(ids, **inputs, max_new_tokens=6)
            assert fast.run(ids, {**inputs, "max_new_tokens": 6}, setting=chosen)[0].equal(said)


@pytest.mark.parametrize("times", [0, 2, 12])
def test_other_factors_are_refused(models, times):
    with pytest.raises(ValueError, match="a power of two"):
        widened(models[0], times)
