"""StageTimer: time the stages of your own generate() calls.

with laptime.StageTimer(model) as timer:
    model.generate(**inputs, max_new_tokens=32)
print(timer)                # <StageTimer: 1 sample, 42.1 ms median>
timer.last.stages           # the stages of the newest call
timer.summary()             # medians and intervals of all calls
timer.save("runs/mine")     # a run folder for report, audit, compare, fit, ...
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import GenerationMode

from laptime.data.record import Flag, Mark, Sample, Scalar, config_id
from laptime.data.run_folder import RunFolder, new_info
from laptime.data.summary import Summary, summarise
from laptime.errors import LaptimeError
from laptime.measure.clock import clock_for
from laptime.measure.environment import describe
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.probes import Probes
from laptime.measure.timeline import inter_token, partition, unassigned_ms
from laptime.measure.watch import Circumstances, Watch
from laptime.models.anatomy import Anatomy, find_anatomy

MEASURABLE = {
    GenerationMode.GREEDY_SEARCH,
    GenerationMode.SAMPLE,
    GenerationMode.BEAM_SEARCH,
    GenerationMode.BEAM_SAMPLE,
}
"""Modes with one forward a token. Others verify or try several tokens a forward: their stages mean something else."""

ATTACHED = "_laptime_timer"


class StageTimer:
    """Times every generate() call on `model` between enter and exit, one Sample a call in `samples`.

    On entry the model gets a `generate` that takes marks during each call. On exit the model is as it was, also after
    an exception. A call that raises gives no sample.

    per_token: mark every step, for ITL.
    energy: measure the joules of each call. Reading the counter takes milliseconds, before the call and after it.
    vision, projector, language: paths of these parts in the model, where they can't be found by themselves.
    config: the knobs that the samples are recorded under. By default the model's name, dtype and attention.
    worker: the name that the samples are recorded under, where several processes measure.

    Raises LaptimeError when the model's parts can't be found (name them: `vision`, `projector`, `language`), when
    it is spread over several devices, timed already, or asked to generate in a way that has no such stages.
    """

    def __init__(
        self,
        model: Any,
        *,
        per_token: bool = False,
        energy: bool = False,
        vision: str | None = None,
        projector: str | None = None,
        language: str | None = None,
        config: Mapping[str, Scalar] | None = None,
        worker: str = "0",
    ) -> None:
        model = getattr(model, "_orig_mod", model)  # torch.compile(model).generate is the plain model's
        if not isinstance(model, nn.Module) or not callable(getattr(model, "generate", None)):
            raise LaptimeError(f"{type(model).__name__} has no generate(); StageTimer times a transformers model's own")
        if getattr(model.config, "is_encoder_decoder", False):
            raise LaptimeError(
                f"{type(model).__name__} is an encoder-decoder; its stages are not vision/prefill/decode"
            )
        self.model = model
        self.per_token = per_token
        self.energy = energy
        self.anatomy: Anatomy = find_anatomy(model, vision=vision, projector=projector, language=language)
        self.device = _only_device(model)
        self.samples: list[Sample] = []
        self._config = _config_of(model) if config is None else dict(config)
        self._config_id = config_id(self._config)
        self._worker = worker
        self._clock = clock_for(self.device)
        self._monitor = GpuMonitor.open(self.device)
        self._sample_id: str | None = None
        self._repeat = 0
        self._keys: set[tuple[str, int]] = set()
        self._extra_flags: list[Flag] = []
        self._busy = False
        self._own_generate: Any = None

    @property
    def last(self) -> Sample:
        """The newest sample. Raises LaptimeError before the first call."""
        if not self.samples:
            raise LaptimeError("no generate() call was timed yet")
        return self.samples[-1]

    def label(self, sample_id: str, repeat: int = 0, flags: tuple[Flag, ...] = ()) -> None:
        """Name the calls that follow. Without it they are named "0", "1", ... in their order.

        repeat: of the next call with this name; further calls with it get the next free numbers. A negative one is a
        warm-up.
        flags: what is known about these calls, such as "cold".
        """
        self._sample_id, self._repeat, self._extra_flags = sample_id, repeat, list(flags)

    def summary(self) -> Summary:
        """Medians, intervals and shares of all samples so far; which ones are left out, and why."""
        return summarise(self.samples)

    def save(self, folder: str | Path) -> None:
        """Write the samples as a run folder, with the environment and the config, for every verb that reads a run.

        Raises LaptimeError when there is no sample yet, or the folder holds something already.
        """
        if not self.samples:
            raise LaptimeError("no generate() call was timed yet, so there is nothing to save")
        session: dict[str, Scalar] = {"method": "direct", "per_token": self.per_token}
        info = new_info(sys.argv, self._config, describe(self.device), session)
        with RunFolder(folder, info, self._worker) as run_folder:
            for sample in self.samples:
                run_folder.append(sample)
            run_folder.write_summary()

    def __repr__(self) -> str:
        if not self.samples:
            return "<StageTimer: no samples yet>"
        count = len(self.samples)
        median_ms = self.summary().stages["total"].median.value
        return f"<StageTimer: {count} {'sample' if count == 1 else 'samples'}, {median_ms:.1f} ms median>"

    def __enter__(self) -> StageTimer:
        if ATTACHED in self.model.__dict__:
            raise LaptimeError("this model is being timed already; leave the first StageTimer before entering another")
        self._own_generate = self.model.__dict__.get("generate")
        original: Callable[..., Any] = self.model.generate
        self.model.__dict__[ATTACHED] = True

        @functools.wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return self._timed(original, args, kwargs)

        self.model.generate = generate
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own_generate is None:
            self.model.__dict__.pop("generate", None)
        else:
            self.model.generate = self._own_generate
        self.model.__dict__.pop(ATTACHED, None)

    def _timed(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._busy:  # generate() calling generate(): the outer call is the sample
            return original(*args, **kwargs)
        call = _bind(original, args, kwargs)
        settings = _effective_settings(self.model, call)
        _refuse_unmeasurable(settings, call, self.device)
        probes = Probes(
            self.model,
            self.anatomy,
            self._clock,
            per_token=self.per_token,
            last_step=_certain_length(settings, call),
        )
        call["logits_processor"] = LogitsProcessorList([*(call.get("logits_processor") or ()), probes])
        if self.per_token:
            self._clock.reserve((settings.max_new_tokens or 0) + 64)
        watch = Watch(self.device, self._monitor, energy=self.energy)
        self._busy = True
        try:
            with watch, probes:
                self._clock.start()
                result = original(**call)
                self._clock.mark("end")
                marks = self._clock.resolve()
        finally:
            self._busy = False
        assert watch.circumstances is not None
        self.samples.append(self._sample(call, settings, result, marks, probes.logits, watch.circumstances))
        return result

    def _sample(
        self,
        call: Mapping[str, Any],
        settings: GenerationConfig,
        result: Any,
        marks: list[Mark],
        logits: int,
        around: Circumstances,
    ) -> Sample:
        times = partition(marks)
        if logits > 1 and times.stages.decode_ms is None:
            raise LaptimeError("generate() stopped before the last step it was asked for, and its end was not seen")
        prompt = call.get("input_ids", call.get("inputs"))
        rows = _generated_rows(result, prompt, settings)
        tokens = max(len(row) for row in rows)
        forwards = max(0, logits - 1)
        flags = [*around.flags, *self._extra_flags]
        if forwards != tokens - 1:
            flags.append("forwards-mismatch")
        unassigned = unassigned_ms(marks)
        if unassigned:
            flags.append("unassigned-encoder")
        width = prompt if prompt is not None else call["inputs_embeds"]
        sample_id, repeat = self._next_key()
        return Sample(
            config_id=self._config_id,
            sample_id=sample_id,
            repeat=repeat,
            worker=self._worker,
            config=self._config,
            stages=times.stages,
            host_stages=times.host_stages,
            ttft_ms=times.ttft_ms,
            tpot_ms=times.tpot_ms(tokens),
            itl_ms=inter_token(marks) if self.per_token else None,
            output_tokens=tokens,
            decode_forwards=forwards,
            prompt_tokens=int(width.shape[1]),
            image_tokens=_image_tokens(self.model, prompt),
            batch=len(rows),
            generated_tokens=sum(len(row) for row in rows),
            started_unix_ms=around.started_unix_ms,
            memory_peak_bytes=around.memory_peak_bytes,
            energy_j=around.energy_j,
            gpu=around.gpu,
            gc_pause_ms=around.gc_pause_ms,
            flags=flags,
            unassigned_ms=unassigned,
            marks=marks,
            output_ids=rows,
        )

    def _next_key(self) -> tuple[str, int]:
        """The sample's name and its repeat: no two samples of a run may have both in common."""
        name, repeat = self._sample_id, self._repeat
        if name is None:
            name, repeat = str(len(self.samples)), 0
        while (name, repeat) in self._keys:
            repeat += -1 if repeat < 0 else 1
        self._keys.add((name, repeat))
        return name, repeat


def _config_of(model: Any) -> dict[str, Scalar]:
    """What a model tells of itself: its name, precision and attention."""
    return {
        "model": getattr(model.config, "name_or_path", None) or type(model).__name__,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "attention": getattr(model.config, "_attn_implementation", None),
    }


def _only_device(model: Any) -> torch.device:
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) != 1:
        names = ", ".join(sorted(str(device) for device in devices))
        raise LaptimeError(f"the model is spread over {names}; laptime times a model on one device")
    device = devices.pop()
    if device.type == "meta":
        raise LaptimeError("the model has no weights (device meta); load it on a real device")
    return device


def _bind(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments by name, so that a LogitsProcessor can be added wherever the user's stand."""
    if not args:
        return dict(kwargs)
    bound = inspect.signature(original).bind(*args, **kwargs)
    named = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named.update(named.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and named.pop(name, ()):
            raise LaptimeError("generate() was called with more positional arguments than it names; name them")
    return named


def _effective_settings(model: Any, call: Mapping[str, Any]) -> GenerationConfig:
    """What generate() will go by: the call's arguments over its generation_config over the model's."""
    given = call.get("generation_config")
    settings = copy.copy(given or model.generation_config)
    for name, value in call.items():
        if hasattr(settings, name) and not torch.is_tensor(value):
            setattr(settings, name, value)
    for name in ("eos_token_id", "pad_token_id"):  # generate() takes these from the model when the call has none
        if given is not None and getattr(settings, name, None) is None:
            setattr(settings, name, getattr(model.generation_config, name, None))
    return settings


def _refuse_unmeasurable(settings: GenerationConfig, call: Mapping[str, Any], device: torch.device) -> None:
    if call.get("custom_generate") is not None:
        raise LaptimeError("generate(custom_generate=...) has no known stages; leave it out to measure")
    mode = settings.get_generation_mode(call.get("assistant_model"))
    if mode not in MEASURABLE:
        raise LaptimeError(
            f"{mode.value.replace('_', ' ')} runs no single forward per token, so prefill and decode have no "
            "meaning there; measure greedy, sampling or beam search"
        )
    compiles = settings.cache_implementation and device.type != "cpu" and not settings.disable_compile
    if settings.prefill_chunk_size and compiles:
        raise LaptimeError(
            "chunked prefill with an auto-compiled cache compiles the prefill itself, where no mark can be taken; "
            "pass disable_compile=True or leave out prefill_chunk_size"
        )


def _certain_length(settings: GenerationConfig, call: Mapping[str, Any]) -> int | None:
    """The number of tokens the call will make, where nothing can end it sooner."""
    may_stop = (
        settings.eos_token_id is not None
        or settings.stop_strings
        or settings.max_time
        or call.get("stopping_criteria")
        or (settings.num_beams or 1) > 1
    )
    return None if may_stop else settings.max_new_tokens


def _generated_rows(result: Any, prompt: torch.Tensor | None, settings: GenerationConfig) -> list[list[int]]:
    """The new ids of each row, from what generate() returned, padding after EOS cut off."""
    sequences = result if torch.is_tensor(result) else result.sequences
    start = prompt.shape[1] if prompt is not None else 0
    eos = settings.eos_token_id
    ends = set(eos if isinstance(eos, list) else [eos])
    rows: list[list[int]] = []
    for ids in sequences[:, start:].tolist():
        stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
        rows.append(ids[: stop + 1])
    return rows


def _image_tokens(model: Any, prompt: torch.Tensor | None) -> int:
    """How many of the first row's ids stand for image features."""
    image_id = getattr(model.config, "image_token_id", None) or getattr(model.config, "image_token_index", None)
    if image_id is None or prompt is None:
        return 0
    return int((prompt[0] == image_id).sum())
