"""Spans and metrics of a run, read back by the projects that define the two formats."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from laptime.cli.main import run as command
from laptime.data.record import STAGES
from laptime.data.usable import usable
from laptime.report.ci.opentelemetry import otlp_json
from laptime.report.ci.prometheus import prometheus_text
from tests.report.hostile import HOSTILE
from tests.report.sample_runs import run_of, samples

RUN = run_of(samples(12))


def test_opentelemetry_reads_every_span_and_the_stages_fill_the_call():
    json_format = pytest.importorskip("google.protobuf.json_format")
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    written = json.loads(otlp_json(RUN))
    for span in written["resourceSpans"][0]["scopeSpans"][0]["spans"]:  # OTLP's own JSON: ids are hex, not base64
        assert (len(span["traceId"]), len(span["spanId"])) == (32, 16)
        span["traceId"] = span["spanId"] = span["parentSpanId"] = "AAAA"
    read = json_format.Parse(json.dumps(written), service.ExportTraceServiceRequest())
    assert len(read.resource_spans[0].scope_spans[0].spans) > len(RUN.samples)


def test_children_lie_in_their_call_without_a_hole():
    spans = json.loads(otlp_json(RUN))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert len({span["spanId"] for span in spans}) == len(spans)
    calls = [span for span in spans if "parentSpanId" not in span]
    assert len(calls) == len(RUN.samples)
    for call, sample in zip(calls, RUN.samples, strict=True):
        children = [span for span in spans if span.get("parentSpanId") == call["spanId"]]
        length = sum(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) for span in children)
        assert length == int(call["endTimeUnixNano"]) - int(call["startTimeUnixNano"])
        assert {span["traceId"] for span in children} == {call["traceId"]}
        attributes = {one["key"]: one["value"] for one in call["attributes"]}
        assert attributes["gen_ai.usage.output_tokens"] == {"intValue": str(sample.output_tokens)}
        assert attributes["laptime.prefill_ms"] == {"doubleValue": sample.stages.prefill_ms}


def test_prometheus_reads_the_figures_and_stages_sum_to_the_total():
    parser = pytest.importorskip("prometheus_client.parser")
    families = {one.name: one for one in parser.text_string_to_metric_families(prometheus_text(RUN).decode())}
    used, _ = usable(RUN.samples)
    sums = {
        sample.labels["stage"]: sample.value
        for sample in families["laptime_stage_seconds"].samples
        if sample.name.endswith("_sum")
    }
    assert math.isclose(sums["total"], sum(sums[name] for name in STAGES if name in sums), rel_tol=1e-9)
    assert math.isclose(sums["total"], sum(sample.stages.total_ms for sample in used) / 1000)
    counted = {s.labels["state"]: s.value for s in families["laptime_samples"].samples}
    assert counted == {"used": len(used), "left_out": len(RUN.samples) - len(used)}


@pytest.mark.parametrize("name", [*HOSTILE, 'a"} 1\nlaptime_samples{state="used"} 9', "\\"])
def test_a_name_stays_a_value(name):
    parser = pytest.importorskip("prometheus_client.parser")
    config = {"model": name, "knob": name}
    run = run_of([msgspec.structs.replace(one, config=config, sample_id=name) for one in RUN.samples])
    families = list(parser.text_string_to_metric_families(prometheus_text(run).decode()))
    assert {len([s for s in f.samples if "state" in s.labels]) for f in families if f.name == "laptime_samples"} == {2}
    json.loads(otlp_json(run))


@pytest.mark.parametrize(("format_", "ending"), [("otlp-json", ".otlp.json"), ("prometheus", ".prom")])
def test_the_verb_writes_beside_the_run(tmp_path, capsys, format_, ending):
    from tests.data.test_frame import write
    from tests.samples import sample

    folder = write(tmp_path / "run", *(sample(n) for n in range(3)))
    assert command(["export", str(folder), "--format", format_]) == 0
    assert (tmp_path / f"run{ending}").stat().st_size > 300
    assert capsys.readouterr().out.strip() == str(tmp_path / f"run{ending}")
