"""The proof: every remedy is promised from the baseline's trace, applied, and measured beside the baseline.

Each round calls every remedy once, in rotating order, so each call has a baseline call from the same minute. Traces are
taken after all rounds: once the profiler has run in a process, every launch costs more. A promise is computed from the
baseline's trace and time per token alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace

from laptime.data.record import Scalar
from laptime.decoder.merged_weights import merge, separate
from laptime.decoder.plan import DecodePlan, read_plan
from laptime.decoder.prompt import check_prompt
from laptime.decoder.triton_step import kernels_of
from laptime.decoder.vision import is_packed, tower_blocks
from laptime.errors import LaptimeError, did_you_mean
from laptime.measure.environment import describe
from laptime.models.loading import load_model
from laptime.remedy.call_floor import call_floor, dense_tflop_per_s
from laptime.remedy.call_promise import prefill_promise, traced_promise, vision_promise
from laptime.remedy.floor import StepFloor, copy_gb_per_s, step_floor
from laptime.remedy.promise import promises
from laptime.remedy.remedies import REMEDIES, Subject
from laptime.remedy.result import BASELINE, NAMES, AnswerTime, Promise, RemedyReport, RemedyRow, headline, recommend
from laptime.remedy.trial import Trial, prepare, row_of, trace_of
from laptime.remedy.whole_call import LENGTHS, answer_time, decode_promise, promised_call, stage_figures
from laptime.trace.result import TraceAnalysis
from laptime.workload.inputs import make_inputs

DRIFT = 0.1
"""A larger change of the baseline, between its preparation and the rounds, becomes a note."""
DEFAULT_IMAGE_SIZE = (672, 672)

Progress = Callable[[str], None]


def _say_nothing(what: str) -> None:
    """The default progress: a library prints nothing."""


@dataclass(frozen=True, kw_only=True)
class RemedyOptions:
    """What to try and how long.

    new_tokens: tokens of every call, at least 8; your usual output length.
    rounds: calls of every remedy; six make a 95 % interval.
    only: names of remedies to try beside the baseline (laptime.remedy.result.NAMES); () for all.

    Raises LaptimeError for a value out of range and for an unknown name.
    """

    new_tokens: int = 64
    rounds: int = 6
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.new_tokens < 8:
            raise LaptimeError(f"`new_tokens` {self.new_tokens}: a time per token needs at least 8")
        if self.rounds < 1:
            raise LaptimeError(f"`rounds` {self.rounds}: at least 1")
        if unknown := [name for name in self.only if name not in NAMES]:
            near = f"{hint} " if (hint := did_you_mean(unknown[0], NAMES)) else ""
            raise LaptimeError(f"`only` {', '.join(unknown)}: no such remedy; {near}there are {', '.join(NAMES)}")


@dataclass(frozen=True, kw_only=True)
class RemedyInput:
    """What the calls are given: a synthetic prompt, and an image for a model that takes one.

    prompt_tokens: text tokens; image tokens come on top. batch: rows of a call. image_size: width, height.
    """

    prompt_tokens: int = 64
    batch: int = 1
    image_size: tuple[int, int] | None = None
    seed: int = 0


def prove_remedies(
    model: Any,
    inputs: Mapping[str, Any],
    options: RemedyOptions = RemedyOptions(),
    *,
    name: str | None = None,
    config: Mapping[str, Scalar] | None = None,
    progress: Progress = _say_nothing,
) -> RemedyReport:
    """Measure every remedy on this model and these inputs.

    The model is as before afterwards. Its EOS ends no call meanwhile, so that every call has `new_tokens` tokens.

    model: a loaded transformers model. inputs: the arguments of its generate(), input_ids among them.
    name: of the model in the result; its class without one. config: more facts for the result.
    progress: gets a line of text before each part of the work.

    Raises LaptimeError for inputs without rows of ids, and when the baseline itself can't run.
    """
    name = name or type(model).__name__
    if not callable(getattr(model, "generate", None)):
        raise LaptimeError(f"{name} has no generate(); remedies are for a loaded transformers model")
    check_prompt(inputs.get("input_ids"), inputs.get("attention_mask"))
    subject = Subject(model, dict(inputs), options.new_tokens)
    device = next(model.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(_fixed_length(model))
        plan, refused = _plan(model, stack)
        bandwidth = copy_gb_per_s(device)
        floor = step_floor(plan, subject, bandwidth)
        trials = [Trial(r) for r in REMEDIES if not options.only or r.name in (*options.only, BASELINE)]
        base = trials[0]
        progress("baseline" if subject.on_gpu else "baseline (without a CUDA GPU nothing is promised, only measured)")
        prepare(base, subject, stack, None)
        _check_baseline(base, name)
        for trial in sorted(trials[1:], key=lambda t: t.remedy.name == "kernels"):  # after fast, which compiles them
            progress(f"preparing {trial.remedy.name}")
            if refused is not None and trial.remedy.name in ("fast", "kernels", "whole"):
                trial.failed = refused
                continue
            prepare(trial, subject, stack, base)
        _share_compiling({trial.remedy.name: trial for trial in trials})
        for number in range(options.rounds):
            progress(f"round {number + 1} of {options.rounds}")
            for trial in [*trials[number % len(trials) :], *trials[: number % len(trials)]]:
                trial.attempt(partial(trial.measure, number, options.new_tokens))
        _check_baseline(base, name)
        for trial in trials if subject.on_gpu else []:
            if trial.failed is None:
                progress(f"trace of {trial.remedy.name}")
                trial.traced = trace_of(trial, subject, base.tpot_ms if trial is base else None)
        promised = _promises(base, plan, floor, subject.batch)
        rate = None if plan is None else dense_tflop_per_s(device, plan.dtype)
        call = _Call(subject, plan, floor, (rate, bandwidth), base.traced)
        rows = [
            call.with_stages(row_of(trial, base, promised.get(trial.remedy.name), floor), trial) for trial in trials
        ]
        answers = call.answers(rows, trials)
        environment = describe(device)
        alone_ms = None if base.alone is None else base.alone.tpot_ms
    return RemedyReport(
        model=name,
        headline=headline(rows, alone_ms=alone_ms),
        config={**(config or {}), "new_tokens": options.new_tokens, "batch": subject.batch},
        environment=environment,
        copy_gb_per_s=floor.copy_gb_per_s,
        weight_bytes=floor.weight_bytes,
        cache_bytes=floor.cache_bytes,
        floor_ms=floor.ms,
        rounds=options.rounds,
        rows=rows,
        recommendations=recommend(rows, options.new_tokens),
        notes=_notes(rows, subject, base),
        dense_tflop_per_s=rate,
        answers=answers,
        baseline_alone_ms=alone_ms,
    )


def prove_by_name(
    model: str,
    given: RemedyInput = RemedyInput(),
    options: RemedyOptions = RemedyOptions(),
    *,
    loading: Mapping[str, Any] | None = None,
    progress: Progress = _say_nothing,
) -> RemedyReport:
    """Load a model, make its inputs, and prove the remedies: what `laptime remedy MODEL` does.

    model: a hub id, a local path, or preset:NAME. loading: arguments of laptime.models.loading.load_model, as dtype,
    device, trust_remote_code.

    Raises LaptimeError as `prove_remedies`, and when the model can't be loaded or the inputs don't fit it.
    """
    loaded = load_model(model, **{"seed": given.seed, **(loading or {})})
    size = given.image_size or (DEFAULT_IMAGE_SIZE if loaded.is_vlm else None)
    inputs = make_inputs(
        loaded,
        prompt_tokens=given.prompt_tokens,
        image_size=size,
        batch=given.batch,
        new_tokens=options.new_tokens,
        seed=given.seed,
    )
    config: dict[str, Scalar] = {
        "prompt_tokens": inputs.prompt_tokens,
        "image_tokens": inputs.image_tokens,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "seed": given.seed,
    }
    return prove_remedies(loaded.model, inputs.kwargs, options, name=model, config=config, progress=progress)


class _Call:
    """The whole call's figures: floors and promises of its stages, and answers of several lengths."""

    def __init__(
        self,
        subject: Subject,
        plan: DecodePlan | None,
        floor: StepFloor,
        rates: tuple[float | None, float | None],
        traced: TraceAnalysis | None,
    ) -> None:
        """rates: TFLOP/s and GB/s. traced: the baseline's trace."""
        rate, bandwidth = rates
        self._tokens = subject.most_tokens
        self._floors: dict[str, float | None] = {}
        self._promises: dict[str, Promise] = {}
        if plan is None:
            return
        try:
            floors = call_floor(subject.model, plan, subject.inputs, bandwidth, rate)
        except Exception:  # what can't be counted is not promised; the measured rows stay
            return
        steps = self._tokens - 1
        self._floors = {"prefill": floors.prefill.ms, "decode": None if floor.ms is None else steps * floor.ms}
        passes = {} if traced is None else {one.stage: one for one in traced.passes}
        by_work = prefill_promise(plan, floors.prefill, rate, bandwidth)
        promises = {"prefill": traced_promise(passes.get("prefill"), floors.prefill, by_work, same=not plan.top_k)}
        if floors.vision is not None:
            self._floors["vision"] = floors.vision.ms
            packed = is_packed(subject.model)
            by_work = vision_promise(floors.vision, tower_blocks(subject.model), packed=packed)
            promises["vision"] = traced_promise(passes.get("vision"), floors.vision, by_work, same=not packed)
        if subject.on_gpu:
            self._promises = {stage: promise for stage, promise in promises.items() if promise is not None}

    def with_stages(self, row: RemedyRow, trial: Trial) -> RemedyRow:
        """The row with the stages of its calls."""
        if row.failed is not None:
            return row
        promises = dict(self._promises) if row.name == "whole" else {}
        if row.promise is not None:
            promises["decode"] = decode_promise(row.promise, self._tokens)
        return replace(row, stages=stage_figures(list(trial.samples.values()), promises, self._floors))

    def answers(self, rows: list[RemedyRow], trials: list[Trial]) -> list[AnswerTime]:
        """Every remedy's time for every length of answer."""
        base = trials[0].samples
        found = []
        for tokens in sorted({*LENGTHS, self._tokens}):
            for row, trial in zip(rows, trials, strict=True):
                if row.failed is not None:
                    continue
                parts = list(self._promises.values()) if row.name == "whole" and self._promises else [None]
                promised = promised_call(parts, tokens, row.promise)
                rounds = [number for number in trial.samples if number in base]
                taken, own = ([samples[number] for number in rounds] for samples in (trial.samples, base))
                found.append(answer_time(row.name, tokens, taken, own, prepare_s=row.prepare_s, promised=promised))
        return found


@contextmanager
def _fixed_length(model: Any) -> Iterator[None]:
    """EOS ends no call inside the block."""
    settings = model.generation_config
    eos, settings.eos_token_id = settings.eos_token_id, None
    unset = settings.pad_token_id is None and eos is not None
    if unset:
        settings.pad_token_id = eos[0] if isinstance(eos, list) else eos
    try:
        yield
    finally:
        settings.eos_token_id = eos
        if unset:
            settings.pad_token_id = None


def _plan(model: Any, stack: ExitStack) -> tuple[DecodePlan | None, str | None]:
    """The model's decode step with its weights merged until the stack ends, or the reason why there is none.

    Weights are merged before anything is compiled or captured, because captured steps hold addresses.
    """
    moved = merge(model)
    stack.callback(separate, moved)
    try:
        return read_plan(model), None
    except LaptimeError as error:
        return None, str(error)


def _check_baseline(base: Trial, name: str) -> None:
    if base.failed is not None:
        raise LaptimeError(f"{name}: the baseline can't run: {base.failed}")


def _share_compiling(trials: dict[str, Trial]) -> None:
    """Count what `fast` compiled for `kernels` too: alone it would have to compile the same."""
    fast, kernels = trials.get("fast"), trials.get("kernels")
    if fast is not None and kernels is not None and fast.prepare_s is not None and kernels.prepare_s is not None:
        kernels.prepare_s = max(kernels.prepare_s, fast.prepare_s)


def _promises(base: Trial, plan: DecodePlan | None, floor: StepFloor, batch: int) -> dict[str, Promise]:
    if base.traced is None:
        return {}
    kernels = None if plan is None else kernels_of(plan, batch)
    return promises(base.traced, base.tpot_ms, floor_ms=floor.ms, our_kernels=kernels, batch=batch)


def _notes(rows: list[RemedyRow], subject: Subject, base: Trial) -> list[str]:
    """What a reader must know before trusting the rows."""
    notes = []
    if not subject.on_gpu:
        notes.append("without a CUDA GPU there are no traces of kernels, so no promises; graphs and kernels need one")
    alone, among = None if base.alone is None else base.alone.tpot_ms, base.tpot_ms
    if alone is not None and abs(among / alone - 1) > DRIFT:
        notes.append(f"the baseline took {alone:.3g} ms a token alone and {among:.3g} between the other remedies")
    if base.alone is not None and any(s.output_ids != base.alone.output_ids for s in base.samples.values()):
        notes.append("the baseline itself gives other tokens from call to call")
    if any(row.tokens_same is False for row in rows):
        notes.append(
            "only the first different token says something, because after it two calls answer different prompts: "
            "a gap of a few bfloat16 steps is rounding"
        )
    if any(row.speedup is not None for row in rows):
        notes.append(
            "times as fast: the median over pairs of neighbouring calls; "
            "it can differ from one median time over the other"
        )
    missed = [row.name for row in rows if row.kept is False]
    if missed:
        notes.append(f"outside the promise: {', '.join(missed)}")
    return notes
