"""What the result says: headline, leading row and recommendations speak of the same remedy."""

import pytest

from laptime.data.record import Interval
from laptime.remedy.result import RemedyRow, headline, is_faster, leader, recommend


def row(name, ms, prepare_s=None, speedup=None):
    """speedup: low, value and high end; None for the baseline."""
    ends = speedup if speedup is None or isinstance(speedup, tuple) else (speedup, speedup, speedup)
    return RemedyRow(
        name=name,
        title=name,
        parts=[],
        tpot_ms=Interval(ms, ms, ms, 6),
        prepare_s=prepare_s,
        speedup=None if ends is None else Interval(ends[1], ends[0], ends[2], 1 if ends[0] is None else 6),
    )


BASE = row("eager", 20.0)


def test_what_to_use_depends_on_how_many_tokens_a_process_generates():
    rows = [BASE, row("compiled", 5.0, 30.0, 4.0), row("fast", 10.0, 1.0, 2.0)]
    best = {each.tokens: each.remedy for each in recommend(rows, 64)}
    assert (best[32], best[128], best[512], best[32768]) == ("eager", "fast", "fast", "compiled")
    assert 64 in best
    assert "4 times as fast" in headline(rows)


def test_a_remedy_whose_interval_holds_1_is_not_called_faster_and_not_recommended():
    rows = [BASE, row("fast", 13.0, 0.0, (0.9, 1.52, 2.1))]
    assert not is_faster(rows[1])
    assert leader(rows) is rows[1]
    said = headline(rows)
    assert said.startswith("No remedy is proven faster than the baseline's 20 ms a token")
    assert "fast comes nearest: 1.52 times as fast, 95 % interval 0.9 to 2.1" in said
    assert {each.remedy for each in recommend(rows, 64)} == {"eager"}


def test_a_proven_remedy_leads_before_a_quicker_one_that_is_not_proven():
    rows = [BASE, row("fast", 9.0, 0.0, (0.9, 2.2, 3.0)), row("buffers", 16.0, 0.0, (1.1, 1.25, 1.3))]
    assert leader(rows).name == "buffers"
    assert headline(rows) == "buffers: 16 ms a token instead of 20, 1.25 times as fast"
    assert {each.remedy for each in recommend(rows, 64)} == {"buffers"}


def test_with_too_few_rounds_for_an_interval_the_sentence_says_so():
    rows = [BASE, row("fast", 10.0, 0.0, (None, 2.0, None))]
    assert headline(rows).endswith("2 times as fast in 1 round; 6 rounds would show how sure that is")


@pytest.mark.parametrize("speedup", [0.98, (None, 0.98, None)])
def test_when_all_are_slower_the_baseline_leads(speedup):
    rows = [BASE, row("fast", 20.5, 1.0, speedup)]
    assert leader(rows) is BASE
    assert headline(rows) == "No remedy was faster than the baseline: 20 ms a token"


def test_without_another_measured_remedy_the_headline_says_that():
    failed = RemedyRow(name="graph", title="graph", parts=[], failed="needs a CUDA GPU")
    assert headline([BASE, failed]) == "No remedy could be measured"
    assert leader([BASE, failed]) is BASE


def test_long_steps_are_written_without_an_exponent():
    assert "1235 ms a token" in headline([row("eager", 1234.6), row("fast", 1300.0, 0.0, 0.95)])


def test_a_baseline_that_is_slower_between_the_others_than_alone_makes_the_headline_doubt():
    rows = [row("eager", 9.23), row("whole", 5.34, 0.0, (1.5, 1.82, 2.0))]
    assert headline(rows, alone_ms=9.0).startswith("whole: 5.34 ms a token instead of 9.23")
    said = headline(rows, alone_ms=1.53)
    assert said.startswith("No factor can be trusted on this machine now: the baseline took 1.53 ms a token alone")
    assert "6.03 times as long" in said
