"""Marks around what a worker of vLLM does in a step, hung on its model runner once that is made.

Hooks on the instance: `execute_model` and `sample_tokens` (every runner), `_model_forward` and `_execute_mm_encoder`
(the first kind of runner; a runner without them leaves those marks unknown), `embed_multimodal` of the model (the
second kind). What a step held is what SchedulerOutput says. The hot path keeps references to it; rows are made later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from laptime.engines.step import NewRow, Row, StepSample
from laptime.engines.vllm.step_clock import StepClock, StepMarks
from laptime.engines.vllm.versions import warn
from laptime.engines.vllm.writer import LineWriter


class StepRecorder:
    """Makes a StepSample of each step of one worker. put: takes a finished step's marks, at no cost to the step."""

    def __init__(self, clock: StepClock, rank: int) -> None:
        self.clock = clock
        self.rank = rank
        self.put: Callable[[None], None] = lambda _: None
        self._open: StepMarks | None = None
        self._numbers: dict[str, int] = {}
        self._prompts: dict[int, int] = {}
        self._steps = 0

    def begin(self, scheduled: Any) -> None:
        """A step begins. scheduled: vLLM's SchedulerOutput, or what looks like it."""
        self._open = None
        if not scheduled.total_num_scheduled_tokens:
            return
        cached = scheduled.scheduled_cached_reqs
        held = (
            scheduled.num_scheduled_tokens,
            scheduled.scheduled_new_reqs,
            cached.req_ids,
            cached.num_computed_tokens,
            scheduled.scheduled_encoder_inputs,
            scheduled.finished_req_ids,
        )
        self._open = self.clock.begin(held)

    def mark(self, place: str, *, first: bool = False) -> None:
        """A mark within the step that is open."""
        if self._open is not None:
            (self.clock.first if first else self.clock.mark)(self._open, place)

    def end(self) -> None:
        """The step is over for the host; the device may still be at it."""
        step, self._open = self._open, None
        if step is not None:
            self.clock.end(step)
            self.put(None)

    def samples(self, _: list[None]) -> Iterable[StepSample]:
        """The steps that the device has finished since the last call, as values."""
        return [self._sample(step) for step in self.clock.ready()]

    def _sample(self, step: StepMarks) -> StepSample:
        tokens, new_requests, cached_ids, computed, encoder_inputs, finished = step.what
        new: list[NewRow] = []
        done = dict(zip(cached_ids, computed, strict=True))
        for request in new_requests:
            number = self._numbers.get(request.req_id)
            prompt = request.prompt_len
            if number is None:
                number = self._numbers[request.req_id] = len(self._numbers)
                new.append(NewRow(number, request.req_id, prompt, request.num_computed_tokens))
            self._prompts[number] = prompt
            done[request.req_id] = request.num_computed_tokens
        rows: list[Row] = []
        for name, count in tokens.items():
            number = self._numbers.setdefault(name, len(self._numbers))
            prefill = done.get(name, 0) < self._prompts.get(number, 0)
            rows.append(Row(number, count, prefill, len(encoder_inputs.get(name, ()))))
        for name in finished:
            if (number := self._numbers.get(name)) is not None:
                self._prompts.pop(number, None)
        self._steps += 1
        at = step.device_ns
        return StepSample(
            number=self._steps - 1,
            rank=self.rank,
            rows=rows,
            new=new,
            begin=at["begin"],
            end=at["end"],
            host_begin=step.host_ns["begin"],
            host_end=step.host_ns["end"],
            encoder=_pair(at, "encoder_begin", "encoder_end"),
            forward=_pair(at, "forward_begin", "forward_end"),
            sample=_pair(at, "sample_begin", "end"),
        )


def hook_runner(runner: Any, recorder: StepRecorder) -> None:
    """Hang the marks on a model runner. What it lacks stays unknown."""
    execute, sample = runner.execute_model, runner.sample_tokens

    def execute_model(scheduler_output: Any, *rest: Any, **options: Any) -> Any:
        _safely(recorder.begin, scheduler_output)
        result = execute(scheduler_output, *rest, **options)
        if result is not None:  # no token is chosen after it: an empty step, or not the last stage of a pipeline
            _safely(recorder.end)
        return result

    def sample_tokens(*given: Any, **options: Any) -> Any:
        _safely(recorder.mark, "sample_begin")
        try:
            return sample(*given, **options)
        finally:
            _safely(recorder.end)

    runner.execute_model, runner.sample_tokens = execute_model, sample_tokens
    if callable(getattr(runner, "_model_forward", None)):
        runner._model_forward = _between(runner._model_forward, recorder, "forward")
    if callable(getattr(runner, "_execute_mm_encoder", None)):
        runner._execute_mm_encoder = _around_images(runner._execute_mm_encoder, recorder)


def hook_model(runner: Any, recorder: StepRecorder) -> None:
    """Hang the encoder's marks on the model, where the runner has no method of its own for it."""
    model = getattr(runner, "model", None)
    if callable(getattr(runner, "_execute_mm_encoder", None)) or not callable(getattr(model, "embed_multimodal", None)):
        return
    assert model is not None
    model.embed_multimodal = _between(model.embed_multimodal, recorder, "encoder")


def install(folder: Any, worker_wrapper: type) -> None:
    """Hook every worker that this process makes. worker_wrapper: vLLM's class that makes them."""
    init_device = worker_wrapper.init_device  # type: ignore[attr-defined]

    def hooked(self: Any, *given: Any, **options: Any) -> Any:
        result = init_device(self, *given, **options)
        _safely(_hook_worker, folder, self)
        return result

    worker_wrapper.init_device = hooked  # type: ignore[attr-defined]


def _hook_worker(folder: Any, wrapper: Any) -> None:
    import os

    runner, rank = wrapper.worker.model_runner, int(wrapper.worker.rank)
    recorder = StepRecorder(StepClock(runner.device), rank)
    lines: LineWriter[None] = LineWriter(folder, lambda: f"steps-rank{rank}-{os.getpid()}", recorder.samples)
    recorder.put = lines.put
    hook_runner(runner, recorder)
    load = runner.load_model

    def load_model(*given: Any, **options: Any) -> Any:
        result = load(*given, **options)
        _safely(hook_model, runner, recorder)
        return result

    runner.load_model = load_model


def _between(function: Callable[..., Any], recorder: StepRecorder, part: str) -> Callable[..., Any]:
    def marked(*given: Any, **options: Any) -> Any:
        _safely(recorder.mark, f"{part}_begin", first=True)
        try:
            return function(*given, **options)
        finally:
            _safely(recorder.mark, f"{part}_end")

    return marked


def _around_images(function: Callable[..., Any], recorder: StepRecorder) -> Callable[..., Any]:
    """The encoder's marks, only in steps that have images to encode."""
    marked = _between(function, recorder, "encoder")

    def maybe(scheduler_output: Any, *rest: Any, **options: Any) -> Any:
        chosen = marked if scheduler_output.scheduled_encoder_inputs else function
        return chosen(scheduler_output, *rest, **options)

    return maybe


def _pair(at: dict[str, int], begin: str, end: str) -> tuple[int, int] | None:
    return (at[begin], at[end]) if begin in at and end in at else None


_failed = False


def _safely(function: Callable[..., None], *given: Any, **options: Any) -> None:
    """Call it. The first failure is said once; the engine goes on in any case."""
    global _failed
    try:
        function(*given, **options)
    except Exception as error:
        if not _failed:
            warn(f"a mark failed and is left out ({error!r})")
        _failed = True
