"""TTFT, ITL and TPOT of real calls: each instant is in the first token or in one gap, however tokens are chosen."""

import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

import laptime
from tests.models.tiny import build, tiny_inputs

PAUSE_S = 0.05


@pytest.fixture(scope="module")
def llama():
    return build("llama")


class Stops(StoppingCriteria):
    """Ends row by row after so many tokens, and takes its time at the given token."""

    def __init__(self, after=None, slow_at=None):
        self.prompt, self.after, self.slow_at = 8, after, slow_at

    def __call__(self, input_ids, scores, **_):
        tokens = input_ids.shape[1] - self.prompt
        if tokens == self.slow_at:
            time.sleep(PAUSE_S)
        return torch.full((input_ids.shape[0],), self.after is not None and tokens >= self.after)


class Streams(BaseStreamer):
    def put(self, value):
        pass

    def end(self):
        pass


def assert_each_instant_once(sample):
    assert sample.stages.closes()
    assert all(gap >= 0 for gap in sample.itl_ms)
    assert len(sample.itl_ms) == sample.decode_forwards
    last_token_ms = sample.ttft_ms + sum(sample.itl_ms)
    assert last_token_ms <= sample.stages.total_ms + 1e-6
    if sample.output_tokens > 1 and sample.output_tokens == sample.decode_forwards + 1:
        assert sample.tpot_ms == pytest.approx(sum(sample.itl_ms) / len(sample.itl_ms))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(1, 7),
    batch=st.integers(1, 3),
    sampling=st.booleans(),
    stop=st.none() | st.integers(1, 7),
    choice=st.sampled_from(["plain", "streamer", "beams"]),
)
def test_the_first_token_and_the_gaps_never_overlap(llama, tokens, batch, sampling, stop, choice):
    call = {"max_new_tokens": tokens, "do_sample": sampling}
    if stop is not None:
        call["stopping_criteria"] = [Stops(after=stop)]
    if choice == "beams":
        call["num_beams"] = 2
    elif choice == "streamer" and batch == 1:
        call["streamer"] = Streams()
    with laptime.StageTimer(llama, per_token=True) as timer:
        llama.generate(**tiny_inputs("llama", batch=batch), **call)
    assert_each_instant_once(timer.last)


def test_a_slow_check_of_the_first_token_is_in_its_time_and_in_no_gap(llama):
    with laptime.StageTimer(llama, per_token=True) as timer:
        for slow_at in (1, 3):
            criteria = [Stops(slow_at=slow_at)]
            llama.generate(**tiny_inputs("llama"), max_new_tokens=6, do_sample=False, stopping_criteria=criteria)
    first, third = timer.samples
    assert first.ttft_ms > 1e3 * PAUSE_S
    assert sum(first.itl_ms) < first.stages.total_ms - 1e3 * PAUSE_S
    assert third.itl_ms[2] > 1e3 * PAUSE_S  # the gap after the token that was checked
    for sample in (first, third):
        assert_each_instant_once(sample)
