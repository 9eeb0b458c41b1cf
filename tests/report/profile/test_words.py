"""What a profile says of its samples: counts that overlap say so, and a hint only where something points to it."""

import msgspec

from laptime.data.summary import summarise
from laptime.report.profile.words import (
    cut_sentence,
    early_threads_hint,
    gaps_sentence,
    left_out_lines,
    threads_hint,
    unclean_sentence,
)
from tests.report.sample_runs import environment, run_of, sample


def flagged(flags, number=0, **changes):
    return msgspec.structs.replace(sample(number), sample_id=str(number), flags=flags, **changes)


def test_overlapping_counts_and_the_flags_of_what_counts_are_said():
    rows = [flagged(["foreign-process"], n) for n in range(24)]
    rows += [flagged(["cold", "foreign-process"], 24 + n, repeat=-1 - n) for n in range(3)]
    summary = summarise(rows)
    assert summary.used_flags == {"foreign-process": 24}
    lines = left_out_lines(summary)
    assert lines == ["24 of 24 samples, flagged ones since none was clean.", "Not counted as samples: 3 warm-up calls."]
    assert unclean_sentence(summary) == "No sample was clean: these numbers are from flagged ones (24 foreign-process)."
    assert unclean_sentence(summarise([flagged([])])) is None


def test_a_warm_up_call_is_no_sample_and_reasons_are_those_of_samples():
    rows = [flagged([], n) for n in range(5)] + [flagged(["gc-pause", "foreign-process"], 5)]
    rows += [flagged(["cold", "gc-pause"], 0, repeat=-1)]
    summary = summarise(rows)
    assert (summary.samples, summary.measured, summary.warm_ups) == (7, 6, 1)  # `samples` keeps its meaning
    assert summary.left_out == {"cold": 1, "foreign-process": 1, "gc-pause": 2}
    assert summary.measured_left_out == {"foreign-process": 1, "gc-pause": 1}
    lines = left_out_lines(summary)
    assert lines[0] == "5 of 6 samples; 1 left out:"
    assert lines[1].startswith("  1 foreign-process")
    assert any("overlap" in line for line in lines)
    assert lines[-1] == "Not counted as samples: 1 warm-up call."


def test_one_reason_each_overlaps_nowhere():
    lines = left_out_lines(summarise([flagged([], 0), flagged(["cold"], 1), flagged(["gc-pause"], 2)]))
    assert len(lines) == 3
    assert left_out_lines(summarise([flagged([])])) == ["1 of 1 sample, none left out."]


def test_answers_at_the_limit_are_said_where_they_could_have_ended():
    assert cut_sentence(summarise([flagged([])])) is None
    rows = [flagged([], n, cut_rows=int(n < 2)) for n in range(5)]
    assert cut_sentence(summarise(rows)) == "2 of 5 samples reached the limit on new tokens."


def test_the_median_gap_is_explained_beside_the_mean_one():
    with_gaps = [flagged([], n, itl_ms=[1.0, 2.0]) for n in range(3)]
    assert "median" in gaps_sentence(summarise(with_gaps))
    slow, fast = ([flagged([], n, tpot_ms=tpot, itl_ms=[1.0, 2.0]) for n in range(3)] for tpot in (9.0, 1.0))
    assert "raise only TPOT" in gaps_sentence(summarise(slow))
    assert "raise" not in gaps_sentence(summarise(fast))
    assert gaps_sentence(summarise([flagged([], itl_ms=None)])) is None


def test_a_busy_cpu_with_several_threads_gets_a_hint_and_nothing_else_does():
    busy = [flagged(["foreign-process"], n) for n in range(3)]
    for device, threads, rows, hinted in (
        ("cpu", 2, busy, True), ("cpu", 1, busy, False), ("cuda:0", 2, busy, False), ("cpu", 2, [flagged([])], False)
    ):  # fmt: skip
        run = run_of(rows)
        machine = msgspec.structs.replace(environment(), device=device, torch_threads=threads)
        run = msgspec.structs.replace(run, info=msgspec.structs.replace(run.info, environment=machine))
        hint = threads_hint(run, summarise(rows))
        assert (hint is not None) is hinted
        if hint is not None:
            assert "3 of 3 calls" in hint
            assert "OMP_NUM_THREADS=1" in hint


def test_the_hint_at_threads_comes_with_the_first_warm_up_call_that_another_process_disturbed():
    two = msgspec.structs.replace(environment(), device="cpu", torch_threads=2)
    warm = flagged(["cold", "foreign-process"], repeat=-1)
    assert "OMP_NUM_THREADS=1" in early_threads_hint(two, warm)
    assert early_threads_hint(two, flagged(["cold"], repeat=-1)) is None  # alone on the CPU
    assert early_threads_hint(two, flagged(["foreign-process"])) is None  # the end of the run says it
    for other in ({"torch_threads": 1}, {"device": "cuda:0"}):
        assert early_threads_hint(msgspec.structs.replace(two, **other), warm) is None
