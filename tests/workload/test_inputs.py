"""Inputs have exactly the text asked for, each row its own image and text, and the model takes them."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded, load_model
from laptime.workload.inputs import make_inputs
from laptime.workload.placeholders import image_token_id
from tests.models.tiny import FAMILIES, TEXT_FAMILIES, VLM_FAMILIES
from tests.workload.families import loaded


@functools.cache
def preset(name: str) -> Loaded:
    return load_model(f"preset:{name}", device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_generates_from_them(family: str) -> None:
    model = loaded(family)
    size = (70, 50) if model.is_vlm else None
    inputs = make_inputs(model, prompt_tokens=9, image_size=size, batch=2, seed=3, new_tokens=3)
    ids = inputs.kwargs["input_ids"]
    assert ids.shape == (2, inputs.prompt_tokens)
    assert inputs.prompt_tokens == 9 + inputs.image_tokens + inputs.marker_tokens
    assert (inputs.text_tokens, inputs.batch, inputs.images) == (9, 2, 2 if size else 0)
    if size:
        counts = (ids == image_token_id(model)).sum(1)
        assert counts.tolist() == [inputs.image_tokens] * 2
        assert inputs.image_tokens > 0
        assert inputs.crops >= 1
    assert not torch.equal(ids[0, -9:], ids[1, -9:])
    for name, value in inputs.kwargs.items():
        if name.endswith(("_mask", "_ids")) and value.ndim == 2:
            assert value.shape == ids.shape, name
    assert inputs.kwargs["attention_mask"].all()
    assert "labels" not in inputs.kwargs
    out = model.model.generate(**inputs.kwargs, max_new_tokens=3, do_sample=False)
    assert out.shape == (2, inputs.prompt_tokens + 3)


@pytest.mark.parametrize("family", VLM_FAMILIES)
def test_rows_of_a_batch_equal_the_same_rows_alone(family: str) -> None:
    """Nothing of one row leaks into another: row 0 of a batch is the batch of one."""
    model = loaded(family)
    alone = make_inputs(model, prompt_tokens=5, image_size=(40, 60), batch=1, seed=7)
    both = make_inputs(model, prompt_tokens=5, image_size=(40, 60), batch=2, seed=7)
    assert torch.equal(alone.kwargs["input_ids"][0], both.kwargs["input_ids"][0])
    pixels = alone.kwargs["pixel_values"]
    half = both.kwargs["pixel_values"].flatten()
    assert torch.equal(pixels.flatten(), half[: pixels.numel()])
    assert not torch.equal(pixels.flatten(), half[pixels.numel() :])  # and row 1 has another image


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, "llava_next", "qwen3_vl", "gemma3"])
def test_text_only(family: str) -> None:
    model = loaded(family)
    inputs = make_inputs(model, prompt_tokens=6, image_size=None, batch=3)
    assert set(inputs.kwargs) == {"input_ids", "attention_mask"}
    assert inputs.kwargs["input_ids"].shape == (3, 6)
    assert (inputs.images, inputs.image_tokens, inputs.crops) == (0, 0, 0)
    assert model.model.generate(**inputs.kwargs, max_new_tokens=2).shape == (3, 8)


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 400), seed=st.integers(0, 2**40), batch=st.integers(1, 4))
def test_text_is_exact_seeded_and_without_special_tokens(tokens: int, seed: int, batch: int) -> None:
    model = preset("tiny-llm")
    inputs = make_inputs(model, prompt_tokens=tokens, batch=batch, seed=seed)
    ids = inputs.kwargs["input_ids"]
    assert ids.shape == (batch, tokens)
    assert not torch.isin(ids, torch.tensor(sorted(model.tokenizer.added_tokens_decoder))).any()
    again = make_inputs(model, prompt_tokens=tokens, batch=batch, seed=seed)
    assert torch.equal(ids, again.kwargs["input_ids"])
    if tokens >= 8:
        other = make_inputs(model, prompt_tokens=tokens, batch=batch, seed=seed + 1).kwargs["input_ids"]
        rows = {tuple(row) for row in [*ids.tolist(), *other.tolist()]}
        assert len(rows) == 2 * batch


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 1500), height=st.integers(1, 1500), tokens=st.integers(1, 64))
def test_any_image_size_fits_the_model(width: int, height: int, tokens: int) -> None:
    """The processor's count of placeholders is what the tower yields: the model itself refuses anything else."""
    model = preset("tiny-vlm")
    inputs = make_inputs(model, prompt_tokens=tokens, image_size=(width, height))
    assert inputs.text_tokens == tokens
    assert inputs.crops in (2, 3, 4)
    with torch.no_grad():
        features = model.model.get_image_features(
            inputs.kwargs["pixel_values"], image_sizes=inputs.kwargs["image_sizes"]
        ).pooler_output
    assert sum(len(f) for f in features) == inputs.image_tokens


def test_an_image_of_672_is_four_crops() -> None:
    inputs = make_inputs(preset("tiny-vlm"), prompt_tokens=64, image_size=(672, 672), batch=2)
    assert (inputs.crops, inputs.image_tokens, inputs.prompt_tokens, inputs.marker_tokens) == (4, 744, 808, 0)


def test_markers_are_counted_apart() -> None:
    inputs = make_inputs(loaded("internvl"), prompt_tokens=4, image_size=(56, 56))
    assert (inputs.image_tokens, inputs.marker_tokens, inputs.crops) == (5, 2, 4)  # 2 x 2 crops and the overview


def test_floating_inputs_have_the_models_dtype() -> None:
    model = loaded("llava")
    model.model.to(torch.bfloat16)
    inputs = make_inputs(model, prompt_tokens=4, image_size=(30, 30))
    assert inputs.kwargs["pixel_values"].dtype == torch.bfloat16
    assert inputs.kwargs["input_ids"].dtype == torch.int64
    assert model.model.generate(**inputs.kwargs, max_new_tokens=2).shape[1] == inputs.prompt_tokens + 2


def test_a_tokenizers_bos_is_part_of_the_prompt() -> None:
    class WithBos:
        all_special_ids = (1,)

        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1]}

        def __len__(self) -> int:
            return 256

    model = loaded("llama")
    model = replace(model, tokenizer=WithBos(model.tokenizer))
    ids = make_inputs(model, prompt_tokens=5, batch=2).kwargs["input_ids"]
    assert ids.shape == (2, 5)
    assert (ids[:, 0] == 1).all()
    assert (ids[:, 1:] != 1).all()
    assert make_inputs(model, prompt_tokens=1).kwargs["input_ids"].tolist() == [[1]]


def test_no_tokenizer_is_needed_for_text() -> None:
    inputs = make_inputs(replace(loaded("qwen3"), tokenizer=None), prompt_tokens=300 - 50, new_tokens=6)
    assert inputs.prompt_tokens == 250
    assert inputs.kwargs["input_ids"].max() < 320


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt_tokens": 0}, "at least 1"),
        ({"prompt_tokens": -3}, "at least 1"),
        ({"prompt_tokens": 4, "batch": 0}, "at least 1 row"),
        ({"prompt_tokens": 4, "seed": -1}, "seed"),
        ({"prompt_tokens": 4, "new_tokens": -1}, "new tokens"),
        ({"prompt_tokens": 257}, "context of 256"),
        ({"prompt_tokens": 250, "new_tokens": 7}, "context of 256"),
        ({"prompt_tokens": 4, "image_size": (28, 28)}, "text only"),
    ],
)
def test_what_cannot_be_made_is_one_clear_line(wrong: dict[str, int], says: str) -> None:
    with pytest.raises(LaptimeError) as raised:
        make_inputs(loaded("llama"), **wrong)  # type: ignore[arg-type]
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_image_tokens_count_towards_the_context() -> None:
    model = loaded("llava_next")  # a context of 256; the image takes 24
    make_inputs(model, prompt_tokens=256 - 24, image_size=(56, 56))
    with pytest.raises(LaptimeError, match=r"257 tokens \(24 of them for the image\).*smaller image"):
        make_inputs(model, prompt_tokens=256 - 23, image_size=(56, 56))
    with pytest.raises(LaptimeError, match="5 new ones"):
        make_inputs(model, prompt_tokens=256 - 24, image_size=(56, 56), new_tokens=5)
