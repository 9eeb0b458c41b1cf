"""A run as a comparison needs it: a fraction of the memory that laptime.data.run_folder.load_run takes.

Marks, token ids, texts and gaps between tokens are left out, and samples of one configuration share it.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from laptime.data.frame import read_blocks
from laptime.data.outside import DAMAGE
from laptime.data.record import Flag, Real, Sample, Scalar, StageTimes, UnixMs, Whole
from laptime.data.run_folder import FILES, Run, load_run, read_info, with_repeated_keys_flagged
from laptime.errors import LaptimeError


class ComparedSample(msgspec.Struct, kw_only=True, gc=False):
    """The fields of a Sample that a comparison reads, by the same names."""

    config_id: str
    sample_id: str
    repeat: Whole
    config: Any
    stages: StageTimes
    output_tokens: Whole | None = None
    prompt_tokens: Whole | None = None
    image_tokens: Whole | None = None
    batch: Whole = 1
    started_unix_ms: UnixMs = 0.0
    energy_j: Real | None = None
    flags: list[Flag] = []

    @property
    def key(self) -> tuple[str, str, int]:
        """As Sample.key."""
        return (self.config_id, self.sample_id, self.repeat)

    @property
    def decode_per_token_ms(self) -> float | None:
        """As Sample.decode_per_token_ms."""
        if self.stages.decode_ms is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return None if "forwards-mismatch" in self.flags else self.stages.decode_ms / (self.output_tokens - 1)


class _Line(ComparedSample, kw_only=True, gc=False):
    """A line as it is decoded: its configuration stays as it is written."""

    config: msgspec.Raw


def load_compared(path: str | Path) -> Run:
    """A run folder whose samples have what a comparison reads, and nothing else; so its summary has less, too.

    Raises LaptimeError as load_run does.
    """
    folder = Path(path)
    info = read_info(folder)
    was_on = gc.isenabled()
    gc.disable()  # millions of samples that are in no cycle
    try:
        samples = _samples(folder)
    finally:
        if was_on:
            gc.enable()
    return Run(
        path=str(folder),
        info=info,
        samples=with_repeated_keys_flagged(cast(list[Sample], samples)),
        failures=[],
        subtractions=[],
        sessions=[],
        workers=[],
        dropped_tails=[],
    )


def _samples(folder: Path) -> list[ComparedSample]:
    decoder = msgspec.json.Decoder(_Line)
    configs: dict[bytes, dict[str, Scalar]] = {}
    samples: list[ComparedSample] = []
    for file in sorted(folder.glob(f"{FILES[Sample]}-*.jsonl")):
        for block in read_blocks(file):
            try:
                for line in decoder.decode_lines(block):
                    written = bytes(line.config)
                    if written not in configs:
                        configs[written] = msgspec.json.decode(written, type=dict[str, Scalar])
                    samples.append(
                        ComparedSample(
                            config_id=sys.intern(line.config_id),
                            sample_id=sys.intern(line.sample_id),
                            repeat=line.repeat,
                            config=configs[written],
                            stages=line.stages,
                            output_tokens=line.output_tokens,
                            prompt_tokens=line.prompt_tokens,
                            image_tokens=line.image_tokens,
                            batch=line.batch,
                            started_unix_ms=line.started_unix_ms,
                            energy_j=line.energy_j,
                            flags=line.flags,
                        )
                    )
            except DAMAGE as error:  # noqa: PERF203 - once a block
                load_run(folder)  # says the line
                raise LaptimeError(f"{file}: not records of laptime ({error}); remove that line") from error
    return samples
