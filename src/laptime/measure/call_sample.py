"""The sample of a call that has returned: its marks become stages, its ids become counts."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from transformers import GenerationConfig

from laptime.data.record import Sample, Scalar
from laptime.errors import LaptimeError
from laptime.measure.assisted import AssistedProbes
from laptime.measure.call_settings import image_tokens, ran
from laptime.measure.returned_call import ReturnedCall
from laptime.measure.returned_rows import (
    cut_rows,
    generated_rows,
    is_encoder_decoder,
    rows_begin_at,
    token_limit,
)
from laptime.measure.timed_call import TimedModel
from laptime.measure.timeline import inter_token, partition, unassigned_ms


class RecordedUnder(NamedTuple):
    """The configuration that a sample is recorded under, its hash, and the worker that measured it."""

    config: dict[str, Scalar]
    config_id: str
    worker: str


def sample_of(call: ReturnedCall, timed: TimedModel, under: RecordedUnder) -> Sample:
    """Make the sample. Raises LaptimeError where the call's marks or ids don't tell what happened."""
    probes, around = call.probes, call.around
    marks = call.clock.resolve()
    times = partition(marks)
    if probes.logits > 1 and times.stages.decode_ms is None:
        raise LaptimeError("generate() stopped before the last step it was asked for, and its end was not seen")
    returned: list[list[int]] = call.ids.tolist()
    counted = _counted(call, returned)
    rows = generated_rows(returned, counted.start, call.asked, counted.settings)
    tokens = max(len(row) for row in rows)
    forwards = max(0, probes.logits - 1)
    flags = [*around.flags, *call.flags]
    drafted = probes.rounds(marks) if isinstance(probes, AssistedProbes) else None
    if forwards != tokens - 1 and drafted is None:
        flags.append("forwards-mismatch")
    unassigned = unassigned_ms(marks)
    if unassigned:
        flags.append("unassigned-encoder")
    return Sample(
        config_id=under.config_id,
        sample_id=call.key[0],
        repeat=call.key[1],
        worker=under.worker,
        config=under.config,
        stages=times.stages,
        host_stages=times.host_stages,
        ttft_ms=times.ttft_ms,
        tpot_ms=times.tpot_ms(tokens),
        itl_ms=inter_token(marks) if timed.per_token and drafted is None else None,
        output_tokens=tokens,
        decode_forwards=forwards,
        prompt_tokens=counted.prompt_tokens,
        image_tokens=image_tokens(timed.placeholders, _prompt(call, returned)),
        batch=len(rows),
        generated_tokens=sum(len(row) for row in rows),
        cut_rows=cut_rows(rows, counted.limit, call.asked, counted.settings),
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


def what_ran(call: ReturnedCall) -> dict[str, Scalar]:
    """Precision and attention, and the settings that differ from greedy search with the dynamic cache."""
    return {**call.how, **ran(call.settings, call.cache)}


class _Counted(NamedTuple):
    """By what the new tokens of a call are counted."""

    settings: GenerationConfig
    prompt_tokens: int
    start: int  # where the new ids of a row begin
    limit: int | None  # on the new tokens of a row


def _counted(call: ReturnedCall, returned: list[list[int]]) -> _Counted:
    """What the call names, or what the loop inside was handed where a generate() has a signature of its own."""
    asked, settings, joined = call.asked, call.settings, call.probes.joined
    if joined is None or asked.ids or asked.embeddings or call.inner or is_encoder_decoder(call.module):
        start = rows_begin_at(call.module, asked, returned, settings, None if joined is None else joined[1])
        return _Counted(settings, asked.width, start, token_limit(call.module, asked, settings, start))
    settings, width = joined
    longest = max(map(len, returned))
    with_prompt = abs(longest - width - call.probes.logits) < abs(longest - call.probes.logits)
    limit = None if settings.max_length is None else settings.max_length - width
    return _Counted(settings, width, width if with_prompt else 0, limit)


def _prompt(call: ReturnedCall, returned: list[list[int]]) -> list[int]:
    """The ids of the first row's prompt; none where the prompt is not made of ids."""
    if not call.asked.ids:
        return []
    row: list[int] = returned[0] if call.prompt is None else call.prompt.tolist()
    return row[: call.asked.width]
