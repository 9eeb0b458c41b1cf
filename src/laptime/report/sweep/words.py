"""Knobs, their levels and their effects as words: the page, the terminal and the headline say them alike."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log

from laptime.data.record import Interval, Scalar
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, number, text, whole_percent
from laptime.report.kit.text import one_line
from laptime.sweeps.summary.result import Interaction, KnobEffect, KnobLevel, SweepSummary

NAME_LIMIT = 80
"""Characters of a knob's or a level's name that a page or a table carries."""

_TITLES = {"top_k": "top-k", "tier": "image tier", "blocks": "blocks"}

STAGE_TITLES: dict[str, str] = {
    "total": "Total",
    "vision": "Vision",
    "prefill": "Prefill",
    "decode": "Decode",
    "other": "Other",
    "ttft": "First token (TTFT)",
    "tpot": "Per token (TPOT)",
    "decode_per_token": "Decode per token",
}


def knob_title(knob: str) -> str:
    """A knob as people say it: `new_tokens` is new tokens, `top_k` is top-k."""
    return one_line(_TITLES.get(knob, knob.replace("_", " ")), NAME_LIMIT) or "(no name)"


def stage_title(stage: str) -> str:
    """A stage or a latency as a heading."""
    known = STAGE_TITLES.get(stage.removesuffix("_ms"))
    return known or one_line(stage.replace("_", " ").capitalize(), NAME_LIMIT)


def level_text(value: Scalar) -> str:
    """A knob's value as text; a knob that is not set is the model's own, the default."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(f"{value:g}" if isinstance(value, float) else str(value), NAME_LIMIT) or "(empty)"


def config_text(config: Mapping[str, Scalar], summary: SweepSummary) -> str:
    """A configuration by the knobs that vary."""
    words = [f"{knob_title(knob)} {level_text(config.get(knob))}" for knob in summary.knobs]
    return " · ".join(words) or "the one configuration"


def ratio_text(ratio: float | None) -> str:
    """A factor: 2.14×, 0.978×; with three decimals near 1."""
    if ratio is None:
        return NOTHING
    return f"{ratio:.3f}×" if abs(ratio - 1) < 0.0995 else f"{number(ratio)}×"


def ratio_ends(ratio: Interval) -> str:
    """The interval of a factor: 2.05–2.16; with three decimals where two would not tell the ends apart."""
    if ratio.low is None or ratio.high is None:
        return NOTHING
    if abs(ratio.value - 1) < 0.0995 or number(ratio.low) == number(ratio.high):
        return f"{ratio.low:.3f}–{ratio.high:.3f}"
    return f"{number(ratio.low)}–{number(ratio.high)}"


def is_ratio(value: float | None) -> bool:
    """Whether a ratio can be shown on a logarithmic axis: a stage that takes no time at the base has none."""
    return value is not None and 0 < value < inf


def surely_differs(ratio: Interval) -> bool:
    """Whether the interval leaves 1× out."""
    return ratio.low is not None and ratio.high is not None and (ratio.low > 1 or ratio.high < 1)


def strongest(effect: KnobEffect) -> KnobLevel | None:
    """The level that moves the stage most among those that surely do; None when none does."""
    sure = [level for level in effect.levels if is_ratio(level.ratio.value) and surely_differs(level.ratio)]
    return max(sure, key=lambda level: abs(log(level.ratio.value)), default=None)


def by_strength(summary: SweepSummary, stage: str = "total") -> list[KnobEffect]:
    """The stage's effects, the strongest knob first; knobs without a sure effect last."""

    def strength(effect: KnobEffect) -> tuple[float, float]:
        sure = strongest(effect)
        logs = [abs(log(level.ratio.value)) for level in effect.levels if is_ratio(level.ratio.value)]
        return abs(log(sure.ratio.value)) if sure else 0.0, max(logs, default=0.0)

    return sorted((effect for effect in summary.effects if effect.stage == stage), key=strength, reverse=True)


def cost_words(level: str, base: str, ratio: float) -> str:
    """What taking `level` instead of `base` does: costs 2.1× as much, costs 12 % more than ..., ... saves 12 %."""
    if ratio >= 1.5:
        return f"{level} costs {number(ratio, 2)}× as much as {base}"
    if ratio > 1:
        return f"{level} costs {whole_percent(ratio - 1)} more than {base}"
    return f"{level} instead of {base} saves {whole_percent(1 - ratio)}"


def headline(summary: SweepSummary) -> str:
    """What the knobs buy, the strongest first, in one sentence."""
    totals = [row.stages["total"].value for row in summary.rows if row.samples and "total" in row.stages]
    if not totals:
        return "No configuration was measured"
    effects = [(effect, level) for effect in by_strength(summary) if (level := strongest(effect)) is not None]
    if not effects:
        return _without_effects(totals, [level.ratio for one in by_strength(summary) for level in one.levels])
    effect, level = effects[0]
    title = one_line(knob_title(effect.knob), 40)
    words = cost_words(one_line(level_text(level.value), 30), one_line(level_text(effect.base), 30), level.ratio.value)
    sentence = f"{title[:1].upper()}{title[1:]} {'move' if title.endswith('s') else 'moves'} the total most: {words}"
    for effect, level in effects[1:3]:
        named = f"{one_line(knob_title(effect.knob), 40)} {one_line(level_text(level.value), 30)}"
        sentence += f"; {cost_words(named, one_line(level_text(effect.base), 30), level.ratio.value)}"
    return sentence


def interaction_words(interaction: Interaction) -> str:
    """Where one figure for a knob would mislead: its ratio at the ends of another knob."""
    low, high = (pick(interaction.at, key=lambda at: at.ratio.value) for pick in (min, max))
    other, knob = knob_title(interaction.other), knob_title(interaction.knob)
    return (
        f"{stage_title(interaction.stage)}: {knob} {level_text(interaction.level)} against "
        f"{level_text(interaction.base)} is {ratio_text(low.ratio.value)} at {other} {level_text(low.value)}, "
        f"{ratio_text(high.ratio.value)} at {other} {level_text(high.value)}"
    )


def visit_words(summary: SweepSummary) -> tuple[str, bool] | None:
    """What the intervals know of the noise that all calls of one visit share, and whether that is a warning."""
    known = {effect.visit_noise for effect in summary.effects}
    if "unknown" in known:
        return (
            "Each configuration was measured in one stretch of time (one round), so what changed meanwhile can pass "
            "for a knob's effect, and the intervals don't know of it: measure in two rounds or more.",
            True,
        )
    if "bounded by settings" in known:
        return (
            "One round: visits can't be told from configurations, so the intervals are bounded by what the other knobs "
            "leave unexplained; measure in two rounds or more for narrower ones.",
            True,
        )
    total = next((one.sd for one in summary.visit_noise if one.stage == "total" and one.known == "estimated"), None)
    if total is None:
        return None
    share = number(total * 100, 2)
    return (
        f"Visits to one configuration differ by {share}{KEEP_TOGETHER}% in the total; the intervals hold that.",
        False,
    )


def drift_words(summary: SweepSummary) -> str | None:
    """How much slower or faster the same work became from the run's start to its end; None without a trend."""
    if summary.drift is None or summary.drift.trend is None:
        return None
    trend = summary.drift.trend
    if not surely_differs(trend):
        return f"No drift shown: the trend from start to end is {ratio_text(trend.value)} (95 %: {ratio_ends(trend)})"
    way = "slower" if trend.value > 1 else "faster"
    change = f"{number(abs(trend.value - 1) * 100, 2)}{KEEP_TOGETHER}%"
    return f"The same work became {change} {way} from start to end (95 %: {ratio_ends(trend)})"


def _without_effects(totals: list[float], ratios: list[Interval]) -> str:
    if len(totals) == 1:
        return f"One configuration: {text(totals[0], 'ms')}"
    spread = f"{len(totals)} configurations, from {text(min(totals), 'ms')} to {text(max(totals), 'ms')}"
    if not ratios:
        return spread
    known = any(ratio.low is not None for ratio in ratios)
    return f"{spread}; {'no knob surely moves the total' if known else 'too few inputs to tell what a knob does'}"
