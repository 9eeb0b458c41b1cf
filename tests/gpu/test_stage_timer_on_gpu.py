"""The stage timer on a GPU: dynamic and auto-compiled static cache, both modes on one call, what NVML adds."""

import pytest
import torch
from transformers import LogitsProcessorList

import laptime
from laptime.errors import LaptimeError
from laptime.measure.clock import EventClock
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.overhead import measure_overhead
from laptime.measure.probes import Probes
from laptime.measure.timeline import partition
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs

PRESETS = ("preset:tiny-llm", "preset:tiny-vlm")
CACHES = (None, "static")


def prepared(name):
    loaded = load_model(name, device="cuda")
    loaded.model.generation_config.eos_token_id = None
    inputs = make_inputs(loaded, prompt_tokens=32, image_size=(672, 672) if loaded.is_vlm else None, new_tokens=16)
    return loaded.model, dict(inputs.kwargs)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", PRESETS)
def test_stages_close_and_tokens_are_the_same(name, cache):
    model, inputs = prepared(name)
    call = {**inputs, "max_new_tokens": 16, "do_sample": False, "cache_implementation": cache}
    for _ in range(3):
        bare = model.generate(**call)
    for per_token in (False, True):
        with laptime.StageTimer(model, per_token=per_token, memory=True) as timer:
            for _ in range(3):
                output = model.generate(**call)
        sample = timer.last
        assert sample.stages.closes()
        assert sample.host_stages.closes()
        assert (sample.output_tokens, sample.decode_forwards) == (16, 15)
        assert sample.stages.decode_ms > 0
        assert (sample.stages.vision_ms > 0) is name.endswith("vlm")
        assert "recompiled" not in sample.flags
        assert sample.memory_peak_bytes > 0
        assert (sample.itl_ms is None) is not per_token
        assert sample.gpu is not None
        assert sample.gpu.sm_mhz > 0
        torch.testing.assert_close(output, bare)


@pytest.mark.parametrize("cache", CACHES)
def test_both_modes_of_one_call_agree_within_the_clock(cuda, cache):
    """Both timers mark the same call. Each mark of one lies a record (some microseconds) from the other's."""
    model, inputs = prepared("preset:tiny-vlm")
    call = {**inputs, "max_new_tokens": 16, "do_sample": False, "cache_implementation": cache}
    for _ in range(3):
        model.generate(**call)
    anatomy = laptime.StageTimer(model).anatomy
    every, last = EventClock(cuda), EventClock(cuda)
    one = Probes(model, anatomy, every, per_token=True, last_step=None)
    other = Probes(model, anatomy, last, per_token=False, last_step=16)
    with one, other:
        every.start(), last.start()
        model.generate(**call, logits_processor=LogitsProcessorList([one, other]))
        every.mark("end"), last.mark("end")
    first, second = partition(every.resolve()).stages, partition(last.resolve()).stages
    for stage in ("vision", "prefill", "decode", "total"):
        assert first.stage(stage) == pytest.approx(second.stage(stage), abs=0.3)


def test_chunked_prefill_with_an_auto_compiled_cache_is_refused(cuda):
    model, inputs = prepared("preset:tiny-llm")
    settings = {"max_new_tokens": 4, "prefill_chunk_size": 8, "cache_implementation": "static"}
    with laptime.StageTimer(model) as timer:
        with pytest.raises(LaptimeError, match="chunked prefill"):
            model.generate(**inputs, **settings)
        model.generate(**inputs, **settings, disable_compile=True)
    assert timer.last.stages.closes()


def test_a_compile_is_flagged_once(cuda):
    model, inputs = prepared("preset:tiny-llm")
    torch.compiler.reset()
    call = {**inputs, "max_new_tokens": 8, "do_sample": False, "cache_implementation": "static"}
    with laptime.StageTimer(model) as timer:
        for _ in range(4):
            model.generate(**call)
    compiled = ["recompiled" in s.flags for s in timer.samples]
    assert compiled[0]
    assert not compiled[-1]


def test_energy_is_read_for_long_calls_and_left_out_for_short_ones(cuda):
    model, inputs = prepared("preset:tiny-llm")
    with laptime.StageTimer(model, energy=True) as timer:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
        model.generate(**inputs, max_new_tokens=400, do_sample=False)
    short, long = timer.samples
    assert short.energy_j is None or short.stages.total_ms > 500
    assert long.stages.total_ms < 500 or long.energy_j > 0


def test_the_monitor_knows_its_gpu(cuda):
    monitor = GpuMonitor.open(cuda)
    state, facts = monitor.state(), monitor.facts()
    assert 0 < state.temperature_c < 110
    assert state.power_w > 0
    assert facts["driver"]
    assert facts["gpu_max_sm_mhz"] >= state.sm_mhz


def test_overhead_is_measured(cuda):
    overhead = measure_overhead(cuda, batches=8, calls=50)
    assert 0 < overhead.host_clock_us.value < overhead.mark_us.value < 1000
    assert overhead.synchronize_idle_us.value > 0
    costs = {(row.strategy, row.tokens): row.added_ms for row in overhead.strategies}
    assert costs["total", 1024] < costs["per token, events", 1024]
    assert costs["total", 16] > 0
