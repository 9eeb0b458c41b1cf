"""The fast decoder on a GPU: kernels against the plain step, graphs that allocate nothing, EOS, sampling, marks."""

import pytest
import torch

from laptime.models.loading import load_model
from laptime.remedy import FastDecoder
from laptime.remedy.choosing import Sampling
from laptime.remedy.plain_step import decode_one_token
from laptime.remedy.proof import prove
from laptime.remedy.timed import timed_generate
from laptime.workload.inputs import make_inputs

PRESETS = ("preset:tiny-llm", "preset:tiny-vlm")


def prepared(name, *, batch=1, dtype="bfloat16", prompt=48):
    loaded = load_model(name, device="cuda", dtype=dtype)
    loaded.model.generation_config.eos_token_id = None
    size = (336, 336) if loaded.is_vlm else None
    made = make_inputs(loaded, prompt_tokens=prompt, image_size=size, batch=batch, new_tokens=32)
    return loaded.model, dict(made.kwargs)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("name", PRESETS)
def test_kernels_compute_what_the_plain_step_computes(cuda, name, batch):
    model, inputs = prepared(name, batch=batch)
    with FastDecoder(model) as decoder:
        assert decoder.kernels == "triton"
        ids = decoder.generate(**inputs, max_new_tokens=2)
        state = decoder.session(batch, ids.shape[1], Sampling()).state
        ours = state.logits.clone()
        state.position.copy_(state.begin)
        state.token.copy_(ids[:, -2])
        plain = decode_one_token(decoder.plan, state).float()
    assert ((ours - plain).norm() / plain.norm()).item() < 0.05


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
    report = prove(model, inputs, name="preset:tiny-llm", new_tokens=16, rounds=1)
    rows = {row.name: row for row in report.rows}
    assert all(row.failed is None for row in report.rows), [row.failed for row in report.rows]
    assert rows["fast"].allocations_per_step == 0
    assert rows["fast"].launches_per_step < rows["eager"].launches_per_step
    assert rows["graph"].promise is not None
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
