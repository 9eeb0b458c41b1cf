"""What stands beside the stages: preprocessing, cached prompt tokens, tokens per second, percentiles."""

import time
from statistics import median

import pytest
import torch
from transformers import DynamicCache

from laptime import StageTimer
from laptime.data.percentiles import percentiles
from laptime.data.summary import summarise
from laptime.data.usable import usable
from laptime.measure.call_settings import CACHE
from tests.models.tiny import build, tiny_inputs
from tests.samples import sample


def test_preprocessing_is_beside_the_stages_of_the_next_call():
    model, inputs = build("llama"), tiny_inputs("llama")
    with StageTimer(model) as timer:
        for _ in range(2):
            with timer.preprocess():
                time.sleep(0.02)
        model.generate(**inputs, max_new_tokens=3)
        model.generate(**inputs, max_new_tokens=3)
    first, second = timer.samples
    assert first.preprocess_ms >= 40
    assert first.stages.closes()
    assert second.preprocess_ms is None
    with StageTimer(model) as timer:
        for _ in range(3):
            with timer.preprocess():
                time.sleep(0.02)
            model.generate(**inputs, max_new_tokens=3)
    used, _ = usable(timer.samples)
    assert timer.summary().preprocess_ms.value == median(sample.preprocess_ms for sample in used)


def test_what_a_cache_holds_of_the_prompt_is_counted():
    model = build("llama")
    prompt = torch.randint(5, 90, (1, 20))
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(prompt[:, :15], use_cache=True, **{CACHE: cache})
    with StageTimer(model) as timer:
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, **{CACHE: cache})
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3)
    cached, whole = timer.samples
    assert (cached.cached_tokens, cached.prompt_tokens, cached.output_tokens) == (15, 20, 3)
    assert whole.cached_tokens is None


def test_rates_are_tokens_over_their_stage():
    model, inputs = build("llama"), tiny_inputs("llama", batch=3)
    with StageTimer(model) as timer:
        model.generate(**inputs, max_new_tokens=5)
    stages, summary = timer.last.stages, summarise(timer.samples)
    assert summary.prefill_tokens_per_s == pytest.approx(3 * 8 / stages.prefill_ms * 1e3)
    assert summary.decode_tokens_per_s == pytest.approx(3 * 4 / stages.decode_ms * 1e3)
    assert summary.tokens_per_s == pytest.approx(3 * 5 / stages.total_ms * 1e3)


def test_percentiles_are_those_that_were_asked_for():
    samples = [sample(n) for n in range(101)]
    found = percentiles(samples, [50, 90, 99])
    assert found["total_ms"] == pytest.approx({"p50": 150.0, "p90": 190.0, "p99": 199.0})
    assert percentiles(samples, []) == {}
