"""The page and the table of remedies: promise beside measurement, to scale, hostile words as text."""

import msgspec
import pytest
from rich.console import Console

from laptime.data.record import Interval
from laptime.remedy.result import headline, recommend
from laptime.report.remedy.page import remedy_page
from laptime.report.remedy.terminal import remedy_report
from laptime.report.remedy.words import to_apply
from tests.report.remedy.sample_remedies import a_report, a_row

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\x1b[31m[bold]\u2028"


def shown_in_terminal(report, width=140):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(remedy_report(report))
    return console.export_text(styles=False)


def percent(mark, name):
    """Where a mark lies, in percent of the picture's width."""
    return float(mark.get_attribute(name).removesuffix("%"))


@pytest.mark.chromium
def test_promise_and_measurement_are_drawn_to_scale(open_page, console_lines):
    browser = open_page(remedy_page(a_report()))
    assert console_lines() == []
    picture = browser.find_element("css selector", "#promised-and-measured svg")
    dots = picture.find_elements("css selector", "circle.measured")
    bars = picture.find_elements("css selector", "rect.promise")
    assert (len(dots), len(bars)) == (5, 3)
    assert len(picture.find_elements("css selector", "circle.missed")) == 1
    across = [percent(dot, "cx") for dot in dots]
    assert across[4] < across[3] < across[0] < across[1] < across[2]  # 2.37 < 11.3 < 27.4 < 27.8 < 33.1 ms
    last = bars[2]
    begin = percent(last, "x")
    assert begin < across[4] < begin + percent(last, "width")
    graph = bars[1]
    assert across[3] > percent(graph, "x") + percent(graph, "width")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert "did not compile" in browser.find_element("id", "failed").text
    assert "differ at 3 (2.0 bf16 steps)" in browser.find_element("id", "costs").text
    assert "2 of 3" in browser.find_element("css selector", ".cards").text


@pytest.mark.chromium
def test_hostile_words_stay_text(open_page, console_lines):
    rows = [*a_report().rows, a_row("x", HOSTILE, 3.0, 2.0, 4.0), a_row("y", "y", None, None, None, failed=HOSTILE)]
    report = a_report(model=HOSTILE, headline=HOSTILE, rows=rows, notes=[HOSTILE], config={"dtype": HOSTILE})
    browser = open_page(remedy_page(report))
    assert console_lines() == []
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert "\x1b" not in shown_in_terminal(report)


def test_a_report_without_promises_has_a_page():
    rows = [msgspec.structs.replace(row, promise=None, kept=None) for row in a_report().rows if row.failed is None]
    page = remedy_page(a_report(rows=rows, floor_ms=None, copy_gb_per_s=None, notes=[]))
    assert "There are no promises" in page
    assert 'id="failed"' not in page


def test_the_terminal_says_the_whole_call():
    report = a_report()
    promised = {"promised_low_ms": 150.0, "promised_high_ms": 190.0}
    answers = [
        msgspec.structs.replace(one, **promised, kept=one.measured or None) if one.remedy == "fast" else one
        for one in report.answers
    ]
    shown = shown_in_terminal(msgspec.structs.replace(report, answers=answers)).replace("\xa0", " ")
    lines = [line.split() for line in shown.splitlines()]
    assert ["fast", "17", "17"] in lines  # pays after so many answers of 2 and of 64 tokens
    assert ["eager", "–", "–"] not in lines
    assert "fast, 2 tokens: promised 150–190 ms, ~170 ms\n" in shown
    assert "fast, 64 tokens: promised 150–190 ms, 170 ms, kept\n" in shown


def test_the_terminal_says_the_same():
    shown = shown_in_terminal(a_report())
    assert "laptime's FastDecoder: 2.37 ms a token instead of 27.4" in shown
    for words in (
        "2.20–2.84",
        "kept",
        "slower",
        "≠ at 3",
        "RuntimeError: it did not compile",
        "64 tokens in a process: fast",
    ):
        assert words in " ".join(shown.replace("\xa0", " ").split()), words
    assert all(len(line) <= 140 for line in shown.splitlines())


def test_the_whole_call_is_shown_with_its_promises():
    shown = " ".join(shown_in_terminal(a_report()).replace("\xa0", " ").split())
    for words in ("prefill", "6.98 ms", "2 tok.", "~170 ms", "fast, prefill: promised 5.40–8.70 ms, kept"):
        assert words in shown, words
    page = remedy_page(a_report())
    assert "The whole call" in page
    assert "laptime&#39;s FastDecoder, prefill" in page
    assert "The whole call" not in remedy_page(a_report(answers=[]))


def unproven(**changes):
    """A report in which the quickest remedy may as well be slower than the baseline."""
    rows = [row for row in a_report().rows if row.name in ("eager", "buffers", "fast")]
    rows[2] = msgspec.structs.replace(
        rows[2], tpot_ms=Interval(18.0, 12.0, 30.0, 6), speedup=Interval(1.52, 0.9, 2.1, 6)
    )
    return a_report(rows=rows, headline=headline(rows), recommendations=recommend(rows, 64), **changes)


def test_headline_and_tiles_speak_of_the_same_remedy():
    page = remedy_page(a_report())
    head, tiles = page.split("<h1>")[1].split("</h1>")[0], page.split('class="cards"')[1].split("</header>")[0]
    assert head.startswith("laptime&#39;s FastDecoder: 2.37 ms a token instead of 27.4")
    assert "laptime&#39;s FastDecoder" in tiles
    assert "11.6×" in tiles
    assert "measured outside the promise" in page


def test_an_unproven_speed_up_is_called_so_in_headline_tiles_and_advice():
    page = remedy_page(unproven())
    head, tiles = page.split("<h1>")[1].split("</h1>")[0], page.split('class="cards"')[1].split("</header>")[0]
    assert head.startswith("No remedy is proven faster than the baseline&#39;s 27.4 ms a token.")
    assert "laptime&#39;s FastDecoder comes nearest: 1.52 times as fast, 95 % interval 0.900 to 2.10" in head
    assert "not proven: 95 % interval 0.90–2.10" in tiles
    assert "Fastest" not in tiles
    report = unproven()
    shown = shown_in_terminal(report, width=200)
    assert "No remedy is proven faster" in shown
    assert "not sure" in shown  # after how many tokens it pays
    assert "no remedy that ran is surely faster than the baseline, for any number of tokens" in shown
    assert "tokens in a process" not in shown


def test_when_no_remedy_is_faster_the_tiles_show_the_baseline():
    rows = a_report().rows[:3]
    page = remedy_page(a_report(rows=rows))
    tiles = page.split('class="cards"')[1].split("</header>")[0]
    assert "No remedy was faster than the baseline: 27.4 ms a token" in page
    assert "transformers, eager, dynamic cache" in tiles
    assert "Speed-up" not in tiles
    assert "outside the promise" not in page


def test_thousands_are_written_alike_everywhere():
    rows = a_report().rows
    rows[-1] = msgspec.structs.replace(rows[-1], pays_after_tokens=1537)
    page = remedy_page(a_report(rows=rows))
    assert "its preparation pays after 1\u202f537 tokens" in page.split("</h1>")[0]
    assert page.count("1\u202f537") == 2, "headline and table"


def test_how_to_apply_what_won_is_said_unless_the_machine_was_unsteady():
    rows = [a_row("eager", "eager", 20.0, None, None), a_row("fast", "FastDecoder", 2.0, None, None)]
    assert "laptime.FastDecoder(model)" in (to_apply(a_report(rows=rows)) or "")
    assert to_apply(a_report(rows=rows, baseline_alone_ms=2.0)) is None
    assert to_apply(a_report(rows=rows[:1])) is None
