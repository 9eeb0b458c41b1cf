"""Knobs change what they say, exactly, and are undone without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import laptime
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs
from tests.models import more_vlms, tiny
from tests.models.many_families import build_text, tiny_config

CACHES = (None, "static")
ROUTED = (
    *("afmoe", "aria_text", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe", "flex_olmo", "glm4_moe"),
    *("gpt_oss", "granitemoe", "granitemoeshared", "hunyuan_v1_moe", "lfm2_moe", "minimax", "minimax_m2", "mixtral"),
    *("olmoe", "qwen2_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_next", "solar_open"),
)
ROUTED_VLMS = ("llava_next", "qwen3_vl_moe", "aria")
ROUTED_LATER = ("glm4v_moe", "qwen3_omni_moe_thinker", "gemma4")


def built(family: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    if family in tiny.VLM_FAMILIES:
        return tiny.build(family), tiny.tiny_inputs(family)
    if family in more_vlms.FAMILIES:
        return more_vlms.build(family)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 300, (1, 12), generator=generator)
    return build_text(family), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def generated(model: Any, inputs: dict[str, torch.Tensor], cache: str | None = None) -> tuple[Any, torch.Tensor]:
    """The ids, and the logits of prefill and three decode steps, (row, 4, vocabulary)."""
    out = model.generate(
        **inputs,
        max_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        cache_implementation=cache,
        disable_compile=True,
    )
    return out.sequences, torch.stack(out.logits, 1)


def everything(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Iterator[Any]:
    """What must be the same before and after: logits with both caches, weights' names and order, config, modules."""
    for cache in CACHES:
        yield generated(model, inputs, cache)[1]
    yield list(model.state_dict())
    yield model.config.to_dict()
    yield [(name, id(module)) for name, module in model.named_modules()]
    yield [sorted(vars(module)) for module in model.modules()]


def assert_same(before: list[Any], after: list[Any]) -> None:
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new


@pytest.mark.parametrize("family", [*ROUTED, *ROUTED_VLMS, *ROUTED_LATER])
def test_every_token_goes_to_as_many_experts_as_asked(family: str) -> None:
    """Counted inside, where the experts get their tokens, in prefill and in decode; and undone."""
    model, inputs = built(family)
    before = list(everything(model, inputs))
    anatomy = find_anatomy(model)
    assert anatomy.experts is not None
    assert anatomy.experts.count == 4
    outcomes = []
    for top_k in (1, 3, 4):
        with applied(model, ModelKnobs(top_k=top_k)) as now:
            assert now.top_k == top_k
            counted = _experts_per_token(model)
            outcomes.append(generated(model, inputs)[1])
            seen = list(counted)
            assert seen
            assert set(seen) == {top_k}
            assert find_anatomy(model).experts.top_k == top_k  # type: ignore[union-attr]
    assert not torch.allclose(outcomes[0], outcomes[2], atol=1e-4)
    assert_same(before, list(everything(model, inputs)))


def _experts_per_token(model: nn.Module) -> list[int]:
    """A list that fills as the model runs: the number of different experts of each token, at every MoE block."""
    seen: list[int] = []

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        hidden, chosen = args[0].reshape(-1, args[0].shape[-1]), args[1]
        if chosen.is_floating_point():  # Aria's experts are given the router's logits, and choose inside
            return
        assert len(chosen) == len(hidden)
        seen.extend(len(set(row)) for row in chosen.tolist())

    def look_inside(module: nn.Module, args: tuple[Any, ...]) -> None:
        rows, per_expert = args[0].shape[0], args[1]
        assert int(per_expert.sum()) == rows
        seen.append(rows // tokens[-1])

    tokens: list[int] = []
    for name, module in model.named_modules():
        if name.endswith(".experts") and not hasattr(module, "fc1"):
            module.register_forward_pre_hook(look)
        elif name.endswith(".experts"):
            module.register_forward_pre_hook(
                lambda _, args: tokens.append(args[0].reshape(-1, args[0].shape[-1]).shape[0])
            )
            module.fc1.register_forward_pre_hook(look_inside)
    return seen


@pytest.mark.parametrize("family", ["qwen3_moe", "olmoe", "mixtral", "deepseek_v3", "gpt_oss"])
def test_top_k_is_what_a_model_made_with_it_does(family: str) -> None:
    """Also how the chosen experts' weights are scaled (norm_topk_prob): the same logits, to the bit."""
    model, inputs = built(family)
    for top_k in (1, 3):
        config = tiny_config(family)
        config.num_experts_per_tok = top_k
        rebuilt = build_text(family, config)
        rebuilt.load_state_dict(model.state_dict())
        with applied(model, ModelKnobs(top_k=top_k)):
            assert torch.equal(generated(model, inputs)[1], generated(rebuilt, inputs)[1])


def test_all_knobs_together_and_nested() -> None:
    model, inputs = built("llava_next")
    before = list(everything(model, inputs))
    with applied(model, ModelKnobs(top_k=1, blocks=2, attention="eager")) as outer:
        once = generated(model, inputs)[1]
        assert (outer.active_blocks, outer.top_k, outer.attention) == ((0, 2), 1, "eager")
    with (
        applied(model, ModelKnobs(blocks=2)),
        applied(model, ModelKnobs(top_k=4)),
        applied(model, ModelKnobs(attention="eager")),
        applied(model, ModelKnobs(top_k=1)) as inner,
    ):
        assert inner.active_blocks == (0, 1)
        assert torch.equal(generated(model, inputs)[1], once)
    assert_same(before, list(everything(model, inputs)))


def test_undone_after_an_exception() -> None:
    model, inputs = built("llava_next")
    before = list(everything(model, inputs))
    with pytest.raises(KeyboardInterrupt), applied(model, ModelKnobs(crops=(2, 3), top_k=1, blocks=2)):
        raise KeyboardInterrupt
    assert_same(before, list(everything(model, inputs)))


def test_a_knob_that_is_refused_changes_nothing() -> None:
    model, inputs = built("olmoe")
    before = list(everything(model, inputs))
    with pytest.raises(LaptimeError), applied(model, ModelKnobs(top_k=2, attention="eager", blocks=99)):
        raise AssertionError
    assert_same(before, list(everything(model, inputs)))


def test_no_knob_leaves_the_compiled_decode_alone() -> None:
    model, _ = built("olmoe")
    model._compiled_call = kept = object()
    with applied(model, ModelKnobs()) as now:
        assert model._compiled_call is kept
        assert now.active_blocks == (0, 1, 2, 3, 4)
    with applied(model, ModelKnobs(top_k=1)):
        assert not hasattr(model, "_compiled_call")
        model._compiled_call = object()  # what generate() would have made inside
    assert not hasattr(model, "_compiled_call")


@pytest.mark.parametrize("family", ["olmoe", "llava_next", "qwen3_vl_moe", "aria"])
def test_nothing_of_ours_runs_in_a_forward(family: str) -> None:
    model, _ = built(family)
    knobs = ModelKnobs(top_k=1, blocks=2, attention="eager")
    methods = {id(module): type(module).forward for module in model.modules()}
    with applied(model, knobs):
        for module in model.modules():
            assert not any(vars(module).get(name) for name in vars(module) if name.endswith("_hooks"))
            assert "forward" not in vars(module)
            assert "__call__" not in vars(module)
            if not isinstance(module, nn.ModuleList):
                assert type(module).forward is methods[id(module)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "llava_next", "qwen2_5_vl"])
def test_attention_reaches_every_part(family: str, attention: str) -> None:
    model, inputs = built(family)
    before = list(everything(model, inputs))
    with applied(model, ModelKnobs(attention=attention)):
        asked = {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")}
        assert asked == {attention}
        torch.testing.assert_close(generated(model, inputs)[1], before[0], atol=1e-4, rtol=1e-3)
    assert_same(before, list(everything(model, inputs)))


def test_stages_are_measured_with_knobs_on() -> None:
    loaded = load_model("preset:tiny-vlm", device="cpu")
    with applied(loaded.model, ModelKnobs(crops=(2, 2), top_k=1, blocks=3)):
        inputs = make_inputs(loaded, prompt_tokens=8, image_size=(400, 300), crops=(2, 2))
        with laptime.StageTimer(loaded.model) as timer:
            loaded.model.generate(**inputs.kwargs, max_new_tokens=3)
            loaded.model.generate(**inputs.kwargs, max_new_tokens=3)
        assert len(timer.anatomy.layers) == 3
        assert timer.anatomy.experts is not None
        assert timer.anatomy.experts.top_k == 1
        sample = timer.last
        assert sample.stages.closes()
        assert (sample.output_tokens, sample.decode_forwards) == (3, 2)
        assert sample.stages.vision_ms > 0
    assert len(find_anatomy(loaded.model).layers) == 8


@pytest.mark.parametrize(
    ("family", "knobs", "says"),
    [
        ("olmoe", {"top_k": 12}, "top_k 12: the model has 4 experts; use 1 to 4"),
        ("olmoe", {"top_k": 0}, "use 1 to 4"),
        ("llama", {"top_k": 1}, "llama has no experts"),
        ("phimoe", {"top_k": 1}, "phimoe's routing is fixed"),
        ("llama", {"blocks": 6}, "blocks 6: the model has 5 and 2 of them always run; use 2 to 5"),
        ("llama", {"blocks": 1}, "use 2 to 5"),
        ("gemma2", {"blocks": 2}, "use 3 to 5"),
        ("qwen3_vl", {"blocks": 1}, "use 2 to 3"),
        ("xglm", {"blocks": 3}, "not proved right for xglm"),
        ("llama", {"attention": "fast"}, "attention 'fast' is unknown"),
        ("llama", {"attention": "flash_attention_3"}, "can't use it here"),
        ("llama", {"crops": (1, 3)}, "text only"),
        ("qwen2_5_vl", {"crops": (1, 3)}, "vary image_tokens"),
        ("gemma3", {"crops": (1, 3)}, "gemma3's crops can't be chosen"),
        ("llava_next", {"crops": (3, 2)}, "crops 3-2"),
        ("llava_next", {"crops": (0, 2)}, "crops 0-2"),
        ("llava_next", {"crops": (1, 999)}, "within 1 and 64"),
    ],
)
def test_a_value_out_of_range_is_one_clear_line(family: str, knobs: dict[str, Any], says: str) -> None:
    model, _ = built(family)
    with pytest.raises(LaptimeError) as raised:
        check_knobs(model, ModelKnobs(**knobs))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("active", "says"),
    [
        ((0, 4), "2 of them, and blocks is 3"),
        ((0, 4, 2), "name each once, ascending"),
        ((0, 2, 2), "name each once, ascending"),
        ((0, 2, 5), "blocks 0 to 4"),
        ((1, 2, 4), "block 0 of this model always runs"),
        ((), "name each once"),
    ],
)
def test_active_blocks_that_cannot_run_are_one_clear_line(active: tuple[int, ...], says: str) -> None:
    model, _ = built("llama")
    with pytest.raises(LaptimeError, match=says):
        check_knobs(model, ModelKnobs(blocks=3, active=active))


def test_knobs_are_checked_without_weights() -> None:
    loaded = load_model("preset:tiny-vlm", device="meta")
    check_knobs(loaded, ModelKnobs(crops=(9, 15), top_k=16, blocks=2, attention="eager"))
    with pytest.raises(LaptimeError, match="use 1 to 16"):
        check_knobs(loaded, ModelKnobs(top_k=17))
    assert json.loads(loaded.model.config.to_json_string())  # and its config is whole
