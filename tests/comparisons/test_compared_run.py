"""A run read for a comparison gives the same comparison as the run read whole."""

from __future__ import annotations

import msgspec
import pytest

from laptime.comparisons import compare_two_runs
from laptime.comparisons.compared_run import load_compared
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.errors import LaptimeError
from tests.report.sample_runs import samples
from tests.samples import environment


def write(folder, rows):
    with RunFolder(folder, new_info([], {}, environment())) as run:
        run.append_all(rows)
    return folder


def test_the_same_comparison(tmp_path):
    one, other = samples(24), samples(24, seed=3)
    other[5] = msgspec.structs.replace(other[5], output_tokens=3, flags=["forwards-mismatch"])
    a, b = write(tmp_path / "a", one), write(tmp_path / "b", [*other, other[0]])
    for stage in (None, "decode_per_token"):
        lean, whole = (compare_two_runs(load(a), load(b), stage=stage) for load in (load_compared, load_run))
        assert lean == whole
    assert lean.b.left_out["repeated-key"] == 1
    calls = load_compared(a).calls
    assert len(calls) == 24 and len(calls.configs) == 1


def test_a_damaged_line_is_named(tmp_path):
    a = write(tmp_path / "a", samples(3))
    with (a / "samples-0.jsonl").open("ab") as file:
        file.write(b'{"config_id": 1}\n')
    with pytest.raises(LaptimeError, match=r"samples-0\.jsonl, line 4"):
        load_compared(a)
