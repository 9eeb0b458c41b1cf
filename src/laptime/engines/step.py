"""One step of a serving engine: which requests were in it, with how many tokens, and when. Unknown is None, never 0."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.data.outside import DAMAGE, read_part
from laptime.errors import LaptimeError


class NewRow(msgspec.Struct, frozen=True, array_like=True):
    """A request that a worker sees for the first time: later rows name it by its number.

    cached: tokens of its prompt that needed no computing, since a prefix cache had them.
    """

    number: int
    request_id: str
    prompt_tokens: int
    cached: int


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A request's part of a step: its tokens, whether they belong to its prompt, and its images that were encoded."""

    number: int
    tokens: int
    prefill: bool
    images: int = 0


class StepSample(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one worker, in perf_counter_ns of its host.

    begin, end and the pairs are on the device's timeline, placed on the host's clock; on a CPU they are the host's.
    host_begin, host_end: when the host began and ended to give the work out. encoder, forward, sample: None where the
    step had none of it, or where this kind of worker shows none.
    """

    number: int
    rank: int
    rows: list[Row]
    new: list[NewRow] = []
    begin: int
    end: int
    host_begin: int
    host_end: int
    encoder: tuple[int, int] | None = None
    forward: tuple[int, int] | None = None
    sample: tuple[int, int] | None = None

    @property
    def tokens(self) -> int:
        """All tokens of the step."""
        return sum(row.tokens for row in self.rows)

    @property
    def mixed(self) -> bool:
        """Whether it held prompts of some requests and decoding of others."""
        return any(row.prefill for row in self.rows) and not all(row.prefill for row in self.rows)


def read_steps(folder: str | Path) -> dict[int, list[StepSample]]:
    """The steps that a folder holds (steps-*.jsonl), by rank; a half-written last line is left out.

    Raises LaptimeError for a damaged line, and for two workers of one rank.
    """
    decoder = msgspec.json.Decoder(StepSample)
    steps: dict[int, list[StepSample]] = {}
    for file in sorted(Path(folder).glob("steps-*.jsonl")):
        content = read_part(file)
        try:
            lines = decoder.decode_lines(content[: content.rfind(b"\n") + 1])
        except DAMAGE as error:
            raise LaptimeError(f"{file}: not steps of laptime ({error}); remove that line") from error
        for rank in {step.rank for step in lines}:
            if rank in steps:
                raise LaptimeError(f"{folder}: two servers wrote there; name a new folder for each start of a server")
            steps[rank] = [step for step in lines if step.rank == rank]
    return steps
