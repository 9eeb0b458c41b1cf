"""The sentences and names that the terminal and the page of an estimator share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from laptime.estimate.basis import TOO_FEW
from laptime.estimate.budget import BudgetAnswer, BudgetReport
from laptime.estimate.judge.ceiling import Ceiling
from laptime.estimate.judge.evaluation_result import Evaluation, SplitScores
from laptime.estimate.judge.splits import Filtered
from laptime.estimate.run_evaluation import WORTH_SAYING
from laptime.report.kit.numbers import count, decimals, number, percent, plain, plain_percent, plain_text, text
from laptime.report.kit.text import counted, one_line

QUESTIONS = {
    "inside": "within what was measured",
    "beyond": "larger or smaller",
    "group": "groups never seen",
    "level": "names never seen",
}
SPLITS = {
    "given": "the table as it is",
    "random": "rows at random",
    "new-config": "new configurations",
    "largest": "the largest sizes",
    "held-out": "a name never seen",
}
SUPPORT = {
    "inside": "inside what the estimator was fitted on",
    "near": "near what the estimator was fitted on (up to a quarter beyond)",
    "outside": "outside what the estimator was fitted on",
    "unknown": "no row like it was measured: measure some before relying on any time",
}
SUPPORT_LEGEND = {
    "near": "up to a quarter beyond what the estimator was fitted on; the bound is widened",
    "outside": "beyond what the estimator was fitted on; measure before relying on it",
    "unknown": "no row like it was measured",
}


def support_line(support: str, *, bounded: bool, outside: str | None = None) -> str:
    """How far a row is from what was measured, in what, and what that means for its bound, where it has one."""
    if support == "inside" and not bounded:
        return f"{SUPPORT['inside']}: times near it are too few for this bound, or jump too much"
    widened = ["the bound is widened"] if bounded and support in ("near", "outside") else []
    advice = ["measure before relying on it"] if support == "outside" else []
    where = SUPPORT[support] + (f", in {one_line(outside, 300)}" if outside else "")
    return ": ".join(part for part in (where, ", ".join(widened + advice)) if part)


def basis_line(basis: str, *, bounded: bool) -> str:
    """What was held out to check the bound of a new group or level, and why there is none all the same."""
    few = "" if bounded or basis.endswith(TOO_FEW) else "; they say too little for a bound at this confidence"
    return one_line(basis + few, 400)


def support_legend(words: Iterable[str]) -> list[str]:
    """What the words of a column mean, a line for each that occurs and isn't "inside"."""
    there = set(words)
    return [f"{word}: {meaning}" for word, meaning in SUPPORT_LEGEND.items() if word in there]


def evaluation_headline(evaluation: Evaluation) -> str:
    """The point of an evaluation in one sentence."""
    if not evaluation.splits:
        return "Nothing was judged"
    split = next((s for s in evaluation.splits if s.kind == "new-config"), evaluation.splits[0])
    mape, coverage = split.metrics.get("mape"), split.metrics.get("coverage")
    words = f"{one_line(evaluation.target, 80)}, {SPLITS[split.kind]}: "
    words += f"predictions are off by {percent(mape.mean)} on average" if mape else "judged"
    if coverage:
        words += f"; the {plain_percent(evaluation.q)} bound holds for {percent(coverage.mean)} of the rows"
        words += _weak_words(evaluation, split)
    if evaluation.fitted_on is not None and evaluation.fitted_on >= WORTH_SAYING:
        words += f". {percent(evaluation.fitted_on)} of these rows are those that it was fitted on"
    return words


def _weak_words(evaluation: Evaluation, said: SplitScores) -> str:
    """Where the bound fails although the whole looks well."""
    weak = evaluation.weakest
    if weak is None or (weak.group is None and weak.kind == said.kind):
        return ""
    where = SPLITS[weak.kind]
    if weak.group is not None:
        where = one_line(weak.group, 60) + ("" if weak.kind == said.kind else f" ({where})")
    return f", but for {percent(weak.coverage)} of the {counted(weak.rows, 'row')} of {where}"


def ceiling_lines(evaluation: Evaluation) -> Iterator[str]:
    """What the repeats say: the ceiling, and the two spreads that it comes from."""
    top = evaluation.ceiling
    rows = f"{counted(evaluation.rows, 'row')}, {count(evaluation.different_rows)} different"
    if top is None:
        yield f"{rows}. None was repeated, so there is no ceiling of R²"
        return
    alike = repeats_text(evaluation)
    yield (
        f"{rows}. {alike[0].upper() + alike[1:]} differ by {percent(top.cv_within)}, all rows by "
        f"{percent(top.cv_overall)} (standard deviation over mean)"
    )
    if top.cv_visits is not None:
        yield f"of which {percent(top.cv_visits)} from one visit of a worker to the next"
    yield f"so one answer for {alike} is not expected to exceed an R² of {ceiling_text(top)} over all rows"
    if any(split.kind != "given" for split in evaluation.splits):
        yield "R² within reach, below, is that ceiling for the rows held out alone"
    if top.at_most:
        yield (
            f"{alike} were measured in one visit, so what differs from visit to visit stands in this ceiling: "
            "the true one is lower (sweep in several rounds to know it)"
        )


def repeats_text(evaluation: Evaluation) -> str:
    """Which rows count as repeats: those of equal features, or of one group where no two have equal features."""
    return "rows of one group" if evaluation.different_rows == evaluation.rows else "repeats of a row"


def ceiling_text(top: Ceiling) -> str:
    """The ceiling with its interval."""
    if top.low is None or top.high is None:
        return decimals(top.value, 3)
    return f"{decimals(top.value, 3)} ({decimals(top.low, 3)} to {decimals(top.high, 3)})"


def filter_lines(removed: Filtered | None) -> Iterator[str]:
    """What an outlier filter left out."""
    if removed is None:
        return
    yield (
        f"{counted(removed.removed, 'outlier')} of {counted(removed.rows, 'row')} ({percent(removed.share)}) left out "
        f"of fitting: further than {plain(removed.factor)} interquartile ranges from the quartiles. {removed.slower} "
        "of these were slower than the median of their repeats; the ceiling of R² goes from "
        f"{decimals(removed.ceiling_before, 3)} to {decimals(removed.ceiling_after, 3)}"
    )


def budget_headline(report: BudgetReport) -> str:
    """The answer to a budget in one sentence."""
    limit, sure = plain_text(report.budget_ms, "ms"), plain_percent(report.confidence)
    if report.asked == 1:
        one = report.answers[0]
        if one.unknown is not None:
            return f"Unknown: {one_line(one.unknown, 300)}"
        if one.bound_ms is None:
            return f"Unknown: whether it stays within {limit} can't be said; no bound can be promised for {sure}"
        word = "Yes" if one.within else "No"
        bound = f"the bound is {text(one.bound_ms, 'ms')}"
        return f"{word}: within {limit} with probability {percent(one.probability)} ({sure} asked); {bound}"
    words = f"{report.feasible} of {counted(report.asked, 'configuration')} keep {limit} with {sure} confidence"
    return words if report.best is None else f"{words}. {_best_words(report, report.best)}"


def _best_words(report: BudgetReport, best: BudgetAnswer) -> str:
    """Which one to take, and why by a higher confidence than was asked."""
    what = config_text(best.config)
    if report.chosen_at is None or report.chosen_at <= report.confidence:
        return f"Take the fastest of them, {what}: whoever chooses among many must be surer, and none is sure enough"
    sure = f"with {plain_percent(report.chosen_at)} confidence, because whoever chooses among many must be surer"
    if best.accuracy is None:
        why = "No accuracy is known, so what uses most of the budget is named (--accuracy COLUMN names the best)"
        return f"Take {what}: it is the slowest that keeps the budget {sure}. {why}"
    return f"Take {what} (accuracy {number(best.accuracy)}): it is the most accurate that keeps the budget {sure}"


def rules_lines(report: BudgetReport) -> Iterator[str]:
    """What the figures of the rules mean, and how the rules were judged."""
    if report.asked > 1:
        yield (
            "admits: how many configurations the rule lets pass; bound too: how many of these the calibrated bound lets"
            " pass as well"
        )
    yield f"sd: one standard deviation of the prediction's error, {text(report.sigma_ms, 'ms')}{_sigma_over(report)}"
    if report.measured_rows:
        yield (
            f"judged by {counted(report.measured_rows, 'measured time')}: a configuration is wrongly admitted when "
            f"more than {plain_percent(1 - report.confidence)} of its own times are late"
        )
    if report.abstained:
        yield f"{counted(report.abstained, 'configuration')} refused because no bound can be promised"


def _sigma_over(report: BudgetReport) -> str:
    """Over what the standard deviation is taken: other configurations have another one."""
    if report.asked == 1:
        return " at this configuration"
    return f", over {count(report.sigma_configurations)} of the {count(report.asked)} asked"


def config_text(config: dict[str, object] | dict[str, str | int | float | bool | None]) -> str:
    """A configuration in one line."""
    return one_line(", ".join(f"{k.removeprefix('config.')} {value_text(v)}" for k, v in config.items()), 200)


def value_text(value: object) -> str:
    """A knob's value as it was chosen."""
    return f"{value:g}" if isinstance(value, float) else str(value)
