"""Each rule: measurements that break it and are finding, by the right samples; sound ones that are not."""

from __future__ import annotations

import numpy as np
import polars
import pytest
from benchmarks.audit_false_alarms import WRONG, Shape, lognormal, sound
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from laptime.audits import RULES, audit, audit_measurements, measurements_of
from laptime.data.columns import ORDER
from laptime.data.record import SessionEnd, StageTimes
from laptime.data.run_folder import RunFolder, new_info
from laptime.errors import LaptimeError
from tests.samples import environment, sample

SHAPE = Shape(4, 12, repeats=2, workers=2)
STAGE_TIMES = "vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms"


def clean(seed: int = 0, shape: Shape = SHAPE, sd: float = 0.01) -> polars.DataFrame:
    return sound(seed, shape, lognormal(sd))


def report_of(frame):
    return audit_measurements(measurements_of(frame))


def finding_of(frame, code):
    """The finding of this rule; None when it judged and finding nothing."""
    report = report_of(frame)
    (rule,) = [rule for rule in report.rules if rule.code == code]
    assert rule.could_not_judge is None, rule.could_not_judge
    return next((f for f in report.findings if f.code == code), None)


def at(row: int):
    return polars.int_range(polars.len()) == row


def put(frame, row, **values):
    return frame.with_columns(
        polars.when(at(row)).then(polars.lit(value)).otherwise(col(name)).alias(name) for name, value in values.items()
    )


def key(frame, row):
    return "/".join(str(value) for value in frame.select("config_id", "sample_id", "repeat").row(row))


def names(finding, frame, *rows):
    """Whether the examples name exactly these rows first."""
    return [example.split(":")[0] for example in finding.examples[: len(rows)]] == [key(frame, row) for row in rows]


def test_sound_measurements_raise_nothing():
    report = report_of(clean())
    assert report.findings == []
    assert report.clean
    assert {rule.code for rule in report.rules if rule.could_not_judge} == {
        "ttft-not-seen",
        "not-streamed",
        "smoothed-times",
        "mixed-environment",
        "busy-machine",
        "bimodal",
        "prefill-holds-decode",
        "first-calls-slow",
        "ttft-below-prefill",
        "gaps-not-decode",
        "gaps-in-bursts",
        "ttft-holds-decode",
        "tokens-not-decode",
        "decode-holds-prefill",
        "more-than-the-limit",
        "running-mean",
        "ended-early",
        "failed-requests",
        "client-lag",
    }
    assert len(report.rules) == len({rule.code for rule in RULES}) == len(RULES) >= 19


def test_zero_decode_and_how_it_came_about():
    frame = put(clean(), 7, decode_ms=0.0)
    finding = finding_of(frame, "zero-decode")
    assert (finding.severity, finding.count, finding.of) == ("severe", 1, frame.height)
    assert names(finding, frame, 7)
    assert "subtraction" not in finding.reason  # vision + prefill is shorter than this total: something else made the 0


def test_a_zero_decode_of_one_token_is_no_zero_decode():
    assert finding_of(put(clean(), 7, decode_ms=0.0, output_tokens=1, decode_forwards=0), "zero-decode") is None


def test_subtracted_decode_is_known_by_its_exactness():
    frame = clean().with_columns(decode_ms=col("total_ms") - col("vision_ms") - col("prefill_ms"), other_ms=None)
    finding = finding_of(frame, "subtracted-decode")
    assert (finding.severity, finding.count) == ("warning", frame.height)
    assert finding_of(clean(), "subtracted-decode") is None


def test_stages_that_sum_to_more_than_their_call():
    frame = put(put(clean(), 3, total_ms=50.0), 9, prefill_ms=5000.0)
    finding = finding_of(frame, "stage-sum-exceeds-total")
    assert (finding.severity, finding.count) == ("severe", 2)
    assert names(finding, frame, 9, 3)  # the worst first
    rounded = clean().with_columns(col("^(vision|prefill|decode|other|total)_ms$").round(2))
    assert finding_of(rounded, "stage-sum-exceeds-total") is None


@pytest.mark.parametrize("stage", ["vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms"])
def test_a_negative_stage(stage):
    frame = put(clean(), 5, **{stage: -3.25})
    finding = finding_of(frame, "negative-stage")
    assert (finding.severity, finding.count) == ("severe", 1)
    assert names(finding, frame, 5)
    assert f"{stage.removesuffix('_ms')} −3.25 ms" in finding.examples[0]


def test_a_call_mostly_outside_its_stages():
    frame = put(clean(), 5, other_ms=400.0, total_ms=900.0)
    finding = finding_of(frame, "residual-too-large")
    assert (finding.severity, finding.count) == ("info", 1)
    assert names(finding, frame, 5)
    everywhere = clean().with_columns(total_ms=col("total_ms") * 2, other_ms=None)
    assert finding_of(everywhere, "residual-too-large").severity == "warning"


TOKENS = Shape(3, 40, tokens=(1, 40))


def test_per_token_divided_by_n_is_known_by_decode_itself():
    frame = clean(shape=TOKENS).with_columns(decode_per_token_ms=(col("decode_ms") / col("output_tokens")).round(2))
    finding = finding_of(frame, "decode-per-token-by-N")
    assert finding.severity == "severe"
    assert finding.count == frame.filter(col("output_tokens") >= 2).height
    assert [point.x for point in finding.picture.points] == ["2", "3–5", "6–10", "11–20", "21+"]
    ends = [point.y for point in finding.picture.points]
    flat = [point.y for point in finding.picture.expected]
    assert ends[0] < 0.6 * ends[-1]
    assert max(flat) < 1.02 * min(flat)
    assert "N = 2: 6.0 → 12." in finding.reason


def test_per_token_divided_by_n_is_known_by_its_growth_alone():
    frame = clean(shape=TOKENS, sd=0.05)
    wrong = frame.with_columns(decode_per_token_ms=col("decode_ms") / col("output_tokens"), decode_ms=None)
    finding = finding_of(wrong, "decode-per-token-by-N")
    assert finding.severity == "severe"
    assert "power 1.0" in finding.reason or "power 0.9" in finding.reason
    right = frame.with_columns(decode_ms=None)
    assert finding_of(right, "decode-per-token-by-N") is None
    growing = right.with_columns(decode_per_token_ms=col("decode_per_token_ms") * (1 + 0.004 * col("output_tokens")))
    assert finding_of(growing, "decode-per-token-by-N") is None  # a growing cache is no off-by-one


def test_the_notes_own_table_becomes_flat():
    tokens = np.repeat([2, 4, 8, 40], 50)
    noise = np.exp(np.random.default_rng(3).normal(0, 0.05, 200))
    as_stored = np.repeat([24.6, 34.4, 41.1, 45.2], 50) * noise
    frame = polars.DataFrame(
        {"decode_per_token_ms": as_stored, "output_tokens": tokens, "total_ms": 200 + as_stored * tokens}
    )
    finding = finding_of(frame, "decode-per-token-by-N")
    flat = [point.y for point in finding.picture.expected]
    assert 43 < min(flat) < max(flat) < 51
    assert [point.y for point in finding.picture.points] == pytest.approx([24.6, 34.4, 41.1, 45.2], rel=0.03)


def test_forwards_that_do_not_match_the_tokens():
    frame = put(clean(), 4, decode_forwards=40)
    finding = finding_of(frame, "forwards-mismatch")
    assert finding.count == 1
    assert names(finding, frame, 4)


def test_a_cold_first_call_of_a_worker():
    frame = clean()
    first = frame["worker"].to_list().index("0")
    slow = put(frame, first, total_ms=frame["total_ms"][first] * 3)
    finding = finding_of(slow, "cold-start")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert names(finding, frame, first)
    later = frame["worker"].to_list().index("0", 40)
    assert finding_of(put(frame, later, total_ms=frame["total_ms"][later] * 3), "cold-start") is None


def test_a_cold_first_call_of_every_configuration():
    code, change = WRONG["first calls 50 % slower"]
    finding = finding_of(change(clean()), code)
    assert finding.count >= 4
    assert "above the other" in finding.examples[0]


def test_a_sample_with_the_flag_cold():
    frame = put(put(clean(), 4, flags="cold"), 5, flags="cold", repeat=-1)
    finding = finding_of(frame, "cold-start")
    assert finding.count == 1  # a warm-up call may be cold
    assert names(finding, frame, 4)


def test_a_drift_over_the_run():
    code, change = WRONG["a drift of 5 %"]
    finding = finding_of(change(clean()), code)
    assert finding.severity == "warning"
    assert "rose by 4" in finding.reason or "rose by 5" in finding.reason
    assert finding.picture.line[-1].y - finding.picture.line[0].y == pytest.approx(5, abs=1)


def test_a_falling_clock_is_a_drift_though_configurations_differ():
    n = clean().height
    frame = clean().with_columns(gpu_sm_mhz=polars.Series(np.linspace(1980, 1700, n).astype(int)))
    finding = finding_of(frame, "clock-drift")
    assert finding.severity == "severe"
    assert "SM clock fell by 1" in finding.reason
    by_config = clean().with_columns(gpu_sm_mhz=1500 + 100 * col("crops"))
    assert finding_of(by_config, "clock-drift") is None


def test_cache_policies_mixed_among_configurations():
    mixed = clean().with_columns(
        polars.when(col("config_id") == "c02")
        .then(polars.lit("empty"))
        .otherwise("config.cache_policy")
        .alias("config.cache_policy")
    )
    finding = finding_of(mixed, "mixed-cache-policy")
    assert finding.severity == "severe"
    assert finding.count == mixed.filter(col("config_id") == "c02").height
    assert any(example.startswith("c02") and "empty" in example for example in finding.examples)
    crossed = polars.concat([clean(), clean().with_columns(polars.lit("empty").alias("config.cache_policy"))])
    assert finding_of(crossed, "mixed-cache-policy").severity == "info"


@pytest.mark.parametrize("flag", ["recompiled", "allocator-retry", "foreign-process", "gc-pause", "throttled"])
def test_what_a_sample_was_flagged_with(flag):
    frame = put(clean(), 6, flags=f"{flag},forwards-mismatch")
    finding = finding_of(frame, flag)
    assert (finding.severity, finding.count, finding.of) == ("warning", 1, frame.height)
    assert names(finding, frame, 6)
    others = {"recompiled", "allocator-retry", "foreign-process", "gc-pause", "throttled"} - {flag}
    assert others.isdisjoint({f.code for f in report_of(frame).findings})
    everywhere = finding_of(frame.with_columns(flags=polars.lit(flag)), flag)
    assert everywhere.severity == "severe"
    assert "summaries use flagged ones" in everywhere.reason
    assert "selection" not in everywhere.reason


def test_throttling_and_collections_are_seen_without_flags():
    frame = put(clean(), 6, gpu_throttle="hw-thermal", gc_pause_ms=100.0)
    assert names(finding_of(frame, "throttled"), frame, 6)
    assert "hw-thermal" in finding_of(frame, "throttled").examples[0]
    assert names(finding_of(frame, "gc-pause"), frame, 6)


def test_a_key_that_stands_for_two_samples():
    frame = polars.concat([clean(), clean()[3:5]])
    finding = finding_of(frame, "duplicate-sample")
    assert (finding.severity, finding.count) == ("severe", 2)
    assert {example.split(":")[0] for example in finding.examples} == {key(frame, 3), key(frame, 4)}


def test_holes_in_the_grid():
    frame = clean()
    finding = finding_of(frame.filter(~at(10)), "missing-samples")
    assert (finding.severity, finding.count, finding.of) == ("warning", 1, frame.height)
    lost = frame.row(10, named=True)
    assert finding.examples[0].startswith(lost["config_id"])
    assert finding.examples[0].endswith(f"{lost['sample_id']}/{lost['repeat']}")
    unlike = frame.with_columns(sample_id=polars.int_range(polars.len()).cast(str))
    (rule,) = [rule for rule in report_of(unlike).rules if rule.code == "missing-samples"]
    assert "no grid" in rule.could_not_judge


def test_lines_that_a_finished_run_lost(tmp_path):
    end = SessionEnd(warmups=0, steady=True, repeats=2, stopped="max-repeats", half_width=None, inputs=8)
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as run:
        run.append_all([*(sample(n, sample_id=str(n % 8), repeat=n // 8) for n in range(16)), end])
    assert not [f for f in audit(tmp_path / "run").findings if f.code == "missing-samples"]
    file = tmp_path / "run" / "samples-0.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:9]))
    (finding,) = [f for f in audit(tmp_path / "run").findings if f.code == "missing-samples"]
    assert (finding.severity, finding.count, finding.of) == ("severe", 7, 16)
    assert "lost" in finding.reason


@pytest.mark.parametrize(("cores", "total_ms", "found"), [(1.52, 5.0, True), (0.2, 5.0, False), (1.52, 500.0, False)])
def test_a_busy_machine_is_no_clean_run_though_no_short_call_is_flagged(tmp_path, cores, total_ms, found):
    end = SessionEnd(warmups=2, steady=True, repeats=8, stopped="max-repeats", half_width=None, foreign_cores=cores)
    stages = StageTimes.from_ns(vision=0, prefill=0, decode=0, total=int(total_ms * 1e6))
    calls = [sample(n, sample_id="a", repeat=n, stages=stages, host_stages=stages) for n in range(8)]
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as run:
        run.append_all([*calls, end])
    report = audit(tmp_path / "run")
    assert [f.severity for f in report.findings if f.code == "busy-machine"] == ["warning"] * found
    assert not (report.clean and found)


def test_a_slow_worker():
    code, change = WRONG["one worker 5 % slower"]
    slow = change(clean())
    finding = finding_of(slow, code)
    assert finding.severity == "warning"
    assert finding.count == slow.filter(col("worker") == "0").height
    assert all(example.startswith("worker 0, ") for example in finding.examples)


def test_a_workers_picture_has_the_figures_of_its_sentence():
    """With two samples of a work their median is as much a worker's own as the other's: it sets nobody apart."""
    slow = polars.when(col("worker") == "1").then(1.06).otherwise(1.0)
    frame = clean().with_columns(col("^(vision|prefill|decode|other|total)_ms$") * slow)
    finding = finding_of(frame, "rank-skew")
    drawn = {point.x: point.y for point in finding.picture.points}
    assert drawn["1"] == pytest.approx(6, abs=1)
    assert f"worker 1 is {drawn['1']:.4g}" in finding.reason.replace("\xa0", " ")
    assert all(4 < float(line.split(" ms, +")[1].split(" %")[0]) < 8 for line in finding.examples)


def test_configurations_that_are_one_workers_alone():
    finding = finding_of(clean().with_columns(worker=(col("crops") // 2 % 2).cast(str)), "rank-skew")
    assert "4 configurations were measured by one worker alone" in finding.reason
    assert finding_of(clean(), "rank-skew") is None


def test_too_few_of_a_configuration():
    frame = clean().filter((col("config_id") != "c01") | (col("sample_id") < "0002"))
    finding = finding_of(frame, "too-few-repeats")
    assert (finding.severity, finding.count, finding.of, finding.unit) == ("warning", 1, 4, "configuration")
    assert finding.examples[0].startswith("c01")
    assert "4 usable" in finding.examples[0]


def test_a_per_token_time_that_is_not_decodes():
    frame = clean().with_columns(decode_per_token_ms=col("total_ms") / (col("output_tokens") - 1))  # prefill included
    finding = finding_of(frame, "per-token-not-decode")
    assert (finding.severity, finding.count, finding.of) == ("severe", frame.height, frame.height)
    assert finding_of(frame, "decode-per-token-by-N") is None
    by_n = clean().with_columns(decode_per_token_ms=col("decode_ms") / col("output_tokens"))
    assert finding_of(by_n, "per-token-not-decode") is None  # that has a rule of its own


def test_a_first_token_before_prefill_is_over():
    frame = clean().with_columns(ttft_ms=col("vision_ms") + col("prefill_ms") + 1)
    assert finding_of(frame, "ttft-below-prefill") is None
    early = put(frame, 7, ttft_ms=frame["prefill_ms"][7])  # the encoder left out
    finding = finding_of(early, "ttft-below-prefill")
    assert (finding.severity, finding.count) == ("severe", 1)
    assert names(finding, frame, 7)


def test_calls_of_one_worker_that_overlap():
    frame = clean(shape=Shape(1, 20))
    assert finding_of(frame, "overlapping-calls") is None
    early = put(frame, 5, started_unix_ms=frame["started_unix_ms"][5] - 20)
    finding = finding_of(early, "overlapping-calls")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert names(finding, frame, 5)


def test_what_is_meant_to_run_together_does_not_contradict_itself():
    frame = clean(shape=Shape(1, 20))
    early = put(frame, 5, started_unix_ms=frame["started_unix_ms"][5] - 20)
    requests = early.with_columns(prefill_ms=polars.lit(None, polars.Float64))
    codes = [finding.code for finding in audit_measurements(measurements_of(requests)).findings]
    assert "overlapping-calls" not in codes
    seen = put(put(early, 4, flags="overlapped"), 5, flags="overlapped")
    assert finding_of(seen, "overlapping-calls") is None


def test_two_modes():
    shape = Shape(1, 60, repeats=4)
    slow = np.random.default_rng(5).random(240) < 0.4
    frame = clean(shape=shape).with_columns(col(STAGE_TIMES) * polars.Series("slow", np.where(slow, 1.2, 1.0)))
    finding = finding_of(frame, "bimodal")
    assert (finding.severity, finding.count, finding.unit) == ("warning", 1, "configuration")
    assert any(word in finding.examples[0] for word in ("differ by about 1", "take about 20"))
    rounded = clean(shape=shape).with_columns(col("total_ms").round(0))
    assert finding_of(rounded, "bimodal") is None  # steps of a ruler are no modes


def test_inputs_of_two_costs_are_not_two_modes():
    dear = polars.when(col("sample_id").cast(int) % 3 == 0).then(1.2).otherwise(1.0)
    once = clean(shape=Shape(1, 100)).with_columns(total_ms=col("total_ms") * dear)
    (rule,) = [rule for rule in report_of(once).rules if rule.code == "bimodal"]
    assert "two kinds of inputs" in rule.could_not_judge
    repeated = clean(shape=Shape(1, 60, repeats=4)).with_columns(total_ms=col("total_ms") * dear)
    assert finding_of(repeated, "bimodal") is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_without_its_columns_says_so(rule):
    bare = polars.DataFrame({"vision_ms": [1.0, 2.0]})
    report = report_of(bare)
    (run,) = [run for run in report.rules if run.code == rule.code]
    if rule.code == "negative-stage":  # any one time is enough for this
        assert run.could_not_judge is None
        return
    assert run.could_not_judge
    assert all(column in run.could_not_judge for column in rule.needs)
    assert not run.fired


def test_no_samples_no_judgement():
    report = report_of(clean().head(0))
    assert (report.samples, report.findings) == (0, [])
    assert {rule.could_not_judge for rule in report.rules} == {"no samples", "no requests of laptime serve-bench"}


def test_severe_findings_come_first():
    report = report_of(put(clean(), 5, other_ms=400.0, total_ms=-1.0, flags="gc-pause"))
    order = [finding.severity for finding in report.findings]
    assert order == sorted(order, key=["severe", "warning", "info"].index)
    assert report.severe
    assert not report.clean


cells = st.one_of(
    st.lists(st.one_of(st.none(), st.floats()), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.integers(-3, 2**62)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=4, max_size=4),
    st.lists(st.lists(st.integers(), max_size=2), min_size=4, max_size=4),
)


@settings(max_examples=80, deadline=None)
@given(columns=st.dictionaries(st.sampled_from([*ORDER, "config.crops", "config.cache_policy", "row", "x"]), cells))
def test_any_table_is_judged_or_refused_in_one_line(columns):
    try:
        frame = polars.DataFrame({name: polars.Series(values) for name, values in columns.items()})
    except (OverflowError, TypeError, polars.exceptions.PolarsError):
        return  # no such table
    try:
        report = report_of(frame)
    except LaptimeError as error:
        assert "\n" not in str(error)
    else:
        assert len(report.rules) == len(RULES)


def test_a_value_that_other_programs_write_for_none_is_none():
    frame = clean().with_columns(energy_j=float("nan"), output_tokens=polars.lit(32.0))
    assert report_of(put(frame, 3, total_ms=float("nan"), output_tokens=float("nan"))).samples == frame.height
    assert {f.code for f in report_of(put(frame, 3, total_ms=float("inf"))).findings} == {"times-missing"}


def test_tokens_of_a_client_s_table_may_not_reach_beyond_the_call():
    """No stages: TTFT, a time per token, tokens and the total. A time per token of total / N holds the first one."""
    frame = clean().with_columns(col("output_tokens") * 4 + 20)
    total, tokens = col("total_ms"), col("output_tokens")
    seen = frame.select(
        "sample_id", "repeat", "output_tokens", "total_ms", ttft_ms=total * 0.3, tpot_ms=total * 0.7 / (tokens - 1)
    )
    assert finding_of(seen, "gaps-not-decode") is None
    finding = finding_of(seen.with_columns(tpot_ms=total / tokens), "gaps-not-decode")
    assert (finding.severity, finding.count) == ("severe", seen.height)
