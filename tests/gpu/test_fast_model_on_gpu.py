"""FastModel on a GPU: everything captured, the model's tokens in float32, nearer to float32 than eager in bfloat16."""

import copy

import pytest
import torch

from laptime.decoder import FastModel, timed_generate
from laptime.decoder.fast_model import LateSetting, Setting
from laptime.decoder.plain_prompt import PlainPrompt
from laptime.decoder.triton_prompt import TileShape, TritonPrompt
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs
from tests.models.tiny import FAMILIES, VLM_CONFIGS, build, tiny_inputs

REFUSED = ("gemma3", "paligemma", "aria")
LOOKS_AT_PIXELS = ("idefics3", "smolvlm")
GREEDY = {"max_new_tokens": 12, "do_sample": False}


def prepared(name, *, batch=1, dtype="bfloat16", prompt=48):
    loaded = load_model(name, device="cuda", dtype=dtype)
    loaded.model.generation_config.eos_token_id = None
    size = (336, 336) if loaded.is_vlm else None
    inputs = make_inputs(loaded, prompt_tokens=prompt, image_size=size, batch=batch, new_tokens=32)
    return loaded.model, dict(inputs.kwargs)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in REFUSED])
def test_tokens_are_the_model_s_in_float32_in_every_family_and_all_is_captured(cuda, family):
    model = build(family).requires_grad_(False).to(cuda)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3.0)
    with FastModel(model, compiled=False) as fast:
        for batch, seed in ((1, 1), (1, 2), (3, 3)):
            inputs = {k: v.to(cuda) for k, v in tiny_inputs(family, batch=batch, text=9, seed=seed).items()}
            assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))
        for part in fast.parts():
            assert part.captured or (part.part == "vision" and family in LOOKS_AT_PIXELS), part
        assert fast.passed_by == {}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["preset:tiny-llm", "preset:tiny-vlm"])
def test_first_logits_are_as_near_to_float32_as_the_model_s_own_bfloat16(cuda, name, batch):
    model, inputs = prepared(name, batch=batch)
    exact = copy.deepcopy(model).float()
    wide = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
    truth, own = exact(**wide).logits[:, -1], model(**inputs).logits[:, -1].float()
    with FastModel(model) as fast:
        fast.generate(**inputs, max_new_tokens=1)
        (session,) = fast.decoder.sessions
        mine = session.state.logits.clone()
    assert ((mine - truth).norm() / (own - truth).norm()).item() < 1.25


@pytest.mark.parametrize("tiles", [TileShape(64, 64, 64, 3, 4), TileShape(128, 64, 32, 3, 8)])
@pytest.mark.parametrize("name", ["preset:tiny-llm", "preset:tiny-vlm"])
@torch.no_grad()
def test_kernels_compute_what_the_plain_prefill_computes(cuda, name, tiles):
    model, inputs = prepared(name, batch=2)
    with FastModel(model) as fast:
        fast.generate(**inputs, max_new_tokens=1)
        _, bucket = fast._prefills.items()[-1]
        (session,) = fast.decoder.sessions
        logits = []
        for passes in (
            PlainPrompt(fast.plan, session.state, bucket.content.prompt),
            TritonPrompt(fast.plan, session.state, bucket.content.prompt, up=tiles, down=tiles),
        ):
            passes.embed()
            for slot, layer in enumerate(fast.plan.layers):
                passes.block(slot, slot, layer)
            logits.append(passes.logits().float())
    assert ((logits[1] - logits[0]).norm() / logits[0].norm()).item() < 0.05


def test_a_replay_allocates_nothing_and_buckets_stay_within_their_bound(cuda):
    model, inputs = prepared("preset:tiny-llm")
    with FastModel(model, memory_gib=0.02) as fast:
        for prompt in (48, 100, 200, 400, 800, 48):
            _, inputs = prepared("preset:tiny-llm", prompt=prompt)
            fast.generate(**inputs, max_new_tokens=4)
            assert fast.bucket_bytes <= 0.02 * 2**30 or len(fast.parts()) == 1
        _, bucket = fast._prefills.items()[-1]
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        for _ in range(5):
            for part in bucket.parts.values():
                part.run()
        torch.cuda.synchronize()
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_sampling_is_seeded_from_the_first_token_on(cuda):
    model, inputs = prepared("preset:tiny-llm")
    call = {"max_new_tokens": 24, "do_sample": True, "top_k": 50, "top_p": 0.95}
    with FastModel(model) as fast:
        one, again, other = (fast.generate(**inputs, **call, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_stages_of_a_call_close_and_vision_is_seen(cuda):
    model, inputs = prepared("preset:tiny-vlm")
    ids = inputs.pop("input_ids")
    with FastModel(model) as fast:
        for _ in range(2):  # the first call captures
            _, sample = timed_generate(fast, ids, max_new_tokens=16, **inputs)
        assert sample.stages.closes()
        assert 0 < sample.stages.vision_ms < sample.stages.total_ms
        assert (sample.output_tokens, sample.decode_forwards) == (16, 15)


@pytest.mark.parametrize("place", [0, 1, 3, 9])
def test_steps_behind_an_end_are_counted_and_the_sample_is_not_flagged(cuda, place):
    model, inputs = prepared("preset:tiny-llm", dtype="float32")
    ids = inputs.pop("input_ids")
    with FastModel(model) as fast:
        free = fast.generate(ids, **inputs, **GREEDY)[0, ids.shape[1] :].tolist()
        end = free[place]
        call = {**inputs, **GREEDY, "eos_token_id": end}
        fast.generate(ids, **call)
        output, sample = timed_generate(fast, ids, **call)
    length = free.index(end) + 1
    assert output[0, ids.shape[1] :].tolist() == free[:length]
    assert (sample.output_tokens, sample.decode_forwards) == (length, length - 1)
    assert sample.surplus_forwards > 0 or length == len(free)
    assert "forwards-mismatch" not in sample.flags
    assert sample.stages.closes()
    assert (sample.stages.decode_ms is None) is (length == 1)


def test_weights_of_a_tower_that_change_are_read_without_a_word(cuda):
    """Also those whose copies a graph holds, since their width is no multiple of 8."""
    config = VLM_CONFIGS["qwen2_5_vl"]()
    config.vision_config.intermediate_size = 30
    model = build("qwen2_5_vl", config=config).requires_grad_(False).to(cuda)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3.0)
    inputs = {k: v.to(cuda) for k, v in tiny_inputs("qwen2_5_vl", text=9).items()}
    with FastModel(model, compiled=False) as fast:
        for change in (None, "in place", "data", "one bias"):
            for block in model.model.visual.blocks:
                if change == "in place":
                    block.mlp.down_proj.weight.mul_(-3.0)
                elif change == "data":
                    block.mlp.up_proj.weight.data *= 5.0
                elif change == "one bias":
                    block.mlp.gate_proj.bias.data += 1.0
            assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY)), change


def test_a_compiler_that_fails_leaves_the_tower_captured_as_it_is(cuda, monkeypatch):
    def broken(*_, **__):
        def raises(*_, **__):
            raise RuntimeError("no compiler here")

        return raises

    monkeypatch.setattr(torch, "compile", broken)
    model, inputs = prepared("preset:tiny-vlm")
    with FastModel(model) as fast:
        fast.generate(**inputs, max_new_tokens=2)
        assert all(part.captured for part in fast.parts())


@pytest.mark.parametrize("late", [False, True])
def test_each_setting_is_a_graph_of_its_own_and_gives_the_model_s_tokens(cuda, late):
    model, inputs = prepared("preset:tiny-vlm", dtype="float32")
    ids = inputs["input_ids"]
    rest = {key: value for key, value in inputs.items() if key != "input_ids"}
    with FastModel(model, compiled=False) as fast:
        for active, top_k in (((0, 2, 5, 7), 2), (None, 1), ((0, 7), 4), ((0, 2, 5, 7), 2)):
            setting = Setting(active, top_k)
            asked = LateSetting(0, top_k, lambda hidden, setting=setting: setting) if late else setting
            got, _ = fast.run(ids, {**rest, **GREEDY}, setting=asked)
            with applied(model, ModelKnobs(top_k=top_k, active=active, blocks=None if active is None else len(active))):
                own = model.generate(**inputs, **GREEDY)
            assert torch.equal(got, own)
        assert all(part.captured for part in fast.parts())
        assert len([part for part in fast.parts() if part.part == "prefill"]) >= 3
