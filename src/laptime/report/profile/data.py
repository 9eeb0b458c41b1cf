"""What the scripts of a profile page get: the samples as columns, in the order in which they were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from laptime.data.record import GpuState, Sample
from laptime.data.run_folder import Run
from laptime.data.summary import Summary, itl_band
from laptime.data.usable import usable
from laptime.report.kit.text import shortened
from laptime.report.profile.stage_bar import shown_stages
from laptime.report.profile.subtraction import subtraction_pairs

NAME_LIMIT = 120
TEXT_LIMIT = 200
"""Characters of a sample's name and generated text that the page carries; the run folder has all of them."""

DISTRIBUTIONS = (("total", "Total"), ("ttft", "First token (TTFT)"))


def profile_data(run: Run, summary: Summary) -> dict[str, Any]:
    """The embedded value: columns of samples, the summary of each quantity, the band of token gaps."""
    samples = in_order(run.samples)
    kept, _ = usable(samples)
    used = {id(sample) for sample in kept}
    stages = shown_stages([sample.stages for sample in samples])
    several_configs = len({sample.config_id for sample in samples}) > 1
    columns: dict[str, Any] = {
        "name": [_name(sample, several_configs) for sample in samples],
        "total": [_rounded(sample.stages.total_ms) for sample in samples],
        "ttft": [_rounded(sample.ttft_ms) for sample in samples],
        "tpot": [_rounded(sample.tpot_ms) for sample in samples],
        "tokens": [sample.output_tokens for sample in samples],
        "flags": [sample.flags for sample in samples],
        "used": [id(sample) in used for sample in samples],
        "text": [shortened(sample.text, TEXT_LIMIT) if sample.text else None for sample in samples],
    }
    columns |= {stage: [_rounded(sample.stages.stage(stage)) for sample in samples] for stage in stages}
    for name, read in _GPU_COLUMNS:
        values = [read(sample.gpu) if sample.gpu else None for sample in samples]
        if any(value is not None for value in values):
            columns[name] = values
    return {
        "stages": stages,
        "samples": columns,
        "distributions": [
            {"key": key, "name": name, "swatch": key if key in stages else "total", "summary": _marks(summary, key)}
            for key, name in [*((stage, stage.capitalize()) for stage in stages), *DISTRIBUTIONS]
            if any(value is not None for value in columns[key])
        ],
        "itl": itl_band(kept),
        "subtraction": subtraction_pairs(run.subtractions),
    }


def in_order(samples: Sequence[Sample]) -> list[Sample]:
    """The samples by the time at which they began, by their workers' clocks."""
    return sorted(samples, key=lambda sample: sample.started_unix_ms)


_GPU_COLUMNS: tuple[tuple[str, Callable[[GpuState], float | None]], ...] = (
    ("sm_mhz", lambda gpu: gpu.sm_mhz),
    ("temperature_c", lambda gpu: gpu.temperature_c),
    ("power_w", lambda gpu: gpu.power_w),
)


def _name(sample: Sample, with_config: bool) -> str:
    name = shortened(sample.sample_id, NAME_LIMIT)
    if sample.repeat < 0:
        name += f" warm-up {-sample.repeat}"
    elif sample.repeat:
        name += f" #{sample.repeat}"
    return f"{name} · {sample.config_id}" if with_config else name


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 4)


def _marks(summary: Summary, key: str) -> dict[str, float | None] | None:
    """Median, interval and 95th percentile of one quantity where the summary has them."""
    stage = summary.stages.get(key)
    interval = stage.median if stage else summary.ttft_ms if key == "ttft" else None
    if interval is None:
        return None
    return {
        "median": interval.value,
        "low": interval.low,
        "high": interval.high,
        "p95": stage.p95 if stage else None,
    }
