"""What every page must be: readable on a phone, legible, named for who doesn't see it; and its first words are true.

The main sentence and the picture under it are what a person reads in the first five seconds. Each must agree with the
JSON of the same result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from laptime import read_engine
from laptime.data.stats import Interval
from laptime.engines.engine_result import EngineReport
from laptime.engines.result import LargestLoad, ServeReport, Slo
from laptime.report.results import page, to_json
from laptime.trace.comparison import TraceComparison, compare
from laptime.trace.ranks import read_ranks
from laptime.trace.ranks_result import RankAnalysis
from tests.engines.lived import write
from tests.report.audit.test_page import report as an_audit
from tests.report.control.sample_controls import an_evaluation
from tests.report.estimate.test_page import judged
from tests.report.importance.sample_searches import a_block_search, an_importance
from tests.report.remedy.sample_remedies import a_report
from tests.report.sample_runs import run_of, samples
from tests.report.serve.sample_loads import a_load
from tests.report.sweep.sweep_views import view
from tests.report.trace.test_page import an_analysis
from tests.trace.test_ranks import write_ranks


def eight_ranks() -> RankAnalysis:
    with TemporaryDirectory() as folder:
        return read_ranks(*write_ranks(Path(folder)))


def an_engine() -> EngineReport:
    with TemporaryDirectory() as folder:
        return read_engine(write(Path(folder) / "engine"))


def a_search() -> ServeReport:
    visits = [(2.0, Interval(1.0, 0.98, 1.0, 200), "keeps"), (4.0, Interval(0.98, 0.9, 1.0, 40), "undecided"),
              (8.0, Interval(0.2, 0.1, 0.3, 100), "misses")]  # fmt: skip
    largest = LargestLoad(keeps_per_s=2.0, misses_per_s=8.0, visits=visits, stopped="rates are near enough")
    return msgspec.structs.replace(a_load(), slo=Slo(ttft_ms=200.0), largest=largest)


def two_traces() -> TraceComparison:
    return compare(an_analysis(), an_analysis())


RESULTS: dict[str, Callable[[], Any]] = {
    "profile": lambda: run_of(samples(24)),
    "sweep": view,
    "audit": an_audit,
    "remedy": a_report,
    "control": an_evaluation,
    "evaluate": judged,
    "trace": an_analysis,
    "ranks": eight_ranks,
    "engine": an_engine,
    "serve": a_load,
    "search": a_search,
    "two traces": two_traces,
    "block search": a_block_search,
    "importance": an_importance,
}

TALLEST = 24_000
"""A page on a phone is at most this high, in its pixels: more is a table that collapsed."""

LOW_CONTRAST = r"""
const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function parts(color) {
  if (color.startsWith("rgb") || !CSS.supports("color", color)) return (color.match(/[\d.]+/g) || []).map(Number);
  pixel.fillStyle = color;
  pixel.fillRect(0, 0, 1, 1);
  return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
function light([r, g, b]) {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const color = parts(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
}
/** The last filled shape of a drawing that lies under a text; the page where there is none. */
function under(text) {
  const at = text.getBoundingClientRect(), [x, y] = [at.left + Math.min(at.width / 2, 12), at.top + at.height / 2];
  const holds = (box) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
  const before = [...text.ownerSVGElement.querySelectorAll("rect")].filter((shape) => {
    const { fill, opacity, fillOpacity } = getComputedStyle(shape);
    return shape.compareDocumentPosition(text) & 4 && parts(fill).length === 3 && opacity * fillOpacity === 1 &&
      holds(shape.getBoundingClientRect());
  });
  return before.length ? parts(getComputedStyle(before.pop()).fill) : ground(text.ownerSVGElement);
}
const low = [];
const walker = document.createTreeWalker(document.querySelector("body"), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("script, style") || !element.checkVisibility()) continue;
  const drawn = element.closest("svg") !== null, style = getComputedStyle(element);
  const [a, b] = [light(parts(drawn ? style.fill : style.color)), light(drawn ? under(element) : ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5)
    low.push(`${ratio.toFixed(2)} ${element.tagName} ${element.getAttribute("class")}: ${walker.currentNode.data}`);
}
return [...new Set(low)].slice(0, 20);
"""

OVERLAPS = """
const box = (text) => text.getBoundingClientRect();
const shown = [...document.querySelectorAll("svg text")].filter((t) => t.textContent.trim() && t.checkVisibility());
const over = [];
for (const [i, one] of shown.entries()) {
  const a = box(one), scrolls = one.closest(".wide, .table-box, .scroll");
  if (!scrolls && (a.left < -1 || a.right > innerWidth + 1)) over.push(`cut: ${one.textContent}`);
  for (const other of shown.slice(i + 1)) {
    if (other.ownerSVGElement !== one.ownerSVGElement) continue;
    const b = box(other);
    const [wide, high] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
    if (wide > 2 && high > 4) over.push(`${one.textContent} | ${other.textContent}`);
  }
}
return over.slice(0, 20);
"""  # noqa: E501


@pytest.fixture(params=RESULTS)
def narrow(request, browser, open_page):
    """A page on a phone: 390 px wide, by an emulated screen, since a window can't be that narrow."""
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield open_page(page(RESULTS[request.param]()))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.chromium
def test_a_phone_shows_it_without_a_sideways_page(narrow):
    wide, high = narrow.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert wide <= 390
    assert high < TALLEST
    cells = "return Math.min(...[...document.querySelectorAll('td')].filter((c) => c.textContent.length > 20)"
    assert narrow.execute_script(cells + ".map((c) => c.clientWidth), 999)") > 60  # a column of letters is none


@pytest.mark.chromium
def test_small_text_can_be_read_and_tables_are_named(narrow):
    assert narrow.execute_script(LOW_CONTRAST) == []
    unnamed = "return [...document.querySelectorAll('table')].filter((t) => !t.caption && !t.ariaLabel).length"
    assert narrow.execute_script(unnamed) == 0
    assert narrow.execute_script("return document.querySelectorAll('thead th:not([scope])').length") == 0
    empty = "return [...document.querySelectorAll('.card-value')].filter((c) => c.textContent.trim() === '–').length"
    assert narrow.execute_script(empty) == 0
    sizes = (
        "return Math.min(99, ...[...document.querySelectorAll('svg text')].map((t) =>"
        " parseFloat(getComputedStyle(t).fontSize) * (t.getScreenCTM()?.d ?? 1)))"
    )
    assert narrow.execute_script(sizes) >= 9
    assert narrow.execute_script(OVERLAPS) == []


@pytest.mark.chromium
def test_it_can_be_read_in_the_dark(narrow):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    narrow.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    narrow.refresh()  # charts take their colours when they are drawn
    try:
        assert narrow.execute_script(LOW_CONTRAST) == []
    finally:
        narrow.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def first_words(html: str) -> str:
    inside = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)[1]
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", inside).split()))


def cards_of(html: str) -> dict[str, str]:
    found = re.findall(r'card-label">(.*?)</div><div class="card-value">(.*?)</div>', html)
    return {label: re.sub(r"<[^>]+>", "", value).replace("\u202f", " ") for label, value in found}


def number_in(pattern: str, text: str) -> float:
    return float(re.search(pattern, text)[1].replace("\u202f", "").replace("\u2009", ""))


def test_a_profiles_headline_names_the_widest_part_of_its_bar():
    run = RESULTS["profile"]()
    html, value = page(run), json.loads(to_json(run))
    shares = {name: stage["share"] for name, stage in value["summary"]["stages"].items() if name != "total"}
    largest = max(shares, key=shares.__getitem__)
    words = first_words(html)
    assert words.lower().startswith(largest)
    assert number_in(r"takes ([\d.]+)", words) == pytest.approx(100 * shares[largest], abs=0.51)
    bar = html[html.index("<h1>") : html.rindex("hero-note")]
    drawn = {
        name: float(width) for width, name in re.findall(r'<svg x="[\d.]+%" width="([\d.]+)%"[^>]*><title>(\w+):', bar)
    }
    assert set(drawn) == set(shares)
    assert max(drawn, key=drawn.__getitem__) == largest
    assert drawn[largest] / sum(drawn.values()) == pytest.approx(shares[largest], abs=0.01)


@pytest.mark.parametrize("wrong", [True, False])
def test_an_audits_headline_counts_its_findings(wrong):
    report = an_audit(wrong=wrong)
    words, value = first_words(page(report)), json.loads(to_json(report))
    for severity in ("severe", "warning", "info"):
        found = sum(finding["severity"] == severity for finding in value["findings"])
        assert (f"{found} {severity}" in words) == (found > 0)
    assert value["clean"] == (wrong is False)


def test_a_remedys_headline_and_tiles_are_of_one_row():
    report = a_report()
    html, value = page(report), json.loads(to_json(report))
    rows = [row for row in value["rows"] if row.get("speedup") and row["speedup"]["low"] and row["speedup"]["low"] > 1]
    best = max(rows, key=lambda row: row["speedup"]["value"])
    shown = cards_of(html)
    assert best["title"].lower() in first_words(html).lower()
    assert number_in(r"([\d.]+)×", shown["Speed-up"]) == pytest.approx(best["speedup"]["value"], rel=0.01)


def test_without_a_faster_remedy_no_tile_says_that_one_is():
    rows = [row for row in a_report().rows if row.speedup is None or row.name == "baseline"]
    html = page(a_report(rows=rows, recommendations=[]))
    assert "Speed-up" not in cards_of(html)
    assert "faster" not in first_words(html).lower() or "no" in first_words(html).lower()


def test_a_traces_headline_has_the_idle_share_of_its_device():
    analysis = an_analysis()
    words, value = first_words(page(analysis)), json.loads(to_json(analysis))
    device = max(value["devices"], key=lambda one: one["busy_ns"])
    idle = number_in(r"idle ([\d.]+)", words) / 100
    assert idle == pytest.approx(device["idle_ns"] / device["span_ns"], abs=0.006)


def test_a_sweeps_headline_is_about_a_knob_of_its_json():
    sweep = view()
    words, value = first_words(page(sweep)), json.loads(to_json(sweep))
    assert any(knob.replace("_", "-") in words.lower().replace("_", "-") for knob in value["summary"]["knobs"]), words


def test_an_evaluations_headline_has_a_figure_of_its_json():
    words, value = first_words(page(judged())), json.loads(to_json(judged()))
    text = json.dumps(value)
    numbers = [float(one) for one in re.findall(r"\d+(?:\.\d+)?", words)]
    figures = [float(one) for one in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]
    assert all(any(abs(f * k - n) <= 0.06 * max(n, 1) for f in figures for k in (1, 100)) for n in numbers), words


def test_a_controls_headline_names_a_policy_and_a_budget_of_its_json():
    evaluation = an_evaluation()
    words, value = first_words(page(evaluation)), json.loads(to_json(evaluation))
    budget = number_in(r"Within ([\d.]+)", words)
    assert budget in value["budgets_ms"]
    named = words.split(", ", 1)[1].split(" answers")[0]
    right = [point["accuracy"]["value"] for point in value["points"] if point["budget_ms"] == budget]
    assert any(abs(100 * score - number_in(r"answers ([\d.]+)", words)) < 0.51 for score in right), named


@pytest.mark.parametrize("failures", [1, 120])
def test_a_loads_headline_has_the_figures_of_a_level(failures):
    report = a_load(failures=failures)
    words, value = first_words(page(report)), json.loads(to_json(report))
    said = re.findall(r"([^:;]+): (?:first token after )?([\d.]+) ms, ([\d.]+)\srequests/s", words)
    answered = {level["name"]: level for level in value["levels"] if level["finished"]}
    assert {name.strip() for name, _, _ in said} == set(answered), words
    for name, first_ms, rate in said:
        level = answered[name.strip()]
        (median,) = [p["value_ms"] for p in level["ttft_ms"]["percentiles"] if p["q"] == 0.5]
        assert float(first_ms) == pytest.approx(median, rel=0.006)
        assert float(rate) == pytest.approx(level["requests_per_s"], rel=0.006)


@pytest.mark.chromium
def test_a_phone_shows_the_slo_and_every_median(browser, open_page):
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        opened = open_page(page(a_load()))
        marks = "[...document.querySelectorAll('.limit, .value, .middle')]"
        seen = opened.execute_script(f"return {marks}.map((mark) => mark.getBoundingClientRect().right)")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(seen) == 2 + 4 + 2 + 4  # a limit and two medians for each level, and its bar's value
    assert max(seen) <= 390


def test_a_searchs_headline_and_its_picture_have_the_same_rates():
    words, value = first_words(page(a_search())), json.loads(to_json(a_search()))["largest"]
    assert number_in(r"between ([\d.]+) and", words) == value["keeps_per_s"]
    assert number_in(r"and ([\d.]+) requests", words) == value["misses_per_s"]
    html = page(a_search())
    assert html.count("undecided") >= 1
    for rate, _, verdict in value["visits"]:
        assert re.search(rf"\b{rate:g}(?:\.0+)?\b", html), (rate, verdict)


def test_ranks_headline_has_the_ends_of_its_compute_times():
    ranks = eight_ranks()
    words, value = first_words(page(ranks)), json.loads(to_json(ranks))
    computed = [rank["compute_ns"] / 1e6 for rank in value["ranks"]]
    assert words.startswith(f"{len(computed)} ranks")
    assert number_in(r"compute ([\d.]+) to", words) == pytest.approx(min(computed), rel=0.006)
    assert number_in(r"to ([\d.]+) ms each", words) == pytest.approx(max(computed), rel=0.006)


def test_an_engines_headline_has_the_two_largest_stages_of_its_last_load():
    report = an_engine()
    words, value = first_words(page(report)), json.loads(to_json(report))
    stages = value["levels"][-1]["stages"]
    for name in sorted(stages, key=lambda stage: -stages[stage]["mean_ms"])[:2]:
        assert number_in(rf"{name} ([\d.]+)", words) == pytest.approx(100 * stages[name]["share"], abs=0.51)


def test_two_equal_traces_have_a_headline_without_a_change():
    words, value = first_words(page(two_traces())), json.loads(to_json(two_traces()))
    assert all(pair["a"] == pair["b"] for pair in value["kernel_sums"])
    assert "+0.0 %" in words or "same" in words or "no change" in words, words
