"""What a verb can't use is named, with the verb that takes it."""

import gzip

import polars as pl
import pytest

from laptime.data.file_kinds import what_it_is
from laptime.data.frame import complete
from laptime.data.run_folder import read_info
from laptime.errors import LaptimeError
from laptime.trace.read.rank_files import trace_files

EVENTS = b'{"schemaVersion": 1, "traceEvents": []}'


def test_runs_estimators_and_traces_are_known_and_nothing_else_is(tmp_path):
    for name, word in (("run.json", "laptime audit"), ("estimator.json", "laptime predict")):
        folder = tmp_path / name.removesuffix(".json")
        folder.mkdir()
        (folder / name).write_text("{}")
        assert word in what_it_is(folder)
        with pytest.raises(LaptimeError, match=word), trace_files([folder]):
            pass
    (tmp_path / "t.json").write_bytes(EVENTS)
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(EVENTS))
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(EVENTS)[:12])
    (tmp_path / "notes.txt").write_text("a trace?")
    for name in ("t.json", "t.json.gz"):
        with pytest.raises(LaptimeError, match="laptime trace takes"):
            read_info(tmp_path / name)
    for name in ("cut.json.gz", "notes.txt", "none", ""):
        assert what_it_is(tmp_path / name) == ""


@pytest.mark.parametrize(
    ("name", "values"), [("is_prefill", [1, 1]), ("prefill", [0, 1]), ("prefill", ["True", "False"]),
                         ("prefill_size", [32, 64])]
)  # fmt: skip
def test_a_column_of_yes_and_no_or_of_counts_is_no_time(name, values):
    with pytest.raises(LaptimeError) as refused:
        complete(pl.DataFrame({name: values}), "table", bulky=False)
    assert "perhaps" not in str(refused.value)
    with pytest.raises(LaptimeError, match="'prefill' should perhaps be prefill_ms"):
        complete(pl.DataFrame({"prefill": [4.2, 0.3]}), "table", bulky=False)
