"""A profile: a request goes in, the model is loaded and measured, a run comes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from laptime.data.record import Environment, Sample, Scalar, SessionEnd, Subtraction
from laptime.data.run_folder import Run, RunFolder, RunInfo, load_run, locked_for_run, new_info
from laptime.errors import LaptimeError
from laptime.measure.assistant import assistant_arguments
from laptime.measure.call_settings import given_cache, ran, refuse_unmeasurable, resolve
from laptime.measure.environment import describe
from laptime.measure.profile_inputs import sizes, workload
from laptime.measure.profile_request import ProfileRequest, check
from laptime.measure.session import Input, Progress, measure
from laptime.measure.stage_timer import StageTimer
from laptime.measure.subtraction import subtract
from laptime.models.adapters import with_adapter
from laptime.models.loading import Loaded, LoadingPlan, load_as
from laptime.workload.generation import generate_words
from laptime.workload.image_budget import with_image_tokens
from laptime.workload.inputs import compiles, generation_arguments

__all__ = ["PreparedProfile", "ProfileRequest", "prepare", "profile"]

Watching = Callable[[Environment, Sample], None]


class PreparedProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model with its inputs, ready to be timed."""

    loaded: Any  # models.loading.Loaded
    inputs: list[Input]
    config: dict[str, Scalar]
    environment: Environment
    load_s: float  # from the call to load the model to the weights on their device


def prepare(request: ProfileRequest) -> PreparedProfile:
    """Load the model and prepare its inputs. Raises LaptimeError for what can't be measured."""
    begin = time.perf_counter()
    loaded = _loaded(request)
    model = loaded.model
    device = next(model.parameters()).device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    load_s = time.perf_counter() - begin
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = request.tf32
        torch.backends.cudnn.allow_tf32 = request.tf32
    if device.type == "cpu" and (request.cache or "").startswith("offloaded"):
        raise LaptimeError(f"`cache` {request.cache}: moves the cache between a GPU and the host; no GPU is in use")
    if loaded.is_encoder_decoder and request.method != "direct":
        raise LaptimeError(f"`method` {request.method}: {request.model} is an encoder-decoder, which it doesn't know")
    generation = generation_arguments(
        new_tokens=request.new_tokens,
        cache=None if request.cache == "dynamic" else request.cache,
        compile=request.compile,
        prefill_chunk=request.prefill_chunk,
    )
    generation |= request.generate
    generation |= assistant_arguments(request, loaded)
    if request.data is None:
        # Each call generates the same number of tokens: EOS is ignored, which a random model could say at any step.
        model.generation_config.eos_token_id = None
        model.generation_config.stop_strings = None
        model.generation_config.max_time = None
    settings = resolve(model, generation)
    if settings.stop_strings:
        if loaded.tokenizer is None:
            raise LaptimeError(
                f"{request.model}: stop_strings (of its generation_config, or of `generate`) need a tokenizer, and "
                "there is none; put the tokenizer's files into the model's folder"
            )
        generation["tokenizer"] = loaded.tokenizer
    refuse_unmeasurable(settings, generation, device, assisted=request.assisted)
    inputs = [
        Input(sample_id, {**made.kwargs, **generation}, made.preprocess_ms)
        for sample_id, made in workload(request, loaded)
    ]
    known = ran(settings, given_cache(generation))
    config: dict[str, Scalar] = {
        "model": request.model,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "attention": getattr(model.config, "_attn_implementation", None),
        "cache": settings.cache_implementation or "dynamic",
        "compile": compiles(cache=settings.cache_implementation, compile=request.compile, device=device),
        **{name: value for name, value in known.items() if name != "cache"},
        "generate": generate_words({k: v for k, v in request.generate.items() if k not in known}),
        "assistant": request.assistant,
        "adapter": request.adapter,
        "quantize": request.quantize,
        **sizes(request, loaded),
        "autocast": request.plan.autocast,
        "cache_policy": request.plan.cache_policy,
        "tf32": request.tf32 if device.type == "cuda" else None,
    }
    config = {name: value for name, value in config.items() if value is not None}
    return PreparedProfile(loaded=loaded, inputs=inputs, config=config, environment=describe(device), load_s=load_s)


def _loaded(request: ProfileRequest) -> Loaded:
    plan = LoadingPlan(
        dtype=request.dtype,
        device=request.device,
        attn_implementation=request.attention,
        trust_remote_code=request.trust_remote_code,
        seed=request.seed,
        quantize=request.quantize,
        device_map=request.device_map,
    )
    loaded = load_as(request.model, plan)
    if request.adapter is not None:
        loaded = with_adapter(loaded, request.adapter)
    return loaded if request.image_tokens is None else with_image_tokens(loaded, request.image_tokens)


def profile(
    request: ProfileRequest,
    folder: str | Path | None = None,
    progress: Progress = lambda phase, done, of: None,
    watch: Watching = lambda environment, sample: None,
) -> Run:
    """Load the model, measure it, and return the run. Nothing is printed.

    folder: where the run is written, sample by sample, while it is measured; None keeps it in memory only.
    progress: called after each finished call with (phase, done, of).
    watch: called before that with the environment and the call's sample.
    Raises LaptimeError for what can't be measured. A folder that isn't free, or that another process writes, is refused
    before the model is loaded.
    """
    check(request)
    if folder is None:
        prepared = prepare(request)
        records: list[Sample | Subtraction] = []
        sink = _watched(records.append, prepared.environment, watch)
        end = _measured(prepared, request, sink, progress)
        return _in_memory(_info(prepared, request), records, end)
    with locked_for_run(folder) as lock:
        prepared = prepare(request)
        with RunFolder(folder, _info(prepared, request), lock=lock) as run_folder:
            sink = _watched(run_folder.append, prepared.environment, watch)
            run_folder.append(_measured(prepared, request, sink, progress))
            run_folder.write_summary()
    return load_run(folder)


def _info(prepared: PreparedProfile, request: ProfileRequest) -> RunInfo:
    session = {
        "method": request.method,
        "per_token": request.per_token,
        "precision": request.plan.precision,
        "max_repeats": request.plan.max_repeats,
        "load_s": round(prepared.load_s, 3),
        "percentiles": ",".join(f"{percentile:g}" for percentile in request.percentiles) or None,
    }
    session = {name: value for name, value in session.items() if value is not None}
    return new_info(sys.argv, prepared.config, prepared.environment, session)


def _watched(
    sink: Callable[[Sample | Subtraction], None], environment: Environment, watch: Watching
) -> Callable[[Sample | Subtraction], None]:
    """The sink, and whoever watches is told of each sample that it got."""

    def told(record: Sample | Subtraction) -> None:
        sink(record)
        if isinstance(record, Sample):
            watch(environment, record)

    return told


def _in_memory(info: RunInfo, records: list[Sample | Subtraction], end: SessionEnd) -> Run:
    return Run(
        path="",
        info=info,
        samples=[record for record in records if isinstance(record, Sample)],
        failures=[],
        subtractions=[record for record in records if isinstance(record, Subtraction)],
        sessions=[end],
        workers=[],
        dropped_tails=[],
    )


def _measured(
    prepared: PreparedProfile,
    request: ProfileRequest,
    sink: Callable[[Sample | Subtraction], None],
    progress: Progress,
) -> SessionEnd:
    """Measure what was prepared. The sink gets each finished record at once."""
    model = prepared.loaded.model
    timer = StageTimer(
        model,
        per_token=request.per_token,
        energy=True,
        memory=True,
        assisted=request.assisted,
        vision=request.vision_module,
        projector=request.projector_module,
        language=request.language_module,
        config=prepared.config,
    )

    def beside(item: Input, sample: Sample) -> None:
        with _untimed(timer):
            sink(
                subtract(
                    model,
                    timer.anatomy,
                    item,
                    repeat=sample.repeat,
                    autocast=request.plan.autocast,
                    direct=sample if request.method == "both" else None,
                )
            )

    with timer:
        end = measure(
            timer,
            prepared.inputs,
            request.plan,
            sink,
            progress,
            beside if request.method != "direct" else None,
        )
        if request.verify:
            end = msgspec.structs.replace(end, tokens=verify_tokens(timer, prepared.inputs[0]))
    return end


def verify_tokens(timer: StageTimer, item: Input) -> Literal["identical", "different", "unstable"]:
    """Whether greedy generate() gives the same ids with the timer on as with it off.

    "unstable" when this can't be decided, because without the timer the model does not repeat its own ids either
    (kernels that sum in no fixed order).
    """
    timed = timer.model.generate(**item.kwargs)
    with _untimed(timer):
        bare = [timer.model.generate(**item.kwargs) for _ in range(3)]
    if any(torch.equal(timed, ids) for ids in bare):
        return "identical"
    return "different" if all(torch.equal(bare[0], ids) for ids in bare[1:]) else "unstable"


@contextmanager
def _untimed(timer: StageTimer) -> Iterator[None]:
    """The model without the timer, for a moment inside a timed session."""
    timer.__exit__(None, None, None)
    try:
        yield
    finally:
        timer.__enter__()
