"""`image_tokens`: an image never becomes more tokens than asked, in the words of each family."""

import math
from types import SimpleNamespace

import pytest
import transformers

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded, load_model
from laptime.workload.image_budget import with_image_tokens
from laptime.workload.images import synthetic_image
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


class OfImages:
    """A processor that holds the family's real image processor, and what else the budget asks it for."""

    def __init__(self, images, **settings):
        self.image_processor = images
        vars(self).update(settings)


def patches_of_pixels(made, images):
    return int(made["image_grid_thw"][0].prod()) // images.merge_size**2


REAL = {
    "qwen2_vl": (lambda t: OfImages(t.Qwen2VLImageProcessorPil()), patches_of_pixels),
    "qwen2_5_omni_thinker": (lambda t: OfImages(t.Qwen2VLImageProcessorPil()), patches_of_pixels),
    "glm4v": (lambda t: OfImages(t.Glm4vImageProcessorPil()), patches_of_pixels),
    "glm46v": (lambda t: OfImages(t.Glm46VImageProcessorPil()), patches_of_pixels),
    "ernie4_5_vl_moe": (lambda t: OfImages(t.Ernie4_5_VLMoeImageProcessorPil()), patches_of_pixels),
    "paddleocr_vl": (lambda t: OfImages(t.PaddleOCRVLImageProcessorPil()), patches_of_pixels),
    "gemma4": (
        lambda t: OfImages(t.Gemma4ImageProcessorPil()),
        lambda made, images: int(made["num_soft_tokens_per_image"][0]),
    ),
    "mistral3": (
        lambda t: OfImages(t.PixtralImageProcessorPil(patch_size=28), patch_size=14, spatial_merge_size=2),
        lambda made, images: math.prod(made["image_sizes"][0]) // 28**2,
    ),
}


SIZES = ((640, 640), (960, 400))


@pytest.mark.parametrize("family", REAL)
def test_a_large_square_image_becomes_what_the_family_allows(family):
    make, tokens = REAL[family]
    model = SimpleNamespace(config=SimpleNamespace(model_type=family))
    unlimited = Loaded(family, model, make(transformers), None, "local", True)
    for asked in (100, 289):
        limited = with_image_tokens(unlimited, asked)
        allowed, images = limited.image_tokens, limited.processor.image_processor
        square, wide = (tokens(images(synthetic_image(*size, seed=0), return_tensors="pt"), images) for size in SIZES)
        assert allowed <= asked
        assert wide <= allowed
        nearest = math.isqrt(allowed) ** 2  # an image of native resolution stays a rectangle
        assert square == (allowed if family == "mistral3" else nearest)


def test_an_image_that_becomes_more_is_refused():
    model = with_image_tokens(loaded("qwen2_5_vl"), 2)
    with pytest.raises(LaptimeError, match="makes 6 of this image"):
        make_inputs(model, prompt_tokens=5, image_size=(280, 20))
