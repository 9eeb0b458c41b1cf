"""Whatever lies in a run folder, or stands in a table, is read or refused in one line."""

from __future__ import annotations

import os

import msgspec
import polars as pl
import pytest

from laptime.data.frame import read_frame
from laptime.data.located_yaml import read_yaml
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.data.summary import summarise, summarise_frame
from laptime.errors import LaptimeError
from laptime.estimate.table.reading import read_table
from tests.samples import environment, sample


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as run:
        run.append_all([sample(number) for number in range(3)])
    return tmp_path / "run"


def refused(read, place):
    with pytest.raises(LaptimeError) as caught:
        read(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("read", [load_run, read_frame])
@pytest.mark.parametrize(
    "put", [os.mkfifo, os.mkdir, lambda place: place.symlink_to(place)], ids=["pipe", "dir", "link"]
)
def test_what_is_no_file_is_named_and_waited_for_by_nobody(folder, read, put):
    put(folder / "samples-1.jsonl")
    assert "samples-1.jsonl" in refused(read, folder)


@pytest.mark.parametrize("read", [load_run, read_frame])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"total_ms":100.0', b'"total_ms":1e308'),
        (b'"total_ms":100.0', b'"total_ms":' + b"9" * 400),
        (b'"started_unix_ms":0.0', b'"started_unix_ms":-1.0'),
        (b'"started_unix_ms":0.0', b'"started_unix_ms":1e15'),
        (b'"prompt_tokens":7', b'"prompt_tokens":9223372036854775808'),
        (b'"worker":"0"', b'"worker":"\xff"'),
        (b'"worker":"0"', b'"worker":' + b"[" * 100_000),
    ],
)
def test_a_number_that_none_can_be_and_bytes_that_are_no_text_are_damage(folder, read, old, new):
    file = folder / "samples-0.jsonl"
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))
    assert "samples-0.jsonl, line 1: not a record of laptime" in refused(read, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_in_a_table_it_is_no_value(tmp_path, value, suffix):
    table = tmp_path / f"t.{suffix}"
    frame = pl.DataFrame({"total_ms": [10.0, value], "config.top_k": [1.0, value], "config_id": ["a", "b"]})
    frame.write_csv(table) if suffix == "csv" else frame.write_parquet(table)
    assert read_frame(table)["total_ms"].to_list() == [10.0, None]
    assert read_table(table)["config.top_k"].to_list() == [1.0, None]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("total_ms", [[1.0], [2.0]]),
        pl.Series("total_ms", [{"a": 1}, {"a": 2}]),
        pl.Series("total_ms", [b"\xff", b"\x00"]),
        pl.Series("total_ms", [1, 2]).cast(pl.Duration("ms")),
        pl.Series("total_ms", [1, 2]).cast(pl.Int32).cast(pl.Date),
        pl.Series("prompt_tokens", [2**64 - 1] * 2, dtype=pl.UInt64),
        pl.Series("config.top_k", [[1], [2]]),
        pl.Series("config.top_k", [b"\xff", b"\x00"]),
    ],
    ids=lambda column: f"{column.name} {column.dtype}",
)
def test_a_column_of_another_kind_is_named(tmp_path, column):
    frame = pl.DataFrame({"vision_ms": [1.0, 2.0]}).with_columns(column)
    frame.write_parquet(tmp_path / "t.parquet")
    assert column.name in refused(read_frame, tmp_path / "t.parquet")


def test_a_knob_may_be_a_date_and_a_decimal(tmp_path):
    knobs = [
        pl.Series("config.day", [1, 2]).cast(pl.Int32).cast(pl.Date),
        pl.Series("config.p", [1, 2]).cast(pl.Decimal(9, 2)),
    ]
    pl.DataFrame([pl.Series("total_ms", [1.0, 2.0]), *knobs]).write_parquet(tmp_path / "t.parquet")
    read = read_frame(tmp_path / "t.parquet")
    assert read["config.day"].to_list() == ["1970-01-02", "1970-01-03"]
    assert read["config.p"].to_list() == [1.0, 2.0]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1" + b"\x00" * 40 + b"PAR1", b"PAR1" + b"\xff" * 400 + b"\x10\x00\x00\x00PAR1"]
)
def test_a_damaged_parquet_file_is_one_line(tmp_path, content):
    (tmp_path / "t.parquet").write_bytes(content)
    assert "t.parquet" in refused(read_frame, tmp_path / "t.parquet")
    assert "t.parquet" in refused(read_table, tmp_path / "t.parquet")


def test_a_key_that_stands_twice_counts_once_and_every_summary_says_it(folder):
    lines = [msgspec.json.encode(sample(number)) for number in range(3)]
    (folder / "samples-1.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    for summary in (summarise(load_run(folder).samples), summarise_frame(read_frame(folder))):
        assert (summary.samples, summary.used) == (6, 3)
        assert summary.left_out == {"repeated-key": 3}


@pytest.mark.parametrize(
    "text", ["a: " + "9" * 5000, "a: .inf", "a: 18446744073709551616", 'a: "\\ud800"', "a: \x00", "a: " + "[" * 9999]
)
def test_yaml_that_no_configuration_needs_is_refused_with_its_line(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    assert "c.yaml" in refused(read_yaml, tmp_path / "c.yaml")
