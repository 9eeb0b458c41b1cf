"""The page of policies in a real browser: its numbers are the evaluation's, its choices work, it trusts no string."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan
from typing import Any

import pytest
from msgspec.structs import replace

from laptime.control.judge.result import ControlEvaluation, PolicyPoint
from laptime.control.judge.verdict import baselines, differences_to, policy_names
from laptime.data.record import Interval
from laptime.report.control.data import knob_levels, ordered_types
from laptime.report.control.page import control_page
from laptime.report.control.policies import title
from laptime.report.control.words import headline
from laptime.report.kit.numbers import text
from tests.report.control.sample_controls import BUDGETS, NEEDS, an_evaluation, changed, hostile, large, slow_down
from tests.report.hostile import HOSTILE

Open = Callable[[str], Any]
Console = Callable[[], list[str]]

SECTIONS = ["In time as often as promised", "How much better", "What is chosen for which question",
            "When the machine becomes slower", "Training", "Every policy at every budget", "Findings",
            "Machine"]  # fmt: skip


def count(browser: Any, selector: str) -> int:
    evaluation: int = browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)
    return evaluation


def texts(browser: Any, selector: str) -> list[str]:
    words = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector
    )
    return [one.replace("\xa0", " ") for one in words]


def choose(browser: Any, place: str, value: object) -> None:
    browser.execute_script(
        "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
        "if (box.selectedIndex < 0) throw new Error(`no option ${arguments[1]} in ${arguments[0]}`);"
        "box.dispatchEvent(new Event('change'))",
        place,
        str(value),
    )


def assert_drawn_whole(browser: Any) -> None:
    """No number in a drawing or a text that isn't one."""
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('header, main')].map((part) => part.outerHTML).join('')"
    )
    assert re.findall(r".{40}(?:NaN|undefined|Infinity|null|\bnan\b).{20}", drawn) == []


def point_of(evaluation: ControlEvaluation, policy: str, budget: float) -> PolicyPoint:
    (one,) = [point for point in evaluation.points if (point.policy, point.budget_ms) == (policy, budget)]
    return one


def drawn_shares(browser: Any) -> dict[str, list[list[float]]]:
    """The widths of each knob's bars, in shares of the whole bar, top to bottom."""
    widths: dict[str, list[list[float]]] = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('#decisions g[data-knob]')].map((panel) => {"
        "  const rows = new Map();"
        "  for (const bar of panel.querySelectorAll('rect.decision-bar[height=\"24\"]')) {"
        "    const y = Number(bar.getAttribute('y'));"
        "    rows.set(y, [...(rows.get(y) ?? []), Number(bar.getAttribute('width')) + 1.5]);"
        "  }"
        "  const lines = [...rows].sort((a, b) => a[0] - b[0]).map(([, widths]) => widths);"
        "  return [panel.dataset.knob, lines.map((widths) => widths.map((w) => w / widths.reduce((a, b) => a + b)))];"
        "}))"
    )
    return widths


def valued_shares(evaluation: ControlEvaluation, policy: str, budget: float) -> dict[str, list[list[float]]]:
    """The same from the evaluation: levels that were not chosen have no bar."""
    point, knobs = point_of(evaluation, policy, budget), knob_levels(evaluation)
    fields = {"image tier": "tier", "top-k": "top_k", "blocks": "blocks"}
    shares: dict[str, list[list[float]]] = {}
    for knob, levels in knobs.items():
        shares[knob] = []
        for kind in ordered_types(evaluation, knobs):
            built = [share for share in point.choices if share.question_type == kind]
            parts = [sum(s.count for s in built if getattr(s, fields[knob]) == level) for level in levels]
            shares[knob].append([part / sum(parts) for part in parts if part])
    return shares


def same(drawn: dict[str, list[list[float]]], valued: dict[str, list[list[float]]]) -> bool:
    flat = [[share for knob in sorted(one) for row in one[knob] for share in row] for one in (drawn, valued)]
    return len(flat[0]) == len(flat[1]) and flat[0] == pytest.approx(flat[1], abs=0.01)


@pytest.mark.chromium
def test_it_draws_every_part_without_a_word_on_the_console(open_page: Open, console_lines: Console) -> None:
    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))
    assert texts(browser, "main h2") == SECTIONS
    assert texts(browser, "h1") == [headline(evaluation).replace("\xa0", " ")]
    for chart in ("#front", "#attainment", "#differences", "#decisions", "#slow-down", "#training"):
        assert count(browser, f"{chart} svg :is(rect, circle, path)") > 0, chart
    assert count(browser, "#front .front-point") == len(evaluation.points)
    assert count(browser, "#attainment .spot") == len(evaluation.points)
    assert count(browser, "#differences .spot") == sum(
        len(differences_to(evaluation, name)) for name in baselines(evaluation)
    )
    words = browser.execute_script("return document.body.innerText")
    for expected in ("best static", "lookup table", "NVIDIA H200", "clocks locked at 990 MHz", "infeasible:"):
        assert expected in words, expected
    assert_drawn_whole(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert console_lines() == []


@pytest.mark.chromium
def test_the_table_has_the_values_numbers(open_page: Open, console_lines: Console) -> None:
    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#points tbody tr')].map((row) =>"
        " [...row.children].map((cell) => cell.textContent.replaceAll('\\u00a0', ' ')))"
    )
    assert [row[:2] for row in rows] == [
        [f"{b:g} ms", title(name)] for b in BUDGETS for name in policy_names(evaluation)
    ]
    for row, (budget, name) in zip(
        rows, [(b, name) for b in BUDGETS for name in policy_names(evaluation)], strict=True
    ):
        point = point_of(evaluation, name, budget)
        for cell, interval in ((2, point.accuracy), (4, point.attainment)):
            assert float(row[cell].removesuffix(" %")) == pytest.approx(interval.value * 100, abs=0.051)
            ends = [float(end) for end in row[cell + 1].split("–")]
            assert ends == pytest.approx([(interval.low or 0) * 100, (interval.high or 0) * 100], abs=0.051)
        assert row[7:9] == [text(ms, "ms").replace("\xa0", " ") for ms in (point.total_ms.value, point.total_p95_ms)]
        if point.regret is not None:
            regret = float(row[9].replace("−", "-"))
            assert regret == pytest.approx(point.regret.value * 100, abs=0.051)
        assert row[11] == str(point.unfit)
    # The words beside a dot are the table's.
    beside = dict(zip(texts(browser, "#attainment g[data-panel]:first-child .spot-words"), rows, strict=False))
    assert all(row[4].startswith(words) for words, row in beside.items())
    assert console_lines() == []


@pytest.mark.chromium
def test_the_front_is_to_scale_and_its_axis_can_be_chosen(open_page: Open, console_lines: Console) -> None:
    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))

    def places(policy: str) -> list[tuple[float, float]]:
        places = browser.execute_script(
            'return [...document.querySelectorAll(`#front g[data-policy="${arguments[0]}"] circle`)]'
            ".map((dot) => [Number(dot.getAttribute('cx')), Number(dot.getAttribute('cy'))])",
            title(policy),
        )
        return [(x, y) for x, y in places]

    def line(policy: str) -> list[PolicyPoint]:
        return [point_of(evaluation, policy, budget) for budget in BUDGETS]

    def straight(pixels: list[float], values: list[float]) -> None:
        """Pixels are a linear function of values: one slope for all pairs of neighbours."""
        slope = (pixels[-1] - pixels[0]) / (values[-1] - values[0])
        assert pixels == pytest.approx([pixels[0] + slope * (value - values[0]) for value in values], abs=0.3)

    for policy in ("grpo", "static", "oracle"):
        straight([y for _, y in places(policy)], [point.accuracy.value for point in line(policy)])
        straight([x for x, _ in places(policy)], [point.total_p95_ms for point in line(policy)])
    choose(browser, "#front-x", "median")
    straight([x for x, _ in places("grpo")], [point.total_ms.value for point in line("grpo")])
    choose(browser, "#front-x", "budget")
    assert [x for x, _ in places("grpo")] == [x for x, _ in places("static")]
    before = places("grpo")
    browser.find_element("id", "front-log").click()
    assert places("grpo") != before
    names_drawn = texts(browser, "#front .front-title")
    assert sorted(names_drawn) == sorted(title(name) for name in policy_names(evaluation))
    assert texts(browser, "#front .gain-words") == ["+8.8 points at 30 ms"]
    late = [point for point in evaluation.points if (point.attainment.high or 1) < 0.95]
    assert count(browser, "#front .hollow") == count(browser, "#attainment .spot.missed") == len(late) > 0
    assert console_lines() == []


@pytest.mark.chromium
def test_names_in_the_front_do_not_cover_each_other(open_page: Open, console_lines: Console) -> None:
    for evaluation in (an_evaluation(), large()):
        browser = open_page(control_page(evaluation))
        for axis in ("p95", "median", "budget"):
            choose(browser, "#front-x", axis)
            boxes = browser.execute_script(
                "return [...document.querySelectorAll('#front .front-title')].map((name) => {"
                " const box = name.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom]; })"
            )
            for i, one in enumerate(boxes):
                for other in boxes[:i]:
                    across = min(one[1], other[1]) - max(one[0], other[0])
                    down = min(one[3], other[3]) - max(one[2], other[2])
                    assert across <= 0 or down <= 3, (axis, one, other)
    assert console_lines() == []


@pytest.mark.chromium
def test_the_budget_and_the_policy_change_what_is_drawn(open_page: Open, console_lines: Console) -> None:
    from selenium.webdriver.common.keys import Keys

    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))
    assert set(texts(browser, "#decisions .level")) == set(NEEDS)
    assert same(drawn_shares(browser), valued_shares(evaluation, "grpo", BUDGETS[2]))
    radios = browser.find_elements("css selector", "#decision-budget input")
    assert [radio.is_selected() for radio in radios] == [False, False, True, False, False]
    radios[2].send_keys(Keys.ARROW_RIGHT)  # the keyboard reaches the next budget
    assert same(drawn_shares(browser), valued_shares(evaluation, "grpo", BUDGETS[3]))
    assert not same(drawn_shares(browser), valued_shares(evaluation, "grpo", BUDGETS[2]))
    choose(browser, "#decision-policy", policy_names(evaluation).index("static"))
    assert same(drawn_shares(browser), valued_shares(evaluation, "static", BUDGETS[3]))
    assert console_lines() == []


@pytest.mark.chromium
def test_whole_choices_are_cells(open_page: Open, console_lines: Console) -> None:
    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))
    browser.find_element("id", "decision-whole").click()
    point = point_of(evaluation, "grpo", BUDGETS[2])
    assert count(browser, "#decisions .cell") == len(point.choices)
    asked = {
        (share.tier, share.top_k, share.blocks)
        for one in evaluation.points
        if one.policy == "grpo"
        for share in one.choices
    }
    assert count(browser, "#decisions .cell, #decisions .cell-none") == len(asked) * len(NEEDS)
    totals = {kind: sum(s.count for s in point.choices if s.question_type == kind) for kind in NEEDS}
    shares = [share.count / totals[share.question_type] for share in point.choices]
    expected = sorted(round(100 * share) for share in shares if share >= 0.005)
    assert sorted(map(int, texts(browser, "#decisions .cell-text"))) == pytest.approx(expected, abs=1)
    assert console_lines() == []


@pytest.mark.chromium
def test_the_moment_of_slowing_and_what_correction_does(open_page: Open, console_lines: Console) -> None:
    streams = [slow_down(online=online) for online in (False, True)]
    other = [slow_down(online=online, policy="static", seed=9) for online in (False, True)]
    evaluation = changed(slow_downs=[*streams, *other])
    browser = open_page(control_page(evaluation))

    def late() -> list[int]:
        return [count(browser, f"#slow-down .request.{kind}.late") for kind in ("without", "with")]

    def asked(pair: list[Any]) -> list[int]:
        return [sum(r.total_ms / r.budget_ms > 1.0005 for r in one.requests) for one in pair]

    assert late() == pytest.approx(asked(streams), abs=1)
    assert count(browser, "#slow-down .request") == 800
    line = browser.find_element("css selector", "#slow-down .slower")
    dots = browser.execute_script(
        "return [...document.querySelectorAll('#slow-down .request.with')].map((dot) => Number(dot.getAttribute('cx')))"
    )
    assert dots[199] < float(line.get_attribute("x1")) <= dots[200] + 0.06
    assert texts(browser, "#slow-down .slower-words") == ["from here 1.50× slower"]
    assert "98.3 % with online correction" in texts(browser, "#slow-words")[0]
    choose(browser, "#slow-which", 1)
    assert late() == pytest.approx(asked(other), abs=1)
    assert texts(browser, "#slow-words")[0].startswith("The best static configuration at 45 ms")
    assert console_lines() == []


@pytest.mark.chromium
def test_training_has_a_line_for_each_policy_and_figure(open_page: Open, console_lines: Console) -> None:
    browser = open_page(control_page(an_evaluation()))
    figures = browser.execute_script(
        "return [...document.querySelectorAll('#training [data-figure]')].map((box) =>"
        " [box.dataset.figure, box.querySelectorAll('.curve').length])"
    )
    assert figures == [[name, 2] for name in ("reward", "accuracy", "within", "kl", "entropy")]
    assert texts(browser, "#training-section .legend li") == ["GRPO", "supervised"]
    assert console_lines() == []


@pytest.mark.chromium
def test_a_point_can_be_asked(open_page: Open, console_lines: Console) -> None:
    from selenium.webdriver import ActionChains

    evaluation = an_evaluation()
    browser = open_page(control_page(evaluation))
    dot = browser.find_element("css selector", "#front .main circle:last-of-type")
    browser.execute_async_script(
        "arguments[0].scrollIntoView({ block: 'center' });"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[1], 50)))",
        dot,
    )
    ActionChains(browser).move_to_element(dot).perform()
    shown = browser.find_element("id", "tooltip").text.replace("\xa0", " ")
    point = point_of(evaluation, "grpo", BUDGETS[-1])
    for words in ("GRPO at 48 ms", f"{point.accuracy.value * 100:.1f} %", text(point.total_p95_ms, "ms"), "kept"):
        assert words.replace("\xa0", " ") in shown, (words, shown)
    assert console_lines() == []


@contextmanager
def scheme(browser: Any, name: str) -> Iterator[None]:
    """The page as someone sees it who prefers dark or light."""
    feature = {"name": "prefers-color-scheme", "value": name}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.chromium
@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_policys_colour_can_be_seen(name: str, open_page: Open) -> None:
    browser = open_page(control_page(large()))
    with scheme(browser, name):
        colours = browser.execute_script(
            "const seen = (place, what) => getComputedStyle(place)[what].match(/[\\d.]+/g).slice(0, 3).map(Number);"
            "return [seen(document.querySelector('header .effects'), 'backgroundColor'),"
            " ...[...document.querySelectorAll('#front .front-title')].map((one) => seen(one, 'fill'))]"
        )

    def light(colour: list[float]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    ground, *inks = colours
    assert len({tuple(ink) for ink in inks}) == len(inks) == 10
    for ink in inks:  # 3 is what WCAG asks of drawn things and large text
        assert max(light(ink), light(ground)) / min(light(ink), light(ground)) > 3


@pytest.mark.chromium
@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_names(words: str, open_page: Open, console_lines: Console) -> None:
    page = control_page(hostile(words))
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page)
    browser = open_page(page)
    browser.find_element("id", "decision-whole").click()
    for axis in ("median", "budget"):
        choose(browser, "#front-x", axis)
    assert browser.execute_script("return window.pwned ?? null") is None
    assert count(browser, "img, iframe, object, embed, [onload], [onerror], svg[onload]") == 0
    scripts = re.findall(r"sha256-", page)
    assert count(browser, "script:not([type])") == len(scripts) - 1
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert count(browser, "#front .front-point") == len(an_evaluation().points)
    assert console_lines() == []


def bare(point: PolicyPoint) -> PolicyPoint:
    """A point of which only the least is known."""
    unknown = replace(point.accuracy, low=None, high=None)
    return replace(
        point, accuracy=unknown, attainment=unknown, total_ms=replace(point.total_ms, low=None, high=None),
        regret=None, deciding_ms=None, choices=[], accuracy_by_type={},
    )  # fmt: skip


def little(kind: str) -> ControlEvaluation:
    evaluation = an_evaluation()
    alone = {"differences": [], "slow_downs": [], "training": [], "findings": []}
    match kind:
        case "nothing":
            return changed(points=[], environment=None, **alone)
        case "one point":
            return changed(points=[bare(evaluation.points[0])], environment=None, **alone)
        case "no intervals":
            return changed(points=[bare(point) for point in evaluation.points], differences=[
                replace(one, accuracy=replace(one.accuracy, low=None, high=None)) for one in evaluation.differences
            ])  # fmt: skip
        case "not a number":
            none = Interval(nan, nan, nan, 0)
            unknown: dict[str, dict[str, Any]] = {
                "static": {"accuracy": none}, "supervised": {"total_p95_ms": nan}, "lookup": {"attainment": none},
            }  # fmt: skip
            return changed(points=[replace(p, **unknown.get(p.policy, {})) for p in evaluation.points])
        case "a hole":
            return changed(points=[p for p in evaluation.points if (p.policy, p.budget_ms) != ("static", BUDGETS[2])])
        case "one knob":
            return changed(points=[
                replace(p, choices=[replace(share, top_k=None, blocks=None) for share in p.choices])
                for p in evaluation.points
            ])  # fmt: skip
        case "oracle alone":
            return changed(points=[p for p in evaluation.points if p.policy == "oracle"], **alone)
        case "unfinished streams":
            return changed(slow_downs=[replace(evaluation.slow_downs[0], requests=[]), evaluation.slow_downs[1]])
        case _:
            return changed(way="replayed", slow_downs=evaluation.slow_downs[:1], training=evaluation.training[:1])


@pytest.mark.chromium
@pytest.mark.parametrize("kind", ["nothing", "one point", "no intervals", "not a number", "a hole", "one knob",
                                  "oracle alone", "unfinished streams", "replayed"])  # fmt: skip
def test_little_data_makes_a_whole_page(kind: str, open_page: Open, console_lines: Console) -> None:
    browser = open_page(control_page(little(kind)))
    words = browser.execute_script("return document.body.innerText")
    assert ("holds no policy" in words) == (kind == "nothing")
    assert ("looked up in a sweep" in words) == (kind == "replayed")
    if button := browser.find_elements("id", "decision-whole"):
        button[0].click()
    assert_drawn_whole(browser)
    assert console_lines() == []


@pytest.mark.chromium
def test_a_point_without_a_number_is_not_drawn(open_page: Open) -> None:
    evaluation = little("not a number")
    browser = open_page(control_page(evaluation))
    drawn = [p for p in evaluation.points if p.policy not in {"static", "supervised"}]
    assert count(browser, "#front .front-point") == len(drawn)
    assert count(browser, "#attainment .spot") == len([p for p in evaluation.points if p.policy != "lookup"])


@pytest.mark.chromium
def test_short_by_chance_is_not_missed(open_page: Open) -> None:
    evaluation = an_evaluation()
    short = Interval(0.94, 0.92, 0.955, 800)
    points = [replace(p, attainment=short) if p.policy == "static" else p for p in evaluation.points]
    browser = open_page(control_page(changed(points=points)))
    assert count(browser, "#attainment .spot.short") == len(BUDGETS)
    assert count(browser, '#front g[data-policy="best static"] .hollow') == 0
    assert texts(browser, "#points .kept.short") == ["short, by chance"] * len(BUDGETS)


def test_it_is_small() -> None:
    assert len(control_page(large(policies_=10, budgets=8, requests=400)).encode()) < 300_000


def test_a_very_long_stream_or_training_makes_no_larger_page() -> None:
    usual = len(control_page(large(policies_=3, budgets=2)))
    assert len(control_page(large(policies_=3, budgets=2, requests=30_000))) < 1.8 * usual
