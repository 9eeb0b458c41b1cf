"""The page of a sweep in a real browser: its numbers are the summary's, its choices work, it trusts no string."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import product
from statistics import median
from typing import Any

import msgspec
import pytest

from laptime.audits import Measurements
from laptime.data.record import Failure, Interval, Sample, Scalar
from laptime.report.kit.numbers import interval_ends, ratio, ratio_ends, text
from laptime.report.sweep.page import sweep_page
from laptime.report.sweep.view import environments_of, still_failed, sweep_view
from laptime.report.sweep.words import headline, level_text
from laptime.sweeps.summary.drift import gpu_over_time
from laptime.sweeps.summary.result import ConfigRow, SweepSummary, VisitNoise
from tests.report.hostile import HOSTILE
from tests.report.sample_runs import environment
from tests.report.sweep.sample_sweeps import GRID, HELD, call, failure, grid, start, sweep_run, sweep_samples
from tests.report.sweep.sweep_views import SMALL, all_failed, hostile_view, report_of, view, view_of

Open = Callable[[str], Any]
Console = Callable[[], list[str]]

CELLS = "return [...document.querySelectorAll('#heat-map .cell-text')].map((cell) => cell.textContent)"
TABLE = "return [...document.querySelectorAll('#config-table tbody tr')].map((row) => Number(row.dataset.i))"


def choose(browser: Any, place: str, value: object) -> None:
    browser.execute_script(
        "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
        "if (box.selectedIndex < 0) throw new Error(`no option ${arguments[1]} in ${arguments[0]}`);"
        "box.dispatchEvent(new Event('change'))",
        place,
        str(value),
    )


def point_at(browser: Any, element: Any) -> None:
    """Move the pointer there once the page has stopped scrolling: a scroll hides the tooltip."""
    from selenium.webdriver import ActionChains

    browser.execute_async_script(
        "arguments[0].scrollIntoView({ block: 'center' });"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[1], 50)))",
        element,
    )
    ActionChains(browser).move_to_element(element).perform()


def row_of(summary: SweepSummary, **config: Scalar) -> ConfigRow:
    (row,) = [row for row in summary.rows if config.items() <= row.config.items()]
    return row


def shown(interval: Interval | None) -> str:
    assert interval is not None
    return text(interval.value, "ms").replace("\xa0", " ")


def test_the_headline_says_what_the_knobs_buy() -> None:
    expected = (
        r"Blocks move the total most: 16 costs 1\.6× as much as 8; "
        r"image tier high costs \d\d\xa0% more than low; top-k 8 costs \d\d\xa0% more than 2"
    )
    assert re.fullmatch(expected, headline(view().summary))


def test_a_base_in_the_middle_makes_a_saving() -> None:
    summary = view(SMALL).summary
    effects = [
        msgspec.structs.replace(
            effect,
            base=effect.levels[-1].value,
            levels=[msgspec.structs.replace(effect.levels[-1], value=effect.base, ratio=Interval(0.4, 0.38, 0.42, 8))],
        )
        for effect in summary.effects
    ]
    assert "2 instead of 8 saves 60\xa0%" in headline(msgspec.structs.replace(summary, effects=effects))


@pytest.mark.parametrize(
    ("knobs", "items", "expected"),
    [
        ({"top_k": [8]}, 8, r"One configuration: \d+\xa0ms"),
        (
            {"cache": ["dynamic", "static"]},
            8,
            r"2 configurations, from \d+\xa0ms to \d+\xa0ms; no knob surely moves .*",
        ),
        ({"top_k": [8]}, 0, "No configuration was measured"),
    ],
)
def test_the_headline_claims_no_more_than_there_is(
    knobs: dict[str, list[Scalar]], items: int, expected: str
) -> None:  # fmt: skip
    assert re.fullmatch(expected, headline(view(knobs, items).summary))


def test_the_page_does_not_grow_with_the_samples() -> None:
    few, many = (len(sweep_page(view(SMALL, items))) for items in (10, 160))
    assert many < few * 1.1


def test_a_failure_that_was_measured_later_is_none() -> None:
    samples, _ = sweep_samples(SMALL, 2)
    again = failure(samples[0].config, 0, 0, "first try")
    mended = [msgspec.structs.replace(again, config_id=s.config_id, sample_id=s.sample_id) for s in samples[:3]]
    lost = msgspec.structs.replace(again, sample_id="another")
    assert still_failed(sweep_run(samples).frame(), [*mended, lost, lost]) == [lost]


def test_the_page_says_what_its_intervals_know_of_visits() -> None:
    known = {
        "unknown": "the intervals don&#39;t hold it",
        "bounded by settings": "the noise of visits can only be bounded",
        "estimated": "Visits to one configuration differ by 3.1",
    }
    sweep = view(SMALL)
    for kind, words in known.items():
        effects = [msgspec.structs.replace(effect, visit_noise=kind) for effect in sweep.summary.effects]
        noise = [VisitNoise(stage="total", known=kind, sd=0.031)]
        summary = msgspec.structs.replace(sweep.summary, effects=effects, visit_noise=noise)
        page = sweep_page(msgspec.structs.replace(sweep, summary=summary))
        assert [said for said in known.values() if said in page] == [words]


def test_the_rounds_are_shown() -> None:
    run = sweep_run(*sweep_samples(SMALL))
    info = msgspec.structs.replace(run.info, session={"rounds": 3})
    assert "measured in 3 rounds" in sweep_page(view_of(msgspec.structs.replace(run, info=info)))


def test_environments_are_told_apart() -> None:
    one, other = environment(), environment(driver="590.10")
    environments, workers = environments_of(None, [start("0", one), start("1", other), start("0", one)])
    assert list(environments.values()) == [one, other]
    assert list(workers.values()) == [["0 on node-1"], ["1 on node-1"]]
    page = sweep_page(msgspec.structs.replace(view(SMALL), environments=environments, workers=workers))
    assert "2 different environments" in page
    assert "590.10" in page


def test_the_gpus_state_is_that_of_each_stretch() -> None:
    samples, _ = sweep_samples({"top_k": [2, 8]}, 40)
    samples = sorted(samples, key=lambda one: one.started_unix_ms)
    warm_up = msgspec.structs.replace(samples[0], repeat=-1, started_unix_ms=samples[0].started_unix_ms - 60_000)
    frame = sweep_run([warm_up, *samples]).frame()
    drift = sweep_view(Measurements("run", frame.with_row_index("row"))).summary.drift
    gpu = gpu_over_time(frame, drift)
    assert drift is not None
    assert gpu is not None
    size = len(samples) // len(drift.points)
    stretches = [samples[at : at + size] for at in range(0, len(samples), size)]
    assert gpu.sm_mhz == [median(one.gpu.sm_mhz for one in stretch if one.gpu) for stretch in stretches]
    assert gpu.throttled == [0.0] * len(drift.points)
    blind = [msgspec.structs.replace(one, gpu=None) for one in samples]
    assert gpu_over_time(sweep_run(blind).frame(), drift) is None


@pytest.mark.chromium
def test_it_renders_without_a_word_on_the_console(open_page: Open, console_lines: Console) -> None:
    shown = view()
    browser = open_page(sweep_page(shown))
    titles = browser.execute_script("return [...document.querySelectorAll('main h2')].map((h) => h.textContent)")
    assert titles == ["Two knobs at a time", "Ranges by image tier", "Accuracy against latency", "Over the run",
                      "Every configuration", "Failures", "Sweep and environment"]  # fmt: skip
    for chart in ("#effects", "#heat-map", "#range-total", "#pareto", "#drift"):
        marks = browser.execute_script(
            f"return document.querySelectorAll('{chart} svg :is(rect, circle, path)').length"
        )
        assert marks > 0, chart
    assert shown.summary.drift is not None
    dots = browser.execute_script("return document.querySelectorAll('#drift .dot').length")
    assert dots == len(shown.summary.drift.points)
    words = browser.execute_script("return document.body.innerText")
    for expected in ("54 configurations", "NVIDIA H200", "CUDA out of memory", "laptime sweep examples/sweep.yaml"):
        assert expected in words, expected
    assert not re.search("NaN|undefined|Infinity|null", words)
    assert console_lines() == []


@pytest.mark.chromium
def test_the_heat_map_prints_the_summarys_numbers(open_page: Open, console_lines: Console) -> None:
    summary = view().summary
    browser = open_page(sweep_page(view()))
    places = list(summary.knobs)
    choose(browser, "#heat-x", places.index("tier"))
    choose(browser, "#heat-y", places.index("top_k"))
    measures = browser.execute_script(
        "return [...document.querySelectorAll('#heat-measure option')].map((o) => o.text)"
    )
    for stage, blocks, prompt in (("Total", 8, 128), ("Prefill", 8, 128), ("Decode", 16, 1024)):
        choose(browser, "#heat-measure", measures.index(stage))
        for knob, level in (("blocks", blocks), ("prompt_tokens", prompt)):
            choose(browser, f"#heat-others [data-knob='{places.index(knob)}']", summary.knobs[knob].index(level))
        expected = []
        for top_k, tier in product(summary.knobs["top_k"], summary.knobs["tier"]):
            row = row_of(summary, tier=tier, top_k=top_k, blocks=blocks, prompt_tokens=prompt)
            expected.append(shown(row.stages[stage.lower()]) if row.samples else "OOM")
        assert browser.execute_script(CELLS) == expected, stage
        assert ("OOM" in expected) == (prompt == 1024)
    assert console_lines() == []


@pytest.mark.chromium
def test_the_other_knobs_stand_side_by_side_or_in_the_median(open_page: Open) -> None:
    summary = view(SMALL | {"blocks": [8, 16]}).summary
    browser = open_page(sweep_page(view(SMALL | {"blocks": [8, 16]})))
    panels = "return document.querySelectorAll('#heat-map [data-panel]').length"
    assert browser.execute_script(panels) == 2
    assert len(browser.execute_script(CELLS)) == 8
    choose(browser, "#heat-x", list(summary.knobs).index("tier"))
    choose(browser, "#heat-y", list(summary.knobs).index("top_k"))
    choose(browser, "#heat-others select", "median")
    assert browser.execute_script(panels) == 1
    low, high = (row_of(summary, tier="low", top_k=2, blocks=blocks).stages["total"].value for blocks in (8, 16))
    assert browser.execute_script(CELLS)[0] == text((low + high) / 2, "ms").replace("\xa0", " ")
    # a knob that is asked for on the axis where another one is goes there, and that one takes its place
    choose(browser, "#heat-x", list(summary.knobs).index("top_k"))
    axes = browser.execute_script(
        "return ['x', 'y'].map((axis) => Number(document.getElementById(`heat-${axis}`).value))"
    )
    assert axes == [list(summary.knobs).index("top_k"), list(summary.knobs).index("tier")]


@pytest.mark.chromium
def test_a_cell_that_failed_gives_its_reason(open_page: Open) -> None:

    browser = open_page(sweep_page(view()))
    places = list(view().summary.knobs)
    choose(browser, "#heat-x", places.index("tier"))
    choose(browser, "#heat-y", places.index("top_k"))
    choose(browser, f"#heat-others [data-knob='{places.index('prompt_tokens')}']", 1)
    point_at(browser, browser.find_element("css selector", "#heat-map .cell.failed"))
    tip = browser.find_element("id", "tooltip").text
    assert "CUDA out of memory" in tip
    assert "failed samples" in tip


@pytest.mark.chromium
def test_effects_are_the_summarys_and_follow_the_stage(open_page: Open, console_lines: Console) -> None:
    summary = view().summary
    browser = open_page(sweep_page(view()))
    for stage in ("total", "prefill", "vision"):
        choose(browser, "#effect-stage", stage)
        expected = {ratio(level.ratio.value) for one in summary.effects if one.stage == stage for level in one.levels}
        values = "return [...document.querySelectorAll('#effects .effect-value')].map((value) => value.textContent)"
        assert set(browser.execute_script(values)) == expected
        bases = browser.execute_script("return document.querySelectorAll('#effects .effect-base').length")
        assert bases == len(summary.knobs)
    level = next(one for one in summary.effects if one.stage == "vision" and one.knob == "tier").levels[-1]
    assert ratio_ends(level.ratio).replace("–", " – ") in browser.execute_script(
        "return document.getElementById('effects').textContent"
    )
    assert console_lines() == []


@pytest.mark.chromium
def test_the_table_sorts_filters_and_shows_all(open_page: Open, console_lines: Console) -> None:
    knobs: dict[str, list[Scalar]] = {**GRID, "batch": [1, 2]}
    summary = view(knobs).summary
    browser = open_page(sweep_page(view(knobs)))
    totals = [row.stages["total"].value if row.samples else float("inf") for row in summary.rows]
    by_total = sorted(range(len(totals)), key=lambda i: (totals[i], i))
    assert browser.execute_script(TABLE) == by_total[:60]
    first = browser.execute_script("return document.querySelector('#config-table tbody tr').innerText")
    for stage in ("total", "vision", "prefill", "decode"):
        measured = summary.rows[by_total[0]].stages[stage]
        assert shown(measured) in first
        assert interval_ends(measured, "ms").replace("\xa0", " ") in first
    browser.execute_script("document.querySelector('#config-table .more button').click()")
    assert browser.execute_script(TABLE) == by_total
    head = "[...document.querySelectorAll('#config-table th button')]"
    browser.execute_script(f"{head}.find((button) => button.textContent.startsWith('Total')).click()")
    downwards = [i for i in reversed(by_total) if summary.rows[i].samples]
    assert [totals[i] for i in browser.execute_script(TABLE)[: len(downwards)]] == [totals[i] for i in downwards]
    browser.execute_script(f"{head}.find((button) => button.textContent === 'Accuracy').click()")
    accuracies = [
        row.accuracy.value if (row := summary.rows[i]).accuracy else None for i in browser.execute_script(TABLE)
    ]
    known = [value for value in accuracies if value is not None]
    assert known == sorted(known)
    assert accuracies[len(known) :] == [None] * (len(accuracies) - len(known))
    columns = browser.execute_script(f"return {head}.length")
    browser.find_element("id", "config-all").click()
    assert browser.execute_script(f"return {head}.length") > columns
    browser.find_element("id", "config-filter").send_keys("tier high out of memory")
    failed = {i for i, row in enumerate(summary.rows) if row.failures and not row.samples}
    assert set(browser.execute_script(TABLE)) == failed
    assert browser.find_element("id", "config-count").text == f"{len(failed)} of 108 configurations"
    assert console_lines() == []


@pytest.mark.chromium
def test_the_front_is_drawn_and_a_point_finds_its_row(open_page: Open, console_lines: Console) -> None:
    from selenium.webdriver import ActionChains

    summary = view().summary
    browser = open_page(sweep_page(view()))
    points = browser.find_elements("css selector", "#pareto .point")
    assert len(points) == sum(row.accuracy is not None for row in summary.rows)
    front = browser.execute_script(
        "return [...document.querySelectorAll('#pareto .point.front')].map((point) => Number(point.dataset.i))"
    )
    assert sorted(summary.rows[i].config_id for i in front) == sorted(summary.pareto)
    last = browser.find_elements("css selector", "#pareto .point.front")[-1]
    asked = int(last.get_attribute("data-i"))
    point_at(browser, last)
    row = summary.rows[asked]
    assert row.config["tier"] in browser.find_element("id", "tooltip").text
    ActionChains(browser).move_to_element(last).click().perform()
    chosen = browser.execute_script(
        "return [...document.querySelectorAll('#config-table tr.chosen')].map((row) => Number(row.dataset.i))"
    )
    assert chosen == [asked]
    seen = browser.execute_script(
        "const { top } = document.querySelector('tr.chosen').getBoundingClientRect();return top > 0"
    )
    assert seen
    assert console_lines() == []


@pytest.mark.chromium
@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_strings_stay_strings(words: str, open_page: Open, console_lines: Console) -> None:
    from selenium.webdriver import ActionChains

    page = sweep_page(hostile_view(words))
    browser = open_page(page)
    for select in ("#heat-x", "#heat-y", "#heat-measure"):
        choose(browser, select, 1)
    choose(browser, "#heat-others select", "side")
    point_at(browser, browser.find_element("css selector", "#heat-map .cell"))
    ActionChains(browser).move_to_element(browser.find_element("css selector", "#pareto .point")).click().perform()
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.execute_script("return window.pwned ?? null") is None
    scripts = browser.execute_script("return document.querySelectorAll('script:not([type])').length")
    assert scripts == len(re.findall("sha256-", page)) - 1
    assert browser.execute_script("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert len(browser.execute_script(TABLE)) == 12
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert console_lines() == []


def without_images(shown: tuple[list[Sample], list[Failure]]) -> tuple[list[Sample], list[Failure]]:
    return [msgspec.structs.replace(one, crops=0, image_tokens=0) for one in shown[0]], shown[1]


@pytest.mark.chromium
@pytest.mark.parametrize(
    ("name", "shown", "expected"),
    [
        ("nothing", ([], []), ["No configuration was measured", "no finished sample"]),
        ("all failed", all_failed(), ["No configuration was measured", "CUDA out of memory", "4 configurations"]),
        ("one configuration", sweep_samples({"top_k": [8]}), ["One configuration", "no effect to show"]),
        ("one knob", sweep_samples({"top_k": [2, 4, 8]}), ["Top-k moves the total most", "Two knobs at a time"]),
        ("no scores", sweep_samples(SMALL, scored=False), ["No sample has a score", "metric"]),
        ("one sample each", sweep_samples(SMALL, 1), ["4 configurations"]),
        ("no tier", sweep_samples({"top_k": [2, 8], "blocks": [8, 16]}), ["Ranges by number of crops"]),
        ("text only", without_images(sweep_samples({"top_k": [2, 8], "blocks": [8, 16]})), ["4 configurations"]),
    ],
)  # fmt: skip
def test_thin_sweeps_still_make_a_page(
    name: str,
    shown: tuple[Sequence[Sample], Sequence[Failure]],
    expected: list[str],
    open_page: Open,
    console_lines: Console,
) -> None:
    browser = open_page(sweep_page(view_of(sweep_run(*shown))))
    words = browser.execute_script("return document.body.innerText").replace("\xa0", " ")
    for one in expected:
        assert one in words, name
    assert not re.search(
        "NaN|undefined|Infinity", browser.execute_script("return document.querySelector('main').innerHTML")
    )
    assert (browser.execute_script("return document.querySelectorAll('#pareto').length") == 0) == (
        name in {"nothing", "all failed", "no scores"}
    )
    assert console_lines() == []


@pytest.mark.chromium
def test_answers_that_are_all_wrong_are_drawn_too(open_page: Open, console_lines: Console) -> None:
    """An accuracy of 0 everywhere is a figure, and no reason to leave the picture out, or to break."""
    shown = view()
    none = Interval(0.0, 0.0, 0.1, 30)
    rows = [msgspec.structs.replace(row, accuracy=row.accuracy and none) for row in shown.summary.rows]
    summary = msgspec.structs.replace(shown.summary, rows=rows)
    browser = open_page(sweep_page(msgspec.structs.replace(shown, summary=summary)))
    points = browser.find_elements("css selector", "#pareto .point")
    assert len(points) == sum(row.accuracy is not None for row in rows) > 0
    assert console_lines() == []


@pytest.mark.chromium
def test_a_stage_without_time_at_the_base_has_no_ratio(open_page: Open, console_lines: Console) -> None:
    shown = view(SMALL)
    bad = [Interval(float("inf"), 1.0, float("inf"), 8), Interval(0.0, 0.0, 0.1, 8), Interval(2.0, 0.0, 3.0, 8)]
    effects = [
        msgspec.structs.replace(one, levels=[msgspec.structs.replace(one.levels[0], ratio=ratio)])
        for one, ratio in zip(shown.summary.effects, bad * len(shown.summary.effects), strict=False)
    ]
    summary = msgspec.structs.replace(shown.summary, effects=effects)
    browser = open_page(sweep_page(msgspec.structs.replace(shown, summary=summary)))
    for stage in ("total", "vision", "prefill", "decode", "other"):
        choose(browser, "#effect-stage", stage)
    assert "NaN" not in browser.execute_script("return document.getElementById('effects').innerHTML")
    assert console_lines() == []


@pytest.mark.chromium
def test_the_audit_stands_on_top_worst_first(open_page: Open, console_lines: Console) -> None:
    browser = open_page(sweep_page(msgspec.structs.replace(view(SMALL), audit=report_of("info", "warning", "severe"))))
    lines = browser.find_elements("css selector", "header .audit summary")
    assert [line.text.split(":")[0] for line in lines] == ["severe", "warning", "info"]
    assert "3 of 12 samples (25.0 %)" in lines[0].text.replace("\xa0", " ")
    opened = browser.execute_script("return [...document.querySelectorAll('.audit details')].map((one) => one.open)")
    assert opened == [True, False, False]
    assert (
        browser.find_element("css selector", ".audit").location["y"]
        < browser.find_element("id", "effects").location["y"]
    )
    quiet = open_page(sweep_page(msgspec.structs.replace(view(SMALL), audit=report_of())))
    assert quiet.find_element("css selector", "header .note.good").text == "✓ Audit clean: 1 rule found nothing."
    assert console_lines() == []


@pytest.mark.chromium
def test_two_thousand_configurations_make_one_page(open_page: Open, console_lines: Console) -> None:
    knobs: dict[str, list[Scalar]] = {
        "top_k": list(range(1, 9)), "blocks": list(range(1, 26)), "prompt_tokens": [64 * i for i in range(1, 11)],
    }  # fmt: skip
    samples = [call(config, item, 0, 1) for config in grid(knobs) for item in range(1)]
    page = sweep_page(view_of(sweep_run(samples)))
    assert len(page) < 1_200_000
    browser = open_page(page)
    assert len(browser.execute_script(TABLE)) == 60
    assert browser.execute_script("return document.querySelectorAll('#pareto .point').length") == 2000
    marks = "return document.querySelectorAll('#effects :is(.effect-point, .effect-base)').length"
    assert browser.execute_script(marks) == 3 * 8
    browser.find_element("id", "effect-all").click()
    assert browser.execute_script(marks) == 8 + 25 + 10
    browser.execute_script("document.querySelector('#config-table .more button').click()")
    assert len(browser.execute_script(TABLE)) == 2000
    browser.find_element("id", "config-filter").send_keys("blocks 25 top-k 8")
    assert len(browser.execute_script(TABLE)) == 10
    assert console_lines() == []


def test_the_page_allows_its_own_scripts_only() -> None:
    page = sweep_page(hostile_view(HOSTILE[0]))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    (data,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert len(json.loads(data)["configs"]["id"]) == 12


def test_levels_read_as_people_say_them() -> None:
    levels: list[Scalar] = [None, True, 4, 0.5, "sdpa"]
    assert [level_text(level) for level in levels] == ["default", "yes", "4", "0.5", "sdpa"]
    assert HELD["model"] in sweep_page(view(SMALL))  # type: ignore[operator]
