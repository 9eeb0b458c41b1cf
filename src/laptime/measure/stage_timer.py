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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, get_ident
from types import TracebackType
from typing import Any

import torch

from laptime.data.record import Failure, Flag, Sample, Scalar, config_id
from laptime.data.run_folder import RunFolder, new_info
from laptime.data.summary import Summary, summarise
from laptime.errors import LaptimeError
from laptime.measure.call_sample import Label, sample_of, what_ran
from laptime.measure.call_settings import image_placeholders
from laptime.measure.clock import Clock, clock_for
from laptime.measure.environment import describe
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.model_facts import check_timeable, config_of, only_device
from laptime.measure.stand_in import StandIn, anatomy_of, core_of, decoding_part, stand_in, step_aside
from laptime.measure.timed_call import TimedCall, TimedModel, prepare_call
from laptime.models.anatomy import Anatomy


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
        core = core_of(model)[0]
        device = only_device(model)
        self._timed_model = TimedModel(
            model=model,
            core=core,
            decoding=decoding_part(core)[0],
            anatomy=anatomy_of(model, vision=vision, projector=projector, language=language),
            device=device,
            placeholders=image_placeholders(core),
            monitor=GpuMonitor.open(device),
            per_token=per_token,
            energy=energy,
            memory=memory,
            assisted=assisted,
        )
        self.samples: list[Sample] = []
        self.failures: list[Failure] = []
        self.warned = False  # of a failure; who reads `last` after each call gets it from there
        self._config = config_of(model) if config is None else dict(config)
        self._config_given = config is not None
        self._config_id = config_id(self._config)
        self._configs: dict[tuple[tuple[str, Scalar], ...], tuple[dict[str, Scalar], str]] = {}  # by what ran
        self._worker = worker
        self._clocks: list[Clock] = [clock_for(device)]
        self._sample_id: str | None = None
        self._repeat = 0
        self._keys: set[tuple[str, int]] = set()
        self._extra_flags: list[Flag] = []
        self._running: dict[int, TimedCall] = {}  # by thread
        self._preprocess_ms: dict[int, float] = {}  # by thread
        self._newest: Sample | Failure | None = None
        self._recording = Lock()

    @property
    def model(self) -> Any:
        """The model that is timed."""
        return self._timed_model.model

    @property
    def anatomy(self) -> Anatomy:
        """The parts of the model on which marks are taken."""
        return self._timed_model.anatomy

    @property
    def device(self) -> torch.device:
        """The device that holds the model."""
        return self._timed_model.device

    @property
    def last(self) -> Sample:
        """The sample of the newest call. Raises LaptimeError before the first call, or where it wasn't measured."""
        if self._newest is None:
            raise LaptimeError(
                "no generate() call was timed yet; call model.generate() inside the with block (a generate that was "
                "taken from the model before it goes past the timer)"
            )
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
        session: dict[str, Scalar] = {"method": "direct", "per_token": self._timed_model.per_token}
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
            return outer.enter(at, args, kwargs)
        started_unix_ms = time.time() * 1e3
        preprocess_ms = self._preprocess_ms.pop(get_ident(), None)
        try:
            clock = self._clocks.pop()
        except IndexError:  # another thread's call has it
            clock = clock_for(self.device)
        try:
            try:
                call = prepare_call(self._timed_model, clock, at, args, kwargs)
            except LaptimeError:
                raise
            except Exception as error:  # perhaps generate() takes what we don't know, or says what is wrong with it
                result = at.original(*args, **kwargs)
                self._failed(error, started_unix_ms, self._next_key())
                return result
            call.preprocess_ms = preprocess_ms
            self._run(call)
            key = self._next_key()
            try:
                self._record(call, key)
            except Exception as error:  # the user's result goes before our sample
                self._failed(error, started_unix_ms, key)
        finally:
            self._clocks.append(clock)  # its marks were read: the next call can have it
        return call.returned

    def _run(self, call: TimedCall) -> None:
        """Run the call, so that calls inside it and beside it know of it."""
        thread = get_ident()
        others = list(self._running.values())
        self._running[thread] = call
        try:
            call.run(others)
        finally:
            del self._running[thread]

    def _record(self, call: TimedCall, key: tuple[str, int]) -> None:
        """Keep the sample of a call that has returned."""
        config, known_as = self._recorded_under(call)
        label = Label(*key, self._worker, config, known_as)
        sample = sample_of(call, self._timed_model, label, self._extra_flags)
        with self._recording:
            self.samples.append(sample)
            self._newest = sample

    def _recorded_under(self, call: TimedCall) -> tuple[dict[str, Scalar], str]:
        """The configuration of a call, and its hash, which is made once for each way of calling."""
        if self._config_given:
            return self._config, self._config_id
        facts = what_ran(call, self._timed_model)
        key = tuple(facts.items())
        if key not in self._configs:
            config = {**self._config, **facts}
            self._configs[key] = config, config_id(config)
        return self._configs[key]

    def _failed(self, error: Exception, started_unix_ms: float, key: tuple[str, int]) -> None:
        """Keep why a call that has returned was not measured, and warn of the first one."""
        reason = str(error) if isinstance(error, LaptimeError) else f"{type(error).__name__}: {error}"
        sample_id, repeat = key
        with self._recording:
            self._newest = Failure(
                config_id=self._config_id,
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
        with self._recording:
            name, repeat = self._sample_id, self._repeat
            if name is None:
                name, repeat = str(len(self._keys)), 0
            while (name, repeat) in self._keys:
                repeat += -1 if repeat < 0 else 1
            self._keys.add((name, repeat))
            return name, repeat
