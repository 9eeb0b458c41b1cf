"""Presets: the real shapes (counted on the meta device, where nothing is allocated), and real processors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.presets import NAMES, SUMMARIES, recipe
from laptime.workload.images import synthetic_image

WEIGHTS = {  # number of weights, tied ones once
    "tiny-vlm": 19_000_000,
    "tiny-llm": 7_340_000,
    "qwen3-4b": 4_022_000_000,
    "molmoe-1b": 7_235_000_000,
    "qwen2.5-vl-3b": 3_755_000_000,
    "olmoe-1b-7b": 6_919_000_000,
    "llama-3-8b": 8_030_000_000,
}
VLMS = ("tiny-vlm", "molmoe-1b", "qwen2.5-vl-3b")


@pytest.fixture(scope="module", params=NAMES)
def preset(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    """(name, recipe, model without memory)."""
    built = recipe(request.param)
    auto = AutoModelForCausalLM if built.processor is None else AutoModelForImageTextToText
    with torch.device("meta"):
        return request.param, built, auto.from_config(built.config, dtype=torch.bfloat16)


def test_listing_imports_no_torch() -> None:
    code = "import sys; from laptime.models.presets import NAMES; assert NAMES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_preset_has_one_line() -> None:
    assert tuple(SUMMARIES) == NAMES
    assert all(line and "\n" not in line and len(line) <= 100 for line in SUMMARIES.values())


def test_shapes(preset: tuple[str, Any, Any]) -> None:
    name, built, model = preset
    weights = sum(p.numel() for p in model.parameters())
    assert weights == pytest.approx(WEIGHTS[name], rel=0.005)
    anatomy = find_anatomy(model)
    assert (anatomy.vision is not None) == (built.processor is not None) == (name in VLMS)
    assert len(anatomy.layers) == built.config.get_text_config().num_hidden_layers


def test_qwen3_4b_weighs_what_was_measured() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(recipe("qwen3-4b").config, dtype=torch.bfloat16)
    assert sum(p.numel() * p.element_size() for p in model.parameters()) / 1e9 == pytest.approx(8.04, abs=0.005)


def test_molmoe_is_molmoe() -> None:
    config = recipe("molmoe-1b").config
    text = config.text_config
    assert (text.num_hidden_layers, text.num_experts, text.num_experts_per_tok, text.hidden_size) == (16, 64, 8, 2048)
    assert (list(config.vision_config.image_size), config.image_seq_length) == ([336, 336], 144)


def test_special_tokens_are_the_configs(preset: tuple[str, Any, Any]) -> None:
    _, built, _ = preset
    text = built.config.get_text_config()
    assert len(built.tokenizer) == text.vocab_size
    assert built.tokenizer.pad_token_id == built.pad == text.pad_token_id
    if built.processor is not None:
        image = built.processor.image_token_id
        assert image == built.config.image_token_id
        assert image in built.suppress
        assert built.tokenizer(built.processor.image_token)["input_ids"] == [image]


def test_any_text_goes_through_the_tokenizer_and_back(preset: tuple[str, Any, Any]) -> None:
    _, built, _ = preset
    text = "What's in the picture?\n“Ünïcode” 猫 <b>"
    ids = built.tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())  # one token a byte
    assert built.tokenizer.decode(ids) == text
    last = len(built.tokenizer) - 1
    assert built.tokenizer.decode([last])  # and every id can be shown


@pytest.mark.parametrize(
    ("name", "size", "tiles", "tokens"),
    [
        ("tiny-vlm", (672, 672), 5, 5 * 144 + 24),  # overview, 2 x 2 tiles, a newline for each of 24 rows of patches
        ("tiny-vlm", (336, 336), 3, 144 + 144 + 12),  # the tile that is all padding is cut off
        ("molmoe-1b", (336, 336), 2, 2 * 144),
        ("molmoe-1b", (672, 336), 3, 3 * 144),
        ("molmoe-1b", (672, 672), 5, 5 * 144),
        ("molmoe-1b", (1344, 1008), 13, 13 * 144),
        ("molmoe-1b", (1680, 1008), 16, 16 * 144),  # the most: 15 crops and the overview
        ("molmoe-1b", (4000, 4000), 10, 10 * 144),
        ("qwen2.5-vl-3b", (672, 672), None, 24 * 24),
        ("qwen2.5-vl-3b", (1344, 1008), None, 1230),
    ],
)
def test_images_become_real_tiles(name: str, size: tuple[int, int], tiles: int | None, tokens: int) -> None:
    processor = recipe(name).processor
    image = synthetic_image(*size, seed=0)
    out = processor(images=[[image]], text=[processor.image_token + "?"], return_tensors="pt")
    assert (out["input_ids"] == processor.image_token_id).sum() == tokens
    pixels = out["pixel_values"]
    if tiles is not None:
        assert pixels.shape[-4] == tiles
        assert pixels.shape[-3:] == (3, 336, 336)
    assert torch.isfinite(pixels).all()
    if tiles is not None and tiles > 2:  # with one crop the overview shows the same pixels
        assert len({tile.mean().item() for tile in pixels.reshape(-1, *pixels.shape[-3:])}) == tiles


def test_processor_counts_tokens_without_an_image() -> None:
    """transformers' own estimate agrees with what is made, the always-there overview included."""
    processor = recipe("molmoe-1b").processor
    counts = processor._get_num_multimodal_tokens(image_sizes=[(336, 336), (1008, 1344)])
    assert counts["num_image_patches"] == [2, 13]


def test_unknown_preset_lists_near_names() -> None:
    with pytest.raises(LaptimeError, match=r"tiny-vlm.*qwen3-4b") as raised:
        recipe("tiny-vml")
    assert "did you mean tiny-vlm" in str(raised.value)
    assert "\n" not in str(raised.value)
