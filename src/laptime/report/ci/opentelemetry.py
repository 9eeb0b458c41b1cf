"""A run as OpenTelemetry spans: OTLP in JSON, attributes by the semantic conventions for generative AI.

One trace for each sample. Its root span is the call, and its children are the stages on the device's timeline. A
collector reads the file with its receiver for OTLP JSON files; a program can post the text as it is to /v1/traces.

Source: OpenTelemetry, semantic conventions for generative AI client spans (names `gen_ai.*`); times of laptime that
have no name there are `laptime.*`, in milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from laptime.data.record import STAGES, Sample
from laptime.data.run_folder import Run
from laptime.errors import LaptimeError
from laptime.measure.timeline import spans
from laptime.report.kit.text import printable

INTERNAL, CLIENT = 1, 3
"""Kinds of span: work in this process, and a request to another one."""

Attributes = list[dict[str, Any]]


def otlp_json(run: Run) -> bytes:
    """One ExportTraceServiceRequest on one line. Raises LaptimeError for a run without samples."""
    if not run.samples:
        raise LaptimeError(f"{run.path}: there are no samples to export")
    environment = run.info.environment
    resource = {
        "service.name": "laptime",
        "service.version": run.info.laptime,
        "host.cpu.model.name": environment.cpu,
        "process.runtime.name": "cpython",
        "process.runtime.version": environment.python,
        "laptime.gpu": environment.gpu,
        "laptime.torch": environment.torch,
        "laptime.environment": environment.fingerprint(),
    }
    scope = {"name": "laptime", "version": run.info.laptime}
    written = [span for sample in run.samples for span in _spans(sample, run)]
    document = {"resourceSpans": [{"resource": {"attributes": attributes(resource)},
                                   "scopeSpans": [{"scope": scope, "spans": written}]}]}  # fmt: skip
    return msgspec.json.encode(document) + b"\n"


def attributes(values: dict[str, Any]) -> Attributes:
    """Names and values as OTLP writes them; a value of None is left out."""
    return [{"key": name, "value": _value(value)} for name, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64-bit numbers are text in OTLP's JSON
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": printable(str(value))}


def _spans(sample: Sample, run: Run) -> Iterable[dict[str, Any]]:
    start = round(sample.started_unix_ms * 1e6)
    name = "/".join((str(sample.started_unix_ms), sample.worker, *map(str, sample.key)))
    served = run.info.environment.device is None
    model = str(sample.config.get("model") or run.info.config.get("model") or "")
    root = _Place(trace=_hash(run.path + name, 32), parent=None)
    whole = _span(root, "call", start, round(sample.stages.total_ms * 1e6), served=served)
    whole["name"] = f"text_completion {printable(model)}".strip()
    whole["attributes"] = attributes(_call(sample, run, model=model, served=served))
    yield whole
    below = _Place(trace=root.trace, parent=str(whole["spanId"]))
    for number, part in enumerate(spans(sample.marks) if sample.marks else ()):
        child = _span(below, f"{part.stage}-{number}", start + part.begin_ns, part.end_ns - part.begin_ns)
        child["name"] = part.stage
        child["attributes"] = attributes({"laptime.stage": part.stage})
        yield child


class _Place(msgspec.Struct, frozen=True):
    """Where a span hangs."""

    trace: str
    parent: str | None


def _span(place: _Place, name: str, start_ns: int, duration_ns: int, *, served: bool = False) -> dict[str, Any]:
    span = {
        "traceId": place.trace,
        "spanId": _hash(f"{place.trace}/{name}", 16),
        "name": name,
        "kind": CLIENT if served else INTERNAL,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + duration_ns),
    }
    return span if place.parent is None else span | {"parentSpanId": place.parent}


def _call(sample: Sample, run: Run, *, model: str, served: bool) -> dict[str, Any]:
    stages = {f"laptime.{name}_ms": sample.stages.stage(name) for name in STAGES}
    knobs = {f"laptime.config.{name}": value for name, value in sample.config.items() if name != "model"}
    return {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "openai" if served else "transformers",
        "gen_ai.request.model": model or None,
        "gen_ai.request.max_tokens": _whole(sample.config.get("new_tokens") or run.info.config.get("new_tokens")),
        "gen_ai.usage.input_tokens": sample.prompt_tokens,
        "gen_ai.usage.output_tokens": sample.output_tokens,
        "laptime.sample_id": sample.sample_id,
        "laptime.repeat": sample.repeat,
        "laptime.worker": sample.worker,
        "laptime.config_id": sample.config_id,
        "laptime.ttft_ms": sample.ttft_ms,
        "laptime.tpot_ms": sample.tpot_ms,
        "laptime.flags": list(sample.flags) or None,
        **stages,
        **knobs,
    }


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]
