"""`laptime merge` as its user runs it."""

import json

import pytest

from laptime.cli.main import main
from tests.samples import sample
from tests.sweeps.test_merge import shard


def laptime(capsys, *arguments):
    """Exit code, stdout, stderr of one command."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_shards_are_merged_and_counted(capsys, tmp_path):
    a = shard(tmp_path / "a", sample(0), sample(1))
    b = shard(tmp_path / "b", sample(1), sample(2))
    code, said, _ = laptime(capsys, "merge", a, b, "--out", tmp_path / "all")
    assert code == 0
    assert "3 samples and 0 failures from 2 runs, 1 in several of them" in " ".join(said.split())
    code, said, _ = laptime(capsys, "merge", b, a, "--out", tmp_path / "json", "--json")
    assert json.loads(said)["overlap"] == 1
    assert laptime(capsys, "report", tmp_path / "all")[0] == 0


def test_a_conflict_is_reported_and_exits_with_1(capsys, tmp_path):
    a = shard(tmp_path / "a", sample(0, text="x"))
    b = shard(tmp_path / "b", sample(0, text="y"))
    code, said, _ = laptime(capsys, "merge", a, b, "--out", tmp_path / "all")
    assert code == 1
    said = " ".join(said.split())
    assert "1 key with different samples" in said
    assert "sample 0000, repeat 0" in said


def test_what_cannot_be_merged_is_one_line_and_exits_with_2(capsys, tmp_path):
    a = shard(tmp_path / "a", sample(0))
    b = shard(tmp_path / "b", sample(0), config={"model": "other"})
    code, said, err = laptime(capsys, "merge", a, b, "--out", tmp_path / "all")
    assert (code, said) == (2, "")
    assert err.count("\n") == 1
    assert "different plans" in err
    assert not (tmp_path / "all").exists()
    code, said, _ = laptime(capsys, "merge", "--help")
    assert "Example: laptime merge" in " ".join(said.split())
