"""The answer to a budget in a terminal: yes or no, the feasible configurations, and what rules of thumb would say."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.data.record import Scalar
from laptime.estimate.budget import BudgetAnswer, BudgetReport
from laptime.estimate.rules_of_thumb import RuleCost
from laptime.report.estimate.terminal import SUPPORT_STYLE
from laptime.report.estimate.words import (
    basis_line,
    budget_headline,
    config_text,
    rules_lines,
    support_legend,
    support_line,
)
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, number, percent, plain_percent, text
from laptime.report.kit.terminal import Column, columns_table
from laptime.report.kit.text import one_line

ANSWERS_SHOWN = 12


def budget_report(report: BudgetReport) -> RenderableType:
    """Yes or no in one line; the feasible configurations nearest to the budget; what rules of thumb would have said."""
    yes = report.feasible > 0
    parts: list[RenderableType] = [Text(budget_headline(report), style="bold green" if yes else "bold red")]
    if report.asked > 1:
        parts.append(_answers_table(report))
        legend = support_legend(answer.support for answer in report.answers[:ANSWERS_SHOWN])
        parts += [Text(f"  {line}", style="dim") for line in legend]
    elif report.answers:
        one = report.answers[0]
        line = support_line(one.support, bounded=one.bound_ms is not None, outside=one.outside)
        parts.append(Text(f"  {line}", style=SUPPORT_STYLE[one.support]))
        if one.basis is not None:
            parts.append(Text(f"  {basis_line(one.basis, bounded=one.bound_ms is not None)}"))
    if report.asked == 1 and report.answers and report.answers[0].bound_ms is None:
        return Group(*parts)  # what isn't known is not to be guessed by rules of thumb either
    parts.append(_rules_table(report) if report.asked > 1 else _rules_of_one(report))
    parts += [Text(f"  {line}", style="dim") for line in rules_lines(report)]
    return Group(*parts)


def _alike(answers: Sequence[BudgetAnswer]) -> dict[str, Scalar]:
    """The columns that have one value in all of them, unless there is nothing else to tell them apart by."""
    first = answers[0].config
    same = {name: value for name, value in first.items() if all(a.config[name] == value for a in answers)}
    return same if 0 < len(same) < len(first) else {}


def _answers_table(report: BudgetReport) -> Table:
    shown = report.answers[:ANSWERS_SHOWN]
    alike = _alike(report.answers)
    accuracies = any(answer.accuracy is not None for answer in shown)
    heads = ["feasible ones first", "median", f"{plain_percent(report.confidence)} bound", "within"]
    table = columns_table(*heads, *(["accuracy"] if accuracies else []), "", numeric=range(1, 4 + accuracies))
    for answer in shown:
        cells = [
            config_text({k: v for k, v in answer.config.items() if k not in alike}),
            text(answer.median_ms, "ms"),
            text(answer.bound_ms, "ms"),
        ]
        none = answer.bound_ms is None and not answer.probability  # 0 % would say that it is late
        cells += [NOTHING if none else percent(answer.probability), *([number(answer.accuracy)] if accuracies else [])]
        word = "yes" if answer.within else "no"
        word += "" if answer.support == "inside" else f", {answer.support}"
        table.add_row(*map(Text, cells), Text(word, style="green" if answer.within else "red"))
    if alike:
        table.add_row(Text(one_line(f"all with {config_text(alike)}", 200), style="dim"))
    if report.asked > len(shown):
        table.add_row(Text(f"{count(report.asked - len(shown))} more: --json", style="dim"))
    return table


def _rules_table(report: BudgetReport) -> Table:
    judged = any(rule.wrongly_admitted is not None for rule in report.rules)
    scored = any(rule.best_accuracy is not None for rule in report.rules)
    heads = ["admits", "bound too"]
    heads += ["wrongly\nadmits", "wrongly\nrefuses", "late", "unused"] if judged else []
    heads += ["best\naccuracy"] if scored else []
    table = columns_table(Column("rule", narrow="keep"), *heads, numeric=range(1, len(heads) + 1))
    for rule in report.rules:
        table.add_row(
            *(Text(cell, style="bold" if rule is report.rules[0] else "") for cell in _rule(rule, judged, scored))
        )
    return table


def _rules_of_one(report: BudgetReport) -> Table:
    table = columns_table("rule", "at most", "", numeric=(1,))
    for rule in report.rules:
        word = "yes" if rule.admitted else "no"
        style = "bold" if rule is report.rules[0] else ""
        table.add_row(Text(rule.rule, style=style), Text(text(rule.limit_ms, "ms")), Text(word))
    return table


def _rule(rule: RuleCost, judged: bool, scored: bool) -> list[str]:
    cells = [rule.rule.replace(" ", KEEP_TOGETHER), f"{rule.admitted} of {rule.of}", str(rule.also_calibrated)]
    if judged:
        cells += [str(rule.wrongly_admitted), str(rule.wrongly_refused), percent(rule.late), percent(rule.unused)]
    return [*cells, *([number(rule.best_accuracy)] if scored else [])]
