"""What goes between a sweep's driver and its workers: values as MessagePack, never pickles.

A worker gets one WorkerSetup, then Visits. It answers with a Started, and for each visit with records as they are
finished and one VisitEnd.
"""

from __future__ import annotations

import msgspec

from laptime.data.record import Failure, Sample, WorkerStart
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.schedule import Visit


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True, tag="setup"):
    """What a worker must know before it begins."""

    worker: str
    sweep_config: SweepConfig
    device: str
    share: int = 0  # its place among the `shares` workers of its machine that divide the cores
    shares: int = 1
    visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES, set before the device is first used


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The worker has started."""

    start: WorkerStart


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """One finished sample, of the warm-up too."""

    sample: Sample


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """One key that could not be measured. `config_failed`: no sample of its configuration can be."""

    failure: Failure
    config_failed: bool


class VisitEnd(msgspec.Struct, frozen=True, kw_only=True, tag="visit-end"):
    """A visit is over. `broken`: the device has an error that only a new process gets rid of."""

    config_id: str
    warmups: int
    steady: bool
    seconds: float
    broken: bool = False


Message = Started | Measured | Failed | VisitEnd

encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_order = msgspec.msgpack.Decoder(WorkerSetup | Visit).decode
