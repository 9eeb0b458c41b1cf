"""What the scripts of a sweep's page need: knobs and figures as columns over configurations, effects, drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from laptime.data.record import STAGES, Interval, Scalar
from laptime.report.kit.text import one_line
from laptime.report.sweep.view import SweepView
from laptime.report.sweep.words import (
    by_strength,
    is_ratio,
    knob_title,
    level_text,
    stage_title,
)
from laptime.sweeps.summary.drift import GpuOverTime
from laptime.sweeps.summary.result import ConfigRow, Drift, KnobEffect, StageRange, SweepSummary

PARTS = ("total", *STAGES)
ACROSS_UP_TO = 12
"""A knob with more levels is drawn downwards, where a page has room."""
SIDE_BY_SIDE_UP_TO = 4
"""A third knob is drawn side by side at first if it has at most this many levels."""


def sweep_data(view: SweepView) -> dict[str, Any]:
    """The embedded value. Its size grows with the configurations, not with the samples."""
    summary = view.summary
    rows = summary.rows
    index = {row.config_id: i for i, row in enumerate(rows)}
    reasons = {one.config_id: "; ".join(f"{error} (×{n})" for error, n in one.errors.items()) for one in view.failed}
    knobs = [_knob(knob, levels, rows) for knob, levels in summary.knobs.items()]
    x, y, side = heat_axes(summary)
    return {
        "knobs": knobs,
        "heat": {"x": x, "y": y, "side": side},
        "measures": measures(rows),
        "configs": {
            "id": [one_line(row.config_id, 40) for row in rows],
            "samples": [row.samples for row in rows],
            "leftOut": [row.left_out - row.warm_ups for row in rows],
            "failures": [row.failures for row in rows],
            "reason": [one_line(reasons[row.config_id], 400) if row.config_id in reasons else None for row in rows],
        },
        "front": [index[key] for key in summary.pareto if key in index],
        "near": [index[key] for key in summary.near_pareto if key in index],
        "effects": [_effect(one, summary) for stage in effect_stages(summary) for one in by_strength(summary, stage)],
        "ranges": range_panels(summary),
        "drift": _drift(summary.drift, view.gpu),
    }  # fmt: skip


def heat_axes(summary: SweepSummary) -> tuple[int | None, int | None, int | None]:
    """The knobs that the heat map shows first, by their place in `summary.knobs`.

    The strongest knob is drawn across and the second down, or the reverse if the strongest has too many levels. The
    third is the strongest of the others with few levels, drawn side by side; None where there is none.
    """
    places = {knob: i for i, knob in enumerate(summary.knobs)}
    order = [effect.knob for effect in by_strength(summary) if effect.knob in places]
    order += [knob for knob in places if knob not in order]
    rest = [knob for knob in order[2:] if len(summary.knobs[knob]) <= SIDE_BY_SIDE_UP_TO]
    if len(order) > 1 and len(summary.knobs[order[0]]) > max(ACROSS_UP_TO, len(summary.knobs[order[1]])):
        order[:2] = order[1::-1]
    across, down = (*(places[knob] for knob in order[:2]), None, None)[:2]
    return across, down, places[rest[0]] if rest else None


def measures(rows: list[ConfigRow]) -> list[dict[str, Any]]:
    """Every figure that some configuration has, with its interval's ends, as columns over the configurations."""
    columns = [
        _measure(key, title, unit, swatch, [read(row) for row in rows]) for key, title, unit, swatch, read in _READ
    ]
    return [
        one for one in columns if any(one["mid"]) or (one["key"] == "accuracy" and one["mid"] != [None] * len(rows))
    ]


def effect_stages(summary: SweepSummary) -> list[str]:
    """The stages that have effects: the total first, then in the order of the stages."""
    present = {effect.stage for effect in summary.effects}
    return [*(stage for stage in PARTS if stage in present), *sorted(present - set(PARTS))]


def range_panels(summary: SweepSummary) -> list[dict[str, Any]]:
    """A panel a stage, its rows by tier, or by the number of crops where there is only one tier."""
    ranges = summary.ranges if by_tier(summary) else summary.crop_ranges
    stages = [stage for stage in PARTS if any(one.stage == stage and one.max_ms > 0 for one in ranges)]
    return [
        {
            "id": f"range-{stage}",
            "name": stage_title(stage),
            "swatch": stage,
            "rows": [_range(one) for one in ranges if one.stage == stage],
        }
        for stage in stages
    ]


def by_tier(summary: SweepSummary) -> bool:
    """Whether ranges are shown by tier: there are several, or the numbers of crops tell no more, or too much."""
    return len({one.tier for one in summary.ranges}) > 1 or not 1 < len({one.tier for one in summary.crop_ranges}) <= 16


def _stage(name: str) -> Callable[[ConfigRow], Interval | None]:
    return lambda row: row.stages.get(name)


def _bare(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, None, None, 0)


_READ: tuple[tuple[str, str, str, str, Callable[[ConfigRow], Interval | None]], ...] = (
    *((stage, stage_title(stage), "ms", stage, _stage(stage)) for stage in PARTS),
    ("ttft", "TTFT", "ms", "", lambda row: row.ttft_ms),
    ("tpot", "TPOT", "ms", "", lambda row: row.tpot_ms),
    ("decode_per_token", "Decode per token", "ms", "", lambda row: row.decode_per_token_ms),
    ("p95", "Total, p95", "ms", "", lambda row: _bare(row.p95_ms.get("total"))),
    ("accuracy", "Accuracy", "share", "", lambda row: row.accuracy),
    ("output_tokens", "Output tokens", "", "", lambda row: _bare(row.output_tokens_mean)),
    ("memory", "Peak memory", "bytes", "", lambda row: _bare(row.memory_peak_bytes)),
    ("energy", "Energy", "J", "", lambda row: row.energy_j),
)


def _measure(key: str, title: str, unit: str, swatch: str, values: list[Interval | None]) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "unit": unit,
        "swatch": swatch,
        "mid": [_short(one.value) if one else None for one in values],
        "low": [_short(one.low) if one and one.high is not None else None for one in values],
        "high": [_short(one.high) if one and one.low is not None else None for one in values],
    }


def _knob(knob: str, levels: list[Scalar], rows: list[ConfigRow]) -> dict[str, Any]:
    places = {_key(level): i for i, level in enumerate(levels)}
    return {
        "title": knob_title(knob),
        "levels": [level_text(level) for level in levels],
        "of": [places.get(_key(row.config.get(knob)), -1) for row in rows],
    }


def _key(value: Scalar) -> tuple[bool, Scalar]:
    """A dictionary's key that tells True from 1."""
    return isinstance(value, bool), value


def _effect(effect: KnobEffect, summary: SweepSummary) -> dict[str, Any]:
    of = {_key(level.value): level for level in effect.levels if is_ratio(level.ratio.value)}
    order = [level for level in summary.knobs.get(effect.knob, []) if _key(level) in of or level == effect.base]
    rows: list[Mapping[str, Any]] = []
    for value in order or [effect.base, *(level.value for level in of.values())]:
        level = of.get(_key(value))
        if level is None:
            rows.append({"label": level_text(value), "isBase": True, "ratio": 1, "low": None, "high": None, "pairs": 0})
            continue
        known = is_ratio(level.ratio.low) and is_ratio(level.ratio.high)
        rows.append({
            "label": level_text(value),
            "isBase": False,
            "ratio": _short(level.ratio.value),
            "low": _short(level.ratio.low) if known else None,
            "high": _short(level.ratio.high) if known else None,
            "pairs": level.pairs,
            "lowest": _short(level.lowest),
            "highest": _short(level.highest),
        })  # fmt: skip
    return {"stage": effect.stage, "title": knob_title(effect.knob), "base": level_text(effect.base), "levels": rows}


def _range(one: StageRange) -> dict[str, Any]:
    return {
        "tier": one_line(one.tier, 80),
        "n": one.n,
        "min": _short(one.min_ms),
        "low": _short(one.low_ms),
        "median": _short(one.median_ms),
        "high": _short(one.high_ms),
        "max": _short(one.max_ms),
    }


def _drift(drift: Drift | None, gpu: GpuOverTime | None) -> dict[str, Any] | None:
    if drift is None or not drift.points:
        return None
    ratios = [point.ratio for point in drift.points]
    panels = [
        {"name": name, "unit": unit, "values": values}
        for name, unit, values in (
            ("SM clock", "MHz", gpu.sm_mhz if gpu else []),
            ("Temperature", "°C", gpu.temperature_c if gpu else []),
            ("Power", "W", gpu.power_w if gpu else []),
            ("Throttled calls", "%", [None if v is None else v * 100 for v in gpu.throttled] if gpu else []),
        )
        if any(values)
    ]
    return {
        "seconds": [_short((point.start_s + point.end_s) / 2) for point in drift.points],
        "ratio": [round(ratio.value, 6) for ratio in ratios],
        "low": [ratio.low for ratio in ratios],
        "high": [ratio.high for ratio in ratios],
        "n": [ratio.n for ratio in ratios],
        "trend": drift.trend.value if drift.trend else None,
        "panels": panels,
    }


def _short(value: float | None) -> float | None:
    """Six significant digits: more than is shown, less than is embedded otherwise."""
    return None if value is None else float(f"{value:.6g}")
