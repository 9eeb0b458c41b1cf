"""The fast decoder on a GPU: kernels against the plain step, graphs that allocate nothing, EOS, sampling, marks."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.autograd import DeviceType

from laptime.decoder import FastDecoder, timed_generate
from laptime.decoder.kernels.shapes import SHAPES
from laptime.decoder.plain_step import decode_one_token
from laptime.decoder.plan import Routed, read_plan
from laptime.decoder.state import Sampling, new_state
from laptime.decoder.triton_step import kernels_of, triton_step
from laptime.models.loading import load_model
from laptime.remedy import RemedyOptions, prove_remedies
from laptime.workload.inputs import make_inputs

PRESETS = ("preset:tiny-llm", "preset:tiny-vlm")


def prepared(name, *, batch=1, dtype="bfloat16", prompt=48):
    loaded = load_model(name, device="cuda", dtype=dtype)
    loaded.model.generation_config.eos_token_id = None
    size = (336, 336) if loaded.is_vlm else None
    inputs = make_inputs(loaded, prompt_tokens=prompt, image_size=size, batch=batch, new_tokens=32)
    return loaded.model, dict(inputs.kwargs)


@pytest.mark.parametrize("batch", [1, 3, 8, 20])
@pytest.mark.parametrize("name", PRESETS)
def test_kernels_compute_what_the_plain_step_computes(cuda, name, batch):
    model, inputs = prepared(name, batch=batch)
    with FastDecoder(model) as decoder:
        assert decoder.kernels == "triton"
        ids = decoder.generate(**inputs, max_new_tokens=2)
        state = decoder.session(batch, ids.shape[1], Sampling()).state
        by_kernels = state.logits.clone()
        state.position.copy_(state.begin)
        state.token.copy_(ids[:, -2])
        plain = decode_one_token(decoder.plan, state).float()
    assert ((by_kernels - plain).norm() / plain.norm()).item() < 0.05


def filled(plan, batch):
    """Noise in the cache to different lengths; the same for every dtype."""
    state = new_state(plan, batch, 1536)
    noise = torch.Generator(plan.device).manual_seed(0)
    for cache in (*state.keys, *state.values):
        cache.copy_(torch.randn(cache.shape, device=plan.device, generator=noise).bfloat16())
    lengths = torch.tensor([(700, 3, 129)[row % 3] for row in range(batch)], device=plan.device)
    state.position.copy_(lengths)
    state.begin.copy_(lengths)
    state.token.copy_(torch.arange(batch, device=plan.device) + 5)
    return state


def a_step(plan, batch, shapes):
    """One step by the kernels: its logits, and the step itself."""
    state = filled(plan, batch)
    step = triton_step(plan, state, Sampling(), None, shapes)
    step.begin()
    step()
    return state.logits, step


def exact_plan(model):
    """Of the same weights in float32, every expert chosen in both.

    With random weights two experts are often nearly equal at the end of the chosen ones, and which of them it is then
    hangs on the last bit.
    """
    exact = copy.deepcopy(model).float()
    for plan in (read_plan(model), read_plan(exact)):
        for layer in plan.layers:
            if isinstance(layer.mlp, Routed):
                layer.mlp.gate.top_k = layer.mlp.router.shape[0]
    return plan


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [
        (1, replace(SHAPES, tile=32)),
        (1, replace(SHAPES, row={**SHAPES.row, "o": SHAPES.row["o"]._replace(ahead=8)})),
        (3, replace(SHAPES, rows={})),
        (3, replace(SHAPES, tile=64, programs=512)),
        (8, replace(SHAPES, rows={role: s._replace(rows=64, width=64) for role, s in SHAPES.rows.items()})),
        (20, replace(SHAPES, rows={role: s._replace(parts=1) for role, s in SHAPES.rows.items()})),
    ],
)
@pytest.mark.parametrize("name", PRESETS)
@torch.no_grad()
def test_block_shapes_change_the_time_and_not_the_logits(cuda, name, batch, shapes):
    model, _ = prepared(name)
    exact = exact_plan(model)
    truth = decode_one_token(exact, filled(exact, batch))
    with FastDecoder(model) as decoder:
        by_kernels, _ = a_step(decoder.plan, batch, shapes)
        plain = decode_one_token(decoder.plan, filled(decoder.plan, batch)).float()
    assert (by_kernels - truth).norm().item() < 2 * (plain - truth).norm().item() < 0.5 * truth.norm().item()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
@torch.no_grad()
def test_promises_count_the_kernels_that_run(cuda, name, batch):
    model, _ = prepared(name)
    with FastDecoder(model) as decoder:
        _, step = a_step(decoder.plan, batch, SHAPES)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            step()
            torch.cuda.synchronize()
        ran = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
        assert len(ran) == kernels_of(decoder.plan, batch)


@pytest.mark.parametrize("batch", [1, 4])
@torch.no_grad()
def test_kernels_are_as_near_to_float32_as_the_model_s_own_bfloat16(cuda, batch):
    model, _ = prepared("preset:tiny-llm")
    exact = load_model("preset:tiny-llm", device="cuda", dtype="float32").model
    for own, wide in zip(model.parameters(), exact.parameters(), strict=True):
        wide.copy_(own)
    ids = torch.arange(10, 10 + 64 * batch, device="cuda").view(batch, 64)
    truth = exact(ids).logits[:, -1]
    own = model(ids).logits[:, -1].float()
    with FastDecoder(model) as decoder:
        generated = decoder.generate(ids[:, :-1], max_new_tokens=2)
        state = decoder.session(batch, generated.shape[1], Sampling()).state
        state.position.copy_(state.begin)
        state.token.copy_(ids[:, -1])
        session = decoder.session(batch, generated.shape[1], Sampling())
        session.begin()
        session.captured()
        by_kernels = state.logits.clone()
    assert ((by_kernels - truth).norm() / (own - truth).norm()).item() < 1.25


@pytest.mark.parametrize("name", PRESETS)
def test_the_captured_plain_step_gives_the_model_s_tokens_in_float32(cuda, name):
    model, inputs = prepared(name, batch=2, dtype="float32")
    own = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    with FastDecoder(model) as decoder:
        assert decoder.kernels == "plain"
        fast = decoder.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert torch.equal(fast, own)


def test_a_replay_allocates_nothing(cuda):
    model, inputs = prepared("preset:tiny-llm")
    with FastDecoder(model) as decoder:
        decoder.generate(**inputs, max_new_tokens=32)
        session = decoder.session(1, inputs["input_ids"].shape[1] + 32, Sampling())
        session.state.position.copy_(session.state.begin)
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        for _ in range(20):
            session.captured()
        torch.cuda.synchronize()
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_eos_is_seen_a_look_late_and_the_overshoot_thrown_away(cuda):
    model, inputs = prepared("preset:tiny-llm")
    with FastDecoder(model) as decoder:
        free = decoder.generate(**inputs, max_new_tokens=32)
        new = free[0, inputs["input_ids"].shape[1] :].tolist()
        stopped = decoder.generate(**inputs, max_new_tokens=32, eos_token_id=new[10], pad_token_id=0)
    assert torch.equal(stopped, free[:, : stopped.shape[1]])
    assert stopped.shape[1] - inputs["input_ids"].shape[1] == new.index(new[10]) + 1


def test_sampling_in_the_graph_is_seeded(cuda):
    model, inputs = prepared("preset:tiny-llm")
    call = {"max_new_tokens": 24, "do_sample": True, "top_k": 50, "top_p": 0.95}
    with FastDecoder(model) as decoder:
        one, again, other = (decoder.generate(**inputs, **call, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_stages_of_a_call_close(cuda):
    model, inputs = prepared("preset:tiny-vlm")
    ids = inputs.pop("input_ids")
    with FastDecoder(model) as decoder:
        for per_token in (False, True):
            _, sample = timed_generate(decoder, ids, per_token=per_token, max_new_tokens=16, **inputs)
            assert sample.stages.closes()
            assert sample.stages.vision_ms > 0
            assert (sample.output_tokens, sample.decode_forwards) == (16, 15)
            assert (len(sample.itl_ms) == 15) if per_token else (sample.itl_ms is None)


def test_every_remedy_is_proven_or_says_why_not(cuda):
    model, inputs = prepared("preset:tiny-llm")
    before = {name: p.clone() for name, p in model.named_parameters()}
    report = prove_remedies(model, inputs, RemedyOptions(new_tokens=16, rounds=1))
    rows = {row.name: row for row in report.rows}
    assert all(row.failed is None for row in report.rows), [row.failed for row in report.rows]
    assert rows["fast"].allocations_per_step == 0
    assert rows["fast"].launches_per_step < rows["eager"].launches_per_step
    assert rows["graph"].promise is not None
    assert rows["kernels"].prepare_s >= rows["fast"].prepare_s, "whoever uses the kernels alone compiles them too"
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
