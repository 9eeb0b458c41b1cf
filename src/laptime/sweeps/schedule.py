"""The order in which a sweep measures: interleaved rounds, each with all configurations in a new random order.

A round visits every configuration once and measures the same share of (sample, repeat) pairs there. So whatever drifts
while the sweep runs (heat, clocks) meets every configuration alike and can't look like an effect of a knob.
Configurations of one dtype stand together within a round, because another dtype loads the model again; both their
groups and the configurations in a group are in random order. The order depends only on the plan and its seed, so a
resumed sweep goes on in the same order.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Sequence

import msgspec

from laptime.data.record import Failure, Sample, Scalar, WorkerStart
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.plan import Key, SweepPlan

Pair = tuple[str, int]
"""(sample_id, repeat)."""


class Visit(msgspec.Struct, frozen=True, kw_only=True, tag="visit"):
    """One configuration's turn in one round.

    The repeats of its warm-up calls are `cold_repeat`, `cold_repeat - cold_step`, ... No other round has the same ones.
    """

    round: int
    config_id: str
    config: dict[str, Scalar]
    pairs: list[Pair]
    cold_repeat: int
    cold_step: int

    @property
    def keys(self) -> list[Key]:
        """The keys it will measure."""
        return [(self.config_id, sample_id, repeat) for sample_id, repeat in self.pairs]


def visits(plan: SweepPlan) -> list[Visit]:
    """All visits of a sweep from its beginning, in order."""
    shares = _shares(plan)
    order: list[Visit] = []
    for number, share in enumerate(shares):
        draw = random.Random(f"{plan.seed}/{number}")  # noqa: S311 - an order, no secret
        groups: dict[Scalar, list[int]] = {}
        for index, configuration in enumerate(plan.configs):
            groups.setdefault(configuration.config.get("dtype"), []).append(index)
        names = list(groups)
        draw.shuffle(names)
        for name in names:
            draw.shuffle(groups[name])
            for index in groups[name]:
                pairs = list(share)
                draw.shuffle(pairs)
                chosen = plan.configs[index]
                order.append(
                    Visit(
                        round=number,
                        config_id=chosen.config_id,
                        config=chosen.config,
                        pairs=pairs,
                        cold_repeat=-1 - number,
                        cold_step=len(shares),
                    )
                )
    return order


def remaining(order: Sequence[Visit], done: Collection[Key], seen: Iterable[Key]) -> list[Visit]:
    """The visits that are left, with the pairs that each still has to measure.

    done: keys that are not measured again. seen: keys of all samples in the folder, warm-ups included.
    """
    lowest: dict[tuple[str, int], int] = {}
    step = order[0].cold_step if order else 1
    for config_id, _, repeat in seen:
        if repeat < 0:
            at = (config_id, (-1 - repeat) % step)
            lowest[at] = min(lowest.get(at, 0), repeat)
    left: list[Visit] = []
    for visit in order:
        pairs = [pair for pair, key in zip(visit.pairs, visit.keys, strict=True) if key not in done]
        if pairs:
            cold = lowest.get((visit.config_id, visit.round))
            begin = visit.cold_repeat if cold is None else cold - step
            left.append(msgspec.structs.replace(visit, pairs=pairs, cold_repeat=begin))
    return left


def _shares(plan: SweepPlan) -> list[list[Pair]]:
    """All (sample, repeat) pairs, repeat by repeat, divided into rounds of nearly equal size."""
    pairs = [(sample_id, repeat) for repeat in range(plan.repeats) for sample_id in plan.samples]
    rounds = min(plan.rounds, len(pairs))
    cuts = [len(pairs) * number // rounds for number in range(rounds + 1)]
    return [pairs[begin:end] for begin, end in itertools.pairwise(cuts)]


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
