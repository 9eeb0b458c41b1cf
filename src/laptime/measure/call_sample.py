"""The sample of a call that has returned: its marks become stages, its ids become counts."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from laptime.data.record import Flag, Sample, Scalar
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes, how_drafted
from laptime.measure.call_settings import (
    cut_rows,
    generated_rows,
    ids_of,
    image_tokens,
    prompt_width,
    ran,
    rows_begin_at,
)
from laptime.measure.timed_call import TimedCall, TimedModel
from laptime.measure.timeline import inter_token, partition, unassigned_ms


class Label(NamedTuple):
    """What a sample is recorded under. No two samples of a run have the same sample_id and repeat."""

    sample_id: str
    repeat: int
    worker: str
    config: dict[str, Scalar]
    config_id: str


def sample_of(call: TimedCall, timed: TimedModel, label: Label, flags: list[Flag]) -> Sample:
    """Make the sample. Raises LaptimeError where the call's marks or ids don't tell what happened.

    flags: what was known of the call before it ran.
    """
    probes, arguments, settings = call.probes, call.arguments, call.settings
    if probes.error is not None:
        raise probes.error
    around = call.watch.circumstances
    if around is None:
        raise LaptimeError("what happened around the call could not be read")
    marks = call.clock.resolve()
    times = partition(marks)
    if probes.logits > 1 and times.stages.decode_ms is None:
        raise LaptimeError("generate() stopped before the last step it was asked for, and its end was not seen")
    returned = ids_of(call.result)
    rows = generated_rows(returned, rows_begin_at(call.module, arguments, returned, settings), arguments, settings)
    tokens = max(len(row) for row in rows)
    forwards = max(0, probes.logits - 1)
    flags = [*around.flags, *flags]
    if call.overlapped:
        flags.append("overlapped")
    drafted = probes.rounds(marks) if isinstance(probes, AssistedProbes) else None
    if forwards != tokens - 1 and drafted is None:
        flags.append("forwards-mismatch")
    unassigned = unassigned_ms(marks)
    if unassigned:
        flags.append("unassigned-encoder")
    return Sample(
        config_id=label.config_id,
        sample_id=label.sample_id,
        repeat=label.repeat,
        worker=label.worker,
        config=label.config,
        stages=times.stages,
        host_stages=times.host_stages,
        ttft_ms=times.ttft_ms,
        tpot_ms=times.tpot_ms(tokens),
        itl_ms=inter_token(marks) if timed.per_token and drafted is None else None,
        output_tokens=tokens,
        decode_forwards=forwards,
        prompt_tokens=prompt_width(arguments),
        image_tokens=image_tokens(timed.core, timed.placeholders, arguments, returned),
        batch=len(rows),
        generated_tokens=sum(len(row) for row in rows),
        cut_rows=cut_rows(rows, arguments, settings),
        preprocess_ms=call.preprocess_ms,
        cached_tokens=call.cached_tokens,
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


def what_ran(call: TimedCall) -> dict[str, Scalar]:
    """The settings that differ from greedy search with the dynamic cache, by whoever decided them."""
    drafted = how_drafted(call.settings, call.arguments) if isinstance(call.probes, AssistedProbes) else {}
    return {**ran(call.settings), **drafted}
