"""The sample of a call that has returned: its marks become stages, its ids become counts."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from transformers import GenerationConfig

from laptime.data.record import Flag, Sample, Scalar
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes, how_drafted
from laptime.measure.call_settings import (
    cut_rows,
    generated_rows,
    ids_of,
    image_tokens,
    prompt_ids,
    prompt_width,
    ran,
    rows_begin_at,
    token_limit,
)
from laptime.measure.model_facts import how_it_runs
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
    probes, arguments = call.probes, call.arguments
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
    asked = _asked(call, returned)
    rows = generated_rows(returned, asked.start, arguments, asked.settings)
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
        prompt_tokens=asked.prompt_tokens,
        image_tokens=image_tokens(timed.core, timed.placeholders, arguments, returned),
        batch=len(rows),
        generated_tokens=sum(len(row) for row in rows),
        cut_rows=cut_rows(rows, asked.limit, arguments, asked.settings),
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


def what_ran(call: TimedCall, timed: TimedModel) -> dict[str, Scalar]:
    """Precision and attention, and the settings that differ from greedy search with the dynamic cache."""
    drafted = how_drafted(call.settings, call.arguments) if isinstance(call.probes, AssistedProbes) else {}
    return {**how_it_runs(timed.core), **ran(call.settings, call.arguments), **drafted}


class _Asked(NamedTuple):
    """What a call was asked for, read from its arguments and from the rows that it returned."""

    settings: GenerationConfig
    prompt_tokens: int
    start: int  # where the new ids of a row begin
    limit: int | None  # on the new tokens of a row


def _asked(call: TimedCall, returned: list[list[int]]) -> _Asked:
    """What the call names, or what the loop inside was handed where a generate() has a signature of its own."""
    arguments, settings, joined = call.arguments, call.settings, call.probes.joined
    named = prompt_ids(arguments) is not None or arguments.get("inputs_embeds") is not None
    if joined is None or named or call.inner or getattr(call.module.config, "is_encoder_decoder", False):
        start = rows_begin_at(call.module, arguments, returned, settings)
        limit = token_limit(call.module, arguments, settings, start)
        return _Asked(settings, prompt_width(arguments), start, limit)
    settings, width = joined
    longest = max(map(len, returned))
    with_prompt = abs(longest - width - call.probes.logits) < abs(longest - call.probes.logits)
    limit = None if settings.max_length is None else settings.max_length - width
    return _Asked(settings, width, width if with_prompt else 0, limit)
