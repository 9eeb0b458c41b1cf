"""The profile page in a real browser: it renders, filters, sorts, stays silent, and trusts nothing it shows."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rich.console import Console as TextConsole

from laptime.data.record import STAGES, Failure, Sample, StageTimes
from laptime.data.usable import usable
from laptime.report.kit.environment import command_line
from laptime.report.kit.numbers import percent, whole_percent
from laptime.report.profile.data import profile_data
from laptime.report.profile.page import profile_page
from laptime.report.profile.terminal import profile_report
from laptime.report.profile.words import headline
from tests.report.hostile import HOSTILE
from tests.report.sample_runs import CONFIG, environment, run_of, sample, samples, subtractions

Open = Callable[[str], Any]
Console = Callable[[], list[str]]

ROWS = "return [...document.querySelectorAll('.row')].map(row => row.querySelector('.rows-id').textContent)"


def data_of(page: str) -> dict[str, Any]:
    script = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert script
    decoded: dict[str, Any] = json.loads(script[1])
    return decoded


def type_filter(browser: Any, words: str) -> None:
    browser.execute_script(
        "const box = document.getElementById('filter'); box.value = arguments[0];box.dispatchEvent(new Event('input'))",
        words,
    )


def mixed_inputs() -> list[Sample]:
    """Inputs of very different lengths: the median call's shares are far from those of all calls together."""
    return [sample(number, tokens=tokens) for number, tokens in enumerate([1, 2, 2, 3, 4, 200, 400])]


@pytest.mark.parametrize(
    ("run_samples", "expected"),
    [
        (samples(20), r"Decode takes 73\xa0% of the time; the median call takes 422\xa0ms, its first token 111\xa0ms"),
        ([sample(1, tokens=1)], r"Prefill takes \d\d\xa0% of the time; the median call takes \d+\xa0ms"),
        ([], "No sample was measured"),
    ],
)
def test_the_headline_makes_the_point(run_samples: list[Sample], expected: str) -> None:
    assert re.fullmatch(expected, headline(run_of(run_samples).summary))


@pytest.mark.parametrize("run_samples", [samples(20), samples(7, tokens=2), mixed_inputs()])
def test_headline_bar_and_table_tell_the_same_shares(run_samples: list[Sample]) -> None:
    run = run_of(run_samples)
    summary = run.summary
    used, _ = usable(run_samples)
    largest = max(STAGES, key=lambda name: sum(one.stages.stage(name) or 0 for one in used))
    share = sum(one.stages.stage(largest) or 0 for one in used) / sum(one.stages.total_ms for one in used)
    page = profile_page(run)
    bar = re.search(r'<svg class="stage-bar hero".*?</svg></svg>', page, re.DOTALL)
    legend = re.search(r'<ul class="legend">.*?</ul>', page, re.DOTALL)
    assert bar
    assert legend
    assert f"{largest.capitalize()} takes {whole_percent(share)} of the time" in headline(summary)
    assert re.search(rf"<title>{largest}: [^<]*, {percent(share)} of the total</title>", bar[0])
    width = re.search(rf'width="([0-9.]+)%" height="84"><title>{largest}:', bar[0])
    assert width
    assert float(width[1]) == pytest.approx(share * 100, abs=0.01)
    assert percent(share) in legend[0]
    out = io.StringIO()
    TextConsole(file=out, width=100).print(profile_report(run))
    first, *lines = out.getvalue().splitlines()
    assert first == headline(summary)
    assert percent(share) in next(line for line in lines if line.split()[:1] == [largest.capitalize()])


def test_the_parts_of_the_big_bar_add_up_to_the_mean_total() -> None:
    summary = run_of(mixed_inputs()).summary
    used, _ = usable(mixed_inputs())
    means = summary.mean_stages_ms
    assert sum(means.values()) == pytest.approx(sum(one.stages.total_ms for one in used) / len(used), rel=1e-12)
    assert means["decode"] == pytest.approx(sum(one.stages.decode_ms or 0 for one in used) / len(used), rel=1e-12)


def test_the_page_is_small() -> None:
    assert len(profile_page(run_of(samples(20)))) < 100_000
    assert len(profile_page(run_of(samples(2000)))) < 600_000


def test_the_data_keeps_absent_values_absent() -> None:
    run = run_of([sample(1, tokens=1, vision=False)])
    data = profile_data(run, run.summary)
    assert data["stages"] == ["prefill", "other"]
    assert data["samples"]["tpot"] == [None]
    assert data["itl"] is None


@pytest.mark.chromium
def test_it_renders_without_a_word_on_the_console(open_page: Open, console_lines: Console) -> None:
    run_samples = samples(20)
    browser = open_page(profile_page(run_of(run_samples, subtractions=subtractions(run_samples))))
    assert browser.execute_script(ROWS) == [f"synthetic-{i:04d}" for i in range(20)]
    for chart in ("#distributions", "#token-gaps", "#run-order", "#subtraction-chart"):
        marks = browser.execute_script(
            f"return document.querySelectorAll('{chart} svg :is(rect, circle, path)').length"
        )
        assert marks > 0, chart
    bars = browser.execute_script(
        "const parts = (row) => [...row.querySelectorAll('.rows-bar span')];"
        "return [...document.querySelectorAll('.row')].map("
        "(row) => parts(row).map((part) => [part.className, part.getBoundingClientRect().width]))"
    )
    longest = max(one.stages.total_ms for one in run_samples)
    full = sum(width for _, width in bars[0]) / (run_samples[0].stages.total_ms / longest)
    for one, bar in zip(run_samples, bars, strict=True):
        for name, width in bar:
            assert width == pytest.approx((one.stages.stage(name) or 0) / longest * full, abs=0.6)
    text = browser.execute_script("return document.body.innerText")
    for words in (
        "the stages of all 20 calls add up",
        "17 of 20 samples are in the summary",
        "NVIDIA H200",
        "cold 1",
    ):
        assert words in text, words
    assert "NaN" not in text
    assert "undefined" not in text
    assert console_lines() == []


@pytest.mark.chromium
def test_warm_up_calls_are_counted_apart(open_page: Open, console_lines: Console) -> None:
    warm_ups = [msgspec.structs.replace(one, repeat=-1 - i) for i, one in enumerate(samples(3))]
    run = run_of([*warm_ups, *samples(8)])
    browser = open_page(profile_page(run))
    count = "return document.getElementById('count').textContent"
    assert browser.execute_script(count) == "8 samples, 3 warm-up calls"
    full = "return document.querySelectorAll('#distributions [data-quantity=total] circle:not(.pale)').length"
    assert browser.execute_script(full) == run.summary.used  # warm-up calls and flagged ones are pale
    type_filter(browser, "0007 street")
    assert browser.execute_script(count) == "1 of 11 calls"
    assert console_lines() == []


@pytest.mark.chromium
def test_the_filter_and_the_order_work(open_page: Open, console_lines: Console) -> None:
    run_samples = samples(20)
    browser = open_page(profile_page(run_of(run_samples)))

    def full_bars() -> int:
        count: int = browser.execute_script(
            "return document.querySelectorAll('#distributions [data-quantity=total] circle:not(.pale)').length"
        )
        return count

    def count_text() -> str:
        shown: str = browser.execute_script("return document.getElementById('count').textContent")
        return shown

    assert count_text() == "20 samples"
    type_filter(browser, "0007 street")
    assert browser.execute_script(ROWS) == ["synthetic-0007"]
    assert count_text() == "1 of 20 samples"
    type_filter(browser, "nothing like it")
    assert browser.execute_script(ROWS) == []
    assert "No sample matches" in browser.execute_script("return document.getElementById('stage-rows').textContent")
    type_filter(browser, "")
    browser.find_element("css selector", "button[data-flag=cold]").click()
    browser.find_element("css selector", "button[data-flag=throttled]").click()
    assert browser.execute_script(ROWS) == ["synthetic-0000", "synthetic-0013"]
    browser.find_element("css selector", "button[data-flag=cold]").click()
    browser.find_element("css selector", "button[data-flag=throttled]").click()
    browser.find_element("css selector", "button[data-flag=clean]").click()
    assert count_text() == "17 of 20 samples"
    assert full_bars() == 17
    browser.find_element("css selector", "button[data-flag=clean]").click()
    browser.execute_script(
        "const s = document.getElementById('sort'); s.value = 'total'; s.dispatchEvent(new Event('change'))"
    )
    by_total = [one.sample_id for one in sorted(run_samples, key=lambda one: -one.stages.total_ms)]
    assert browser.execute_script(ROWS) == by_total
    assert console_lines() == []


@pytest.mark.chromium
def test_pointing_at_a_row_shows_every_figure(open_page: Open) -> None:
    from selenium.webdriver import ActionChains

    run_samples = samples(20)
    browser = open_page(profile_page(run_of(run_samples)))
    ActionChains(browser).move_to_element(browser.find_element("css selector", ".row[data-i='3']")).perform()
    shown = browser.find_element("id", "tooltip").text
    for ms in (
        run_samples[3].stages.vision_ms,
        run_samples[3].stages.prefill_ms,
        run_samples[3].stages.total_ms,
        run_samples[3].ttft_ms,
    ):
        assert f"{ms:.3f} ms" in shown
    assert "synthetic-0003" in shown
    assert "MHz" in shown


@pytest.mark.chromium
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_strings_stay_strings(text: str, open_page: Open, console_lines: Console) -> None:
    from selenium.webdriver import ActionChains

    hostile: dict[str, Any] = {"sample_id": text, "text": text, "worker": text, "flags": [text]}
    run_samples = [msgspec.structs.replace(one, **hostile) for one in samples(6)]
    printable = text.replace("\ud800", "?")  # an environment comes from a JSON file, which can't hold a lone surrogate
    failure = Failure(config_id="c", sample_id=text, repeat=0, worker="0", config={}, error=text)
    run = run_of(
        run_samples,
        failures=[failure],
        dropped_tails=[text],
        subtractions=[msgspec.structs.replace(one, sample_id=text) for one in subtractions(run_samples)],
        config=CONFIG | {"model": text, text: text},
        environment=environment(
            gpu=printable, cpu=printable, torch=printable, variables={printable: printable}, driver=printable
        ),
        argv=[text],
    )
    browser = open_page(profile_page(run))
    type_filter(browser, printable[:20])
    type_filter(browser, "")
    ActionChains(browser).move_to_element(browser.find_element("css selector", ".row")).perform()
    assert browser.execute_script("return window.pwned ?? null") is None
    assert browser.execute_script("return document.querySelectorAll('script:not([type])').length") == len(
        re.findall(r"sha256-", profile_page(run))
    ) - 1  # fmt: skip
    assert len(browser.execute_script(ROWS)) == 6
    width = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert width <= 0
    assert console_lines() == []


def no_decode(one: Sample) -> Sample:
    stages = StageTimes.from_ns(vision=4_000_001, prefill=9_000_000, decode=None, total=14_000_000)
    return msgspec.structs.replace(one, stages=stages, host_stages=stages, itl_ms=None, tpot_ms=None, gpu=None)


def with_stages(stages: StageTimes) -> Sample:
    return msgspec.structs.replace(sample(1), stages=stages)


@pytest.mark.chromium
@pytest.mark.parametrize(
    ("name", "run_samples", "words"),
    [
        ("none", [], ["No sample was measured", "no finished sample"]),
        ("one", [sample(1)], ["too few for a 95 % interval", "the stages of all 1 call "]),
        ("all cold", [sample(i, flags=["cold"]) for i in range(4)], ["No sample was clean"]),
        ("one token", [no_decode(sample(i)) for i in range(8)], ["Prefill takes", "NVIDIA"]),
        ("text only", [sample(i, vision=False) for i in range(8)], ["Decode takes"]),
        ("no time", [with_stages(StageTimes(0, 0, None, 0, 0))], ["No sample was measured"]),
        ("not per token", [sample(i, per_token=False) for i in range(8)], ["Add --per-token"]),
        ("fails to close", [with_stages(StageTimes(1, 2, 3, 4, 11))], ["Closure fails"]),
    ],
)  # fmt: skip
def test_thin_runs_still_make_a_page(
    name: str, run_samples: list[Sample], words: list[str], open_page: Open, console_lines: Console
) -> None:
    browser = open_page(profile_page(run_of(run_samples)))
    text = browser.execute_script("return document.body.innerText").replace("\xa0", " ")
    for expected in words:
        assert expected in text
    assert "NaN" not in browser.execute_script("return document.body.innerHTML")
    samples_part = browser.execute_script("return document.querySelector('#samples')?.innerText ?? ''")
    assert ("Vision" in samples_part) == (name not in {"none", "text only", "no time"})
    assert console_lines() == []


@pytest.mark.chromium
def test_on_a_cpu_there_is_one_timeline(open_page: Open, console_lines: Console) -> None:
    run_samples = [msgspec.structs.replace(one, gpu=None, energy_j=None, memory_peak_bytes=None) for one in samples(8)]
    browser = open_page(profile_page(run_of(run_samples, environment=environment(device="cpu", gpu=None))))
    text = browser.execute_script("return document.body.innerText")
    assert "the host is the device" in text
    assert "Intel Xeon" in text
    assert console_lines() == []


@pytest.mark.chromium
def test_two_thousand_samples_stay_quick(open_page: Open, console_lines: Console) -> None:
    """Few elements are made, whatever the number of samples: that is what a browser's time goes to."""
    browser = open_page(profile_page(run_of(samples(2000, tokens=8))))
    elements = "return document.querySelectorAll('*').length"
    few = browser.execute_script(elements)
    assert len(browser.execute_script(ROWS)) < 60
    assert few < 6000
    type_filter(browser, "1")
    assert len(browser.execute_script(ROWS)) < 60
    assert browser.execute_script(elements) < few + 1000
    type_filter(browser, "")
    browser.execute_script("document.querySelector('.rows').scrollTop = 1e9")
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert browser.execute_script(ROWS)[-1] == "synthetic-1999"
    below = browser.execute_script(
        "const bottom = (element) => element.getBoundingClientRect().bottom;"
        "return bottom([...document.querySelectorAll('.row')].at(-1)) - bottom(document.querySelector('.rows'))"
    )
    assert abs(below) < 4, "the last row stands at the end of the list"
    assert console_lines() == []


@pytest.mark.chromium
def test_one_very_long_call_does_not_squeeze_the_others(open_page: Open) -> None:
    run_samples = [sample(0, flags=["cold"], slow=12.0), *(sample(i) for i in range(1, 6))]
    browser = open_page(profile_page(run_of([msgspec.structs.replace(run_samples[0], repeat=-1), *run_samples[1:]])))
    assert browser.execute_script(ROWS)[:2] == ["synthetic-0000 warm-up 1", "synthetic-0001"]
    share = browser.execute_script(
        "const bar = document.querySelectorAll('.rows-bar')[3];"
        "const parts = [...bar.children].map((part) => part.getBoundingClientRect().width);"
        "return parts.reduce((sum, width) => sum + width) / bar.getBoundingClientRect().width"
    )
    assert share > 0.5
    assert browser.execute_script("return document.querySelectorAll('.rows-bar.cut').length") == 1


def test_the_command_is_shown_as_one_types_it() -> None:
    assert command_line(["/home/me/.venv/bin/laptime", "profile", "a b"]) == "laptime profile 'a b'"
    assert command_line(["/x/laptime/__main__.py", "env"]) == "python -m laptime env"


def test_a_page_of_the_same_run_is_the_same() -> None:
    assert profile_page(run_of(samples(5))) == profile_page(run_of(samples(5)))
    assert data_of(profile_page(run_of(samples(5))))["samples"]["name"][0] == "synthetic-0000"


def test_the_page_says_what_the_terminal_says_of_its_counts() -> None:
    flagged = [sample(number, flags=["cold", "foreign-process"] if number < 3 else []) for number in range(10)]
    taken = [msgspec.structs.replace(one, cut_rows=1) for one in flagged]
    page = profile_page(run_of(taken))
    assert "so their counts overlap" in page
    assert "7 of 7 samples reached the limit on new tokens." in page
    assert "Tokens/s: new tokens of all rows over the whole calls" in page
    alone = profile_page(run_of([sample(number) for number in range(8)]))
    assert "counts overlap" not in alone
    assert "reached the limit" not in alone
