"""The stages of a call that isn't the model's own generate(): marks between replays give a Sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import LogitsProcessor

from laptime.data.record import Flag, Mark, Sample, Scalar, config_id
from laptime.decoder.decoder import FastDecoder
from laptime.decoder.fast_model import FastModel
from laptime.decoder.prompt import check_prompt
from laptime.decoder.settings import read_settings
from laptime.measure.call_settings import image_placeholders, image_tokens
from laptime.measure.clock import clock_for
from laptime.measure.gpu_monitor import GpuMonitor
from laptime.measure.model_facts import config_of
from laptime.measure.probes import Probes
from laptime.measure.timeline import inter_token, partition
from laptime.measure.watch import Watch
from laptime.models.anatomy import find_anatomy

Run = Callable[[Callable[[str], None], list[LogitsProcessor]], tuple[torch.Tensor, int]]
"""Takes the function that marks and the logits processors for prefill. Returns (prompt and new ids, decode steps)."""


class CallTimer:
    """Times calls on one model and gives one Sample a call. It keeps the clock's events for all of them."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._anatomy = find_anatomy(model)
        self._placeholders = image_placeholders(model)
        self._device = next(model.parameters()).device
        self._clock = clock_for(self._device)
        self._monitor = GpuMonitor.open(self._device)
        self._taken = 0

    def __call__(
        self,
        run: Run,
        prompt: torch.Tensor,
        *,
        per_token: bool = False,
        probed: bool = True,
        answered_by: str | None = None,
        ends: Sequence[int] = (),
    ) -> Sample:
        """Run once and return the sample, with the ids in `output_ids`.

        probed: the model's own modules run, and hooks on them take the marks up to the first logits.
        answered_by: what ran instead of the model's own generate(), for the sample's configuration.
        ends: ids that end a row; what follows them is not counted.
        """
        watch = Watch(self._device, self._monitor)
        probes = Probes(self._model, self._anatomy, self._clock, per_token=per_token, last_step=None)
        with watch, probes if probed else nullcontext():
            self._clock.start()
            ids, steps = run(self._clock.mark, [probes] if probed else [])
            self._clock.mark("end")
            passed = self._clock.resolve()
        around = watch.circumstances
        assert around is not None
        rows = [_up_to_end(row, ends) for row in ids[:, prompt.shape[1] :].tolist()]
        tokens = max(map(len, rows))
        surplus = max(0, steps - (tokens - 1))
        marks = _up_to_last_token(passed, tokens, every=per_token)
        times = partition(marks)
        flags: list[Flag] = [*around.flags]
        if steps < tokens - 1:
            flags.append("forwards-mismatch")
        self._taken += 1
        config: dict[str, Scalar] = {**config_of(self._model), "answered_by": answered_by}
        config = {name: value for name, value in config.items() if value is not None}
        return Sample(
            config_id=config_id(config),
            sample_id=str(self._taken - 1),
            repeat=0,
            worker="0",
            config=config,
            stages=times.stages,
            host_stages=times.host_stages,
            ttft_ms=times.ttft_ms,
            tpot_ms=times.tpot_ms(tokens),
            itl_ms=inter_token(marks) if per_token else None,
            output_tokens=tokens,
            decode_forwards=steps - surplus,
            surplus_forwards=surplus,
            prompt_tokens=int(prompt.shape[1]),
            image_tokens=image_tokens(self._placeholders, prompt[0].tolist() if self._placeholders else []),
            batch=len(rows),
            generated_tokens=sum(len(row) for row in rows),
            started_unix_ms=around.started_unix_ms,
            memory_peak_bytes=around.memory_peak_bytes,
            energy_j=around.energy_j,
            gpu=around.gpu,
            gc_pause_ms=around.gc_pause_ms,
            flags=flags,
            marks=marks,
            output_ids=rows,
        )


def _up_to_last_token(marks: Sequence[Mark], tokens: int, *, every: bool) -> list[Mark]:
    """The marks without those of steps that ran behind the last token. every: keep each step's, else the last one's.

    Their time is in no stage then: they gave no token of the answer.
    """
    at = [place for place, mark in enumerate(marks) if mark.kind == "logits"]
    kept = at[: tokens - 1] if len(at) > 1 or tokens == 1 else at  # a single mark stands behind the last step
    left_out = set(at) - set(kept if every else kept[-1:])
    return [mark for place, mark in enumerate(marks) if place not in left_out]


def _up_to_end(row: list[int], ends: Sequence[int]) -> list[int]:
    """The row with the first token that ends it, and without what follows."""
    return row[: next((place + 1 for place, token in enumerate(row) if token in ends), len(row))]


@torch.no_grad()
def timed_generate(
    decoder: FastDecoder | FastModel,
    input_ids: torch.Tensor,
    *,
    per_token: bool = False,
    timer: CallTimer | None = None,
    **call: Any,
) -> tuple[torch.Tensor, Sample]:
    """decoder.generate() with the stages of the call: (ids, Sample). Marks lie between replays, never in a capture.

    decoder: a FastDecoder or a FastModel.
    per_token: also mark every step, for the time between tokens (ITL).
    timer: one timer for many calls saves making the clock's events again.
    """
    outputs: list[torch.Tensor] = []
    probed = not isinstance(decoder, FastModel) or decoder.why_not(call) is not None

    def run(mark: Callable[[str], None], processors: list[LogitsProcessor]) -> tuple[torch.Tensor, int]:
        ids, steps = decoder.run(input_ids, call, mark=mark, per_token=per_token, processors=processors)
        outputs.append(ids)
        return ids, steps

    check_prompt(input_ids, call.get("attention_mask"))
    ends = read_settings(decoder.model, call, input_ids.shape[1])[0].eos
    timer, by = timer or CallTimer(decoder.model), type(decoder).__name__
    sample = timer(run, input_ids, per_token=per_token, probed=probed, answered_by=by, ends=ends)
    return outputs[0], sample
