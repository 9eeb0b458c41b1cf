"""`image_tokens`: an image never becomes more tokens than asked, in the words of each family."""

import pytest

from laptime.errors import LaptimeError
from laptime.models.loading import load_model
from laptime.workload.image_budget import with_image_tokens
from laptime.workload.inputs import make_inputs
from tests.workload.families import loaded


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl", "idefics3", "smolvlm"])
def test_an_image_becomes_no_more_tokens_than_asked(family):
    model = loaded(family)
    own = make_inputs(model, prompt_tokens=5, image_size=(300, 200)).image_tokens
    counts = []
    for most in (1, 4, 16):
        limited = with_image_tokens(model, most)
        counts.append(make_inputs(limited, prompt_tokens=5, image_size=(500, 300)).image_tokens)
        assert 1 <= counts[-1] <= most
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert make_inputs(model, prompt_tokens=5, image_size=(300, 200)).image_tokens == own


def test_a_preset_keeps_its_overview():
    model = load_model("preset:molmoe-1b", device="meta")
    with pytest.raises(LaptimeError, match="at least 288"):
        with_image_tokens(model, 144)


@pytest.mark.parametrize(
    ("family", "most", "says"), [("llava", 100, "llava"), ("llama", 100, "llama"), ("qwen3_vl", 0, "at least 1")]
)
def test_a_family_that_can_not_choose_is_refused_by_name(family, most, says):
    with pytest.raises(LaptimeError, match=says):
        with_image_tokens(loaded(family), most)
