"""A budget's answer in a terminal: yes or no, the feasible configurations, and what rules of thumb would say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.data.record import Scalar
from laptime.estimate.budget import BudgetAnswer, BudgetReport, RuleCost
from laptime.report.estimate.terminal import SUPPORT, SUPPORT_STYLE, plain_percent, simple_table
from laptime.report.kit.numbers import KEEP_TOGETHER, number, percent, text
from laptime.report.kit.text import counted, one_line

ANSWERS_SHOWN = 12


def budget_report(found: BudgetReport) -> RenderableType:
    """Yes or no in one line; the feasible configurations nearest to the budget; what rules of thumb would have said."""
    yes = found.feasible > 0
    parts: list[RenderableType] = [Text(budget_headline(found), style="bold green" if yes else "bold red")]
    if found.asked > 1:
        parts.append(_answers_table(found))
    elif found.answers:
        parts.append(Text(f"  {SUPPORT[found.answers[0].support]}", style=SUPPORT_STYLE[found.answers[0].support]))
    parts.append(_rules_table(found) if found.asked > 1 else _rules_of_one(found))
    parts += [Text(f"  {line}", style="dim") for line in rules_lines(found)]
    return Group(*parts)


def budget_headline(found: BudgetReport) -> str:
    """The answer in one sentence."""
    limit, sure = text(found.budget_ms, "ms"), plain_percent(found.confidence)
    if found.asked == 1:
        one = found.answers[0]
        word = "Yes" if one.within else "No"
        bound = "no bound can be promised" if one.bound_ms is None else f"the bound is {text(one.bound_ms, 'ms')}"
        return f"{word}: within {limit} with probability {percent(one.probability)} ({sure} asked); {bound}"
    words = f"{found.feasible} of {counted(found.asked, 'configuration')} keep {limit} with {sure} confidence"
    if found.best is not None:
        what = "most accurate" if found.best.accuracy is not None else "slowest"
        words += f"; the {what}: {config_text(found.best)}"
        words += f" ({number(found.best.accuracy)})" if found.best.accuracy is not None else ""
    return words


def config_text(answer: BudgetAnswer, leave_out: Collection[str] = ()) -> str:
    """A configuration in one line, without the columns that the reader knows already."""
    shown = {name: value for name, value in answer.config.items() if name not in leave_out}
    return one_line(", ".join(f"{k.removeprefix('config.')} {_value(v)}" for k, v in shown.items()), 200)


def _alike(answers: Sequence[BudgetAnswer]) -> dict[str, Scalar]:
    """The columns that have one value in all of them, unless there is nothing else to tell them apart by."""
    first = answers[0].config
    same = {name: value for name, value in first.items() if all(a.config[name] == value for a in answers)}
    return same if 0 < len(same) < len(first) else {}


def rules_lines(found: BudgetReport) -> Iterator[str]:
    """How the rules were judged."""
    yield f"sd: one standard deviation of the prediction's error, {text(found.sigma_ms, 'ms')} for every configuration"
    if found.measured_rows:
        yield (
            f"judged by {counted(found.measured_rows, 'measured time')}: wrongly admitted is late in more than "
            f"{plain_percent(1 - found.confidence)} of its own"
        )
    if found.abstained:
        yield f"for {counted(found.abstained, 'configuration')} no bound can be promised: refused"


def _answers_table(found: BudgetReport) -> Table:
    shown = found.answers[:ANSWERS_SHOWN]
    alike = _alike(found.answers)
    accuracies = any(answer.accuracy is not None for answer in shown)
    heads = ["nearest to the budget", "median", f"P{100 * found.confidence:g} bound", "within"]
    table = simple_table(*heads, *(["accuracy"] if accuracies else []), "", right=range(1, 4 + accuracies))
    for answer in shown:
        cells = [config_text(answer, alike), text(answer.median_ms, "ms"), text(answer.bound_ms, "ms")]
        cells += [percent(answer.probability), *([number(answer.accuracy)] if accuracies else [])]
        word = "yes" if answer.within else "no"
        word += "" if answer.support == "inside" else f", {answer.support}"
        table.add_row(*map(Text, cells), Text(word, style="green" if answer.within else "red"))
    if alike:
        said = ", ".join(f"{name.removeprefix('config.')} {_value(value)}" for name, value in alike.items())
        table.add_row(Text(one_line(f"all with {said}", 200), style="dim"))
    if len(found.answers) > len(shown) or found.asked > len(shown):
        table.add_row(Text(f"{found.asked - len(shown)} more: --json", style="dim"))
    return table


def _rules_table(found: BudgetReport) -> Table:
    judged = any(rule.wrongly_admitted is not None for rule in found.rules)
    scored = any(rule.best_accuracy is not None for rule in found.rules)
    heads = ["rule", "admits", "bound too"]
    heads += ["wrongly admits", "wrongly refuses", "late", "unused"] if judged else []
    table = simple_table(*heads, *(["best accuracy"] if scored else []), right=range(1, len(heads) + scored))
    for rule in found.rules:
        table.add_row(
            *(Text(cell, style="bold" if rule is found.rules[0] else "") for cell in _rule(rule, judged, scored))
        )
    return table


def _rules_of_one(found: BudgetReport) -> Table:
    table = simple_table("rule", "at most", "", right=(1,))
    for rule in found.rules:
        word = "yes" if rule.admitted else "no"
        style = "bold" if rule is found.rules[0] else ""
        table.add_row(Text(rule.rule, style=style), Text(text(rule.limit_ms, "ms")), Text(word))
    return table


def _rule(rule: RuleCost, judged: bool, scored: bool) -> list[str]:
    cells = [rule.rule.replace(" ", KEEP_TOGETHER), f"{rule.admitted} of {rule.of}", str(rule.also_calibrated)]
    if judged:
        cells += [str(rule.wrongly_admitted), str(rule.wrongly_refused), percent(rule.late), percent(rule.unused)]
    return [*cells, *([number(rule.best_accuracy)] if scored else [])]


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
