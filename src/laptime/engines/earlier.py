"""What an earlier, killed run of the same loads has finished, so that only the rest is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from laptime.data.record import Scalar
from laptime.data.run_folder import load_run
from laptime.engines.client import LoadRun
from laptime.engines.loads import Load
from laptime.engines.request import RequestSample, read_requests
from laptime.errors import LaptimeError


@dataclass(frozen=True)
class Earlier:
    """The requests that ended before, and those of them whose sample was not yet on the disk."""

    requests: list[RequestSample] = field(default_factory=list)
    without_sample: list[RequestSample] = field(default_factory=list)

    def of(self, load: Load) -> list[RequestSample]:
        """Those of a load, without warm-up."""
        return [one for one in self.requests if one.load == load.name and one.repeat >= 0]

    @property
    def next_number(self) -> int:
        """The first number of a made-up prompt that no earlier request has."""
        numbers = [one.request_id.rpartition("-")[2] for one in self.requests]
        return max((int(number) + 1 for number in numbers if number.isdecimal()), default=len(self.requests))

    @property
    def repeats(self) -> Counter[tuple[str, str]]:
        """How often each question was asked under each load."""
        return Counter((one.request_id, "warm-up" if one.repeat < 0 else one.load) for one in self.requests)


def read_earlier(folder: Path, config: Mapping[str, Scalar]) -> Earlier:
    """Read a folder to go on with; nothing where there is none. Raises LaptimeError where it asked for other things."""
    if not (folder / "run.json").exists():
        return Earlier()
    run = load_run(folder)
    before = {name: value for name, value in run.info.config.items() if value is not None}
    now = {name: value for name, value in config.items() if value is not None}
    if before != now:
        differing = ", ".join(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))
        raise LaptimeError(f"`resume` {folder}: its run asked otherwise ({differing}); repeat that command's options")
    requests = read_requests(folder)
    on_disk = Counter((one.sample_id, one.repeat) for one in run.samples)
    on_disk.update((one.sample_id, one.repeat) for one in run.failures)
    lacking: list[RequestSample] = []
    for one in reversed(requests):  # samples are written in the order of requests, so the newest lack theirs
        key = (one.request_id, one.repeat)
        if on_disk[key]:
            on_disk[key] -= 1
        else:
            lacking.append(one)
    return Earlier(requests, lacking[::-1])


def rest_of(load: Load, done: int) -> Load:
    """What is left of a load once so many of its requests ended; recorded arrivals keep their distances."""
    left = load.arrivals_s[done:]
    shifted = [arrival - left[0] for arrival in left] if left else []
    return msgspec.structs.replace(load, requests=max(0, load.requests - done), arrivals_s=shifted)


def together(before: Sequence[RequestSample], run: LoadRun) -> LoadRun:
    """Both parts of a load as one. Its length is the sum of the parts' lengths, without the pause."""
    if not before:
        return run
    span_ns = max(one.done.ns for one in before) - min(one.due.ns for one in before)
    return LoadRun([*before, *run.requests], run.lateness_ms, run.span_s + span_ns / 1e9)
