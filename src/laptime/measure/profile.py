"""A profile: a request goes in, the model is loaded and measured, a run comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from laptime.data.record import Environment, Sample, Scalar, SessionEnd, Subtraction
from laptime.data.run_folder import Run, RunFolder, RunInfo, load_run, locked_for_run, new_info
from laptime.errors import LaptimeError
from laptime.measure.call_settings import ran, resolve
from laptime.measure.environment import describe
from laptime.measure.session import Input, MeasuringPlan, Progress, measure
from laptime.measure.stage_timer import StageTimer
from laptime.measure.subtraction import subtract
from laptime.models.loading import Loaded, load_model
from laptime.workload.datasets import inputs_from_example
from laptime.workload.inputs import compiles, generation_arguments, make_inputs
from laptime.workload.jsonl import read_jsonl

Method = Literal["direct", "subtract", "both"]


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to profile: a model, a workload, the knobs and how to measure."""

    model: str
    samples: int = 20
    prompt_tokens: int = 64
    new_tokens: int = 32
    image_size: tuple[int, int] | None = None  # width, height; None: the default of the kind of model
    batch: int = 1
    data: Path | None = None  # JSONL of {image, question} instead of a synthetic workload
    dtype: str = "auto"
    device: str = "auto"
    attention: str | None = None
    cache: str | None = None  # transformers' cache_implementation; None is its dynamic cache
    compile: bool = True  # let transformers compile the decode step where the cache allows it
    prefill_chunk: int | None = None
    tf32: bool = False
    trust_remote_code: bool = False
    vision_module: str | Sequence[str] | None = None  # several towers are a list
    projector_module: str | Sequence[str] | None = None
    language_module: str | None = None
    seed: int = 0
    per_token: bool = False
    verify: bool = False
    method: Method = "direct"
    plan: MeasuringPlan = MeasuringPlan()


DEFAULT_IMAGE_SIZE = (672, 672)


class PreparedProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model with its inputs, ready to be timed."""

    loaded: Any  # models.loading.Loaded
    inputs: list[Input]
    config: dict[str, Scalar]
    environment: Environment


def prepare(request: ProfileRequest) -> PreparedProfile:
    """Load the model and prepare its inputs. Raises LaptimeError for what can't be measured."""
    loaded = load_model(
        request.model,
        dtype=request.dtype,
        device=request.device,
        attn_implementation=request.attention,
        trust_remote_code=request.trust_remote_code,
        seed=request.seed,
    )
    model = loaded.model
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = request.tf32
        torch.backends.cudnn.allow_tf32 = request.tf32
    image_size = request.image_size
    if image_size is None and loaded.is_vlm and request.data is None:
        image_size = DEFAULT_IMAGE_SIZE
    generation = generation_arguments(
        new_tokens=request.new_tokens,
        cache=request.cache,
        compile=request.compile,
        prefill_chunk=request.prefill_chunk,
    )
    if request.data is None:
        # Each call generates the same number of tokens: EOS is ignored, which a random model could say at any step.
        model.generation_config.eos_token_id = None
        model.generation_config.stop_strings = None
        model.generation_config.max_time = None
    elif model.generation_config.stop_strings:
        if loaded.tokenizer is None:
            raise LaptimeError(
                f"{request.model}: its generation_config has stop_strings, which need a tokenizer, and there is none; "
                "put the tokenizer's files into the model's folder"
            )
        generation["tokenizer"] = loaded.tokenizer
    settings = resolve(model, generation)
    inputs = [
        Input(sample_id, {**kwargs, **generation}) for sample_id, kwargs in _workload(request, loaded, image_size)
    ]
    config: dict[str, Scalar] = {
        "model": request.model,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "attention": getattr(model.config, "_attn_implementation", None),
        "cache": settings.cache_implementation or "dynamic",
        "compile": compiles(cache=settings.cache_implementation, compile=request.compile, device=device),
        **{name: value for name, value in ran(settings).items() if name != "cache"},
        "batch": request.batch,
        "prompt_tokens": None if request.data else request.prompt_tokens,
        "new_tokens": request.new_tokens,
        "image_size": None if image_size is None else f"{image_size[0]}x{image_size[1]}",
        "data": None if request.data is None else request.data.name,
        "autocast": request.plan.autocast,
        "cache_policy": request.plan.cache_policy,
        "tf32": request.tf32 if device.type == "cuda" else None,
    }
    config = {name: value for name, value in config.items() if value is not None}
    return PreparedProfile(loaded=loaded, inputs=inputs, config=config, environment=describe(device))


def profile(
    request: ProfileRequest, folder: str | Path | None = None, progress: Progress = lambda phase, done, of: None
) -> Run:
    """Load the model, measure it, and return the run. Nothing is printed.

    folder: where the run is written, sample by sample, while it is measured; None keeps it in memory only.
    progress: called after each finished call with (phase, done, of).
    Raises LaptimeError for what can't be measured. A folder that isn't free, or that another process writes, is refused
    before the model is loaded.
    """
    _check(request)
    if folder is None:
        prepared = prepare(request)
        return _in_memory(prepared, request, _info(prepared, request), progress)
    with locked_for_run(folder) as lock:
        prepared = prepare(request)
        with RunFolder(folder, _info(prepared, request), lock=lock) as run_folder:
            run_folder.append(_measured(prepared, request, run_folder.append, progress))
            run_folder.write_summary()
    return load_run(folder)


def _info(prepared: PreparedProfile, request: ProfileRequest) -> RunInfo:
    session = {
        "method": request.method,
        "per_token": request.per_token,
        "precision": request.plan.precision,
        "max_repeats": request.plan.max_repeats,
    }
    return new_info(sys.argv, prepared.config, prepared.environment, session)


def _in_memory(prepared: PreparedProfile, request: ProfileRequest, info: RunInfo, progress: Progress) -> Run:
    records: list[Sample | Subtraction] = []
    end = _measured(prepared, request, records.append, progress)
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


def _workload(
    request: ProfileRequest, loaded: Loaded, image_size: tuple[int, int] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    if request.data is not None:
        for example in read_jsonl(request.data)[: request.samples]:
            yield example.id, dict(inputs_from_example(loaded, example, new_tokens=request.new_tokens).kwargs)
        return
    for number in range(request.samples):
        synthetic = make_inputs(
            loaded,
            prompt_tokens=request.prompt_tokens,
            image_size=image_size,
            batch=request.batch,
            seed=request.seed + number,
            new_tokens=request.new_tokens,
        )
        yield f"{number:04d}", dict(synthetic.kwargs)


def _check(request: ProfileRequest) -> None:
    for name, value in (
        ("--samples", request.samples),
        ("--prompt-tokens", request.prompt_tokens),
        ("--new-tokens", request.new_tokens),
        ("--batch", request.batch),
        ("--repeats", request.plan.max_repeats),
    ):
        if value < 1:
            raise LaptimeError(f"{name} {value}: must be at least 1")
    if not 0 < request.plan.precision < 1:
        raise LaptimeError(f"--precision {request.plan.precision}: write a share between 0 and 1, such as 0.01")
    if request.plan.autocast not in (None, "bfloat16", "float16"):
        raise LaptimeError(f"--autocast {request.plan.autocast}: bfloat16 or float16")
    if request.data is not None and not request.data.is_file():
        raise LaptimeError(f"{request.data}: no such file; --data takes JSON lines of {{image, question}}")
