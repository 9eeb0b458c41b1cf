"""`laptime export`: what is written reads back the same, and does nothing in a spreadsheet."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import polars
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from laptime.cli.main import run as laptime
from laptime.data.csv_cells import to_csv
from laptime.data.frame import read_frame
from tests.data.test_frame import samples, write
from tests.samples import sample

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'quoted",
    "''",
    '图像, "x"\n=2',
    "0012",
    "true",
    "",
]


def ask(capsys, *words):
    code = laptime([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def run(tmp_path):
    rows = [
        sample(n, text=text, sample_id=text or "empty", config={"model": text, "crops": n % 3, "compile": n % 2 == 0})
        for n, text in enumerate(HOSTILE)
    ]
    return write(tmp_path / "run", *rows)


@pytest.mark.parametrize("format_", ["csv", "parquet", "legacy-json"])
def test_an_export_reads_back_the_same(run, tmp_path, capsys, format_):
    out = tmp_path / ("legacy" if format_ == "legacy-json" else f"table.{format_}")
    code, printed, _ = ask(capsys, "export", run, "--format", format_, "--to", out)
    assert (code, printed.strip()) == (0, str(out))
    again = read_frame(out, bulky=True)
    expected = read_frame(run, bulky=True)
    assert_frame_equal(again.sort("sample_id"), expected.sort("sample_id"))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(samples(), min_size=1, max_size=5, unique_by=lambda one: one.key),
    texts=st.lists(st.text(max_size=6), min_size=5, max_size=5),
)
@example(rows=[sample(0)], texts=["\x00", "1e5", "NaN", " 7", "-0"])
def test_any_text_survives_a_csv(tmp_path_factory, rows, texts):
    from laptime.data.columns import SampleColumns

    columns = SampleColumns(bulky=True)
    columns.add([sample(n, text=text, config={"model": text, "x": "y"}) for n, text in enumerate(texts)])
    columns.add(rows)
    frame = columns.frame()
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    to_csv(frame).write_csv(file)
    mixed = [n for n in frame.columns if frame[n].null_count() == frame.height]
    assert_frame_equal(read_frame(file, bulky=True).drop(mixed), frame.drop(mixed))


def test_no_cell_of_text_is_a_formula(run, tmp_path, capsys):
    ask(capsys, "export", run, "--format", "csv", "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("sample_id", "text", "config.model", "worker", "flags"):
            assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert rows[0]["text"] == "'=cmd|' /C calc'!A0"
    assert rows[0]["total_ms"] == "100.0"
    assert {row["config.crops"] for row in rows} == {"0", "1", "2"}


def test_columns_of_other_programs_that_no_cell_can_hold_become_text():
    odd = polars.DataFrame({"a": [{"x": 1}, None], "b": [b"=\xff", b"ok"], "c": [[[1], [2]], []], "d": [[1, 2], None]})
    assert to_csv(odd).to_dict(as_series=False) == {
        "a": ['{"x":1}', None], "b": ["'=\ufffd", "ok"], "c": ["[[1],[2]]", "[]"], "d": ["1;2", None]
    }  # fmt: skip


def test_the_default_place_is_beside_the_run_and_nothing_is_written_over(run, capsys):
    assert ask(capsys, "export", run)[1].strip() == str(run.parent / "run.parquet")
    code, _, error = ask(capsys, "export", run)
    assert (code, "already there" in error, error.count("\n")) == (2, True, 1)
    assert ask(capsys, "export", run, "--force")[0] == 0
    assert ask(capsys, "export", run, "--format", "legacy-json")[1].strip() == str(run.parent / "run-legacy")
    assert ask(capsys, "export", run.parent / "run.parquet", "--format", "csv")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "xlsx"], "'parquet', 'csv', 'legacy-json', 'perfetto'"),
        (["--out", "/proc/no/such.csv"], "name another file"),
    ],
)
def test_what_can_not_be_written_is_one_line(run, capsys, words, message):
    code, out, err = ask(capsys, "export", run, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_an_empty_run_has_nothing_to_export_as_files(tmp_path, capsys):
    empty = write(tmp_path / "run")
    assert ask(capsys, "export", empty, "--format", "legacy-json")[0] == 2
    assert ask(capsys, "export", empty, "--format", "csv")[0] == 0
    assert read_frame(tmp_path / "run.csv").height == 0


def test_parquet_types_are_those_of_the_frame(run, tmp_path, capsys):
    ask(capsys, "export", run, "--out", tmp_path / "t.parquet")
    schema = polars.read_parquet_schema(tmp_path / "t.parquet")
    assert (schema["itl_ms"], schema["crops"]) == (polars.List(polars.Float64), polars.Int64)


def test_json_says_what_was_written(run, tmp_path, capsys):
    file = tmp_path / "t.csv"
    code, out, _ = ask(capsys, "export", run, "--format", "csv", "--out", file, "--json")
    written = json.loads(out)
    frame = read_frame(run, bulky=True)
    assert code == 0
    assert written == {
        "schema": "laptime.export/1",
        "format": "csv",
        "file": str(file),
        "rows": frame.height,
        "columns": frame.width,
    }


def test_a_folder_of_the_older_files_is_replaced_whole_and_no_other_is(run, tmp_path, capsys):
    out = tmp_path / "legacy"
    assert ask(capsys, "export", run, "--format", "legacy-json", "--out", out)[0] == 0
    (out / "old_imgsizetier-none_crops9_topk0_blocks0.json").write_text("{}")
    assert ask(capsys, "export", run, "--format", "legacy-json", "--out", out)[0] == 2
    assert ask(capsys, "export", run, "--format", "legacy-json", "--out", out, "--force")[0] == 0
    assert not (out / "old_imgsizetier-none_crops9_topk0_blocks0.json").exists()
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    code, _, error = ask(capsys, "export", run, "--format", "legacy-json", "--out", other, "--force")
    assert (code, "--out" in error) == (2, True)
    assert [file.name for file in other.iterdir()] == ["letter.txt"]


def test_a_run_becomes_a_timeline(run, capsys):
    code, out, _ = ask(capsys, "export", run, "--format", "perfetto")
    assert (code, out.strip()) == (0, str(run.parent / "run.perfetto.json"))
    events = json.loads((run.parent / "run.perfetto.json").read_bytes())["traceEvents"]
    assert len([event for event in events if event["ph"] == "X"]) >= len(HOSTILE)


def test_a_trace_becomes_a_timeline_with_its_gaps(tmp_path, capsys):
    file = tmp_path / "gaps.json"
    trace = Path(__file__).parents[1] / "trace" / "data" / "decode-eager.json.gz"
    code, out, _ = ask(capsys, "export", trace, "--format", "perfetto", "--out", file, "--json")
    assert (code, json.loads(out)["rows"]) == (0, None)
    names = {
        event["args"]["name"]
        for event in json.loads(file.read_bytes())["traceEvents"]
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    assert "laptime: gaps by cause" in names
    assert ask(capsys, "export", trace, "--format", "perfetto", "--out", tmp_path / "gaps.json.gz")[0] == 0
    assert gzip.decompress((tmp_path / "gaps.json.gz").read_bytes()) == file.read_bytes()


def test_an_export_is_a_file_and_not_stdout(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = ask(capsys, "export", "run", "--out", "-")
    assert (code, out, "what this writes is a file" in err) == (2, "", True)
    assert list(tmp_path.iterdir()) == []
