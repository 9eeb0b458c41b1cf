"""What goes between a sweep's driver and its workers: values as MessagePack, never pickles.

A worker gets one Hire, then Visits. It answers with a Started, and for each visit with records as they are finished
and one VisitEnd.
"""

from __future__ import annotations

import msgspec

from laptime.data.record import Failure, Sample, WorkerStart
from laptime.sweeps.config import Campaign
from laptime.sweeps.schedule import Visit


class Hire(msgspec.Struct, frozen=True, kw_only=True, tag="hire"):
    """What a worker needs to know to begin."""

    worker: str
    campaign: Campaign
    device: str
    share: int = 0  # this worker's place among `shares` on its machine, which share the processor's cores
    shares: int = 1
    visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES, set before the device is first used


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The worker is up."""

    start: WorkerStart


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """One finished sample, the warm-up's too."""

    sample: Sample


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """One key that could not be measured. `config_failed`: the configuration as a whole can't."""

    failure: Failure
    config_failed: bool


class VisitEnd(msgspec.Struct, frozen=True, kw_only=True, tag="visit-end"):
    """A visit is over. `broken`: the device is in a state that this process can't leave."""

    config_id: str
    warmups: int
    steady: bool
    seconds: float
    broken: bool = False


Message = Started | Measured | Failed | VisitEnd

encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_order = msgspec.msgpack.Decoder(Hire | Visit).decode
