"""Ranges around vision and prefill in a profiled call: where they lie, and a model that is as before."""

import pytest
import torch

from laptime.remedy.pass_ranges import PREFILL, VISION, PassRanges
from tests.models.tiny import build, tiny_inputs


@pytest.mark.parametrize("family", ["qwen3", "olmoe", "qwen2_5_vl", "llava_next"])
def test_the_first_vision_and_the_first_prefill_are_named(family):
    model, inputs = build(family), tiny_inputs(family, text=9)
    model.generate(**inputs, max_new_tokens=2, do_sample=False)  # a first call hangs hooks of transformers' own
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler, PassRanges(model):
        model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    named = {event.name: event.time_range for event in profiler.events() if event.name in (VISION, PREFILL)}
    count = sum(event.name in (VISION, PREFILL) for event in profiler.events())
    assert set(named) == ({PREFILL} if family in ("qwen3", "olmoe") else {VISION, PREFILL})
    assert count == len(named), "later forwards are not named"
    prefill = named[PREFILL]
    if VISION in named:
        assert named[VISION].end <= prefill.start
        convolved = [e.time_range for e in profiler.events() if e.name in ("aten::conv2d", "aten::conv3d")]
        assert convolved
        assert all(named[VISION].start <= one.start and one.end <= named[VISION].end for one in convolved)
    products = [e.time_range for e in profiler.events() if e.name in ("aten::mm", "aten::addmm", "aten::linear")]
    within = sum(prefill.start <= one.start and one.end <= prefill.end for one in products)
    assert 0 < within < len(products)


def test_a_call_that_raises_leaves_nothing_behind():
    model = build("qwen3")
    with pytest.raises(RuntimeError), PassRanges(model):
        model.lm_head.register_forward_pre_hook(_fails)
        model(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert not any(m._forward_pre_hooks for name, m in model.named_modules() if name != "lm_head")


def _fails(*_):
    raise RuntimeError("out of something")
