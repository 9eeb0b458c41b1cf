"""The configuration file: what it may say, and where a mistake is said to be."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig, changes
from laptime.sweeps.config_reading import read_sweep_config
from tests.sweeps.plans import sweep_config_of


def test_a_knob_is_a_value_or_a_list_and_the_rest_has_defaults(tmp_path):
    read = sweep_config_of(
        tmp_path, "model: preset:tiny-vlm\nknobs: {top_k: [1, null], batch: 2, image_size: 336x336}\n"
    )
    assert read.knobs.top_k == [1, None]
    assert read.knobs.batch == [2]
    assert read.knobs.new_tokens == [32]
    assert read.measure.repeats == 3


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("model: m\nknobs:\n  topk: 3\n", 3, r"knobs\.topk: unknown key; did you mean top_k\?"),
        ("model: m\nsamples: 3\n", 2, r"samples: unknown key; there are model"),
        ("model: m\nknobs:\n  top_k:\n    - 1\n    - 2\n    - 0\n", 6, r"knobs\.top_k\[2\]: must be int >= 1"),
        ("model: m\nknobs:\n  top_k: [1, '2']\n", 3, r"knobs\.top_k\[1\]: must be int | null, got str"),
        ("model: m\nknobs:\n  top_k: 0\n", 3, r"knobs\.top_k: must be int >= 1"),
        ("model: m\nknobs:\n  batch: true\n", 3, r"knobs\.batch: must be int, got bool"),
        ("model: m\nknobs: {dtype: [bfloat61]}\n", 2, r"knobs\.dtype\[0\]: must be one of .*did you mean bfloat16\?"),
        ("model: m\nknobs: {tier: [low, hihg]}\n", 2, r"knobs\.tier\[1\]: must be one of .*did you mean high\?"),
        ("model: m\nknobs: {crops: ['8-4']}\n", 2, r"knobs\.crops\[0\]: a number, or a range"),
        ("model: m\nknobs: {crops: 3, tier: low}\n", 2, r"knobs\.crops: tier says the same"),
        ("model: m\nknobs: {image_size: 336}\n", 2, r"knobs\.image_size: must be str"),
        ("model: m\nknobs: {image_size: [4x4, 0x9x9]}\n", 2, r"knobs\.image_size\[1\]: image size '0x9x9'"),
        ("model: m\nmeasure:\n  repeats: 1.5\n", 3, r"measure\.repeats: must be int, got float"),
        ("model: m\nmeasure: {time_limit_s: -1}\n", 2, r"measure\.time_limit_s: must be float > 0"),
        ("knobs: {}\n", 1, "model: missing"),
        ("model: ''\n", 1, "model: must be str of length >= 1"),
        ("model: m\nmodel: n\n", 2, r"key 'model' stands here twice \(first in line 1\)"),
        ("model: m\nknobs: {batch: [1], batch: [2]}\n", 2, "key 'batch' stands here twice"),
        ("model: m\nknobs: &a {batch: *a}\n", 2, "alias"),
        ("model: !!python/name:os.system x\n", 1, "not used here"),
        ("model: m\nexclude:\n  - {top_k: 3}\n", 3, r"exclude\[0\]\.top_k: 3 is not in the grid"),
        ("model: m\nexclude:\n  - {speed: 3}\n", 3, r"exclude\[0\]\.speed: unknown knob"),
        ("model: m\ninclude:\n  - {top_k: [1, 2]}\n", 3, r"include\[0\]\.top_k: one value, not a list"),
        ("model: m\ninclude:\n  - {top_k: -1}\n", 3, r"include\[0\]\.top_k: must be int >= 1"),
        ("model: m\nworkload: {score: vqa}\n", 2, r"workload\.score: needs workload\.data"),
        ("model: m\nworkload: {data: nothing.jsonl}\n", 2, r"workload\.data: no such file"),
        ("model: m\nknobs: {batch: []}\n", 2, "knobs.batch: an empty list"),
        ("model: m\nimportance: nothing.json\n", 2, "importance: no such file"),
        ("model: m\nimportance: position\nknobs: {importance: measured}\n", 3, "importance is there twice"),
        ("- a\n- b\n", 1, "a sweep's configuration"),
        ("model: [m\n", 2, "not YAML"),
        ("", 1, "a sweep's configuration"),
        ("model: m\nseed: 99999999999999999999999999999999\n", 2, "seed"),
        ("? [a]\n: b\n", 1, "not used here"),
        ("1: b\n", 1, "keys are words"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_path(tmp_path, text, line, said):
    with pytest.raises(LaptimeError, match=said) as caught:
        sweep_config_of(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}:{line}: ")
    assert "\n" not in str(caught.value)


def test_questions_from_files_bring_their_own_prompts_and_images(tmp_path):
    (tmp_path / "q.jsonl").write_text("{}\n")
    for knob in ("prompt_tokens: 3", "image_size: 3x3", "batch: [1, 2]"):
        with pytest.raises(LaptimeError, match=knob.partition(":")[0]):
            sweep_config_of(tmp_path, f"model: m\nworkload: {{data: q.jsonl}}\nknobs: {{{knob}}}\n")
    assert sweep_config_of(tmp_path, "model: m\nworkload: {data: q.jsonl}\n").workload.data == str(tmp_path / "q.jsonl")


def test_a_small_file_that_blows_up_is_refused(tmp_path):
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    )
    with pytest.raises(LaptimeError, match="alias"):
        sweep_config_of(tmp_path, bomb)
    with pytest.raises(LaptimeError, match="nested deeper"):
        sweep_config_of(tmp_path, "model: " + "[" * 5000)
    with pytest.raises(LaptimeError, match="larger than 256 KiB"):
        sweep_config_of(tmp_path, "#" * (1 << 21))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(LaptimeError, match="can't be read"):
        read_sweep_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LaptimeError, match=r"binary\.yaml: not UTF-8"):
        read_sweep_config(tmp_path / "binary.yaml")


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["model", "knobs", "measure", "workload", "top_k", "batch", "exclude", "repeats", "x"]),
                inner,
            )
        ),
        max_leaves=8,
    ).map(lambda value: msgspec.yaml.encode(value).decode())
)
def test_whatever_the_file_says_it_is_read_or_refused_in_one_line(tmp_path_factory, text):
    try:
        read = sweep_config_of(tmp_path_factory.getbasetemp(), text)
    except LaptimeError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(read, SweepConfig)


def test_what_changed_is_named_unless_it_is_only_where_or_how_long(tmp_path):
    before = sweep_config_of(tmp_path, "model: m\nknobs: {top_k: [1]}\n")
    after = sweep_config_of(
        tmp_path, "model: m\nknobs: {top_k: [1, 2]}\nmeasure: {repeats: 4, time_limit_s: 5}\ndevice: cpu\nout: x\n"
    )
    assert changes(before, after) == ["knobs.top_k: [1] became [1,2]", "measure.repeats: 3 became 4"]
    assert changes(before, before) == []
