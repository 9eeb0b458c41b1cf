"""The page of policies: which one answers best within a budget, whether the budget is kept, and what it chooses."""

from __future__ import annotations

from laptime import __version__
from laptime.control.judge.result import SMALLER_BUDGET, ControlEvaluation, PolicyPoint
from laptime.control.judge.verdict import (
    Kept,
    at,
    budgets,
    kept,
    main_policy,
    paired_slow_downs,
    policy_names,
    role,
    surely_late,
)
from laptime.report.control.data import PAIRS_DRAWN, control_data, knob_levels, point_words
from laptime.report.control.policies import title
from laptime.report.control.words import (
    answer_lines,
    at_words,
    difference_words,
    facts,
    headline,
    intervals_note,
    slow_down_words,
)
from laptime.report.kit.environment import environment_pairs
from laptime.report.kit.html import Child, Html, chart, definitions, details, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, duration, plain_percent, plain_text, text
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
    "one knob": "one knob",
    "no promise": "no bound",
    "upper limit": "upper limit",
}
FINDINGS_SHOWN = 200
DIFFERENCES_SHOWN = 400
POINTS_SHOWN = 400


def control_page(evaluation: ControlEvaluation) -> str:
    """The whole page as one HTML document."""
    sections = [
        _attainment_section(evaluation),
        _difference_section(evaluation),
        _decision_section(evaluation),
        _slow_down_section(evaluation),
        _training_section(evaluation),
        _points_section(evaluation),
        _findings_section(evaluation),
        _environment_section(evaluation),
    ]
    return document(
        title=one_line(evaluation.model, 200),
        headline=headline(evaluation),
        meta=facts(evaluation),
        lead=_lead(evaluation),
        sections=[part for part in sections if part is not None],
        data=control_data(evaluation),
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("sweep/page.css"), asset("control/page.css")],
        footer=[
            f"laptime {evaluation.environment.laptime if evaluation.environment else __version__}",
            evaluation.schema,
        ],
    )


def _lead(evaluation: ControlEvaluation) -> Html:
    """What holds over all budgets in words, then the picture: accuracy against measured latency."""
    if not evaluation.points:
        return note("The evaluation holds no policy at any budget.", kind="warning")
    late = any(surely_late(point, evaluation.confidence) for point in evaluation.points)
    promised = plain_percent(evaluation.confidence)
    roles = {role(name, main_policy(evaluation)) for name in policy_names(evaluation)}
    return tag(
        "div",
        [tag("p", line, class_="lead") for line in answer_lines(evaluation)],
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
                "Each policy is a line with a point for each budget and its 95 % interval. ",
                f"Hollow points were surely in time less often than the promised {promised}. " if late else None,
                "Dotted lines rely on a mean or on arithmetic instead of a bound. " if "no bound" in roles else None,
                "The dashed line is the oracle. It knows the answers: an upper limit." if "oracle" in roles else None,
                class_="hero-note",
            ),
            class_="effects",
        ),
        class_="control-lead",
    )


def _attainment_section(evaluation: ControlEvaluation) -> Html | None:
    if not evaluation.points:
        return None
    smaller = any(point.policy.endswith(SMALLER_BUDGET) for point in evaluation.points)
    return section(
        "In time as often as promised",
        chart("attainment", "Share of answers within the budget for each policy and budget, with Wilson's interval"),
        id="attainment-section",
        lead=f"The share of answers within the budget, with its 95 % interval. The line marks the promised "
        f"{plain_percent(evaluation.confidence)}. Red: the whole interval is below it. Grey: nothing is promised, "
        "since for too many questions nothing fits, or one knob alone is turned. An arrow points to a value left "
        "of the scale."
        + (" Less budget: the policy decides under a smaller budget than it is judged by." if smaller else ""),
    )


def _difference_section(evaluation: ControlEvaluation) -> Html | None:
    if not evaluation.differences:
        return None
    rows = [
        [plain_text(one.budget_ms, "ms"), difference_words(one), at_words(one)]
        for one in sorted(evaluation.differences, key=lambda one: one.budget_ms)[:DIFFERENCES_SHOWN]
    ]
    return section(
        "How much better",
        chart("differences", "Difference in accuracy to each baseline at each budget, with its interval"),
        details("The figures", table(["budget", "accuracy, less that of the other", "taken at"], rows, numeric=[0])),
        id="difference-section",
        lead="The policy's accuracy less that of another policy on the same questions, in points. "
        + intervals_note(evaluation),
    )


def _decision_section(evaluation: ControlEvaluation) -> Html | None:
    """What a policy chose for which type of question, at one budget: both can be changed."""
    if not knob_levels(evaluation):
        return None
    chosen = [
        name for name in policy_names(evaluation) if any(p.choices for p in evaluation.points if p.policy == name)
    ]
    order = policy_names(evaluation)
    radios = [
        tag("label", tag("input", type="radio", name="budget", value=i), tag("span", plain_text(budget, "ms")))
        for i, budget in enumerate(budgets(evaluation))
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
        lead="For each type of question: the share that got each level of a knob. A stronger colour is a costlier "
        "level. Whole choices shows whole settings instead, in per cent of the type's questions. The types at the top "
        "get the cheapest levels from the policy in question.",
    )  # fmt: skip


def _slow_down_section(evaluation: ControlEvaluation) -> Html | None:
    pairs = paired_slow_downs(evaluation)
    if not pairs:
        return None
    options = [
        tag("option", f"{title(pair[0].policy)}, {plain_text(pair[0].budget_ms, 'ms')}", value=i)
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
        tag("p", "The shaded requests, while the correction settles, don't count.", class_="hero-note"),
        note(f"{counted(more, 'more stream')} in the JSON.") if more > 0 else None,
        id="slow-section",
    )


def _training_section(evaluation: ControlEvaluation) -> Html | None:
    if not any(one.points for one in evaluation.training):
        return None
    rows = [
        f"{title(one.policy)}: {count(one.decisions)} decisions in {duration(one.seconds)}"
        for one in evaluation.training
    ]
    return section(
        "Training",
        tag("div", id="training", class_="panels"),
        id="training-section",
        lead=f"{'; '.join(rows)}. Each point is a mean over neighbouring steps.",
    )


def _points_section(evaluation: ControlEvaluation) -> Html | None:
    if not evaluation.points:
        return None
    rows = [
        _point_cells(point, evaluation)
        for budget in budgets(evaluation)
        for name in policy_names(evaluation)
        if (point := at(evaluation, name, budget)) is not None
    ]
    head = ["budget", "policy", "right", "95 %", "in time", "95 %", "promise", "median", "p95", "regret, points",
            "deciding", "unfit"]  # fmt: skip
    return section(
        "Every policy at every budget",
        table(head, rows[:POINTS_SHOWN], numeric=[0, 2, 3, 4, 5, 7, 8, 9, 10, 11]),
        note(f"{counted(len(rows) - POINTS_SHOWN, 'more row')} in the JSON.") if len(rows) > POINTS_SHOWN else None,
        id="points",
        lead="Regret is the oracle's accuracy less the policy's, on the same questions. Deciding is the host's time "
        "for features and policy in one call. Unfit counts questions for which no choice fits; they get the fastest.",
    )


def _point_cells(point: PolicyPoint, evaluation: ControlEvaluation) -> list[Child]:
    main = main_policy(evaluation)
    how = kept(point, evaluation.confidence, main)
    name, words = title(point.policy), point_words(point)
    return [
        plain_text(point.budget_ms, "ms"),
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


def _findings_section(evaluation: ControlEvaluation) -> Html | None:
    if not evaluation.findings:
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
            for one in evaluation.findings[:FINDINGS_SHOWN]
        ],
        id="findings",
    )


def _environment_section(evaluation: ControlEvaluation) -> Html | None:
    if evaluation.environment is None:
        return section(
            "Machine", note("The evaluation came without its environment.", kind="warning"), id="environment"
        )
    return section("Machine", definitions(environment_pairs(evaluation.environment)), id="environment")
