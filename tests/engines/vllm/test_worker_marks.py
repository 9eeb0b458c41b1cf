"""Marks hung on a runner that looks like vLLM's: every step is seen, in order, and the runner never notices."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from laptime.engines.step import NewRow, Row
from laptime.engines.vllm.step_clock import StepClock
from laptime.engines.vllm.worker_marks import StepRecorder, hook_model, hook_runner
from tests.engines.vllm.runner_shaped import NewRequest, Runner, Scheduled


def hooked(runner: Runner) -> StepRecorder:
    recorder = StepRecorder(StepClock(runner.device), rank=0)
    hook_runner(runner, recorder)
    return recorder


def stepped(runner: Runner, scheduled: Scheduled) -> None:
    if runner.execute_model(scheduled) is None:
        assert runner.sample_tokens(None) == "tokens"


def test_what_a_step_held_and_when():
    runner = Runner()
    recorder = hooked(runner)
    stepped(runner, Scheduled({"a": 5}, [NewRequest("a", 8)]))  # a part of its prompt
    stepped(runner, Scheduled({"a": 3, "b": 2}, [NewRequest("b", 6, 4)], {"a": 5}, {"b": [0, 1]}))
    stepped(runner, Scheduled({"a": 1, "b": 3}, [], {"a": 8, "b": 6}, finished_req_ids=set()))
    first, second, third = recorder.samples([])
    assert first.new == [NewRow(0, "a", 8, 0)] and first.rows == [Row(0, 5, True)]
    assert second.new == [NewRow(1, "b", 6, 4)] and second.rows == [Row(0, 3, True), Row(1, 2, True, 2)]
    assert third.rows == [Row(0, 1, False), Row(1, 3, False)] and not third.mixed
    assert first.encoder is None and second.encoder is not None
    for one in (first, second, third):
        assert one.begin <= one.forward[0] <= one.forward[1] <= one.sample[0] <= one.sample[1] == one.end
    assert second.begin <= second.encoder[0] <= second.encoder[1] <= second.forward[0]
    assert first.end <= second.begin and second.end <= third.begin


def test_a_step_without_tokens_is_no_step():
    runner = Runner()
    recorder = hooked(runner)
    assert runner.execute_model(Scheduled({})) == "empty"
    assert recorder.samples([]) == []


def test_a_runner_without_private_methods_leaves_those_marks_unknown():
    class Second:
        device = Runner().device

        def __init__(self):
            self.model = type("Model", (), {"embed_multimodal": lambda self, **given: "embeddings"})()

        def execute_model(self, scheduler_output):
            if scheduler_output.scheduled_encoder_inputs:
                assert self.model.embed_multimodal(pixels=1) == "embeddings"

        def sample_tokens(self, grammar):
            return "tokens"

    runner = Second()
    recorder = hooked(runner)
    hook_model(runner, recorder)
    stepped(runner, Scheduled({"a": 4}, [NewRequest("a", 4)], scheduled_encoder_inputs={"a": [0]}))
    (one,) = recorder.samples([])
    assert one.forward is None and one.encoder is not None and one.sample is not None


def test_a_failing_mark_costs_no_answer(capsys):
    runner = Runner()
    recorder = hooked(runner)
    recorder.begin = None
    stepped(runner, Scheduled({"a": 1}, [NewRequest("a", 4)]))
    stepped(runner, Scheduled({"a": 1}, [NewRequest("a", 4)]))
    assert "left out" in capsys.readouterr().err


def test_a_step_that_raises_goes_on_raising_and_the_next_is_seen():
    runner = Runner()
    recorder = hooked(runner)
    with pytest.raises(AttributeError):
        runner.execute_model(Scheduled({"a": 1}, ["no request"], scheduled_encoder_inputs=None).nothing)
    stepped(runner, Scheduled({"a": 4}, [NewRequest("a", 4)]))
    assert [one.rows for one in recorder.samples([])] == [[Row(0, 4, True)]]
