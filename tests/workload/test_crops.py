"""Crops: as many as asked, cut as the family cuts, and the model takes what its processor made."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from laptime.data.record import TIERS
from laptime.errors import LaptimeError
from laptime.models.image_tiles import tilings
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded, load_model
from laptime.workload.crops import choose_tiling, processor_cutting
from laptime.workload.datasets import inputs_from_example
from laptime.workload.example import Example
from laptime.workload.images import synthetic_image
from laptime.workload.inputs import Inputs, make_inputs
from laptime.workload.placeholders import image_token_id
from tests.workload.families import loaded

CUTTING = ("llava_next", "llava_onevision", "internvl", "aria", "idefics3", "smolvlm")
SIZES = ((70, 50), (50, 70), (61, 61), (200, 30))


@functools.cache
def roomy(family: str) -> Loaded:
    model = loaded(family)
    model.model.config.get_text_config().max_position_embeddings = 4096
    return model


@functools.cache
def tiny_vlm() -> Loaded:
    return load_model("preset:tiny-vlm", device="cpu")


def assert_taken(model: Loaded, inputs: Inputs, crops: tuple[int, int]) -> None:
    """The model makes exactly as many image features as there are placeholders, or it refuses."""
    rows = (inputs.kwargs["input_ids"] == image_token_id(model)).sum(1)
    assert rows.tolist() == [inputs.image_tokens] * inputs.batch
    with applied(model.model, ModelKnobs(crops=crops)):
        out = model.model.generate(**inputs.kwargs, max_new_tokens=2, do_sample=False)
    assert out.shape == (inputs.batch, inputs.prompt_tokens + 2)


@pytest.mark.parametrize(
    ("family", "crops"),
    [(family, crops) for family in CUTTING for crops in ((1, 2, 5) if family == "aria" else (1, 2, 3, 5, 6, 9))],
)
def test_exactly_so_many(family: str, crops: int) -> None:
    model = roomy(family)
    size = SIZES[crops % len(SIZES)]
    asked = (crops, crops)
    with applied(model.model, ModelKnobs(crops=asked)):
        inputs = make_inputs(model, prompt_tokens=4, image_size=size, batch=2, crops=asked)
    assert inputs.crops == crops
    assert_taken(model, inputs, asked)


@pytest.mark.parametrize("family", CUTTING)
def test_a_tier_is_a_range(family: str) -> None:
    model = roomy(family)
    counts = []
    for low, high in ((1, 2), (3, 4)):
        for size in SIZES:
            with applied(model.model, ModelKnobs(crops=(low, high))):
                inputs = make_inputs(model, prompt_tokens=4, image_size=size, crops=(low, high))
            assert low <= inputs.crops <= high
            counts.append(inputs.crops)
            assert_taken(model, inputs, (low, high))
    assert len(set(counts)) > 1


@pytest.mark.parametrize("family", CUTTING)
def test_processor_and_config_are_left_as_they_were(family: str) -> None:
    model = roomy(family)
    images = vars(model.processor.image_processor).copy()  # type: ignore[union-attr]
    config = model.model.config.to_dict()
    plain = make_inputs(model, prompt_tokens=4, image_size=(70, 50))
    with applied(model.model, ModelKnobs(crops=(5, 5))):
        make_inputs(model, prompt_tokens=4, image_size=(70, 50), crops=(5, 5))
    assert vars(model.processor.image_processor) == images  # type: ignore[union-attr]
    assert model.model.config.to_dict() == config
    again = make_inputs(model, prompt_tokens=4, image_size=(70, 50))
    assert all(torch.equal(plain.kwargs[name], again.kwargs[name]) for name in plain.kwargs)


@settings(max_examples=8, deadline=None)
@given(width=st.integers(1, 900), height=st.integers(1, 900), tier=st.sampled_from(sorted(TIERS)))
def test_any_image_in_any_tier_fits_the_model(width: int, height: int, tier: str) -> None:
    model, crops = tiny_vlm(), TIERS[tier]
    with applied(model.model, ModelKnobs(crops=crops)), torch.no_grad():
        inputs = make_inputs(model, prompt_tokens=4, image_size=(width, height), crops=crops)
        features = model.model.get_image_features(
            inputs.kwargs["pixel_values"], image_sizes=inputs.kwargs["image_sizes"]
        ).pooler_output
    assert crops[0] <= inputs.crops <= crops[1]
    assert sum(len(f) for f in features) == inputs.image_tokens


@pytest.mark.parametrize("family", CUTTING)
def test_a_picture_from_a_file(family: str, tmp_path: Path) -> None:
    model = roomy(family)
    synthetic_image(90, 40, seed=1).save(tmp_path / "a.png")
    example = Example("a", "What is it?", tmp_path / "a.png", (), "a.jsonl:1")
    with applied(model.model, ModelKnobs(crops=(4, 4))):
        inputs = inputs_from_example(model, example, crops=(4, 4))
    assert inputs.crops == 4
    assert_taken(model, inputs, (4, 4))


def test_molmoe_has_144_tokens_a_crop_and_an_overview() -> None:
    """The preset's own processor and config, in front of a model without weights."""
    model = load_model("preset:molmoe-1b", device="meta")
    processor, config = model.processor, model.model.config
    assert processor is not None
    for low, high in (*TIERS.values(), (1, 1), (7, 7)):
        for size in ((640, 480), (336, 336), (1000, 200)):
            columns, rows = choose_tiling(*size, low, high)
            call, given = processor_cutting(model, [synthetic_image(*size, seed=0)], (low, high))
            inputs = call(images=[given], text=[processor.image_token], return_tensors="pt")
            count = int((inputs["input_ids"] == config.image_token_id).sum())
            assert count == (columns * rows + 1) * 144
            assert len(inputs["pixel_values"]) == columns * rows + 1


def test_the_model_has_to_be_told_too() -> None:
    with pytest.raises(LaptimeError, match=r"inside applied\(model, ModelKnobs\(crops=...\)\)"):
        make_inputs(tiny_vlm(), prompt_tokens=4, image_size=(70, 50), crops=(1, 3))


sides = st.integers(1, 5000)


@given(width=sides, height=sides, low=st.integers(1, 9), more=st.integers(0, 8))
def test_the_tiling_is_internvls(width: int, height: int, low: int, more: int) -> None:
    """transformers' own function, which knows the bounds and nothing else of ours."""
    chosen = choose_tiling(width, height, low, low + more, side=336)
    assert chosen in tilings(low, low + more)
    assert chosen == get_optimal_tiled_canvas((height, width), (336, 336), low, low + more)


@given(count=st.integers(1, 40))
def test_every_number_has_a_tiling(count: int) -> None:
    assert (1, count) in tilings(count, count)
    assert (count, 1) in tilings(count, count)
    assert all(columns * rows == count for columns, rows in tilings(count, count))


@given(shape=st.sampled_from([(3, 3), (3, 4), (4, 3)]), scale=st.integers(1, 400))
def test_an_image_of_a_tilings_shape_gets_that_shape(shape: tuple[int, int], scale: int) -> None:
    columns, rows = shape
    assert choose_tiling(columns * scale, rows * scale, 9, 15) == shape


def test_a_small_image_is_not_blown_up() -> None:
    assert choose_tiling(336, 336, 1, 9) == (1, 1)
    assert choose_tiling(700, 700, 1, 9) == (2, 2)
    assert choose_tiling(1200, 1200, 1, 9) == (3, 3)


def test_a_range_without_a_tiling_is_refused() -> None:
    for low, high in ((0, 3), (4, 3), (-1, -1)):
        with pytest.raises(LaptimeError, match=f"crops {low}-{high}"):
            choose_tiling(10, 10, low, high)
