"""Merging shards: by key, in any order, twice as good as once."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.data.record import Failure, WorkerStart
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.errors import LaptimeError
from laptime.sweeps.merge import merge
from laptime.sweeps.plan import write_plan
from tests.samples import environment, sample
from tests.sweeps.plans import plan_of, sweep_config_of

CONFIG = {"model": "m"}


def shard(path, *samples, worker="0", created=1.0, lines=(), config=CONFIG):
    """A run folder with these samples."""
    info = msgspec.structs.replace(new_info([], config, environment()), created_unix_ms=created)
    with RunFolder(path, info, worker, resume=True) as folder:
        folder.begin()
        for line in (*samples, *lines):
            folder.append(line)
    return path


def content(run):
    return {file.name: file.read_bytes() for file in Path(run).iterdir()}


def test_disjoint_shards_become_one_run_byte_for_byte(tmp_path):
    start = WorkerStart(worker="1", started_unix_ms=0.0, host="h", environment=environment())
    failure = Failure(config_id="c", sample_id="9", repeat=0, worker="1", config={}, error="e")
    a = shard(tmp_path / "a", sample(0), sample(1))
    b = shard(tmp_path / "b", sample(2, worker="1"), worker="1", lines=(start, failure), created=2.0)
    report = merge([a, b], tmp_path / "all")
    assert (report.samples, report.failures, report.overlap, report.conflicts) == (3, 1, 0, 0)
    run = load_run(tmp_path / "all")
    assert {s.sample_id for s in run.samples} == {"0000", "0001", "0002"}
    assert (run.failures, run.workers) == ([failure], [start])
    assert (tmp_path / "all" / "samples-1.jsonl").read_bytes() == (b / "samples-1.jsonl").read_bytes()
    assert (tmp_path / "all" / "run.json").read_bytes() == (a / "run.json").read_bytes()


def test_the_same_sample_twice_is_an_overlap_and_two_different_ones_a_conflict_that_the_older_wins(tmp_path):
    old, new = sample(1, started_unix_ms=1.0, text="old"), sample(1, started_unix_ms=2.0, text="new")
    a = shard(tmp_path / "a", sample(0), new)
    b = shard(tmp_path / "b", sample(0), old)
    report = merge([a, b], tmp_path / "all")
    assert (report.samples, report.overlap, report.conflicts) == (2, 1, 1)
    assert report.examples[0].kept == str(b)
    assert report.examples[0].left == str(a)
    assert {s.text for s in load_run(tmp_path / "all").samples} == {None, "old"}


shards = st.lists(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.sampled_from(["0", "1"]), st.sampled_from([None, "x"])),
        max_size=6,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(shards, st.randoms())
def test_order_and_repetition_do_not_matter(tmp_path_factory, shards, draw):
    base = tmp_path_factory.mktemp("merge")
    folders = [
        shard(
            base / str(number),
            *(sample(n, started_unix_ms=float(when), worker=worker, text=text) for n, when, worker, text in content_),
            worker=str(number % 2),
            created=float(number % 3),
        )
        for number, content_ in enumerate(shards)
    ]
    merge(folders, base / "all")
    whole = content(base / "all")
    again = [*folders, *folders]
    draw.shuffle(again)
    merge(again, base / "shuffled")
    assert content(base / "shuffled") == whole
    merge([base / "all"], base / "twice")
    assert content(base / "twice") == whole
    merge([base / "all", folders[0]], base / "more")
    assert content(base / "more") == whole
    keys = [s.key for s in load_run(base / "all").samples]
    assert len(keys) == len(set(keys)) == len({n for content_ in shards for n, *_ in content_})
    shutil.rmtree(base)


def test_a_half_written_tail_is_left_out_and_a_damaged_line_named(tmp_path):
    a = shard(tmp_path / "a", sample(0), sample(1))
    file = a / "samples-0.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    assert merge([a], tmp_path / "one").samples == 1
    file.write_bytes(b"{]\n" + file.read_bytes())
    with pytest.raises(LaptimeError, match=r"samples-0\.jsonl, line 1"):
        merge([a], tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_runs_that_are_no_shards_of_one_sweep_are_refused_and_nothing_is_written(tmp_path):
    a = shard(tmp_path / "a", sample(0))
    other = shard(tmp_path / "other", sample(1), config={"model": "n"})
    with pytest.raises(LaptimeError, match="different plans: model"):
        merge([a, other], tmp_path / "out")
    old = shard(tmp_path / "old", sample(1))
    described = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**described, "schema_version": 0}))
    with pytest.raises(LaptimeError, match="schema version 0"):
        merge([a, old], tmp_path / "out")
    sweep_config = sweep_config_of(tmp_path, "model: m\nknobs: {top_k: [1, 2]}\n")
    sweep = shard(tmp_path / "sweep", sample(0))
    write_plan(sweep, plan_of(sweep_config))
    with pytest.raises(LaptimeError, match="is no sweep"):
        merge([a, sweep], tmp_path / "out")
    larger = shard(tmp_path / "larger", sample(0))
    write_plan(larger, plan_of(sweep_config_of(tmp_path, "model: m\nknobs: {top_k: [1, 4]}\n")))
    with pytest.raises(LaptimeError, match=r"knobs\.top_k: \[1,2\] became \[1,4\]"):
        merge([sweep, larger], tmp_path / "out")
    with pytest.raises(LaptimeError, match="already holds a run"):
        merge([a], a)
    with pytest.raises(LaptimeError, match="no such file or folder"):
        merge([a, tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_the_plan_still_misses_is_counted(tmp_path):
    sweep_config = sweep_config_of(tmp_path, "model: m\n")
    plan = plan_of(sweep_config, samples=2, repeats=2)
    first = plan.configs[0]
    a = shard(tmp_path / "a", sample(0, config=first.config))
    write_plan(a, plan)
    report = merge([a], tmp_path / "out")
    assert report.missing == 3
    assert (tmp_path / "out" / "plan.json").read_bytes() == (a / "plan.json").read_bytes()
