"""Columns are derived from Sample's own fields: a field more is a column more, and today's columns stay as they are."""

from __future__ import annotations

import msgspec
import pytest

from laptime.data.columns import COLUMNS, NO_COLUMN, ORDER, PREFIXES, STAGE_COLUMNS, columns_of, frame_types, line_type
from laptime.data.record import GpuState, Sample, StageTimes
from tests.samples import sample

TODAY = {
    "config_id": "String", "sample_id": "String", "repeat": "Int64", "worker": "String",
    "vision_ms": "Float64", "prefill_ms": "Float64", "decode_ms": "Float64", "other_ms": "Float64",
    "total_ms": "Float64", "audio_ms": "Float64", "encode_ms": "Float64",
    "preprocessing_ms": "Float64", "queue_ms": "Float64", "host_vision_ms": "Float64",
    "host_prefill_ms": "Float64", "host_decode_ms": "Float64",
    "host_other_ms": "Float64", "host_total_ms": "Float64",
    "host_audio_ms": "Float64", "host_encode_ms": "Float64", "host_preprocessing_ms": "Float64",
    "host_queue_ms": "Float64", "ttft_ms": "Float64", "tpot_ms": "Float64",
    "decode_per_token_ms": "Float64", "itl_ms": "List(Float64)", "output_tokens": "Int64", "decode_forwards": "Int64",
    "prompt_tokens": "Int64", "image_tokens": "Int64", "crops": "Int64", "batch": "Int64",
    "generated_tokens": "Int64", "cut_rows": "Int64",
    "preprocess_ms": "Float64", "cached_tokens": "Int64",
    "draft_ms": "Float64", "verify_ms": "Float64", "drafted_tokens": "Int64", "accepted_tokens": "Int64",
    "surplus_forwards": "Int64",
    "started_unix_ms": "Float64", "memory_peak_bytes": "Int64", "energy_j": "Float64", "gpu_sm_mhz": "Int64",
    "gpu_temperature_c": "Int64", "gpu_power_w": "Float64", "gpu_throttle": "String", "gc_pause_ms": "Float64",
    "flags": "String", "text": "String", "score": "Float64",
}  # fmt: skip
"""Tables that users have written hold these columns, in this order, of these types."""


class Longer(Sample, frozen=True, kw_only=True):
    """A Sample of tomorrow."""

    retry_ms: float | None = None
    retries: int = 0
    engine: str = ""
    warnings: list[str] = msgspec.field(default_factory=list)
    layer_ms: list[float] = msgspec.field(default_factory=list)
    network: StageTimes | None = None


def test_the_columns_are_todays():
    assert {name: str(type_) for name, type_ in frame_types().items()} == TODAY
    assert list(frame_types()) == list(TODAY) == list(ORDER)
    assert STAGE_COLUMNS == ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms", "audio_ms", "encode_ms",
                             "preprocessing_ms", "queue_ms")  # fmt: skip


def test_every_field_of_a_sample_is_a_column_but_the_named_exceptions():
    fields = {field.name for field in msgspec.structs.fields(Sample)}
    assert {column.struct or column.field for column in COLUMNS} == fields - set(NO_COLUMN)
    assert set(NO_COLUMN) == {
        "config",
        "unassigned_ms",
        "marks",
        "output_ids",
        "decision",
    }  # a new exception is a decision
    for name, record in (("stages", StageTimes), ("host_stages", StageTimes), ("gpu", GpuState)):
        inner = [column.field for column in COLUMNS if column.struct == name]
        assert inner == [field.name for field in msgspec.structs.fields(record)]
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_a_new_field_is_a_new_column():
    more = [column for column in columns_of(Longer) if column.name not in ORDER]
    simple = {"retry_ms": "float", "retries": "int", "engine": "text", "warnings": "words", "layer_ms": "floats"}
    nested = {f"network_{name}": "float" for name in STAGE_COLUMNS}
    assert {column.name: column.kind for column in more} == simple | nested
    assert "network" not in PREFIXES


def test_a_field_that_can_be_no_column_is_refused_by_name():
    class Odd(Sample, frozen=True, kw_only=True):
        table: dict[str, float] | None = None

    with pytest.raises(TypeError, match="field table: no kind of column"):
        columns_of(Odd)


@pytest.mark.parametrize("bulky", [False, True])
def test_a_line_is_read_with_the_fields_of_a_sample(bulky):
    before = sample(3, flags=["cold"], gpu=GpuState(sm_mhz=7), text="yes", itl_ms=[1.0])
    line = msgspec.json.decode(msgspec.json.encode(before), type=line_type(bulky=bulky))
    names = set(line.__struct_fields__) - {"config", "schema_version"}
    assert {name: getattr(line, name) for name in names} == {name: getattr(before, name) for name in names}
    assert {"itl_ms", "text"} <= names if bulky else not {"itl_ms", "text"} & names
    assert bytes(line.config) == msgspec.json.encode(before.config)
    assert line.schema_version == 0
