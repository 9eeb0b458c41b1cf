"""A sweep's worker: it takes a visit and gives back its records as they are finished, under every executor."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from laptime.data.record import Failure, Flag, Sample, WorkerStart
from laptime.errors import LaptimeError
from laptime.measure.environment import describe
from laptime.measure.session import Input, MeasuringPlan, call, is_steady, quiet_collector, warm_up
from laptime.measure.stage_timer import StageTimer
from laptime.models.knobs import applied
from laptime.models.loading import Loaded, load_model, resolve_device
from laptime.sweeps.grid import settings_of
from laptime.sweeps.prepare import free, knobs_of
from laptime.sweeps.questions import SweepQuestions, on_device, questions_for
from laptime.sweeps.schedule import Failed, Measured, Message, Pair, Started, Visit, VisitEnd, WorkerSetup
from laptime.workload.inputs import Inputs, generation_arguments

ERROR_CHARACTERS = 500


class Worker:
    """Holds one device, its loaded models and the workload, and visits configurations one after the other."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Open the device and read the workload. Raises LaptimeError when either can't be done."""
        _take_share(setup)
        sweep_config = setup.sweep_config
        self.name = setup.worker
        self._sweep_config = sweep_config
        self._device = resolve_device(setup.device)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
            torch.backends.cuda.matmul.allow_tf32 = sweep_config.measure.tf32
            torch.backends.cudnn.allow_tf32 = sweep_config.measure.tf32
        self._plan = MeasuringPlan(
            max_warmups=sweep_config.measure.warmups,
            cache_policy=sweep_config.measure.cache_policy,
            autocast=sweep_config.measure.autocast,
        )
        self._questions: SweepQuestions = questions_for(sweep_config)
        self._shelf = ModelShelf(
            sweep_config.model,
            device=self._device,
            seed=sweep_config.seed,
            trust_remote_code=sweep_config.trust_remote_code,
            endless=sweep_config.workload.data is None,
        )

    def started(self) -> Started:
        """Where this worker's samples are measured."""
        start = WorkerStart(
            worker=self.name,
            started_unix_ms=time.time() * 1e3,
            host=platform.node(),
            environment=describe(self._device),
        )
        return Started(start)

    def visit(self, visit: Visit) -> Iterator[Message]:
        """Set the knobs, warm up, measure the pairs. The last message is a VisitEnd, whatever went wrong."""
        began = time.monotonic()
        left = list(visit.pairs)
        warm: list[Sample] = []
        broken = False
        why = ""
        try:
            for message in self._measured(visit):
                if isinstance(message, Measured) and message.sample.repeat < 0:
                    warm.append(message.sample)
                else:
                    left.remove(_pair(message))
                yield message
        except Exception as error:
            why, broken = one_line(error), _is_broken(error)
        if why:
            free(self._device)
            for number, (sample_id, repeat) in enumerate(left):
                text = why if number == 0 else f"not measured, as sample {left[0][0]} failed: {why}"
                yield Failed(self._failure(visit, sample_id, repeat, text), config_failed=True)
        yield VisitEnd(
            config_id=visit.config_id,
            warmups=len(warm),
            steady=is_steady(warm, self._plan),
            seconds=time.monotonic() - began,
            broken=broken,
        )

    def _measured(self, visit: Visit) -> Iterator[Measured | Failed]:
        settings = settings_of(visit.config)
        measure = self._sweep_config.measure
        loaded = self._shelf.take(settings.dtype)
        model = loaded.model
        generation = generation_arguments(
            new_tokens=settings.new_tokens, cache=settings.cache, compile=settings.compile
        )
        with applied(model, knobs_of(settings)):
            asked: list[tuple[Pair, Inputs]] = []
            for sample_id, repeat in visit.pairs:
                try:
                    asked.append(((sample_id, repeat), self._questions.inputs(loaded, settings, sample_id)))
                except LaptimeError as error:  # noqa: PERF203 - before anything is timed
                    yield Failed(self._failure(visit, sample_id, repeat, one_line(error)), config_failed=False)
            if not asked:
                return
            timer = StageTimer(
                model,
                per_token=measure.per_token,
                energy=measure.energy,
                memory=True,
                config=visit.config,
                worker=self.name,
            )
            with timer, quiet_collector():
                (sample_id, _), inputs = asked[0]
                first = Input(sample_id, {**on_device(loaded, inputs), **generation})
                until = time.monotonic() + measure.warmup_limit_s
                warm: list[Sample] = []
                for sample in warm_up(timer, first, self._plan, visit.cold_repeat, visit.cold_step):
                    warm.append(sample)
                    yield Measured(msgspec.structs.replace(sample, crops=inputs.crops))
                    if time.monotonic() > until:
                        break
                flags: tuple[Flag, ...] = () if is_steady(warm, self._plan) else ("cold",)
                for (sample_id, repeat), inputs in asked:
                    item = Input(sample_id, {**on_device(loaded, inputs), **generation})
                    timer.label(sample_id, repeat, flags)
                    sample = call(timer, item, self._plan)
                    judged = self._questions.judged(loaded, sample)
                    yield Measured(msgspec.structs.replace(sample, crops=inputs.crops, **judged))

    def _failure(self, visit: Visit, sample_id: str, repeat: int, error: str) -> Failure:
        return Failure(
            config_id=visit.config_id,
            sample_id=sample_id,
            repeat=repeat,
            worker=self.name,
            config=visit.config,
            error=error[:ERROR_CHARACTERS],
            started_unix_ms=time.time() * 1e3,
        )


def one_line(error: BaseException) -> str:
    """An error's text as one line; its kind in front where the text isn't laptime's own."""
    text = " ".join(str(error).split())
    if isinstance(error, LaptimeError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _pair(message: Measured | Failed) -> Pair:
    record = message.sample if isinstance(message, Measured) else message.failure
    return (record.sample_id, record.repeat)


def _is_broken(error: Exception) -> bool:
    """Whether this is a CUDA error that no later call recovers from (an illegal access, an assert)."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    kind = getattr(torch, "AcceleratorError", None)
    return (kind is not None and isinstance(error, kind)) or "CUDA error" in str(error)


def _take_share(setup: WorkerSetup) -> None:
    """Keep to this worker's part of the machine: a GPU of its own, or a share of the cores."""
    if setup.visible_devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.visible_devices
    if setup.shares < 2 or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    own = cores[setup.share % len(cores) :: setup.shares]
    if setup.device == "cpu":
        os.sched_setaffinity(0, own)
    torch.set_num_threads(max(1, min(len(own), torch.get_num_threads())))


class ModelShelf:
    """Loads each dtype's model once where memory allows.

    On a GPU only the model in use is on the device, so that the memory peak of a sample is its configuration's own.
    """

    def __init__(self, name: str, *, device: torch.device, seed: int, trust_remote_code: bool, endless: bool) -> None:
        """endless: ignore EOS, so that every call generates exactly the tokens that were asked for."""
        self._name, self._device, self._seed = name, device, seed
        self._trust, self._endless = trust_remote_code, endless
        self._models: dict[str, Loaded] = {}
        self._active: str | None = None

    def take(self, dtype: str) -> Loaded:
        """Bring the model of this dtype to the device. Raises LaptimeError when it can't be loaded."""
        if self._active != dtype:
            self._put_away()
        loaded = self._models.get(dtype)
        if loaded is None:
            loaded = load_model(
                self._name,
                dtype=dtype,
                device=str(self._device),
                trust_remote_code=self._trust,
                seed=self._seed,
            )
            if self._endless:
                loaded.model.generation_config.eos_token_id = None
            self._models[dtype] = loaded
        else:
            loaded.model.to(self._device)
        self._active = dtype
        return loaded

    def _put_away(self) -> None:
        """Take the active model off the device: into memory if there is room for two of it, else drop it."""
        if self._active is None:
            return
        model = self._models[self._active].model
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        if _available_bytes() > 2 * size:
            if self._device.type != "cpu":
                model.to("cpu")
        else:
            del self._models[self._active]
        self._active = None
        del model
        free(self._device)


def _available_bytes() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
