"""The terminal's tables: the right numbers, in 80 columns, and nothing from outside that acts."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from laptime.data.record import Interval, Overhead, StrategyCost
from laptime.report.kit.numbers import interval_ends, number, percent, text, whole_percent
from laptime.report.kit.terminal import bar
from laptime.report.profile.terminal import environment_table, overhead_table, profile_table
from tests.report.sample_runs import environment, run_of, sample, samples


def printed(renderable: RenderableType, width: int = 80, **options: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, **options).print(renderable)  # type: ignore[arg-type]
    return out.getvalue()


def an_overhead(**changes: object) -> Overhead:
    fields: dict[str, object] = {
        "device": "cuda:0",
        "host_clock_us": Interval(0.071, 0.07, 0.073, 20),
        "idle_probe_us": Interval(0.4, 0.39, 0.41, 20),
        "mark_us": Interval(7.21, 7.1, 7.3, 20),
        "synchronize_idle_us": Interval(4.3, 4.2, 4.4, 20),
        "synchronize_drain_us": Interval(933.0, None, None, 3),
        "drained_step_us": 5100.0,
        "strategies": [
            StrategyCost(strategy, tokens, 8, 1, 0.004 * tokens)
            for strategy in ("total", "per token, synchronize")
            for tokens in (16, 128, 1024)
        ],
    }
    return Overhead(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (412.345, "ms", "412 ms"),
        (62.149, "ms", "62.1 ms"),
        (4.826, "ms", "4.83 ms"),
        (0.02134, "ms", "21.3 µs"),
        (65_432.0, "ms", "65.4 s"),
        (999.96, "ms", "1\u202f000 ms"),
        (0.0, "ms", "0 ms"),
        (None, "ms", "–"),
        (float("nan"), "ms", "–"),
        (15_032_385_536, "bytes", "14.0 GiB"),
        (0.0123, "J", "12.3 mJ"),
    ],
)
def test_numbers_read_well(value: float | None, unit: str, expected: str) -> None:
    assert text(value, unit).replace("\xa0", " ") == expected


def test_shares_and_intervals_read_well() -> None:
    assert percent(0.7133) == "71.3\xa0%"
    assert percent(0.042) == "4.2\xa0%"
    assert percent(None) == "–"
    assert whole_percent(0.7133) == "71\xa0%"
    assert interval_ends(Interval(111.1, 111.02, 111.34, 9), "ms") == "111.0–111.3\xa0ms"
    assert interval_ends(Interval(12_000, 11_900, 12_100, 9), "ms") == "11.9–12.1\xa0s"
    assert interval_ends(Interval(1, None, None, 3), "ms") == "–"
    assert interval_ends(None, "ms") == "–"
    assert number(1234567.0) == "1\u202f234\u202f567"


def test_the_table_says_what_the_summary_says() -> None:
    summary = run_of(samples(20)).summary
    shown = printed(profile_table(summary, title="preset:molmoe-1b")).replace("\xa0", " ")
    decode = next(line for line in shown.splitlines() if line.startswith(" Decode  "))
    assert text(summary.stages["decode"].median.value, "ms").replace("\xa0", " ") in decode
    assert interval_ends(summary.stages["decode"].median, "ms").replace("\xa0", " ") in decode
    assert percent(summary.stages["decode"].share).replace("\xa0", " ") in decode
    assert "█" in decode
    for words in ("17 of 20 samples; 3 left out:", "1 throttled: the GPU lowered its clocks", "First token (TTFT)"):
        assert words in shown
    assert [line for line in shown.splitlines() if "…" in line] == []


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_width(width: int) -> None:
    for renderable in (
        profile_table(run_of(samples(20)).summary),
        overhead_table(an_overhead()),
        environment_table(environment()),
    ):
        lines = printed(renderable, width).splitlines()
        assert max(cell_len(line) for line in lines) <= width
        assert not any("…" in line for line in lines)


def test_too_few_samples_are_said_so() -> None:
    shown = printed(profile_table(run_of([sample(1), sample(2)]).summary))
    assert "Only 2 usable samples: too few for a 95 % interval" in shown
    assert "2 of 2 samples, none left out." in shown


def test_absent_values_are_dashes_not_zeros() -> None:
    shown = printed(profile_table(run_of([sample(1, tokens=1, vision=False)]).summary))
    lines = shown.splitlines()
    tpot = next(line for line in lines if "TPOT" in line)
    assert tpot.split()[3:] == ["–", "–"]
    assert not any(line.strip().startswith(("Vision", "Decode  ")) for line in lines)


def test_nothing_measured_is_one_line() -> None:
    assert printed(profile_table(run_of([]).summary)) == "No sample was measured.\n"


def test_all_flagged_is_said() -> None:
    shown = printed(profile_table(run_of([sample(1, flags=["cold"])]).summary))
    assert shown.index("No sample was clean") < shown.index("median")  # before the numbers that it is about


def test_piped_output_has_no_escape_codes() -> None:
    for renderable in (profile_table(run_of(samples(20)).summary), overhead_table(an_overhead())):
        assert "\x1b" not in printed(renderable)
    assert "\x1b[" in printed(profile_table(run_of(samples(20)).summary), force_terminal=True, color_system="standard")


def test_outside_strings_do_not_act() -> None:
    hostile = "[red]x[/red] \x1b[31mred\x07 [link=file:///]a[/link]"
    shown = printed(profile_table(run_of(samples(8)).summary, title=hostile), width=120)
    shown += printed(environment_table(environment(gpu=hostile, variables={hostile: hostile})), width=200)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count("[red]x[/red]") == 4


def test_the_cost_of_looking() -> None:
    shown = printed(overhead_table(an_overhead())).replace("\xa0", " ")
    assert "7.10–7.30 µs" in shown
    row = next(line for line in shown.splitlines() if "per token, synchronize" in line)
    assert row.split()[-6:] == ["64.0", "µs", "0.512", "ms", "4.10", "ms"]
    on_cpu = an_overhead(device="cpu", synchronize_idle_us=None, synchronize_drain_us=None, drained_step_us=None)
    assert "device idle" not in printed(overhead_table(on_cpu))


@pytest.mark.parametrize(("share", "cells"), [(0, 0), (0.5, 6), (1, 12), (1.7, 12), (-1, 0), (0.01, 1)])
def test_a_bar_fills_its_share(share: float, cells: int) -> None:
    assert len(bar(share)) == cells
