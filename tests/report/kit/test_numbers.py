"""One style of numbers: digits, thousands, units, signs, and a dash for what is missing."""

from __future__ import annotations

from math import inf, nan

import pytest

from laptime.data.record import Interval
from laptime.report.kit import numbers
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, THIN


def shown(written: str) -> str:
    """With simple spaces, so that the expectations below can be read."""
    return written.replace(THIN, "_").replace(KEEP_TOGETHER, " ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(412.4, "412"), (62.14, "62.1"), (4.834, "4.83"), (0.0213, "0.0213"), (9.996, "10.0"), (999.6, "1_000"),
     (1234567, "1_234_567"), (-3.2, "−3.20"), (0, "0"), (1e-9, "0.000000"), (None, "–"), (nan, "–"), (inf, "–")],
)  # fmt: skip
def test_a_number_has_three_significant_digits(value: float | None, expected: str) -> None:
    assert shown(numbers.number(value)) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(999, "ns", "999 ns"), (1_500, "ns", "1.50 µs"), (2_345_678, "ns", "2.35 ms"), (12e9, "ns", "12.0 s"),
     (7.9, "µs", "7.90 µs"), (0.04, "µs", "40.0 ns"), (1_730, "µs", "1.73 ms"),
     (62.14, "ms", "62.1 ms"), (0.04, "ms", "40.0 µs"), (12_300, "ms", "12.3 s"), (0, "ms", "0 ms"),
     (0.091, "s", "91.0 ms"), (23.2, "s", "23.2 s"), (3 * 2**30, "bytes", "3.00 GiB"), (0.05, "J", "50.0 mJ"),
     (1980, "MHz", "1_980 MHz"), (-0.04, "ms", "−40.0 µs"), (None, "ms", "–")],
)  # fmt: skip
def test_a_quantity_takes_the_unit_that_suits_its_size(value: float | None, unit: str, expected: str) -> None:
    assert shown(numbers.text(value, unit)) == expected


def test_what_somebody_chose_is_written_as_it_was_chosen() -> None:
    assert shown(numbers.plain_text(30, "ms")) == "30 ms"
    assert shown(numbers.plain_text(12.5, "ms")) == "12.5 ms"
    assert shown(numbers.plain_text(50_000, "ns")) == "50 µs"
    assert [shown(numbers.plain_percent(share)) for share in (0.95, 0.995)] == ["95 %", "99.5 %"]


def test_shares() -> None:
    shares = [0.713, 0.0421, 0, 1, None]
    assert [shown(numbers.percent(share)) for share in shares] == ["71.3 %", "4.2 %", "0 %", "100 %", "–"]
    assert [shown(numbers.percent(share)) for share in (0.9994, 0.9996, 0.99999)] == [
        "99.9 %",
        "over 99.9 %",
        "over 99.9 %",
    ]
    assert [shown(numbers.whole_percent(share)) for share in shares] == ["71 %", "4.2 %", "0 %", "100 %", "–"]
    assert [shown(numbers.signed_percent(share)) for share in (0.042, -0.125, 0)] == ["+4.2 %", "−12.5 %", "0 %"]


def test_counts_and_fixed_decimals() -> None:
    assert [shown(numbers.count(value)) for value in (7, 1234, 1_048_576, None)] == ["7", "1_234", "1_048_576", "–"]
    assert shown(numbers.decimals(1234.5, 3)) == "1_234.500"


def test_ratios_keep_their_ends_apart() -> None:
    assert [numbers.ratio(value) for value in (2.137, 0.9784, None)] == ["2.14×", "0.978×", NOTHING]
    assert numbers.ratio_ends(Interval(2.1, 2.05, 2.16, 9)) == "2.05–2.16"
    assert numbers.ratio_ends(Interval(1.02, 1.011, 1.031, 9)) == "1.011–1.031"
    assert numbers.ratio_ends(Interval(1.4, 0.978, 2.1, 9)) == "0.98–2.10"


def test_intervals_have_one_unit_and_ends_that_differ() -> None:
    assert shown(numbers.interval_ends(Interval(121, 118, 124, 9), "ms")) == "118–124 ms"
    assert shown(numbers.interval_ends(Interval(121.2, 121.16, 121.24, 9), "ms")) == "121.16–121.24 ms"
    assert shown(numbers.interval_ends(Interval(0.05, 0.04, 0.06, 9), "ms")) == "40.0–60.0 µs"
    assert shown(numbers.interval_ends(Interval(7.9, 7.8, 1_200, 9), "µs")) == "0.00780–1.20 ms"
    assert numbers.interval_ends(Interval(1, None, None, 9), "ms") == NOTHING


def test_durations() -> None:
    assert [shown(numbers.duration(value)) for value in (0.42, 40, 725, 12600)] == ["0.42 s", "40 s", "12 min", "3.5 h"]
