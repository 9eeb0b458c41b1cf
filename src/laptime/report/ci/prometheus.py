"""A run as metrics in Prometheus' text format, a set for each configuration: for a textfile collector or a gateway.

Figures are those that laptime's own reports use: flagged samples are left out and counted. Times are seconds, as
Prometheus wants them. A summary has the quantiles 0.5, 0.95 and 0.99 of a call's times, their sum and their count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from laptime.data.record import STAGES, Sample
from laptime.data.run_folder import Run
from laptime.data.usable import usable
from laptime.errors import LaptimeError
from laptime.report.kit.text import printable

QUANTILES = (0.5, 0.95, 0.99)
LABEL_KNOBS = 12
"""At most so many knobs of a configuration are labels; config_id tells configurations apart all the same."""

Labels = dict[str, str]


def prometheus_text(run: Run) -> bytes:
    """The metrics of a run. Raises LaptimeError for a run without samples."""
    if not run.samples:
        raise LaptimeError(f"{run.path}: there are no samples to export")
    configs: dict[str, list[Sample]] = {}
    for sample in run.samples:
        configs.setdefault(sample.config_id, []).append(sample)
    groups = [(_labels(samples[0], run), samples, usable(samples)[0]) for samples in configs.values()]
    lines = [
        *_head("laptime_samples", "gauge", "Measured calls by whether figures use them; flagged ones are left out."),
        *_used(groups),
        *_head("laptime_stage_seconds", "summary", "Time of a call in each stage; the stages sum to total."),
        *_stages(groups),
    ]
    for name, field, words in (
        ("laptime_time_to_first_token_seconds", "ttft_ms", "Start of the call to the first token chosen."),
        ("laptime_time_per_output_token_seconds", "tpot_ms", "Mean gap between the tokens of a call."),
    ):
        lines += [*_head(name, "summary", words), *_figure(groups, name, field)]
    lines += _head("laptime_output_tokens", "summary", "Output tokens of a call, over all rows.")
    for labels, _, used in groups:
        lines += _summary("laptime_output_tokens", labels, [float(sample.generated_tokens) for sample in used])
    return ("\n".join(lines) + "\n").encode()


Groups = Sequence[tuple[Labels, list[Sample], list[Sample]]]


def _used(groups: Groups) -> Iterable[str]:
    for labels, samples, used in groups:
        yield _line("laptime_samples", {**labels, "state": "used"}, len(used))
        yield _line("laptime_samples", {**labels, "state": "left_out"}, len(samples) - len(used))


def _stages(groups: Groups) -> Iterable[str]:
    for labels, _, used in groups:
        for stage in (*STAGES, "total"):
            seconds = [ms / 1000 for sample in used if (ms := sample.stages.stage(stage)) is not None]
            if any(seconds):
                yield from _summary("laptime_stage_seconds", {**labels, "stage": stage}, seconds)


def _figure(groups: Groups, name: str, field: str) -> Iterable[str]:
    for labels, _, used in groups:
        values = [getattr(sample, field) for sample in used]
        yield from _summary(name, labels, [value / 1000 for value in values if value is not None])


def _summary(name: str, labels: Labels, values: Sequence[float]) -> Iterable[str]:
    if not values:
        return
    for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True):
        yield _line(name, {**labels, "quantile": f"{share:g}"}, float(value))
    yield _line(f"{name}_sum", labels, float(np.sum(values)))
    yield _line(f"{name}_count", labels, len(values))


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{written}}} {value!r}"


def _labels(sample: Sample, run: Run) -> Labels:
    model = sample.config.get("model") or run.info.config.get("model") or ""
    knobs = {f"knob_{_name(name)}": str(value) for name, value in sorted(sample.config.items()) if name != "model"}
    return {
        "model": str(model),
        "gpu": run.info.environment.gpu or "",
        "config_id": sample.config_id,
        **dict(list(knobs.items())[:LABEL_KNOBS]),
    }


def _name(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)


def _escaped(text: str) -> str:
    return printable(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
