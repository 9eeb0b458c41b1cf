"""read_frame: the same columns wherever the samples lie, and one line for what can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from laptime.data import frame as sample_lines
from laptime.data.columns import ON_REQUEST, ORDER
from laptime.data.frame import complete, read_frame
from laptime.data.record import FLAG_REASONS, SCHEMA_VERSION, GpuState, Sample, StageTimes, config_id
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.data.summary import summarise, summarise_frame
from laptime.errors import LaptimeError
from tests.samples import environment, sample

ms = st.integers(0, 10**10)
some = st.one_of(st.none(), st.just(0.0), st.floats(1e-6, 1e9))


@st.composite
def samples(draw) -> Sample:
    decode = draw(st.one_of(st.none(), ms))
    vision, prefill, other = draw(ms), draw(ms), draw(ms)
    stages = StageTimes.from_ns(
        vision=vision, prefill=prefill, decode=decode, total=vision + prefill + (decode or 0) + other
    )
    gpu = st.builds(
        GpuState,
        sm_mhz=st.one_of(st.none(), st.integers(0, 4000)),
        power_w=some,
        throttle=st.lists(st.sampled_from(["hw-thermal", "sw-power-cap"]), max_size=2, unique=True),
    )
    config = st.dictionaries(
        st.sampled_from(["crops", "model", "x"]), st.one_of(st.integers(0, 9), st.text(max_size=3))
    )
    return sample(
        draw(st.integers(0, 9999)),
        repeat=draw(st.integers(-3, 5)),
        config=draw(config),
        worker=draw(st.text(max_size=4)),
        stages=stages,
        tpot_ms=draw(some),
        itl_ms=draw(st.one_of(st.none(), st.lists(st.floats(1e-6, 1e4), max_size=3))),
        output_tokens=draw(st.integers(1, 50)),
        generated_tokens=draw(st.integers(0, 50)),
        crops=draw(st.one_of(st.none(), st.integers(0, 12))),
        memory_peak_bytes=draw(st.one_of(st.none(), st.integers(0, 2**62))),
        energy_j=draw(some),
        gpu=draw(st.one_of(st.none(), gpu)),
        flags=draw(st.lists(st.sampled_from(sorted(FLAG_REASONS)), max_size=2, unique=True)),
        text=draw(st.one_of(st.none(), st.text(max_size=5))),
        score=draw(st.one_of(st.none(), st.floats(1e-6, 1))),
    )


def write(folder: Path, *rows: Sample, worker: str = "0", resume: bool = False) -> Path:
    with RunFolder(folder, new_info([], {}, environment()), worker, resume=resume) as run:
        run.begin()
        for row in rows:
            run.append(row)
    return folder


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(samples(), max_size=8, unique_by=lambda one: one.key))
def test_a_folder_read_fast_is_the_run_loaded_and_sums_up_the_same(tmp_path_factory, rows):
    folder = write(tmp_path_factory.mktemp("run") / "run", *rows)
    read = read_frame(folder, bulky=True)
    run = load_run(folder)
    assert_frame_equal(read, run.frame())
    assert summarise_frame(read) == summarise(run.samples)
    assert_frame_equal(read_frame(folder), read.drop(ON_REQUEST))
    for name in ("vision_ms", "decode_ms", "total_ms"):
        assert read[name].to_list() == [getattr(s.stages, name) for s in run.samples]
    for name in ("crops", "memory_peak_bytes", "energy_j", "text", "score", "itl_ms", "worker"):
        assert read[name].to_list() == [getattr(s, name) for s in run.samples]
    assert read["decode_per_token_ms"].to_list() == [s.decode_per_token_ms for s in run.samples]
    assert read["gpu_sm_mhz"].to_list() == [s.gpu.sm_mhz if s.gpu else None for s in run.samples]
    assert read["flags"].to_list() == [",".join(s.flags) for s in run.samples]


def test_every_column_is_there_and_typed_without_samples(tmp_path):
    empty = read_frame(write(tmp_path / "run"), bulky=True)
    assert empty.columns == list(ORDER)
    assert empty.height == 0
    full = read_frame(write(tmp_path / "other", sample(0)), bulky=True)
    assert {n: full.schema[n] for n in ORDER} == dict(empty.schema)


@pytest.mark.parametrize("block", [64, 700, 1 << 20])
def test_blocks_cut_lines_nowhere(tmp_path, monkeypatch, block):
    folder = write(tmp_path / "run", *(sample(n, text="x" * (n * 97 % 900)) for n in range(40)))
    write(folder, *(sample(n) for n in range(40, 50)), worker="1", resume=True)
    (folder / "samples-1.jsonl").open("ab").write(b'{"config_id":"half')
    monkeypatch.setattr(sample_lines, "BLOCK_BYTES", block)
    assert read_frame(folder, bulky=True)["sample_id"].to_list() == [f"{n:04d}" for n in range(50)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "not a record of laptime"),
        (b'{"config_id": "c"}', "not a record of laptime"),
        (b"\xff\xfe\x00", "not a record of laptime"),
        (msgspec.json.encode(sample(0)).replace(b'{"model":"m"}', b'{"model":["m"]}'), "not a record of laptime"),
        (msgspec.json.encode(sample(0, repeat=2**63)), "not a record of laptime"),
        (msgspec.json.encode(sample(0))[:-1] + b',"schema_version":%d}' % (SCHEMA_VERSION + 1), "upgrade laptime"),
    ],
)
def test_a_damaged_line_is_named_by_file_and_number(tmp_path, line, message):
    folder = write(tmp_path / "run", sample(0), sample(1))
    file = folder / "samples-0.jsonl"
    first, second = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(LaptimeError, match=r"samples-0\.jsonl, line 2: ") as caught:
        read_frame(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_run_is_refused(tmp_path):
    folder = write(tmp_path / "run", sample(0))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(LaptimeError, match="upgrade laptime"):
        read_frame(folder)


def test_a_knob_of_mixed_kinds_is_text_one_of_whole_and_real_is_real(tmp_path):
    rows = [sample(0, config={"a": 1, "b": 1, "c": True}), sample(1, config={"a": "auto", "b": 0.5, "d": None})]
    frame = read_frame(write(tmp_path / "run", *rows))
    assert frame.select(r"^config\..*$").to_dict(as_series=False) == {
        "config.a": ["1", "auto"],
        "config.b": [1.0, 0.5],
        "config.c": [True, None],
        "config.d": [None, None],
    }


def test_a_table_with_few_columns_is_completed(tmp_path):
    polars.DataFrame({"decode_ms": [30.0, 0.0], "output_tokens": [4, 1], "note": ["x", "y"]}).write_csv(
        tmp_path / "t.csv"
    )
    frame = read_frame(tmp_path / "t.csv")
    assert frame["decode_per_token_ms"].to_list() == [10.0, None]
    assert frame["note"].to_list() == ["x", "y"]
    assert [n for n in frame.columns if n != "note"] == [n for n in ORDER if n not in ON_REQUEST]
    given_as = complete(
        polars.DataFrame({"decode_ms": [30.0], "output_tokens": [4], "decode_per_token_ms": [7.5]}), "t"
    )
    assert given_as["decode_per_token_ms"].to_list() == [7.5]  # what is audited is never mended on the way


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv: empty; a table begins with a line of column names"),
        ("t.csv", b"total,decode_time\n1,2\n", "'total' should perhaps be total_ms"),
        ("t.csv", b"tpot_ms,e2e_latency_ms\n1,2\n", "('e2e_latency_ms' should perhaps be total_ms)"),
        ("t.csv", b"a,b\n1,2\n", "no column vision_ms"),
        ("t.csv", b"decode_s,total_us\n1,2\n", "make decode_ms = decode_s * 1000, total_ms = total_us / 1000"),
        ("t.csv", b"total_ms\nfast\n", "column total_ms"),
        ("t.csv", b"total_ms\n1,2,3\n", "t.csv"),
        ("t.parquet", b"PAR1", "not a Parquet table"),
        ("t.parquet", b"", "t.parquet"),
        ("t.json", b"", "t.json: empty"),
        ("t.json", b'{"a": 1}', "no per_sample_results"),
        ("t.json", b'{"T_total_mean": 1}', "only means"),
        ("t.json", b'{"per_sample_results": [{"T_to', "line 1: not JSON"),
        ("t.txt", b"x", "holds no run"),
    ],
)
def test_what_is_no_measurements_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LaptimeError) as caught:
        read_frame(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_of_a_table_are_told_apart_by_their_knobs():
    frame = complete(polars.DataFrame({"total_ms": [1.0, 2.0, 3.0], "config.crops": [2, 4, 2]}), "t")
    assert frame["config_id"].n_unique() == 2
    assert frame["config_id"][0] == frame["config_id"][2] == config_id({"crops": 2})


def test_what_is_not_there_and_what_is_something_else(tmp_path):
    for name in ("no.csv", "no.parquet", "no.json", "no"):
        with pytest.raises(LaptimeError, match="no such file"):
            read_frame(tmp_path / name)
    (tmp_path / "package.json").write_text('{"name": "left-pad"}')
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(LaptimeError, match="none of its 2 JSON files holds measurements"):
        read_frame(tmp_path)
