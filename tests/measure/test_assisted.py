"""Assisted decoding and prompt lookup: rounds of draft and verification, counted and timed."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import laptime
from laptime.data.summary import summarise, summarise_frame
from laptime.errors import LaptimeError
from tests.models.tiny import build, tiny_inputs

GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def llama():
    return build("llama")


@pytest.fixture(scope="module")
def small():
    return build("llama")


def repeated(inputs):
    return {name: torch.cat([value, value, value], dim=1) for name, value in inputs.items()}


@pytest.mark.parametrize("inputs", [tiny_inputs("llama"), repeated(tiny_inputs("llama"))], ids=["new", "repeated"])
@pytest.mark.parametrize("how", ["lookup", "assistant"])
def test_rounds_are_counted_as_they_ran_and_the_answer_is_the_same(llama, small, inputs, how):
    options = {"prompt_lookup_num_tokens": 3} if how == "lookup" else {"assistant_model": small}
    bare = llama.generate(**inputs, **GREEDY, **options)
    widths = []
    hook = llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with laptime.StageTimer(llama, assisted=True, per_token=True) as timer:
        output = llama.generate(**inputs, **GREEDY, **options)
    hook.remove()
    sample, prompt = timer.last, inputs["input_ids"].shape[1]
    assert timer.failures == []
    assert torch.equal(bare, output)
    assert sample.decode_forwards == len(widths) - 1
    assert sample.drafted_tokens == widths[0] - prompt + sum(width - 1 for width in widths[1:])
    assert sample.output_tokens == 12 == sample.accepted_tokens + len(widths)
    assert sample.accepted_tokens <= sample.drafted_tokens
    assert sample.stages.closes()
    assert 0 < sample.draft_ms + sample.verify_ms <= sample.stages.decode_ms
    assert sample.itl_ms is None and sample.decode_per_token_ms is None
    assert "forwards-mismatch" not in sample.flags
    assert sample.ttft_ms + sample.tpot_ms * 11 <= sample.stages.total_ms
    assert (sample.config.get("prompt_lookup"), "assistant" in sample.config) == (
        (3, False) if how == "lookup" else (None, True)
    )
    assert set(llama.__dict__) == set(build("llama").__dict__)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), lookup=st.integers(1, 6), new_tokens=st.integers(1, 9), sampled=st.booleans())
def test_every_instant_is_in_one_interval(llama, seed, lookup, new_tokens, sampled):
    inputs = repeated(tiny_inputs("llama", seed=seed))
    with laptime.StageTimer(llama, assisted=True) as timer:
        output = llama.generate(**inputs, max_new_tokens=new_tokens, do_sample=sampled, prompt_lookup_num_tokens=lookup)
    sample = timer.last
    assert sample.output_tokens == output.shape[1] - inputs["input_ids"].shape[1]
    assert sample.output_tokens == sample.accepted_tokens + sample.decode_forwards + 1
    instants = [mark.host_ns for mark in sample.marks]
    assert instants == sorted(instants)
    assert sample.draft_ms + sample.verify_ms <= (sample.stages.decode_ms or 0.0) + 1e-9
    assert sample.ttft_ms + (sample.tpot_ms or 0.0) * (sample.output_tokens - 1) <= sample.stages.total_ms + 1e-9
    assert (sample.tpot_ms is None) == (sample.decode_forwards == 0)


def test_the_assistants_own_steps_are_not_the_models(llama, small):
    """Its generate() hands our LogitsProcessor its own logits."""
    steps = []
    hook = small.model.register_forward_pre_hook(lambda *_: steps.append(1))
    with laptime.StageTimer(llama, assisted=True) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY, assistant_model=small)
    hook.remove()
    kinds = [mark.kind for mark in timer.last.marks]
    assert steps
    assert kinds.count("logits") == kinds.count("verify-begin") == timer.last.decode_forwards
    assert kinds.count("chosen") == timer.last.decode_forwards


def test_an_end_of_its_own_is_counted(llama):
    inputs = repeated(tiny_inputs("llama"))
    free = llama.generate(**inputs, **GREEDY)[0, inputs["input_ids"].shape[1] :].tolist()
    with laptime.StageTimer(llama, assisted=True) as timer:
        llama.generate(**inputs, **GREEDY, eos_token_id=free[4], pad_token_id=0, prompt_lookup_num_tokens=3)
    assert timer.last.output_ids == [free[: free.index(free[4]) + 1]]


def test_what_drafts_with_the_models_own_parts_is_refused(llama):
    for options in ({"assistant_early_exit": 1}, {"assistant_model": llama}):
        with laptime.StageTimer(llama, assisted=True) as timer, pytest.raises(LaptimeError, match=r"own parts|itself"):
            llama.generate(**tiny_inputs("llama"), **GREEDY, **options)
        assert (timer.samples, timer.failures) == ([], [])


def test_without_being_asked_for_it_is_refused_with_the_way_to_measure_it(llama):
    with laptime.StageTimer(llama), pytest.raises(LaptimeError, match=r"prompt lookup.*assisted=True"):
        llama.generate(**tiny_inputs("llama"), **GREEDY, prompt_lookup_num_tokens=3)


def test_the_summary_says_what_the_rounds_came_to(llama, tmp_path):
    inputs = repeated(tiny_inputs("llama"))
    with laptime.StageTimer(llama, assisted=True) as timer:
        for _ in range(3):
            llama.generate(**inputs, **GREEDY, prompt_lookup_num_tokens=3)
    clean = [msgspec.structs.replace(sample, flags=[]) for sample in timer.samples]
    drafting = summarise(clean).drafting
    one = clean[0]
    assert drafting.tokens_per_forward == pytest.approx(12 / (one.decode_forwards + 1))
    assert drafting.acceptance == pytest.approx(one.accepted_tokens / one.drafted_tokens)
    timer.save(tmp_path / "run")
    frame = laptime.read_frame(tmp_path / "run")
    assert frame["drafted_tokens"].to_list() == [one.drafted_tokens] * 3
    assert summarise_frame(frame).drafting.tokens_per_forward == drafting.tokens_per_forward
    report = laptime.audit(tmp_path / "run")
    assert "forwards-mismatch" not in {finding.code for finding in report.findings}


def test_plain_calls_have_no_rounds(llama):
    with laptime.StageTimer(llama, assisted=True) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY)
    assert timer.last.drafted_tokens is None and timer.last.decode_forwards == 11
    assert summarise(timer.samples).drafting is None
