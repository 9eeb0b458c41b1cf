"""What the scripts of a profile page get: the samples as columns, in the order in which they were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from laptime.data.record import STAGES, GpuState, Sample, StageTimes
from laptime.data.run_folder import Run
from laptime.data.summary import Summary, itl_band
from laptime.data.usable import usable
from laptime.report.kit.html import Html, tag
from laptime.report.kit.numbers import percent, text
from laptime.report.kit.text import shortened
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


WIDE_ENOUGH, TIGHT, WITH_SHARE = 0.085, 0.14, 0.17
"""Shares of the bar: a narrower part has no label, one only on a wide page, one without its share of the time."""


def shown_stages(times: Sequence[StageTimes]) -> list[str]:
    """The stages that took any time in any of these, in order: a text-only model has no vision to show."""
    return [name for name in STAGES if any(one.stage(name) for one in times)]


def stage_bar(
    stages_ms: Mapping[str, float], *, height: int = 84, scale_ms: float | None = None, labels: bool = True
) -> Html:
    """Stages side by side in one bar, each as wide as its share of their sum.

    height: in pixels. scale_ms: the time that the full width stands for; by default the sum of the stages.
    """
    total_ms = sum(stages_ms.values())
    full_ms = scale_ms or total_ms or 1.0
    parts: list[Html] = []
    begin_ms = 0.0
    for name, ms in _running(stages_ms):
        label = _label(name, ms, ms / total_ms, ms / full_ms) if labels else None
        parts.append(
            tag(
                "svg",
                tag("title", f"{name}: {text(ms, 'ms', 6)}, {percent(ms / total_ms)} of the total"),
                tag("rect", width="100%", height="100%", class_=name),
                label,
                x=f"{begin_ms / full_ms:.4%}",
                width=f"{ms / full_ms:.4%}",
                height=height,
            )
        )
        begin_ms += ms
    words = ", ".join(f"{name} {text(ms, 'ms')}" for name, ms in _running(stages_ms))
    return tag("svg", *parts, class_="stage-bar hero" if labels else "stage-bar", height=height, role="img",
               aria_label=f"{words}; total {text(total_ms, 'ms')}")  # fmt: skip


def stage_legend(stages_ms: Mapping[str, float]) -> Html:
    """Every stage that ran, with its colour, milliseconds and share of the sum; other always, also at 0."""
    total_ms = sum(stages_ms.values())
    shown = dict(_running(stages_ms)) | {"other": stages_ms.get("other", 0.0)}
    return tag(
        "ul",
        [
            tag("li", _swatch(name), name.capitalize(), " ", tag("b", text(ms, "ms")), " ",
                tag("span", percent(ms / total_ms if total_ms else None), class_="share"))
            for name, ms in shown.items()
        ],
        class_="legend",
    )  # fmt: skip


def stage_swatches(names: Iterable[str]) -> Html:
    """The colours of the stages."""
    return tag("ul", [tag("li", _swatch(name), name.capitalize()) for name in names], class_="legend small")


def _running(stages_ms: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """The stages that took time, in order."""
    return [(name, stages_ms[name]) for name in STAGES if stages_ms.get(name, 0.0) > 0]


def _swatch(name: str) -> Html:
    return tag("span", class_=f"swatch {name}")


def _label(name: str, ms: float, share: float, width: float) -> Html | None:
    if width < WIDE_ENOUGH:
        return None
    figures = text(ms, "ms") + (f" · {percent(share)}" if width > WITH_SHARE else "")
    return tag(
        "g",
        tag("text", name.capitalize(), x=14, y="36%", class_=f"in-{name} name"),
        tag("text", figures, x=14, y="66%", class_=f"in-{name}"),
        class_="tight" if width < TIGHT else None,
    )
