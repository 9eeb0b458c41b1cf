import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.record import StageTimes
from laptime.data.summary import summarise
from tests.samples import sample


@given(st.lists(st.integers(min_value=0, max_value=400), min_size=1, max_size=30))
def test_shares_add_up_to_one(extra_ms):
    summary = summarise([sample(n) for n in extra_ms])
    shares = [stage.share for name, stage in summary.stages.items() if name != "total"]
    assert sum(shares) == pytest.approx(1.0)
    assert summary.stages["total"].share == pytest.approx(1.0)


def test_flagged_samples_are_left_out_and_counted_by_reason():
    summary = summarise([sample(0), sample(900, flags=["cold", "gc-pause"]), sample(901, flags=["cold"])])
    assert (summary.samples, summary.used) == (3, 1)
    assert summary.left_out == {"cold": 2, "gc-pause": 1}
    assert summary.stages["total"].median.value == 100.0
    assert not summary.all_flagged


def test_when_nothing_is_clean_the_warm_ones_are_shown_and_it_says_so():
    summary = summarise([sample(0, flags=["throttled"]), sample(900, flags=["cold"])])
    assert summary.all_flagged
    assert summary.used == 1
    assert summary.stages["total"].median.value == 100.0


def test_a_warm_up_is_never_summarised_while_there_is_anything_else():
    summary = summarise([sample(900, repeat=-1, flags=["cold"]), sample(0, flags=["cold"])])
    assert summary.all_flagged
    assert (summary.used, summary.stages["total"].median.value) == (1, 100.0)


def test_no_decode_is_absent_not_zero():
    one_token = StageTimes.from_ns(vision=0, prefill=5, decode=None, total=9)
    summary = summarise([sample(stages=one_token, output_tokens=1, decode_forwards=0, tpot_ms=None)])
    assert "decode" not in summary.stages
    assert summary.tpot_ms is None
    assert summary.decode_per_token_ms is None


def test_no_samples_make_an_empty_summary():
    summary = summarise([])
    assert (summary.samples, summary.stages, summary.ttft_ms) == (0, {}, None)


def test_throughput_and_energy_count_tokens_of_all_rows():
    summary = summarise([sample(0, batch=2, generated_tokens=8, energy_j=4.0)])
    assert summary.tokens_per_s == pytest.approx(80.0)
    assert summary.energy_per_token_j == pytest.approx(0.5)


def test_metrics_count_warm_up_calls_apart():
    metrics = summarise([sample(900, repeat=-1, flags=["cold"]), sample(0), sample(0, flags=["cold"])]).metrics()
    counts = {name: metrics[name] for name in ("samples_used", "samples_left_out", "warm_up_calls")}
    assert counts == {"samples_used": 1, "samples_left_out": 1, "warm_up_calls": 1}


def test_metrics_are_flat_numbers_that_agree_with_the_summary():
    from tests.report.sample_runs import run_of, samples

    summary = run_of(samples(12)).summary
    metrics = summary.metrics()
    assert metrics["total_ms"] == summary.stages["total"].median.value
    assert metrics["ttft_ms"] == summary.ttft_ms.value
    assert metrics["samples_used"] + metrics["samples_left_out"] == summary.samples
    assert all(type(value) is float for value in metrics.values())
