"""Blocks left out: exactly the others run, whatever the cache, as if the model had never had more."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.active_blocks import PROVED, always_active, choose_blocks
from laptime.models.anatomy import find_anatomy
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from tests.models import more_vlms, tiny
from tests.models.many_families import build_text
from tests.models.test_knobs import CACHES, assert_same, built, everything, generated

IN_VLMS = {
    "qwen2_5_vl_text": "qwen2_5_vl",
    "qwen3_vl_text": "qwen3_vl",
    "qwen3_vl_moe_text": "qwen3_vl_moe",
    "qwen2_vl_text": "qwen2_vl",
    "glm4v_text": "glm4v",
    "glm4v_moe_text": "glm4v_moe",
    "qwen2_5_omni_text": "qwen2_5_omni_thinker",
    "qwen3_omni_moe_text": "qwen3_omni_moe_thinker",
    "gemma4_text": "gemma4",
}
ALONE = [IN_VLMS.get(name, name) for name in PROVED]


def longer(family: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A model of the family with room to leave blocks out; a VLM's tiny config has too few."""
    if family in more_vlms.FAMILIES:
        return more_vlms.build(family)
    if family not in tiny.VLM_FAMILIES:
        return built(family)
    config = tiny.VLM_CONFIGS[family]()
    text = config.get_text_config()
    text.num_hidden_layers = 5
    if getattr(text, "layer_types", None):
        text.layer_types = [*text.layer_types, *text.layer_types][:5]
    return tiny.build(family, config=config), tiny.tiny_inputs(family)


def truth(model: nn.Module, inputs: dict[str, torch.Tensor], ids: torch.Tensor, skipped: list[int]) -> torch.Tensor:
    """The logits of the generated tokens by the whole model without a cache, the `skipped` blocks' outputs undone."""

    def undo(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        entered = args[0] if args else kwargs["hidden_states"]
        return entered if isinstance(out, torch.Tensor) else (entered, *out[1:])

    layers = find_anatomy(model).layers
    hooks = [layers[index].register_forward_hook(undo, with_kwargs=True) for index in skipped]
    width = inputs["input_ids"].shape[1]
    grown = {"input_ids": ids}
    for name, value in inputs.items():
        if name != "input_ids":
            beside = value.shape == inputs["input_ids"].shape
            fill = torch.full_like(ids[:, width:], int(name == "attention_mask"), dtype=value.dtype)
            grown[name] = torch.cat([value, fill], 1) if beside else value
    with torch.no_grad():
        logits = model(**grown, use_cache=False).logits[:, width - 1 : -1]
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("family", [*ALONE, "llava_next", "gemma3", "aria", "internvl", "idefics3"])
def test_it_computes_what_skipping_them_would(family: str) -> None:
    """Prefill and decode, dynamic and static cache, against a whole model without any cache; and undone to the bit."""
    model, inputs = longer(family)
    before = list(everything(model, inputs))
    count = len(find_anatomy(model).layers)
    kept = always_active(model, count)
    free = [index for index in range(count) if index not in kept]
    assert count == 5
    assert free
    for skipped in ([free[0]], free):
        active = tuple(index for index in range(count) if index not in skipped)
        for cache in CACHES:
            with applied(model, ModelKnobs(blocks=len(active), active=active)) as now:
                ids, logits = generated(model, inputs, cache)
                assert now.active_blocks == active
                assert len(find_anatomy(model).layers) == count - len(skipped)
            expected = truth(model, inputs, ids, skipped)
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)
            assert not torch.allclose(expected, truth(model, inputs, ids, []), atol=1e-2)
    assert_same(before, list(everything(model, inputs)))


@pytest.mark.parametrize(
    "family", ["llama", "gemma2", "gemma3_text", "qwen3", "olmoe", "mixtral", "gpt_oss", "qwen3_next"]
)
def test_it_is_the_model_made_with_those_blocks_alone(family: str) -> None:
    """To the bit: a model made new from the cut config, given the weights of the blocks that stay."""
    model, inputs = built(family)
    count = len(find_anatomy(model).layers)
    blocks = max(3, len(always_active(model, count)))
    with applied(model, ModelKnobs(blocks=blocks)):
        rebuilt = build_text(family, copy.deepcopy(model.config), seed=9)
        rebuilt.load_state_dict(model.state_dict())
        for cache in CACHES:
            assert torch.equal(generated(model, inputs, cache)[1], generated(rebuilt, inputs, cache)[1])


class Through(nn.Module):
    """The simpler way to leave a block out: a module in its place that returns its input."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states


@pytest.mark.parametrize(("family", "first_of_its_cache"), [("llama", 0), ("gemma2", 1), ("lfm2", 1)])
def test_why_blocks_are_not_replaced(family: str, first_of_its_cache: int) -> None:
    """A static cache asks one block for its length. Skipped, it has none, and the logits are wrong without a word."""
    model, inputs = built(family)
    layers = find_anatomy(model).layers
    block = layers[first_of_its_cache]
    for cache, right in ((None, True), ("static", False)):
        layers[first_of_its_cache] = Through()
        ids, logits = generated(model, inputs, cache)
        layers[first_of_its_cache] = block
        expected = truth(model, inputs, ids, [first_of_its_cache])
        assert torch.allclose(logits, expected, atol=1e-3) is right


def test_a_cache_holds_only_the_blocks_that_run() -> None:
    model, inputs = built("llama")
    with applied(model, ModelKnobs(blocks=3)):
        for cache in CACHES:
            out = model.generate(
                **inputs,
                max_new_tokens=2,
                cache_implementation=cache,
                disable_compile=True,
                return_dict_in_generate=True,
            )
            assert len(out.past_key_values.layers) == 3


def test_image_features_reach_the_same_blocks() -> None:
    """Qwen3-VL adds features after its first blocks: those stay, however unimportant."""
    model, _ = longer("qwen3_vl")
    model.config.vision_config.deepstack_visual_indexes = [0, 1]
    assert always_active(model, 5) == {0, 1, 4}
    assert choose_blocks(5, 3, always_active(model, 5), [0, 0, 9, 9, 0]) == (0, 1, 4)
    with pytest.raises(LaptimeError, match="block 1 of this model always runs"):
        check_knobs(model, ModelKnobs(blocks=3, active=(0, 2, 4)))


def test_without_importance_the_late_blocks_go_but_the_last() -> None:
    model, _ = built("llama")
    with applied(model, ModelKnobs(blocks=3)) as now:
        assert now.active_blocks == (0, 1, 4)


@given(st.data())
def test_the_most_important_stay(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 40))
    importance = data.draw(st.lists(st.floats(-5, 5), min_size=count, max_size=count))
    kept = {0, count - 1, *data.draw(st.sets(st.integers(0, count - 1)))}
    blocks = data.draw(st.integers(len(kept), count))
    active = choose_blocks(count, blocks, kept, importance)
    assert len(active) == blocks
    assert list(active) == sorted(set(active))
    assert kept <= set(active)
    chosen = [importance[i] for i in active if i not in kept]
    out = [importance[i] for i in range(count) if i not in active]
    assert not chosen or not out or min(chosen) >= max(out)


@pytest.mark.parametrize(("family", "says"), [("mllama", "mllama_text_model"), ("llama4", "llama4_text")])
def test_families_that_are_not_proved_are_refused_by_name(family: str, says: str) -> None:
    model, _ = more_vlms.build(family)
    with pytest.raises(LaptimeError, match=f"not proved right for {says}"):
        check_knobs(model, ModelKnobs(blocks=4))


def test_gemma_4_with_shared_keys_or_inputs_of_each_block_is_refused() -> None:
    model, _ = more_vlms.build("gemma4")
    check_knobs(model, ModelKnobs(blocks=4))
    model.config.num_kv_shared_layers = 2
    with pytest.raises(LaptimeError, match="share keys and values"):
        check_knobs(model, ModelKnobs(blocks=4))
