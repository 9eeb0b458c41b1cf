"""StageTimer: time the stages of your own generate() calls.

with laptime.StageTimer(model) as timer:
    model.generate(**inputs, max_new_tokens=32)
print(timer)                # <StageTimer: 1 sample, 42.1 ms median>
timer.last.stages           # the stages of the newest call
timer.summary()             # medians and intervals of all calls
timer.save("runs/mine")     # a run folder for report, audit, compare, fit, ...
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, get_ident
from types import TracebackType
from typing import Any

import msgspec
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from laptime.data.record import Failure, Flag, Sample, Scalar, config_id
from laptime.data.run_folder import RunFolder, new_info
from laptime.data.summary import Summary, summarise
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes, check_assisted, how_drafted
from laptime.measure.call_settings import (
    bind,
    cached_tokens,
    certain_length,
    cut_rows,
    generated_rows,
    ids_of,
    image_tokens,
    is_assisted,
    prompt_width,
    ran,
    refuse_unmeasurable,
    resolve,
    rows_begin_at,
)
from laptime.measure.clock import Clock, clock_for
from laptime.measure.environment import describe
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.model_facts import check_timeable, config_of, only_device
from laptime.measure.probes import Probes
from laptime.measure.stand_in import StandIn, anatomy_of, core_of, decoding_part, stand_in, step_aside
from laptime.measure.timeline import inter_token, partition, unassigned_ms
from laptime.measure.watch import Watch
from laptime.models.anatomy import Anatomy


@dataclass
class _Running:
    """One generate() call while it runs. An inner generate() puts its own arguments and settings here."""

    at: StandIn
    module: Any  # whose steps are marked
    arguments: dict[str, Any]
    settings: GenerationConfig
    probes: Probes
    clock: Clock
    watch: Watch
    cached_tokens: int | None
    overlapped: bool = False
    preprocess_ms: float | None = None
    inner: bool = False  # an inner generate() was entered: its result is what is counted
    result: Any = None
    returned: Any = None


class StageTimer:
    """Times every generate() call on `model` between enter and exit, one Sample a call in `samples`.

    On entry the model gets a `generate` that takes marks during each call. On exit the model is as it was, also after
    an exception. A call that raises gives no sample. What can't be measured is refused before it runs; where measuring
    fails later, generate() returns what it made, and `failures` holds the reason. Calls of several threads are timed
    each with its own marks, flagged `overlapped` where they ran at once.

    per_token: mark every step, for ITL.
    energy: measure the joules of each call. Reading the counter takes milliseconds, before the call and after it.
    assisted: measure assisted decoding and prompt lookup too, with draft and verification apart. Without it they are
        refused, so that their rounds are not taken for steps.
    memory: measure the peak memory of each call. It resets the process's own counters of peak memory.
    vision, projector, language: paths of these parts in the model, where they can't be found by themselves.
    config: the knobs that the samples are recorded under. By default the model's name, dtype and attention, and what
        differs from greedy search with the dynamic cache.
    worker: the name that the samples are recorded under, where several processes measure.

    Raises LaptimeError when the model's parts can't be found (name them: `vision`, `projector`, `language`), when
    it is spread over several devices or offloaded, timed already, or asked to generate in a way without such stages.
    """

    def __init__(
        self,
        model: Any,
        *,
        per_token: bool = False,
        energy: bool = False,
        memory: bool = False,
        assisted: bool = False,
        vision: str | Sequence[str] | None = None,
        projector: str | Sequence[str] | None = None,
        language: str | None = None,
        config: Mapping[str, Scalar] | None = None,
        worker: str = "0",
    ) -> None:
        model = getattr(model, "_orig_mod", model)  # torch.compile(model).generate is the plain model's
        check_timeable(model)
        self.model = model
        self.per_token = per_token
        self.energy = energy
        self.memory = memory
        self.assisted = assisted
        self.anatomy: Anatomy = anatomy_of(model, vision=vision, projector=projector, language=language)
        self.device = only_device(model)
        self.samples: list[Sample] = []
        self.failures: list[Failure] = []
        self.warned = False  # of a failure; who reads `last` after each call gets it from there
        self._core = core_of(model)[0]
        self._decoding = decoding_part(self._core)[0]
        self._config = config_of(model) if config is None else dict(config)
        self._config_given = config is not None
        self._worker = worker
        self._clocks: list[Clock] = [clock_for(self.device)]
        self._monitor = GpuMonitor.open(self.device)
        self._sample_id: str | None = None
        self._repeat = 0
        self._keys: set[tuple[str, int]] = set()
        self._extra_flags: list[Flag] = []
        self._running: dict[int, _Running] = {}  # by thread
        self._preprocess_ms: dict[int, float] = {}  # by thread
        self._newest: Sample | Failure | None = None
        self._recording = Lock()

    @property
    def last(self) -> Sample:
        """The sample of the newest call. Raises LaptimeError before the first call, or where it wasn't measured."""
        if self._newest is None:
            raise LaptimeError("no generate() call was timed yet")
        if isinstance(self._newest, Failure):
            raise LaptimeError(f"the newest generate() call was not measured: {self._newest.error}")
        return self._newest

    def label(self, sample_id: str, repeat: int = 0, flags: tuple[Flag, ...] = ()) -> None:
        """Name the calls that follow. Without it they are named "0", "1", ... in their order.

        repeat: of the next call with this name; further calls with it get the next free numbers. A negative one is a
        warm-up.
        flags: what is known about these calls, such as "cold".
        """
        self._sample_id, self._repeat, self._extra_flags = sample_id, repeat, list(flags)

    @contextmanager
    def preprocess(self) -> Iterator[None]:
        """Time what is done before a call to make its inputs: `with timer.preprocess(): inputs = processor(...)`.

        The next sample of this thread has it as `preprocess_ms`, beside its stages and in none of them. Several before
        one call add up.
        """
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent_ms = (time.perf_counter() - begin) * 1e3
            self._preprocess_ms[get_ident()] = self._preprocess_ms.get(get_ident(), 0.0) + spent_ms

    def preprocessed(self, spent_ms: float | None) -> None:
        """Say how long making the next call's inputs took, where it was clocked elsewhere."""
        if spent_ms is not None:
            self._preprocess_ms[get_ident()] = spent_ms

    def summary(self) -> Summary:
        """Medians, intervals and shares of all samples so far; which ones are left out, and why."""
        return summarise(self.samples)

    def save(self, folder: str | Path) -> None:
        """Write samples and failures as a run folder, with environment and config, for every verb that reads a run.

        Raises LaptimeError when there is no sample yet, or the folder holds something already.
        """
        if not self.samples:
            raise LaptimeError("no generate() call was timed yet, so there is nothing to save")
        session: dict[str, Scalar] = {"method": "direct", "per_token": self.per_token}
        first = self.samples[0].config
        shared = {k: v for k, v in first.items() if all(sample.config.get(k) == v for sample in self.samples)}
        info = new_info(sys.argv, shared, describe(self.device), session)
        with RunFolder(folder, info, self._worker) as run_folder:
            for sample in self.samples:
                run_folder.append(sample)
            for failure in self.failures:
                run_folder.append(failure)
            run_folder.write_summary()

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} not measured" if self.failures else ""
        if not self.samples:
            return f"<StageTimer: no samples yet{failed}>"
        count = len(self.samples)
        median_ms = self.summary().stages["total"].median.value
        return f"<StageTimer: {count} {'sample' if count == 1 else 'samples'}, {median_ms:.1f} ms median{failed}>"

    def __enter__(self) -> StageTimer:
        stand_in(self.model, self._timed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        step_aside(self.model)

    def _timed(self, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One generate() call of the model or of a part of it."""
        outer = self._running.get(get_ident())
        if outer is not None:
            return self._inside(outer, at, args, kwargs)
        started_unix_ms = time.time() * 1e3
        preprocess_ms = self._preprocess_ms.pop(get_ident(), None)
        try:
            running = self._prepared(at, args, kwargs)
        except LaptimeError:
            raise
        except Exception as error:  # perhaps generate() takes what we don't understand, or says what is wrong with it
            result = at.original(*args, **kwargs)
            self._failed(error, started_unix_ms)
            return result
        try:
            running.preprocess_ms = preprocess_ms
            self._run(running, at.original)
            try:
                self._record(running)
            except Exception as error:  # the user's result goes before our sample
                self._failed(error, started_unix_ms)
        finally:
            self._clocks.append(running.clock)  # its marks were read: the next call can have it
        return running.returned

    def _prepared(self, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Running:
        """What is needed to time this call. Raises LaptimeError for what can't be measured."""
        call = bind(at.original, args, kwargs)
        module = self._core if at.module is self.model else at.module
        settings = resolve(module, call)
        refuse_unmeasurable(settings, call, self.device, assisted=self.assisted)
        if self._decoding is not self._core:
            refuse_unmeasurable(resolve(self._decoding, call), call, self.device, assisted=self.assisted)
        drafts = is_assisted(settings, call)
        if drafts:
            check_assisted(module, settings, call)
        try:
            clock = self._clocks.pop()
        except IndexError:  # another thread's call has it
            clock = clock_for(self.device)
        # A generate() that the user has put there may stop the model's own earlier.
        last_step = certain_length(module, settings, call) if at.own is None else None
        make = AssistedProbes if drafts else Probes
        probes = make(module, self.anatomy, clock, per_token=self.per_token, last_step=last_step)
        if isinstance(probes, AssistedProbes):
            call["stopping_criteria"] = StoppingCriteriaList([*(call.get("stopping_criteria") or ()), probes.criterion])
        if at.takes_processors:
            call["logits_processor"] = LogitsProcessorList([*(call.get("logits_processor") or ()), probes])
        if self.per_token:
            clock.reserve((settings.max_new_tokens or 0) + 64)
        watch = Watch(self.device, self._monitor, energy=self.energy, memory=self.memory)
        return _Running(at, module, call, settings, probes, clock, watch, cached_tokens(call))

    def _run(self, running: _Running, original: Callable[..., Any]) -> None:
        """Call generate() between the first mark and the last."""
        thread = get_ident()
        others = list(self._running.values())
        for other in (running, *others) if others else ():
            other.overlapped = True
        call = running.arguments
        self._running[thread] = running
        try:
            with running.watch, running.probes:
                running.probes.start()
                running.returned = original(**call)
                running.probes.take("end")
        finally:
            del self._running[thread]
        if not running.inner:
            running.result = running.returned

    def _inside(self, outer: _Running, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A generate() that the timed generate() has called. The first one is where the tokens are made."""
        probes = outer.probes
        given = list(kwargs.get("logits_processor") or ())
        carried = any(processor is probes for processor in given)
        if probes.logits or (outer.at.takes_processors and not carried):  # a second one, or not for the text
            if carried:
                kwargs = {**kwargs, "logits_processor": LogitsProcessorList([p for p in given if p is not probes])}
            return at.original(*args, **kwargs)
        try:
            call = bind(at.original, args, kwargs)
            settings = resolve(at.module, call)
            probes.follow(at.module, certain_length(at.module, settings, call))
            if not carried:
                call["logits_processor"] = LogitsProcessorList([*given, probes])
        except Exception as error:  # the call goes on without its sample
            probes.error = probes.error or error
            return at.original(*args, **kwargs)
        outer.module, outer.arguments, outer.settings, outer.inner = at.module, call, settings, True
        outer.result = at.original(**call)
        return outer.result

    def _record(self, running: _Running) -> None:
        """Make the sample of a call that has returned."""
        if running.probes.error is not None:
            raise running.probes.error
        around, call, settings = running.watch.circumstances, running.arguments, running.settings
        if around is None:
            raise LaptimeError("what happened around the call could not be read")
        marks = running.clock.resolve()
        times = partition(marks)
        if running.probes.logits > 1 and times.stages.decode_ms is None:
            raise LaptimeError("generate() stopped before the last step it was asked for, and its end was not seen")
        returned = ids_of(running.result)
        rows = generated_rows(returned, rows_begin_at(running.module, call, returned, settings), call, settings)
        tokens = max(len(row) for row in rows)
        forwards = max(0, running.probes.logits - 1)
        flags = [*around.flags, *self._extra_flags]
        if running.overlapped:
            flags.append("overlapped")
        drafted = running.probes.rounds(marks) if isinstance(running.probes, AssistedProbes) else None
        if forwards != tokens - 1 and drafted is None:
            flags.append("forwards-mismatch")
        unassigned = unassigned_ms(marks)
        if unassigned:
            flags.append("unassigned-encoder")
        config = self._config
        if not self._config_given:
            config = {**config, **ran(settings), **(how_drafted(settings, call) if drafted is not None else {})}
        with self._recording:
            sample_id, repeat = self._next_key()
            sample = Sample(
                config_id=config_id(config),
                sample_id=sample_id,
                repeat=repeat,
                worker=self._worker,
                config=config,
                stages=times.stages,
                host_stages=times.host_stages,
                ttft_ms=times.ttft_ms,
                tpot_ms=times.tpot_ms(tokens),
                itl_ms=inter_token(marks) if self.per_token and drafted is None else None,
                output_tokens=tokens,
                decode_forwards=forwards,
                prompt_tokens=prompt_width(call),
                image_tokens=image_tokens(self._core, call, returned),
                batch=len(rows),
                generated_tokens=sum(len(row) for row in rows),
                cut_rows=cut_rows(rows, call, settings),
                preprocess_ms=running.preprocess_ms,
                cached_tokens=running.cached_tokens,
                **({} if drafted is None else msgspec.structs.asdict(drafted)),
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
            self.samples.append(sample)
            self._newest = sample

    def _failed(self, error: Exception, started_unix_ms: float) -> None:
        """Keep why a call that has returned was not measured, and warn of the first one."""
        reason = str(error) if isinstance(error, LaptimeError) else f"{type(error).__name__}: {error}"
        with self._recording:
            sample_id, repeat = self._next_key()
            self._newest = Failure(
                config_id=config_id(self._config),
                sample_id=sample_id,
                repeat=repeat,
                worker=self._worker,
                config=self._config,
                error=reason,
                started_unix_ms=started_unix_ms,
            )
            self.failures.append(self._newest)
        if not self.warned:
            self.warned = True
            with suppress(RuntimeWarning):  # where warnings are errors, the result still goes first
                warnings.warn(
                    f"laptime did not measure a generate() call: {reason}. generate() returned its result; "
                    "StageTimer.failures holds the reason of each such call",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _next_key(self) -> tuple[str, int]:
        """The sample's name and its repeat: no two samples of a run may have both in common."""
        name, repeat = self._sample_id, self._repeat
        if name is None:
            name, repeat = str(len(self.samples) + len(self.failures)), 0
        while (name, repeat) in self._keys:
            repeat += -1 if repeat < 0 else 1
        self._keys.add((name, repeat))
        return name, repeat
