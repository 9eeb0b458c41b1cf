"""Knobs and compiled decode steps: no graph of one setting is ever run under another."""

import pytest
import torch
from torch._dynamo.utils import counters

from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs

NEW = 6
KNOBS = (
    ModelKnobs(top_k=1),
    ModelKnobs(top_k=16),
    ModelKnobs(blocks=2),
    ModelKnobs(blocks=5, top_k=2),
    ModelKnobs(attention="eager"),
    ModelKnobs(crops=(9, 9), blocks=7),
)


def logits(loaded, cache, crops=None):
    size = (672, 448) if loaded.is_vlm else None
    inputs = make_inputs(loaded, prompt_tokens=32, image_size=size, new_tokens=NEW, crops=crops)
    made_logits = loaded.model.generate(
        **inputs.kwargs,
        max_new_tokens=NEW,
        do_sample=False,
        cache_implementation=cache,
        output_logits=True,
        return_dict_in_generate=True,
    ).logits
    return torch.stack(made_logits, 1).float()


@pytest.fixture(scope="module")
def tiny_vlm():
    return load_model("preset:tiny-vlm", device="cuda", dtype="float32")


def test_a_compiled_decode_follows_every_change_and_comes_back(tiny_vlm):
    before = logits(tiny_vlm, "static")
    eager = logits(tiny_vlm, None)
    torch.testing.assert_close(before, eager, atol=2e-3, rtol=2e-3)
    for knobs in KNOBS:
        with applied(tiny_vlm.model, knobs):
            assert "_compiled_call" not in vars(tiny_vlm.model)
            compiled = logits(tiny_vlm, "static", knobs.crops)
            plain = logits(tiny_vlm, None, knobs.crops)
        torch.testing.assert_close(compiled, plain, atol=2e-3, rtol=2e-3)
        assert not torch.allclose(compiled, before, atol=2e-3, rtol=2e-3) or knobs == ModelKnobs(attention="eager")
        assert "_compiled_call" not in vars(tiny_vlm.model)
        torch.testing.assert_close(logits(tiny_vlm, "static"), before, atol=2e-3, rtol=2e-3)
    assert torch.equal(logits(tiny_vlm, None), eager)


def test_the_decode_is_compiled_afresh_for_each_of_many_settings():
    """More settings than dynamo keeps graphs of one function: each still decodes in a graph of its own."""
    loaded = load_model("preset:tiny-llm", device="cuda", dtype="float32")
    for blocks in (8, 7, 6, 5, 4, 3, 2, 3, 4, 5, 6):
        with applied(loaded.model, ModelKnobs(blocks=blocks)):
            counters.clear()
            compiled = logits(loaded, "static")
            assert counters["stats"]["unique_graphs"] > 0
            assert not counters["unimplemented"]
            torch.testing.assert_close(compiled, logits(loaded, None), atol=2e-3, rtol=2e-3)


def test_a_model_compiled_by_its_user_follows_too():
    loaded = load_model("preset:tiny-vlm", device="cuda", dtype="float32")
    before = logits(loaded, None)
    bare = loaded.model.forward
    loaded.model.forward = torch.compile(bare)
    compiled = logits(loaded, None)
    torch.testing.assert_close(compiled, before, atol=2e-3, rtol=2e-3)
    knobs = ModelKnobs(top_k=1, blocks=3)
    with applied(loaded.model, knobs):
        inside = logits(loaded, None)
    torch.testing.assert_close(logits(loaded, None), before, atol=2e-3, rtol=2e-3)
    loaded.model.forward = bare
    with applied(loaded.model, knobs):
        torch.testing.assert_close(inside, logits(loaded, None), atol=2e-3, rtol=2e-3)
