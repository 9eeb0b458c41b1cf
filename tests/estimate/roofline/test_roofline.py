"""Work from a configuration: against counts made by hand and models that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import (
    ModelShape,
    Rates,
    attention_flops,
    cache_bytes,
    roofline_columns,
    shape_of,
    touched_experts,
    weight_bytes,
    weight_flops,
)
from laptime.estimate.roofline.work import PRESETS, known_shape

QWEN3_4B = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
    "hidden_act": "silu",
}


def test_the_weights_of_a_known_model() -> None:
    """Qwen3-4B in bf16: 8.04 GB are read a token, 1.87 ms at 4.3 TB/s."""
    shape = shape_of(QWEN3_4B)
    assert weight_bytes(shape, 1, 36, 0) / 1e9 == pytest.approx(8.04, abs=0.01)
    frame = pl.DataFrame({"prompt_tokens": [1], "output_tokens": [1]})
    rates = Rates(bandwidth_gb_s=4300, tflop_s=800, launch_us=0)
    assert roofline_columns(frame, shape, rates)["roofline.decode_per_token_ms"][0] == pytest.approx(1.87, abs=0.005)


def test_flops_by_hand() -> None:
    """Two blocks of hidden 4, two heads of 2, inner 8, gated: 64 + 96 weights a block; a vocabulary of 10."""
    shape = ModelShape(hidden=4, blocks=2, heads=2, kv_heads=2, head_size=2, inner=8, vocabulary=10)
    assert (shape.attention_weights, shape.mlp_weights) == (64, 96)
    assert weight_flops(shape, 5, 2, 0, 1) == 2 * 5 * 2 * 160 + 2 * 40
    assert attention_flops(shape, 5 * 6 / 2, 2) == 4 * 2 * 2 * 2 * 15
    assert cache_bytes(shape, 5, 2) == 5 * 2 * 2 * (2 * 2) * 2


def test_experts_touched_against_a_simulation() -> None:
    rng = np.random.default_rng(0)
    draws = [len({e for _ in range(12) for e in rng.choice(64, 8, replace=False)}) for _ in range(3000)]
    assert touched_experts(64, 8, 12) == pytest.approx(np.mean(draws), rel=0.005)
    assert touched_experts(64, 8, 1) == pytest.approx(8)
    assert touched_experts(64, 8, 10_000) == pytest.approx(64)


@pytest.mark.filterwarnings("error")
def test_no_table_asks_for_more_experts_than_there_are() -> None:
    asked = touched_experts(64, np.array([8.0, 64.0, 1e18, 8.0, 64.0]), np.array([1.0, 3.0, 512.0, -1e6, -1.0]))
    assert asked.tolist() == pytest.approx([8.0, 64.0, 64.0, 0.0, 0.0])


def test_knobs_change_the_work_of_their_rows() -> None:
    olmoe = shape_of({**QWEN3_4B, "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 1024})
    assert (olmoe.experts, olmoe.top_k, olmoe.inner) == (64, 8, 1024)
    frame = pl.DataFrame(
        {
            "prompt_tokens": [512] * 4,
            "output_tokens": [10] * 4,
            "batch": [1, 1, 1, 4],
            "config.blocks": [36, 18, 36, 36],
            "config.top_k": [8, 8, 2, 8],
        }
    )
    found = roofline_columns(frame, olmoe, Rates(bandwidth_gb_s=2000, tflop_s=300))
    gflop, experts = found["roofline.decode_gflop"].to_list(), found["roofline.active_experts"].to_list()
    assert gflop[1] < gflop[0] and gflop[2] < gflop[0] < gflop[3]
    assert experts[:3] == pytest.approx([8, 8, 2])
    assert experts[3] == pytest.approx(64 * (1 - (7 / 8) ** 4))
    assert found["roofline.launches"].to_list() == [36 * 14, 18 * 14, 36 * 14, 36 * 14]
    assert found["roofline.vision_ms"].to_list() == [0.0] * 4


def test_crops_are_the_work_of_vision() -> None:
    shape = shape_of(
        {
            "text_config": QWEN3_4B,
            "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "image_size": 336, "patch_size": 14},
        }
    )
    frame = pl.DataFrame({"prompt_tokens": [700, 700, 700], "crops": [0, 1, 5]})
    gflop = roofline_columns(frame, shape, Rates(bandwidth_gb_s=2000, tflop_s=300))["roofline.vision_gflop"].to_list()
    assert gflop[0] == 0
    assert gflop[2] == pytest.approx(3 * gflop[1])  # the image is seen whole, and each of its tiles


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_presets_sizes_are_those_of_the_model_that_is_built(name: str) -> None:
    pytest.importorskip("transformers")
    from laptime.models.presets import recipe

    assert known_shape(f"preset:{name}") == shape_of(recipe(name).config.to_dict())


def test_every_preset_is_known() -> None:
    from laptime.models.presets import NAMES

    assert set(PRESETS) == set(NAMES)


def test_a_folder_is_known_by_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_4B))
    assert known_shape(str(tmp_path)) == PRESETS["qwen3-4b"]


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{", '{"hidden_size": 8}', '{"hidden_size": 8, "num_attention_heads": 0, "num_hidden_layers": 2}',
     '{"text_config": [1], "vision_config": 3}', "[" * 100_000, '{"hidden_size": 1e999}'],
)  # fmt: skip
def test_a_configuration_that_says_no_sizes_is_no_shape(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert known_shape(str(tmp_path)) is None


@pytest.mark.parametrize("name", ["preset:nothing", "nobody/nothing-was-downloaded", "", "a/b/c"])
def test_an_unknown_model_is_no_shape(name: str) -> None:
    assert known_shape(name) is None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(LaptimeError, match="no num_hidden_layers"):
        shape_of({"hidden_size": 8, "num_attention_heads": 2})
    with pytest.raises(LaptimeError, match="no column 'prompt_tokens'"):
        roofline_columns(pl.DataFrame({"x": [1]}), shape_of(QWEN3_4B), Rates(bandwidth_gb_s=1, tflop_s=1))
