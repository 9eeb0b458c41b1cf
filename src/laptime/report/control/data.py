"""What the page of policies draws, kept small: numbered names, shares of few digits, long streams as integers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from laptime.control.judge.result import SMALLER_BUDGET, ControlEvaluation, PolicyPoint, SlowDown
from laptime.control.judge.verdict import (
    baselines,
    budgets,
    differences_to,
    headline_budget,
    kept,
    main_policy,
    paired_slow_downs,
    policy_names,
    role,
    surely,
    surely_late,
)
from laptime.control.policies.saved_policy import CurvePoint
from laptime.data.record import TIERS, Interval
from laptime.report.control.policies import title
from laptime.report.control.words import (
    BASELINES_NAMED,
    at_words,
    points_ends,
    points_number,
    share_ends,
    slow_down_words,
)
from laptime.report.kit.numbers import NOTHING, percent, plain_text, ratio, text
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


def control_data(evaluation: ControlEvaluation) -> dict[str, Any]:
    """The page's data. Policies, budgets, question types and levels of knobs are numbered by their place in a list."""
    order, limits, main = policy_names(evaluation), budgets(evaluation), main_policy(evaluation)
    knobs = knob_levels(evaluation)
    types = ordered_types(evaluation, knobs)
    middle = headline_budget(evaluation)
    hues = _hues(order, main)
    loud = {name for name in order if role(name, main) in {"main", "oracle"}}
    loud |= {name for base in baselines(evaluation)[:BASELINES_NAMED] for name in (base, base + SMALLER_BUDGET)}
    return {
        "confidence": evaluation.confidence,
        "headline": limits.index(middle) if middle is not None else 0,
        "budgets": limits,
        "budget_words": [plain_text(limit, "ms") for limit in limits],
        "policies": [
            {"title": title(name), "hue": hues[name], "role": role(name, main), "faint": name not in loud}
            for name in order
        ],
        "points": [_point(point, evaluation, order, limits, main) for point in evaluation.points],
        "types": [one_line(name, TYPE_LIMIT) or "(no name)" for name in types],
        "knobs": [{"title": knob, "levels": [level_text(level) for level in levels]} for knob, levels in knobs.items()],
        "choices": [_choices(point, types, knobs) for point in evaluation.points],
        "right": [[_few(point.accuracy_by_type.get(name)) for name in types] for point in evaluation.points],
        "differences": [
            {"title": title(than), "at": _differences(evaluation, than, order, limits)}
            for than in baselines(evaluation)[:BASELINES_DRAWN]
            if differences_to(evaluation, than)
        ],
        "streams": [[_stream(one) for one in pair] for pair in paired_slow_downs(evaluation)[:PAIRS_DRAWN]],
        "slow": [one_line(slow_down_words(pair), 400) for pair in paired_slow_downs(evaluation)[:PAIRS_DRAWN]],
        "curves": [
            {"title": title(one.policy), "hue": hues.get(one.policy, f"hue-{i % HUES + 1}"), **_curve(one.points)}
            for i, one in enumerate(evaluation.training)
            if one.points
        ],
    }


def knob_levels(evaluation: ControlEvaluation) -> dict[str, list[Level]]:
    """The knobs that were chosen, each with the levels that occur, the cheapest first. None everywhere: no knob."""
    shares = [share for point in evaluation.points for share in point.choices]
    levels: dict[str, list[Level]] = {
        "image tier": [*sorted({share.tier for share in shares}, key=_tier_place)],
        "top-k": [*sorted({share.top_k for share in shares}, key=lambda value: value or 0)],
        "blocks": [*sorted({share.blocks for share in shares}, key=lambda value: value or 0)],
    }
    return {knob: values for knob, values in levels.items() if set(values) - {None}}


def ordered_types(evaluation: ControlEvaluation, knobs: dict[str, list[Level]]) -> list[str]:
    """The question types. Those that get the cheapest levels from the policy in question come first."""
    main = main_policy(evaluation)
    known = dict.fromkeys(share.question_type for point in evaluation.points for share in point.choices)
    known |= dict.fromkeys(name for point in evaluation.points for name in point.accuracy_by_type)
    spent: dict[str, float] = dict.fromkeys(known, 0.0)
    calls: dict[str, int] = dict.fromkeys(known, 0)
    for share in (share for point in evaluation.points if point.policy == main for share in point.choices):
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
    """A colour for each policy. The one in question and the oracle have colours of their own."""
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
    point: PolicyPoint, evaluation: ControlEvaluation, order: Sequence[str], limits: Sequence[float], main: str | None
) -> dict[str, Any]:
    return {
        "policy": order.index(point.policy),
        "budget": limits.index(point.budget_ms),
        "accuracy": _interval(point.accuracy),
        "attainment": _interval(point.attainment),
        "median": _interval(point.total_ms),
        "p95": _few(point.total_p95_ms),
        "late": surely_late(point, evaluation.confidence),
        "kept": kept(point, evaluation.confidence, main),
        "words": point_words(point),
    }


def point_words(point: PolicyPoint) -> dict[str, str]:
    """A point's numbers as they are shown, the same in the table, in the drawing and in what a pointer shows."""
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
    """For each choice that was taken: its question type, the place of each knob's level, how often; all in one list."""
    flat = []
    for share in point.choices:
        levels = {"image tier": share.tier, "top-k": share.top_k, "blocks": share.blocks}
        flat += [types.index(share.question_type), *(knobs[knob].index(levels[knob]) for knob in knobs), share.count]
    return flat


def _differences(
    evaluation: ControlEvaluation, than: str, order: Sequence[str], limits: Sequence[float]
) -> list[dict[str, Any]]:
    """`than`: the number of the other policy, whose point at this budget the difference is to; None without one."""
    return [
        {
            "than": order.index(one.than) if one.than in order else None,
            "budget": limits.index(one.budget_ms),
            "points": _interval(one.accuracy),
            "sure": surely(one),
            "words": points_number(one.accuracy.value),
            "ends": points_ends(one.accuracy),
            "at": at_words(one),
        }
        for one in differences_to(evaluation, than)
        if one.budget_ms in limits
    ]


def _stream(one: SlowDown) -> dict[str, Any]:
    """A stream, with thousandths of the budget as integers. Of a very long one, only one request in `step`."""
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
        "slower": ratio(one.factor),
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
    """The curve as at most CURVE_POINTS points, each the mean of neighbouring steps."""
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
