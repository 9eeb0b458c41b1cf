"""The older JSON files that laptime wrote are read to the same frame as any others, only sooner."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from laptime.data.columns import SampleColumns
from laptime.data.frame import read_frame
from laptime.data.legacy import read_legacy
from laptime.data.legacy_export import legacy_files
from laptime.data.legacy_own import read_own
from tests.data.test_frame import samples
from tests.samples import sample


def written(folder, rows):
    columns = SampleColumns(bulky=True)
    columns.add(rows)
    for name, content in legacy_files(columns.frame()):
        (folder / name).write_bytes(content)
    return sorted(folder.glob("*.json"))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(samples(), min_size=1, max_size=6, unique_by=lambda one: one.key),
    bulky=st.booleans(),
    block_bytes=st.sampled_from([0, 1, 700, 1800, 1 << 19]),
)
def test_it_gives_what_reading_any_file_gives(tmp_path_factory, rows, bulky, block_bytes):
    """In blocks of any size: one sample, some, all."""
    folder = tmp_path_factory.mktemp("own")
    own = read_own(written(folder, rows), bulky=bulky, block_bytes=block_bytes)
    assert own is not None
    assert_frame_equal(own, read_legacy(folder, bulky=bulky))


def of_sample(name, value):
    return lambda content: content["per_sample_results"][0].__setitem__(name, value)


def of_extras(name, value):
    return lambda content: content["per_sample_results"][0]["laptime"].__setitem__(name, value)


OTHERWISE = {
    "a field of another program": of_sample("image_id", 7),
    "a time that is text": of_sample("T_total", "12.5"),
    "a time that none can have": of_sample("T_total", 1e18),
    "no times": lambda content: content["per_sample_results"][0].pop("T_total"),
    "a knob that is a list": of_extras("config", {"blocks": [1, 2]}),
    "a knob that is too large": of_extras("config", {"blocks": 2**70, "top_k": 1e200}),
    "no part of laptime's": lambda content: content["per_sample_results"][0].pop("laptime"),
    "a sample that is none": lambda content: content["per_sample_results"].append("stray"),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_files_that_are_otherwise_in_one_place_are_read_as_any_others(tmp_path, kind):
    """One of two files: what the other holds must not be read twice, or lost."""
    rows = [sample(n, config={"blocks": 4 + n % 2, "top_k": 2}) for n in range(6)]
    files = written(tmp_path, rows)
    assert len(files) == 2
    content = json.loads(files[1].read_bytes())
    OTHERWISE[kind](content)
    files[1].write_bytes(msgspec.json.encode(content) if "large" not in kind else json.dumps(content).encode())
    assert read_own(files, bulky=False) is None
    frame = read_frame(tmp_path)
    assert frame.height == 6
    assert_frame_equal(frame, read_legacy(tmp_path))


def test_another_file_beside_them_is_left_out(tmp_path):
    written(tmp_path, [sample(n) for n in range(3)])
    (tmp_path / "notes.json").write_text("{}")
    assert read_frame(tmp_path).height == 3
