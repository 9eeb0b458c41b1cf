"""The page of policies: which one answers best within a budget, whether the budget is kept, and what it chooses."""

from __future__ import annotations

from laptime import __version__
from laptime.control.judge.result import ControlEvaluation, PolicyPoint
from laptime.report.control.data import PAIRS_DRAWN, control_data, knob_levels, point_words
from laptime.report.control.policies import LESS, Kept, at, budgets, kept, main_policy, names, role, surely_late, title
from laptime.report.control.words import (
    answer_lines,
    at_words,
    budget_text,
    difference_words,
    facts,
    headline,
    paired_slow_downs,
    slow_down_words,
    whole_share,
)
from laptime.report.kit.environment import environment_pairs
from laptime.report.kit.html import Child, Html, chart, definitions, details, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, number, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line

SCRIPTS = (
    "kit/charts/scale.js",
    "kit/charts/log_scale.js",
    "kit/charts/tooltip.js",
    "kit/charts/heat_map.js",
    "control/front.js",
    "kit/charts/interval_grid.js",
    "control/decision_bars.js",
    "control/choice_cells.js",
    "kit/charts/gapped_line.js",
    "control/slow_down.js",
    "control/training_curves.js",
    "control/page.js",
)
PROMISES: dict[Kept, str] = {
    "kept": "kept",
    "short": "short, by chance",
    "missed": "missed",
    "unfit": "nothing fits",
    "no promise": "no bound",
    "upper limit": "upper limit",
}
FINDINGS_SHOWN = 200
DIFFERENCES_SHOWN = 400
POINTS_SHOWN = 400


def control_page(evaluation: ControlEvaluation) -> str:
    """The whole page as one HTML document."""
    found = evaluation
    sections = [
        _attainment_section(found),
        _difference_section(found),
        _decision_section(found),
        _slow_down_section(found),
        _training_section(found),
        _points_section(found),
        _findings_section(found),
        _environment_section(found),
    ]
    return document(
        title=one_line(found.model, 200),
        headline=headline(found),
        meta=facts(found),
        lead=_lead(found),
        sections=[part for part in sections if part is not None],
        data=control_data(found),
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("sweep/page.css"), asset("control/page.css")],
        footer=[f"laptime {found.environment.laptime if found.environment else __version__}", found.schema],
    )


def _lead(found: ControlEvaluation) -> Html:
    """What holds over all budgets in words, then the picture: accuracy against measured latency."""
    if not found.points:
        return note("The evaluation holds no policy at any budget.", kind="warning")
    late = any(surely_late(point, found.confidence) for point in found.points)
    roles = {role(name, main_policy(found)) for name in names(found)}
    return tag(
        "div",
        [tag("p", line, class_="lead") for line in answer_lines(found)],
        tag(
            "div",
            tag(
                "div",
                tag("span", "Accuracy against latency", class_="effects-title"),
                tag(
                    "select",
                    tag("option", "95th percentile of the total", value="p95"),
                    tag("option", "median of the total", value="median"),
                    tag("option", "budget", value="budget"),
                    id="front-x",
                    aria_label="Latency that the picture shows",
                ),
                tag("button", "Logarithmic", type="button", id="front-log", aria_pressed="false"),
                class_="toolbar",
            ),
            chart("front", "Accuracy of each policy against its latency, a line for each policy over the budgets"),
            tag(
                "p",
                "A line for each policy, a point for each budget, with its 95 % interval. "
                + (
                    f"Hollow: surely in time less often than the {whole_share(found.confidence)} asked. "
                    if late
                    else ""
                )
                + ("Dotted: by a mean or arithmetic instead of a bound. " if "no bound" in roles else "")
                + ("Dashed: the oracle, which knows the answers; an upper limit." if "oracle" in roles else ""),
                class_="hero-note",
            ),
            class_="effects",
        ),
        class_="control-lead",
    )


def _attainment_section(found: ControlEvaluation) -> Html | None:
    if not found.points:
        return None
    told_less = any(point.policy.endswith(LESS) for point in found.points)
    return section(
        "In time as often as asked",
        chart("attainment", "Share of answers within the budget for each policy and budget, with Wilson's interval"),
        id="attainment-section",
        lead=f"Share of answers within the budget, with its 95 % interval; the line is the "
        f"{whole_share(found.confidence)} asked. Red: the whole interval lies below it. Grey: for too many "
        "questions nothing fits, so nothing is promised. An arrow: left of the scale."
        + (" Told less: given a smaller budget than it is judged by." if told_less else ""),
    )


def _difference_section(found: ControlEvaluation) -> Html | None:
    if not found.differences:
        return None
    rows = [
        [budget_text(one.budget_ms), difference_words(one), at_words(one)]
        for one in sorted(found.differences, key=lambda one: one.budget_ms)[:DIFFERENCES_SHOWN]
    ]
    return section(
        "How much better",
        chart("differences", "Difference in accuracy to each baseline at each budget, with its interval"),
        details("The figures", table(["budget", "accuracy, less that of the other", "taken at"], rows, numeric=[0])),
        id="difference-section",
        lead="Accuracy less that of another policy on the same questions, in points, with its 95 % interval. "
        "An interval that leaves out zero is more than chance.",
    )


def _decision_section(found: ControlEvaluation) -> Html | None:
    """What a policy chose for which type of question, at one budget: both can be changed."""
    if not knob_levels(found):
        return None
    chosen = [name for name in names(found) if any(p.choices for p in found.points if p.policy == name)]
    order = names(found)
    radios = [
        tag("label", tag("input", type="radio", name="budget", value=i), tag("span", budget_text(budget)))
        for i, budget in enumerate(budgets(found))
    ]
    return section(
        "What is chosen for which question",
        tag(
            "div",
            tag("select", [tag("option", title(name), value=order.index(name)) for name in chosen],
                id="decision-policy", aria_label="Policy whose choices are shown"),
            tag("fieldset", tag("legend", "budget"), radios, id="decision-budget", class_="pills"),
            tag("button", "Whole choices", type="button", id="decision-whole", aria_pressed="false"),
            class_="toolbar",
        ),
        chart("decisions", "Share of each knob's levels that the policy chose, by type of question",
              class_="heat-scroll"),
        id="decision-section",
        lead="Of the questions of a type, how many got which level of each knob; the stronger the colour, the "
        "costlier. Whole choices: per cent of the type's questions. The policy in question spends least on the types "
        "that stand first.",
    )  # fmt: skip


def _slow_down_section(found: ControlEvaluation) -> Html | None:
    pairs = paired_slow_downs(found)
    if not pairs:
        return None
    options = [
        tag("option", f"{title(pair[0].policy)}, {budget_text(pair[0].budget_ms)}", value=i)
        for i, pair in enumerate(pairs[:PAIRS_DRAWN])
    ]
    more = len(pairs) - PAIRS_DRAWN
    return section(
        "When the machine becomes slower",
        tag("div", tag("select", options, id="slow-which", aria_label="Stream of requests"), class_="toolbar")
        if len(options) > 1
        else None,
        tag("p", f"{slow_down_words(pairs[0])}.", id="slow-words", class_="lead", aria_live="polite"),
        chart("slow-down", "Share within the budget, time over budget and correction, request by request"),
        tag("p", "Shaded: requests while the correction settles, left out of “after”.", class_="hero-note"),
        note(f"{counted(more, 'more stream')}: in the JSON.") if more > 0 else None,
        id="slow-section",
    )


def _training_section(found: ControlEvaluation) -> Html | None:
    if not any(one.points for one in found.training):
        return None
    rows = [
        f"{title(one.policy)}: {number(float(one.decisions))} decisions in {number(one.seconds)} s"
        for one in found.training
    ]
    return section(
        "Training",
        tag("div", id="training", class_="panels"),
        id="training-section",
        lead=f"{'; '.join(rows)}. Means of what was drawn, over neighbouring steps.",
    )


def _points_section(found: ControlEvaluation) -> Html | None:
    if not found.points:
        return None
    rows = [
        _point_cells(point, found)
        for budget in budgets(found)
        for name in names(found)
        if (point := at(found, name, budget)) is not None
    ]
    head = ["budget", "policy", "right", "95 %", "in time", "95 %", "promise", "median", "p95", "regret, points",
            "deciding", "unfit"]  # fmt: skip
    return section(
        "Every policy at every budget",
        table(head, rows[:POINTS_SHOWN], numeric=[0, 2, 3, 4, 5, 7, 8, 9, 10, 11]),
        note(f"{counted(len(rows) - POINTS_SHOWN, 'more row')}: in the JSON.") if len(rows) > POINTS_SHOWN else None,
        id="points",
        lead="Regret: the oracle's accuracy less the policy's, on the same questions. Deciding: the host's time for "
        "features, policy and switching knobs in one call. Unfit: questions for which no choice fits; they "
        "got the fastest.",
    )


def _point_cells(point: PolicyPoint, found: ControlEvaluation) -> list[Child]:
    main = main_policy(found)
    how = kept(point, found.confidence, main)
    name, words = title(point.policy), point_words(point)
    return [
        budget_text(point.budget_ms),
        tag("strong", name) if point.policy == main else name,
        words["right"],
        words["right_ends"],
        words["in_time"],
        words["in_time_ends"],
        tag("span", PROMISES[how], class_=f"kept {how}"),
        words["median"],
        words["p95"],
        words["regret"],
        text(point.deciding_ms.value, "ms") if point.deciding_ms else NOTHING,
        str(point.unfit),
    ]


def _findings_section(found: ControlEvaluation) -> Html | None:
    if not found.findings:
        return None
    return section(
        "Findings",
        [
            note(
                tag("b", f"{one_line(one.code, 60)}: "),
                one_line(one.message, 600),
                f" (×{one.count})" if one.count > 1 else None,
                kind=one.severity,
            )
            for one in found.findings[:FINDINGS_SHOWN]
        ],
        id="findings",
    )


def _environment_section(found: ControlEvaluation) -> Html | None:
    if found.environment is None:
        return section(
            "Machine", note("The evaluation came without its environment.", kind="warning"), id="environment"
        )
    return section("Machine", definitions(environment_pairs(found.environment)), id="environment")
