"""`image_tokens` as a knob of a sweep: what the calls really had is what was asked, or the nearest that is allowed."""

import json

import pytest

import laptime
from laptime.data.frame import read_frame
from laptime.errors import LaptimeError
from tests.models import tiny
from tests.workload.families import tokenizer_of

SETTINGS = {
    "internvl": {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "InternVLProcessor",
        "size": {"height": tiny.SIDE, "width": tiny.SIDE},
        "crop_to_patches": True,
        "max_patches": 6,
    },
    "qwen2_5_vl": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16},
    },
}


@pytest.fixture
def folder(tmp_path):
    def written(family):
        place = tmp_path / family
        tiny.build(family).save_pretrained(place)
        tokenizer_of(family).save_pretrained(place)
        (place / "preprocessor_config.json").write_text(json.dumps(SETTINGS[family]))
        if family == "internvl":
            words = {"processor_class": "InternVLProcessor", "image_seq_length": 1}
            (place / "processor_config.json").write_text(json.dumps(words))
        return str(place)

    return written


def swept(model, out, **knobs):
    config = {
        "model": model,
        "device": "cpu",
        "workload": {"samples": 1},
        "knobs": {"prompt_tokens": 4, "new_tokens": 2, "image_size": "224x224", **knobs},
        "measure": {"repeats": 1, "warmups": 0},
    }
    laptime.sweep(config, out=out)
    return read_frame(out)


@pytest.mark.parametrize(
    ("family", "asked", "allowed"),
    [("qwen2_5_vl", [4, 9, 17], {4: 4, 9: 9, 17: 16}), ("internvl", [1, 2, 5], {1: 1, 5: 5})],
)
def test_the_calls_had_as_many_image_tokens_as_the_knob_allows(family, asked, allowed, folder, tmp_path):
    frame = swept(folder(family), tmp_path / "sweep", image_tokens=asked)
    had = dict(zip(frame["config.image_tokens_limit"].to_list(), frame["image_tokens"].to_list(), strict=True))
    assert had == allowed


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"image_tokens": 100}, "llava_next's image tokens can't be chosen"),
        ({"image_tokens": 0}, "image_tokens"),
        ({"image_tokens": 100, "crops": 2}, "image tokens can't be chosen|use one of them"),
    ],
)
def test_what_a_family_does_not_have_is_refused_before_anything_runs(knobs, says, tmp_path):
    with pytest.raises(LaptimeError, match=says):
        laptime.sweep({"model": "preset:tiny-vlm", "device": "cpu", "knobs": knobs}, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_crops_and_image_tokens_together_are_refused(folder, tmp_path):
    with pytest.raises(LaptimeError, match="both say how an image is cut"):
        swept(folder("internvl"), tmp_path / "sweep", image_tokens=5, crops=2)
