"""The older JSON files: read as they come, written so that nothing is lost, and their great defect named."""

from __future__ import annotations

import json

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from laptime.audits import audit
from laptime.data.columns import SampleColumns
from laptime.data.frame import read_frame
from laptime.data.legacy_export import legacy_files
from laptime.errors import LaptimeError
from tests.data.test_frame import samples

NAME = "coco-2014-vqa_imgsizetier-high_crops12_topk8_blocks16.json"


def subtracted(zeros: int = 457, of: int = 2000, mean: float = 21.73, low: float = -53.13, high: float = -0.04):
    """Samples of a program that times three calls and stores what is left as decode, `zeros` of them clamped at 0."""
    rng = np.random.default_rng(2)
    errors = rng.uniform(0.1, 1.0, zeros - 2)
    below, above = -high, -low
    errors = below + (above - below) * errors**1.4
    scale = mean * zeros - below - above
    for _ in range(50):  # bring the mean to its figure without leaving the range
        errors = np.clip(errors * scale / errors.sum(), below, above)
    left = np.concatenate([[low, high], -errors, rng.uniform(15.0, 400.0, of - zeros)])
    left = left[np.concatenate([[0], 1 + rng.permutation(of - 1)])]
    rows = []
    for number, remainder in enumerate(left):
        vision, prefill = (181.28, 207.17) if number == 0 else rng.normal([178.0, 205.0], 1.5)
        tokens = int(rng.integers(2, 12))
        decode = max(0.0, remainder)
        rows.append(
            {
                "T_vision_total": vision,
                "T_LLM_prefill": prefill,
                "T_LLM_decode": decode,
                "T_total": vision + prefill + remainder,
                "T_decode_per_token": decode / tokens,
                "output_tokens": tokens,
            }
        )
    return {"task": "coco-2014-vqa", "per_sample_results": rows}


def test_the_seeds_table_is_found_and_explained(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(subtracted()))
    report = audit(tmp_path / NAME)
    assert (report.samples, report.configs) == (2000, 1)
    findings = {finding.code: finding for finding in report.findings}
    zero = findings["zero-decode"]
    assert (zero.severity, zero.count, zero.of, zero.share) == ("severe", 457, 2000, 0.2285)
    for words in (
        "22.85 %",
        "by subtraction",
        "clamped at 0",
        "21.73 ms on average",
        "−53.13 to −0.04 ms",
        "all 1,543",
    ):
        assert words in zero.reason
    assert "vision 181.28 + prefill 207.17 = 388.45, total 335.32" in zero.examples[0]
    assert findings["stage-sum-exceeds-total"].count == 457
    assert findings["decode-per-token-by-N"].severity == "severe"
    assert findings["subtracted-decode"].count == 1543
    assert report.severe


def test_the_name_of_a_file_tells_its_knobs_and_its_rank(tmp_path):
    for rank, time in ((0, 100.0), (1, 130.0)):
        row = {"T_total": time, "T_LLM_prefill": 40.0, "output_tokens": 3, "accuracy": 0.5, "question_id": rank}
        name = NAME.replace(".json", f"_rank{rank}.json")
        (tmp_path / name).write_text(json.dumps({"per_sample_results": [row, {"T_total": 1}]}))
    frame = read_frame(tmp_path)
    assert frame["worker"].to_list() == ["0", "0", "1", "1"]
    assert frame["sample_id"].to_list() == ["0", "rank0-00001", "1", "rank1-00001"]
    assert frame["score"].to_list() == [0.5, None, 0.5, None]
    knobs = frame.select(r"^config\..*$").row(0, named=True)
    assert knobs == {
        "config.task": "coco-2014-vqa",
        "config.tier": "high",
        "config.crops": 12,
        "config.top_k": 8,
        "config.blocks": 16,
    }
    assert frame["config_id"].n_unique() == 1


def test_the_vision_stage_of_an_older_file_is_its_encoder_and_projector(tmp_path):
    rows = [{"T_vision_encoder": 150.0, "T_projector": 30.5, "T_total": 300.0}, {"T_vision_encoder": 7, "T_total": 9}]
    (tmp_path / NAME).write_text(json.dumps(rows))
    assert read_frame(tmp_path / NAME)["vision_ms"].to_list() == [180.5, 7.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "latin-1", "utf-16"])
def test_text_in_any_encoding(tmp_path, encoding):
    word = "caf\xe9" if encoding == "latin-1" else "图像延迟"
    content = {"per_sample_results": [{"T_total": 5.0, "prediction": word, "id": "1"}], "note": word}
    (tmp_path / NAME).write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    frame = read_frame(tmp_path / NAME, bulky=True)
    assert frame["total_ms"].to_list() == [5.0]
    if encoding != "latin-1":  # its bytes may mean something in GB 18030 too
        assert frame["text"].to_list() == [word]


def test_nan_missing_fields_and_numbers_as_text(tmp_path):
    text = """{"per_sample_results": [{"T_total": NaN, "T_LLM_prefill": "12.5", "output_tokens": 3.0},
               {"T_total": Infinity, "output_tokens": "many"}, {"T_total": 7, "T_vision_total": [1, 2]}, "stray"]}"""
    (tmp_path / NAME).write_text(text)
    frame = read_frame(tmp_path / NAME)
    assert frame["total_ms"].to_list() == [None, None, 7.0]
    assert frame["prefill_ms"].to_list() == [12.5, None, None]
    assert frame["output_tokens"].to_list() == [3, None, None]
    assert audit(tmp_path / NAME).samples == 3


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["per_sample_results", "T_total", "laptime", "config", "sample_id", "output_tokens", "rank"]),
        inner, max_size=4),
    max_leaves=15).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / NAME
    file.write_bytes(content)
    try:
        audit(file)
    except LaptimeError as error:
        assert "\n" not in str(error)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(samples(), min_size=1, max_size=6, unique_by=lambda one: one.key))
def test_a_run_written_and_read_again_is_the_same(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("legacy")
    frame = frame_of(rows)
    for name, content in legacy_files(frame):
        (folder / name).write_bytes(content)
    order = ["config_id", "sample_id", "repeat", "worker", "total_ms", "vision_ms", "prefill_ms", "ttft_ms", "tpot_ms",
             "output_tokens", "generated_tokens", "crops", "flags", "text", "score", "energy_j"]  # fmt: skip
    known = [n for n in frame.columns if not (n.startswith("config.") and frame[n].null_count() == frame.height)]
    again = read_frame(folder, bulky=True)
    assert_frame_equal(again.select(known).sort(order), frame.select(known).sort(order))


def frame_of(rows) -> polars.DataFrame:
    columns = SampleColumns(bulky=True)
    columns.add(rows)
    return columns.frame()


def test_names_and_means_of_a_written_file(tmp_path):
    from tests.samples import sample

    config = {"task": "vqa v2/数", "tier": "low", "crops": 2, "top_k": 4, "blocks": 8}
    rows = [sample(n, config=config, worker=str(n)) for n in range(2)]
    files = dict(legacy_files(frame_of(rows)))
    assert sorted(files) == [f"vqa-v2_imgsizetier-low_crops2_topk4_blocks8_rank{n}.json" for n in range(2)]
    ((_, one),) = legacy_files(frame_of([sample(0), sample(4)]))
    content = json.loads(one)
    assert (content["T_total_mean"], content["num_samples"]) == (102.0, 2)
    assert content["T_total_std"] == pytest.approx(8**0.5)
    assert content["per_sample_results"][0]["T_decode_per_token"] == 20.0
    with pytest.raises(LaptimeError, match="no samples to export"):
        next(legacy_files(frame_of([])))
