"""What the scripts of a profile page need of a run: its samples as columns, in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Samples by the time at which they began, as all workers' clocks told it."""
    return sorted(samples, key=lambda sample: sample.started_unix_ms)


def median_sample(samples: Sequence[Sample]) -> Sample | None:
    """The usable sample whose total is the median one (the lower of two in the middle): its stages add up."""
    kept, _ = usable(samples)
    by_total = sorted(kept, key=lambda sample: sample.stages.total_ms)
    return by_total[(len(by_total) - 1) // 2] if by_total else None


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


WIDE_ENOUGH, TIGHT = 0.085, 0.14
"""A part narrower than the first share of the bar carries no label, one narrower than the second only on a wide page;
the legend below names every part."""


def shown_stages(times: Sequence[StageTimes]) -> list[str]:
    """The stages that took any time in any of these, in order: a text-only model has no vision to show."""
    return [name for name in STAGES if any(one.stage(name) for one in times)]


def stage_bar(times: StageTimes, *, height: int = 84, scale_ms: float | None = None, labels: bool = True) -> Html:
    """The stages of one call as parts of one bar. `scale_ms` is the time of the full width (default: the total)."""
    full = scale_ms or times.total_ms or 1.0
    parts: list[Html] = []
    at = 0.0
    for name in STAGES:
        ms = times.stage(name) or 0.0
        if ms <= 0:
            continue
        parts.append(_part(name, ms, at / full, ms / full, ms / (times.total_ms or ms), height, labels))
        at += ms
    words = ", ".join(f"{name} {text(times.stage(name), 'ms')}" for name in STAGES if times.stage(name))
    return tag("svg", *parts, class_="stage-bar hero" if labels else "stage-bar", height=height, role="img",
               aria_label=f"{words}; total {text(times.total_ms, 'ms')}")  # fmt: skip


def stage_legend(times: StageTimes) -> Html:
    """Every stage that ran, with its colour, milliseconds and share of the total; other always, even at 0."""
    total = times.total_ms
    items = []
    for name in STAGES:
        ms = times.stage(name)
        if not ms and name != "other":
            continue
        share = percent(ms / total) if ms is not None and total else percent(None)
        items.append(
            tag(
                "li",
                tag("span", class_=f"swatch {name}"),
                name.capitalize(),
                " ",
                tag("b", text(ms, "ms")),
                " ",
                tag("span", share, class_="share"),
            )
        )
    return tag("ul", items, class_="legend")


def _part(name: str, ms: float, start: float, width: float, share: float, height: int, labels: bool) -> Html:
    label = None
    if labels and width >= WIDE_ENOUGH:
        label = [
            tag("text", name.capitalize(), x=14, y="36%", class_=f"in-{name} name"),
            tag("text", f"{text(ms, 'ms')}" + (f" · {percent(share)}" if width > 0.17 else ""), x=14, y="66%",
                class_=f"in-{name}"),
        ]  # fmt: skip
    return tag(
        "svg",
        tag("title", f"{name}: {ms:.6f} ms, {percent(share)} of the total"),
        tag("rect", width="100%", height="100%", class_=name),
        tag("g", label, class_="tight" if width < TIGHT else None) if label else None,
        x=f"{start:.4%}",
        width=f"{width:.4%}",
        height=height,
    )
