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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import Any

import torch

from laptime.data.record import Failure, Flag, Sample, Scalar
from laptime.data.run_folder import RunFolder, new_info
from laptime.data.summary import Summary, summarise
from laptime.errors import LaptimeError
from laptime.measure.call_settings import image_placeholders
from laptime.measure.clock import Clock, clock_for
from laptime.measure.environment import describe
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.model_facts import check_timeable, config_of, only_device
from laptime.measure.records import Records
from laptime.measure.returned_call import returned_call
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
        self._worker = worker
        self._clocks: list[Clock] = [clock_for(device)]
        self._records = Records(
            self._timed_model,
            config_of(model) if config is None else dict(config),
            given=config is not None,
            worker=worker,
            clocks=self._clocks,
        )
        self._running: dict[int, TimedCall] = {}  # by thread
        self._preprocess_ms: dict[int, float] = {}  # by thread

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
    def samples(self) -> list[Sample]:
        """A sample of each call that was measured, in the order of their ends."""
        return self._records.build().samples

    @property
    def failures(self) -> list[Failure]:
        """Why a call that has returned was not measured, for each such call."""
        return self._records.build().failures

    @property
    def last(self) -> Sample:
        """The sample of the newest call. Raises LaptimeError before the first call, or where it wasn't measured."""
        newest = self._records.build().newest
        if newest is None:
            raise LaptimeError(
                "no generate() call was timed yet; call model.generate() inside the with block (a generate that was "
                "taken from the model before it goes past the timer)"
            )
        if isinstance(newest, Failure):
            raise LaptimeError(f"the newest generate() call was not measured: {newest.error}")
        return newest

    def warn_no_more(self) -> None:
        """Warn of no failure: who reads `last` after each call gets it from there."""
        self._records.warned = True

    def label(self, sample_id: str, repeat: int = 0, flags: tuple[Flag, ...] = ()) -> None:
        """Name the calls that follow. Without it they are named "0", "1", ... in their order.

        repeat: of the next call with this name; further calls with it get the next free numbers. A negative one is a
        warm-up.
        flags: what is known about these calls, such as "cold".
        """
        self._records.label(sample_id, repeat, flags)

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
        self._records.build()

    def _timed(self, at: StandIn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One generate() call of the model or of a part of it."""
        outer = self._running.get(get_ident())
        if outer is not None:
            return outer.enter(at, args, kwargs)
        records = self._records.build()  # before this call's first mark, and its clock is free again
        started_unix_ms = time.time() * 1e3
        preprocess_ms = self._preprocess_ms.pop(get_ident(), None)
        try:
            clock = self._clocks.pop()
        except IndexError:  # another thread's call has it
            clock = clock_for(self.device)
        kept = False
        try:
            try:
                call = prepare_call(self._timed_model, clock, at, args, kwargs)
            except LaptimeError:
                raise
            except Exception as error:  # perhaps generate() takes what we don't know, or says what is wrong with it
                result = at.original(*args, **kwargs)
                records.failed(error, started_unix_ms, records.next_key())
                return result
            call.preprocess_ms = preprocess_ms
            self._run(call)
            key = records.next_key()
            try:
                records.keep(returned_call(call, self._timed_model, key, records.flags))
                kept = True
            except Exception as error:  # the user's result goes before our sample
                records.failed(error, started_unix_ms, key)
        finally:
            if not kept:
                self._clocks.append(clock)
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
