"""The trace page in a real browser: hostile names stay text, the table sorts and filters, the step is to scale."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from laptime.report.trace.comparison import comparison_page, comparison_report
from laptime.report.trace.page import trace_page
from laptime.report.trace.terminal import trace_report
from laptime.trace.analysis import analyse, read_trace
from laptime.trace.comparison import compare
from laptime.trace.result import TraceAnalysis
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, RangeRow

HOSTILE = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"'><svg onload=window.pwned=1>",
    "]]><!--<script>",
    "\u2028window.pwned=1\u2029",
    "\x1b[31mred\x1b[0m\x07",
    "{{7*7}}${7*7}`",
    "javascript:window.pwned=1",
    "void x<" + "y<" * 3_000 + ">(&\"'",
    "z" * 10_000,
    "\u202ekernel\u0000",
]


def an_analysis(names: list[str] | None = None, *, tpot_ms: float | None = 14.63) -> TraceAnalysis:
    """The published engine; with `names`, also kernels, ranges and gaps so named."""
    rows = engines.published_engine(6)
    end = rows.activities[-1].end_ns
    for i, name in enumerate(names or []):
        at = end + (i + 1) * 5_000_000
        rows.activities.append(ActivityRow(at, at + 700_000 + i * 10_000, name, correlation=900_000 + i))
        rows.ranges.append(RangeRow(at - 4_000_000, at, name, "cpu_op"))
    return analyse(build(*rows.all), tpot_ms=tpot_ms)


@pytest.mark.chromium
def test_hostile_names_stay_text(open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]) -> None:
    page = trace_page(an_analysis(HOSTILE))
    assert len(page) < 2_000_000
    browser = open_page(page)
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    shown = browser.execute_script("return document.getElementById('kernels-section').textContent")
    assert "<img src=x onerror=window.pwned=1>" in shown
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    for row in browser.find_elements("css selector", "#kernel-table tbody tr"):
        browser.execute_script("arguments[0].click()", row)
    browser.find_element("id", "zoom-in").click()
    assert browser.execute_script("return window.pwned") is None
    assert console_lines() == []


@pytest.mark.chromium
def test_the_kernels_table_sorts_and_filters(
    open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    analysis = an_analysis()
    browser = open_page(trace_page(analysis))

    def names() -> list[str]:
        cells = browser.find_elements("css selector", "#kernel-table tbody td:first-child")
        return [cell.text.split("\n")[0] for cell in cells]

    def sort_by(key: str) -> None:
        browser.find_element("css selector", f"#kernel-table th[data-key={key}] button").click()

    assert names() == [kernel.short_name for kernel in analysis.kernels]
    sort_by("total_ms")
    total = {kernel.short_name: kernel.total_ns for kernel in analysis.kernels}
    assert [total[name] for name in names()] == sorted(total.values())
    sort_by("short")
    assert names() == sorted(names(), key=str.lower)
    sort_by("count")
    counts = [kernel.count for name in names() for kernel in analysis.kernels if kernel.short_name == name]
    assert counts == sorted(counts, reverse=True)
    search = browser.find_element("id", "kernel-filter")
    search.send_keys("gemv")
    assert set(names()) == {k.short_name for k in analysis.kernels if "gemv" in k.name}
    search.send_keys(" head")
    assert names() == ["gemvx_head"]
    search.send_keys(" nothing")
    assert names() == []
    assert browser.find_element("id", "kernel-count").text == f"0 of {len(analysis.kernels)} kernels"
    assert console_lines() == []


SPARSE = engines.decoder(40, [(f"k{i}", 1_200) for i in range(60)], [], [("argmax", 2_000)])


@pytest.mark.chromium
@pytest.mark.parametrize(
    "rows", [engines.published_engine(6), engines.host_bound([SPARSE] * 6)], ids=["wide", "narrow"]
)
def test_the_step_is_to_scale(
    rows: engines.Rows, open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    """The share of the stream's lane that is inked is the utilisation, at full view, however narrow the kernels."""
    analysis = analyse(build(*rows.all))
    browser = open_page(trace_page(analysis))
    inked = browser.execute_script("""
        const canvas = document.querySelector("#step canvas");
        const ratio = devicePixelRatio;
        const [left, top, size] = [70, canvas.height / ratio - 42, 30];
        const width = canvas.width / ratio - left - 2;
        const area = [left, top, width, size].map((length) => length * ratio);
        const pixels = canvas.getContext("2d").getImageData(...area).data;
        let inked = 0;
        for (let i = 3; i < pixels.length; i += 4) inked += pixels[i] / 255;
        return inked / (pixels.length / 4);
    """)
    assert analysis.steps.utilisation is not None
    assert inked == pytest.approx(analysis.steps.utilisation, abs=0.04)
    window = browser.find_element("id", "step-window")
    whole = window.text
    browser.find_element("id", "zoom-in").click()
    assert " of " in window.text
    browser.find_element("id", "zoom-all").click()
    assert window.text == whole
    assert console_lines() == []


@pytest.mark.chromium
def test_integrity_and_the_point_stand_on_top(open_page: Callable[[str], Any]) -> None:
    analysis = an_analysis()
    browser = open_page(trace_page(analysis))
    assert browser.find_element("tag name", "h1").text == analysis.headline
    verdict = browser.find_element("css selector", "header .note")
    assert verdict.text.startswith(f"Integrity {analysis.integrity.verdict}")
    first = browser.find_element("css selector", "main section")
    assert verdict.location["y"] < first.location["y"] < 700
    bars = browser.find_elements("css selector", "#whatif svg rect.bar-solid")
    assert len(bars) == len(analysis.whatif)


def with_launchers(names: list[str] | None = None) -> TraceAnalysis:
    """The published engine, its steps named, with modules and operators in them."""
    rows = engines.published_engine(6)
    ranges = []
    for i, call in enumerate(rows.calls):
        start, end = call.start_ns - 60, call.end_ns + 60
        name = (names or ["aten::mm", "aten::add", "aten::silu"])[i % len(names or [1, 2, 3])]
        ranges.append(RangeRow(start, end, name, "cpu_op", call.process, call.thread))
        ranges.append(RangeRow(start - 60, end + 60, f"nn.Module: Linear_{i % 4}", "python", call.process, call.thread))
    first, last = rows.calls[0], rows.calls[-1]
    ranges.append(RangeRow(first.start_ns - 500, last.end_ns + 500, "generate", "nvtx", first.process, first.thread))
    return analyse(build(rows.activities, rows.calls, ranges))


@pytest.mark.chromium
def test_the_icicle_is_to_scale_and_zooms(
    open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    analysis = with_launchers()
    found = analysis.launched_by
    assert found is not None
    browser = open_page(trace_page(analysis))

    def widths(kind: str) -> list[float]:
        boxes = browser.find_elements("css selector", f"#icicle rect.launch-{kind}")
        return sorted((float(box.get_attribute("width")) for box in boxes), reverse=True)

    whole = browser.execute_script("return document.querySelector('#icicle').clientWidth")
    modules = sorted((r.total_ns for r in found.launchers if r.kind == "module"), reverse=True)
    assert widths("range") == pytest.approx([whole - 1], abs=1.5)
    assert widths("module") == pytest.approx([whole * ns / found.total_ns - 1 for ns in modules], abs=1.5)
    assert sum(ns for ns, p in zip(found.tree.total_ns, found.tree.parent, strict=True) if p < 0) == found.total_ns
    box = browser.find_element("css selector", "#icicle rect.launch-module")
    browser.execute_script("arguments[0].parentNode.dispatchEvent(new MouseEvent('click', {bubbles: true}))", box)
    assert widths("range") == []
    assert widths("module") == pytest.approx([whole - 1], abs=1.5)
    assert "Linear" in browser.find_element("id", "icicle-window").text
    browser.find_element("id", "icicle-all").click()
    assert len(widths("range")) == 1
    rows = browser.find_elements("css selector", "#launcher-table tbody tr")
    assert len(rows) == len(found.launchers)
    assert console_lines() == []


@pytest.mark.chromium
@pytest.mark.parametrize("width", [390, 1400])
def test_shapes_and_memory_are_on_the_page(
    width: int, tmp_path: Path, open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    events: list[dict[str, Any]] = []
    for i in range(12):
        common = {"pid": 100, "tid": 7, "ts": i * 1_000.0}
        shapes = {"Input Dims": [[64, 64 + i % 3], [64 + i % 3, 64]], "Input type": ["float", "float"]}
        launch = {"correlation": i + 1}
        change = {"Bytes": 1 << 20, "Addr": i + 1, "Device Type": 1, "Device Id": 0, "Total Allocated": (i + 9) << 20}
        kernel = {"device": 0, "stream": 7, **launch}
        events += [
            {**common, "ph": "X", "cat": "cpu_op", "name": "aten::mm", "dur": 500, "args": shapes},
            {**common, "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 9, "args": launch},
            {**common, "ph": "X", "cat": "kernel", "name": "sgemm", "dur": 90 + i, "args": kernel},
            {**common, "ph": "i", "name": "[memory]", "args": change},
        ]
    path = tmp_path / "a.json"
    card = {"deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}]}
    path.write_text(json.dumps({**card, "traceEvents": events}))
    browser = open_page("<p>")
    size = {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        open_page(trace_page(read_trace(path)))
        rows = browser.find_elements("css selector", "#work-table tbody tr")
        assert len(rows) == 3
        assert "GEMM" in rows[0].text
        heads = browser.find_elements("css selector", "#kernel-table th")
        assert "of peak" in [head.get_attribute("textContent") for head in heads]
        browser.find_element("css selector", "#work-table th[data-key=gbs] button").click()
        shown = browser.find_elements("css selector", "#work-table tbody tr td:nth-child(7)")
        rates = [float(cell.text) for cell in shown]
        assert rates == sorted(rates, reverse=True)
        line = browser.find_element("css selector", "#memory-0 path.memory-line")
        assert browser.execute_script("return arguments[0].getBBox().height", line) > 40
        assert "20.0 MiB" in browser.find_element("id", "memory-section").text.replace("\xa0", " ")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert console_lines() == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.chromium
def test_a_pass_before_decoding_is_on_page_and_terminal(
    open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    analysis = read_trace(Path(__file__).parents[2] / "trace" / "data" / "decode-eager.json.gz")
    driver = open_page(trace_page(analysis))
    section = driver.find_element("id", "pass-section")
    assert "Prefill takes 8.56 ms" in section.text
    bars = section.find_elements("css selector", "#pass-0 .bar-solid, #pass-0 .bar-base")
    assert len(bars) == 1 + len(analysis.passes[0].whatif)
    assert console_lines() == []
    console = Console(width=120, record=True, file=io.StringIO(), force_terminal=False)
    console.print(trace_report(analysis))
    text = console.export_text()
    assert "What if: prefill, known by its layers" in text
    assert "Prefill takes 8.56 ms" in text


@pytest.mark.chromium
def test_hostile_launchers_stay_text(open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]) -> None:
    browser = open_page(trace_page(with_launchers(HOSTILE)))
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert "<img src=x onerror=window.pwned=1>" in browser.find_element("id", "launcher-table").text
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert console_lines() == []


@pytest.mark.chromium
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_bar_is_there_on_a_narrow_page_too(
    width: int, scheme: str, open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    analysis = with_launchers()
    browser = open_page("<p>")
    size = {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    try:
        open_page(trace_page(analysis))
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"\d+", ground)[0])
        assert red > 200 if scheme == "light" else red < 60
        bars = browser.find_elements("css selector", "#whatif svg rect.bar-solid, #time-bar svg rect")
        widths = [float(bar.get_attribute("width")) for bar in bars]
        assert len(widths) > len(analysis.whatif)
        assert min(widths) > 0
        longest = browser.execute_script("return document.querySelector('#whatif rect.bar-base').getBBox().width")
        assert longest > 0.5 * min(width, 400)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        cells = browser.find_elements("css selector", "main td:first-child")
        assert all(cell.size["width"] > 60 for cell in cells if len(cell.text) > 4)
        unseen = browser.execute_script("""
            const drawn = [...document.querySelectorAll("svg rect")];
            const same = (one, two) => getComputedStyle(one).fill === getComputedStyle(two).backgroundColor;
            return drawn.filter((bar) => !(bar.getBBox().width > 0) || same(bar, document.body)).length;
        """)
        assert unseen == 0
        assert console_lines() == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.chromium
@pytest.mark.parametrize("rows", [[], [ActivityRow(0, 5)], [ActivityRow(0, 5, device=d) for d in range(3)]])
def test_little_data_makes_a_whole_page(
    rows: list[ActivityRow], open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    open_page(trace_page(analyse(build(rows))))
    assert console_lines() == []


@pytest.mark.chromium
def test_a_comparison_is_a_page(open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]) -> None:
    browser = open_page(comparison_page(compare(an_analysis(HOSTILE), an_analysis())))
    titles = [heading.text for heading in browser.find_elements("tag name", "h2")]
    assert titles == ["Kernel sums", "Gaps", "Counts", "Kernels that changed most"]
    assert browser.execute_script("return window.pwned") is None
    assert console_lines() == []


def test_the_page_allows_its_own_scripts_only() -> None:
    page = trace_page(an_analysis(HOSTILE))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_page_data_is_json_with_short_names() -> None:
    page = trace_page(an_analysis(HOSTILE))
    (text,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(text)
    assert max(len(kernel["name"]) for kernel in data["kernels"]) <= 2_000
    assert sum(data["step"]["gap_duration_ns"]) == an_analysis().steps.gap_ns


def test_a_terminal_gets_no_control_characters() -> None:
    analysis = an_analysis(HOSTILE)
    console = Console(width=140, record=True, file=io.StringIO(), force_terminal=False)
    console.print(trace_report(analysis, kernels=100, large=100))
    console.print(comparison_report(compare(analysis, analysis), kernels=100))
    text = console.export_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    for word in ("Longest gaps", "What if", "36 × 11 + 4", "Kernel sums per step"):
        assert word in text
