"""The words of a sweep: its headline, its knobs and levels, and every sentence that page and terminal share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, log

from laptime.data.record import Interval, Scalar
from laptime.report.kit.numbers import count, number, percent, ratio, ratio_ends, text, whole_percent
from laptime.report.kit.text import counted, one_line
from laptime.sweeps.summary.result import ConfigRow, Interaction, KnobEffect, KnobLevel, SweepSummary

NAME_LIMIT = 80
"""The most characters of a knob's or a level's name that a page or a table shows."""

_TITLES = {"top_k": "top-k", "tier": "image tier", "image_tokens_limit": "image tokens"}

STAGE_TITLES: dict[str, str] = {
    "total": "Total",
    "preprocessing": "Preprocessing",
    "queue": "Queue",
    "vision": "Vision",
    "audio": "Audio",
    "encode": "Encode",
    "prefill": "Prefill",
    "decode": "Decode",
    "other": "Other",
    "ttft": "First token (TTFT)",
    "tpot": "Per token (TPOT)",
    "decode_per_token": "Decode per token",
}


def knob_title(knob: str) -> str:
    """A knob's name for readers: `new_tokens` is new tokens, `top_k` is top-k."""
    return one_line(_TITLES.get(knob, knob.replace("_", " ")), NAME_LIMIT) or "(no name)"


def stage_title(stage: str) -> str:
    """A stage or a latency as a heading."""
    known = STAGE_TITLES.get(stage.removesuffix("_ms"))
    return known or one_line(stage.replace("_", " ").capitalize(), NAME_LIMIT)


def level_text(value: Scalar) -> str:
    """A knob's value as text. A knob that isn't set is “default”: the model's own value."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(f"{value:g}" if isinstance(value, float) else str(value), NAME_LIMIT) or "(empty)"


def config_text(config: Mapping[str, Scalar], summary: SweepSummary) -> str:
    """A configuration, named by the knobs that vary."""
    words = [f"{knob_title(knob)} {level_text(config.get(knob))}" for knob in summary.knobs]
    return " · ".join(words) or "the one configuration"


def is_ratio(value: float | None) -> bool:
    """Whether a ratio can be shown on a logarithmic axis: a stage that takes no time at the base has none."""
    return value is not None and 0 < value < inf


def surely_differs(ratio: Interval) -> bool:
    """Whether the interval doesn't hold 1×."""
    return ratio.low is not None and ratio.high is not None and (ratio.low > 1 or ratio.high < 1)


def strongest(effect: KnobEffect) -> KnobLevel | None:
    """The level that changes the stage most, of those whose interval doesn't hold 1×; None when there is none."""
    sure = [level for level in effect.levels if is_ratio(level.ratio.value) and surely_differs(level.ratio)]
    return max(sure, key=lambda level: abs(log(level.ratio.value)), default=None)


def by_strength(summary: SweepSummary, stage: str = "total") -> list[KnobEffect]:
    """The stage's effects, the strongest knob first, knobs without a sure effect last."""

    def strength(effect: KnobEffect) -> tuple[float, float]:
        sure = strongest(effect)
        logs = [abs(log(level.ratio.value)) for level in effect.levels if is_ratio(level.ratio.value)]
        return abs(log(sure.ratio.value)) if sure else 0.0, max(logs, default=0.0)

    return sorted((effect for effect in summary.effects if effect.stage == stage), key=strength, reverse=True)


def cost_words(level: str, base: str, ratio: float) -> str:
    """What `level` costs against `base`: 2.1× as much, 12 % more, or it saves 12 %."""
    if ratio >= 1.5:
        return f"{level} costs {number(ratio, 2)}× as much as {base}"
    if ratio > 1:
        return f"{level} costs {whole_percent(ratio - 1)} more than {base}"
    return f"{level} instead of {base} saves {whole_percent(1 - ratio)}"


def headline(summary: SweepSummary) -> str:
    """The headline: what the three strongest knobs do to the total, and of which ones flags leave nothing to say."""
    silent = [one_line(knob_title(knob), 40) for knob in silent_knobs(summary)] if grade_words(summary) else []
    return _strongest_words(summary) + (f"; nothing can be said of {', '.join(silent)}" if silent else "")


def _strongest_words(summary: SweepSummary) -> str:
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
    """A knob whose ratio depends on another knob: the smallest and the largest ratio."""
    low, high = (pick(interaction.at, key=lambda at: at.ratio.value) for pick in (min, max))
    other, knob = knob_title(interaction.other), knob_title(interaction.knob)
    return (
        f"{stage_title(interaction.stage)}: {knob} {level_text(interaction.level)} against "
        f"{level_text(interaction.base)} is {ratio(low.ratio.value)} at {other} {level_text(low.value)}, "
        f"{ratio(high.ratio.value)} at {other} {level_text(high.value)}"
    )


def visit_words(summary: SweepSummary) -> tuple[str, bool] | None:
    """What the intervals hold of the noise that all calls of one visit share, and whether that is a warning."""
    known = {effect.visit_noise for effect in summary.effects}
    if "unknown" in known:
        return (
            "Each configuration was measured in one round only. What changed on the machine between them can look like "
            "an effect of a knob, and the intervals don't hold it. Measure in two rounds or more.",
            True,
        )
    if "bounded by settings" in known:
        return (
            "There was one round, so the noise of visits can only be bounded, by what the knobs leave unexplained. "
            "Measure in two rounds or more for narrower intervals.",
            True,
        )
    total = next((one.sd for one in summary.visit_noise if one.stage == "total" and one.known == "estimated"), None)
    if total is None:
        return None
    return (f"Visits to one configuration differ by {percent(total)} in the total; the intervals hold that.", False)


def drift_words(summary: SweepSummary) -> str | None:
    """How much slower or faster the same work became during the run; None without a trend."""
    if summary.drift is None or summary.drift.trend is None:
        return None
    trend = summary.drift.trend
    sessions = f", over {count(summary.drift.sessions)} sessions" if summary.drift.sessions > 1 else ""
    if not surely_differs(trend):
        return (
            f"No drift shown: the trend from start to end is {ratio(trend.value)} (95 %: {ratio_ends(trend)}{sessions})"
        )
    way = "slower" if trend.value > 1 else "faster"
    change = percent(abs(trend.value - 1))
    return f"The same work became {change} {way} from start to end (95 %: {ratio_ends(trend)}{sessions})"


def _without_effects(totals: list[float], ratios: list[Interval]) -> str:
    if len(totals) == 1:
        return f"One configuration: {text(totals[0], 'ms')}"
    spread = f"{count(len(totals))} configurations, from {text(min(totals), 'ms')} to {text(max(totals), 'ms')}"
    if not ratios:
        return spread
    known = any(ratio.low is not None for ratio in ratios)
    return f"{spread}; {'no knob surely moves the total' if known else 'too few inputs to tell what a knob does'}"


def samples_words(rows: Sequence[ConfigRow]) -> str:
    """How many samples count, how many were left out, and the warm-up calls apart: they are none."""
    warm_ups = sum(row.warm_ups for row in rows)
    left = sum(row.left_out for row in rows) - warm_ups
    words = counted(sum(row.samples for row in rows), "sample") + (f", {count(left)} left out" if left else "")
    return f"{words}; {counted(warm_ups, 'warm-up call')} apart" if warm_ups else words


def silent_knobs(summary: SweepSummary) -> list[str]:
    """The knobs of which nothing can be said, since no two of their configurations have calls that are alike."""
    return [knob for knob in summary.knobs if knob not in {*summary.tied, *(one.knob for one in summary.effects)}]


def grade_words(summary: SweepSummary) -> str | None:
    """Which configurations had no clean sample, and what that means for the comparison; None when all had some."""
    flagged = [row for row in summary.rows if row.all_flagged and row.samples]
    if not flagged:
        return None
    apart = sum(not row.compared for row in flagged)
    carried: Counter[str] = Counter()
    for row in flagged:
        carried.update(row.flags)
    which = ", ".join(f"{count(samples)} {flag}" for flag, samples in carried.most_common())
    words = f"{counted(len(flagged), 'configuration')} had no clean sample{f' ({which})' if which else ''}."
    if apart == len(flagged):
        return f"{words} Their flagged ones are shown, and not compared with the others' clean ones."
    words += " Flagged samples count in all configurations"
    if any(row.left_out > row.warm_ups for row in summary.rows):
        words += "; only worse ones (cold, without a time, or a key twice) are left out"
    words += ". A knob's effect compares clean with clean and flagged with "
    words += "flagged ones"
    if silent := silent_knobs(summary):
        words += f", so nothing can be said of {', '.join(map(knob_title, silent))}"
    return f"{words}; {count(apart)} had only cold ones and are not compared." if apart else f"{words}."
