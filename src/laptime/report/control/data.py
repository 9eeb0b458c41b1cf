"""What the page of policies draws, small: names once and by number, shares in few digits, long streams as integers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from laptime.control.judge.result import ControlEvaluation, PolicyPoint, SlowDown
from laptime.control.policies.saved_policy import CurvePoint
from laptime.data.record import TIERS, Interval
from laptime.report.control.policies import (
    LESS,
    baselines,
    budgets,
    kept,
    main_policy,
    names,
    role,
    surely_late,
    title,
    told_budget,
)
from laptime.report.control.words import (
    BASELINES_TOLD,
    at_words,
    budget_text,
    paired_slow_downs,
    points_ends,
    points_number,
    share_ends,
    slow_down_words,
    surely,
    told_differences,
)
from laptime.report.kit.numbers import NOTHING, percent, text
from laptime.report.kit.text import one_line

HUES = 9
PAIRS_DRAWN = 12
CURVE_POINTS = 80
FACTORS_DRAWN = 100
REQUESTS_DRAWN = 1200
BASELINES_DRAWN = 6
TYPE_LIMIT = 80
LEVEL_LIMIT = 24

Level = str | int | None


def control_data(found: ControlEvaluation) -> dict[str, Any]:
    """The page's data. Policies, budgets, question types and levels of knobs are numbered by their place in a list."""
    order, limits, main = names(found), budgets(found), main_policy(found)
    knobs = knob_levels(found)
    types = ordered_types(found, knobs)
    told = told_budget(found)
    hues = _hues(order, main)
    loud = {name for name in order if role(name, main) in {"main", "oracle"}}
    loud |= {name for base in baselines(found)[:BASELINES_TOLD] for name in (base, base + LESS)}
    return {
        "confidence": found.confidence,
        "told": limits.index(told) if told is not None else 0,
        "budgets": limits,
        "budget_words": [budget_text(limit) for limit in limits],
        "policies": [
            {"title": title(name), "hue": hues[name], "role": role(name, main), "faint": name not in loud}
            for name in order
        ],
        "points": [_point(point, found, order, limits, main) for point in found.points],
        "types": [one_line(name, TYPE_LIMIT) or "(no name)" for name in types],
        "knobs": [{"title": knob, "levels": [level_text(level) for level in levels]} for knob, levels in knobs.items()],
        "choices": [_choices(point, types, knobs) for point in found.points],
        "right": [[_few(point.accuracy_by_type.get(name)) for name in types] for point in found.points],
        "differences": [
            {"title": title(than), "at": _differences(found, than, order, limits)}
            for than in baselines(found)[:BASELINES_DRAWN]
            if told_differences(found, than)
        ],
        "streams": [[_stream(one) for one in pair] for pair in paired_slow_downs(found)[:PAIRS_DRAWN]],
        "slow": [one_line(slow_down_words(pair), 400) for pair in paired_slow_downs(found)[:PAIRS_DRAWN]],
        "curves": [
            {"title": title(one.policy), "hue": hues.get(one.policy, f"hue-{i % HUES + 1}"), **_curve(one.points)}
            for i, one in enumerate(found.training)
            if one.points
        ],
    }


def knob_levels(found: ControlEvaluation) -> dict[str, list[Level]]:
    """The knobs that were chosen, each with the levels that occur, the cheapest first. None everywhere: no knob."""
    shares = [share for point in found.points for share in point.choices]
    levels: dict[str, list[Level]] = {
        "image tier": [*sorted({share.tier for share in shares}, key=_tier_place)],
        "top-k": [*sorted({share.top_k for share in shares}, key=lambda value: value or 0)],
        "blocks": [*sorted({share.blocks for share in shares}, key=lambda value: value or 0)],
    }
    return {knob: values for knob, values in levels.items() if set(values) - {None}}


def ordered_types(found: ControlEvaluation, knobs: dict[str, list[Level]]) -> list[str]:
    """The question types, those first that the policy in question gives the cheapest levels."""
    main = main_policy(found)
    known = dict.fromkeys(share.question_type for point in found.points for share in point.choices)
    known |= dict.fromkeys(name for point in found.points for name in point.accuracy_by_type)
    spent: dict[str, float] = dict.fromkeys(known, 0.0)
    calls: dict[str, int] = dict.fromkeys(known, 0)
    for share in (share for point in found.points if point.policy == main for share in point.choices):
        levels = {"image tier": share.tier, "top-k": share.top_k, "blocks": share.blocks}
        places = [knobs[knob].index(levels[knob]) / max(1, len(knobs[knob]) - 1) for knob in knobs]
        spent[share.question_type] += share.count * sum(places)
        calls[share.question_type] += share.count
    return sorted(known, key=lambda name: spent[name] / calls[name] if calls[name] else 0.0)


def level_text(level: Level) -> str:
    """A knob's level; a knob that was left alone is the model's own."""
    return "as it is" if level is None else one_line(str(level), LEVEL_LIMIT) or "(no name)"


def _tier_place(tier: str | None) -> tuple[int, int, str]:
    """Tiers that have a common name in their order; others by the first number in their names."""
    order = list(TIERS)
    name = tier or ""
    number = re.search("[0-9]{1,9}", name)
    return order.index(name) if name in order else len(order), int(number[0]) if number else 0, name


def _hues(order: Sequence[str], main: str | None) -> dict[str, str]:
    """A colour for each policy: one of its own for the one in question and for the oracle."""
    hues, others = {}, 0
    for name in order:
        kind = role(name, main)
        if kind in {"main", "oracle"}:
            hues[name] = f"hue-{kind}"
        else:
            hues[name] = f"hue-{others % HUES + 1}"
            others += 1
    return hues


def _point(
    point: PolicyPoint, found: ControlEvaluation, order: Sequence[str], limits: Sequence[float], main: str | None
) -> dict[str, Any]:
    return {
        "policy": order.index(point.policy),
        "budget": limits.index(point.budget_ms),
        "accuracy": _interval(point.accuracy),
        "attainment": _interval(point.attainment),
        "median": _interval(point.total_ms),
        "p95": _few(point.total_p95_ms),
        "late": surely_late(point, found.confidence),
        "kept": kept(point, found.confidence, main),
        "words": point_words(point),
    }


def point_words(point: PolicyPoint) -> dict[str, str]:
    """A point's numbers as they are shown: the table, the drawing and what a pointer is told read the same."""
    words = {
        "right": percent(point.accuracy.value),
        "right_ends": share_ends(point.accuracy),
        "in_time": percent(point.attainment.value),
        "in_time_ends": share_ends(point.attainment),
        "median": text(point.total_ms.value, "ms"),
        "p95": text(point.total_p95_ms, "ms"),
        "regret": points_number(point.regret.value) if point.regret else NOTHING,
    }
    return words | ({"unfit": f"{point.unfit} of {point.questions}"} if point.unfit else {})


def _choices(point: PolicyPoint, types: Sequence[str], knobs: dict[str, list[Level]]) -> list[int]:
    """For each choice that was made: its question type, the place of each knob's level, how often. All in one list."""
    flat = []
    for share in point.choices:
        levels = {"image tier": share.tier, "top-k": share.top_k, "blocks": share.blocks}
        flat += [types.index(share.question_type), *(knobs[knob].index(levels[knob]) for knob in knobs), share.count]
    return flat


def _differences(
    found: ControlEvaluation, than: str, order: Sequence[str], limits: Sequence[float]
) -> list[dict[str, Any]]:
    """`than`: the number of the other policy, whose point at this budget the difference is to; None without one."""
    return [
        {
            "than": order.index(one.than) if one.than in order else None,
            "budget": limits.index(one.budget_ms),
            "points": _interval(one.accuracy),
            "sure": surely(one.accuracy),
            "words": points_number(one.accuracy.value),
            "ends": points_ends(one.accuracy),
            "at": at_words(one),
        }
        for one in told_differences(found, than)
        if one.budget_ms in limits
    ]


def _stream(one: SlowDown) -> dict[str, Any]:
    """A stream with thousandths of the budget as integers; every so-manieth request of a very long one."""
    step = max(1, -(-len(one.requests) // REQUESTS_DRAWN))
    drawn = one.requests[::step]
    sparse = max(1, len(drawn) // FACTORS_DRAWN)
    return {
        "title": title(one.policy),
        "budget": one.budget_ms,
        "online": one.online,
        "at": one.at,
        "settling": one.settling,
        "factor": _few(one.factor),
        "slower": f"{one.factor:.3g}×",
        "how": one_line(one.how, 60),
        "after": percent(one.after.value),
        "step": step,
        "first": drawn[0].number if drawn else 0,
        "total": [_thousandths(request.total_ms, request.budget_ms) for request in drawn],
        "bound": [_thousandths(request.bound_ms, request.budget_ms) for request in drawn],
        "known": [_thousandths(request.factor, 1.0) for request in drawn[::sparse]] if one.online else [],
        "sparse": sparse,
    }


def _curve(points: Sequence[CurvePoint]) -> dict[str, Any]:
    """Means over so many neighbouring steps that few points are left."""
    size = max(1, -(-len(points) // CURVE_POINTS))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return {
        "decisions": [part[-1].decisions for part in parts],
        "smoothed": size,
        **{
            name: [_few(sum(getattr(one, name) for one in part) / len(part), 4) for part in parts]
            for name in ("reward", "accuracy", "within", "kl", "entropy")
        },
    }


def _interval(interval: Interval) -> list[float | None]:
    return [_few(interval.value), _few(interval.low), _few(interval.high)]


def _few(value: float | None, digits: int = 5) -> float | None:
    return None if value is None or not isfinite(value) else float(f"{value:.{digits}g}")


def _thousandths(value: float | None, of: float) -> int | None:
    return round(1000 * value / of) if value is not None and isfinite(value) and of else None
