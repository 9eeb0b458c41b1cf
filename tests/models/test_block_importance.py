"""Importance: measured as published, written and read back, and every bad file one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.block_importance import (
    block_importance,
    measure_importance,
    most_important,
    next_token_agreement,
    read_importance,
    write_importance,
)
from tests.models.test_knobs import built


def test_it_is_one_minus_the_mean_cosine_similarity() -> None:
    """Against transformers' own hidden states (all but the last, which come out normed)."""
    model, inputs = built("olmoe")
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    hooks = [len(module._forward_hooks) for module in model.modules()]
    measured = measure_importance(model, [inputs, inputs])
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert len(measured) == 5
    for index in range(4):
        similar = torch.cosine_similarity(hidden[index].double(), hidden[index + 1].double(), dim=-1)
        assert measured[index] == pytest.approx(1 - float(similar.mean()), abs=1e-9)


def test_a_block_that_does_nothing_has_none() -> None:
    model, inputs = built("llama")
    block = model.model.layers[2]  # type: ignore[union-attr, index]
    nn.init.zeros_(block.self_attn.o_proj.weight)
    nn.init.zeros_(block.mlp.down_proj.weight)
    measured = measure_importance(model, [inputs])
    assert measured[2] == pytest.approx(0, abs=1e-9)
    assert min(measured[:2] + measured[3:]) > 1e-3


def test_padding_counts_for_nothing() -> None:
    model, inputs = built("llama")
    ids = torch.cat([torch.zeros(1, 5, dtype=torch.long), inputs["input_ids"]], 1)
    padded = {"input_ids": ids, "attention_mask": (torch.arange(17) >= 5).long()[None]}
    position_ids = (padded["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    measured = measure_importance(model, [{**padded, "position_ids": position_ids}])
    assert measured == pytest.approx(measure_importance(model, [inputs]), abs=1e-5)


def test_images_count_too() -> None:
    model, inputs = built("llava_next")
    assert len(measure_importance(model, [inputs])) == 3


def test_written_and_read_back(tmp_path: Path) -> None:
    write_importance(tmp_path / "i.json", [0.25, 1e-300, 2.0], model="preset:tiny-llm")
    assert read_importance(tmp_path / "i.json", blocks=3) == [0.25, 1e-300, 2.0]
    (tmp_path / "l.json").write_text("[3, 1, 2.5]")
    assert read_importance(tmp_path / "l.json") == [3.0, 1.0, 2.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "2 numbers for a model of 3 blocks; give one for each"),
        ("[1, NaN, 2]", "block 1 has 'nan'"),
        ("[1, Infinity, 2]", "block 1 has 'inf'"),
        ('[1, "2", 3]', "block 1 has '2'"),
        ("[1, true, 3]", "block 1 has 'True'"),
        ("[1, 1" + "0" * 400 + ", 3]", "block 1 has"),
        ("[]", "no list of numbers"),
        ('{"blocks": [1]}', "no list of numbers"),
        ("7", "no list of numbers"),
        ("[1, 2", "is no JSON"),
        ("[" * 100000, "is no JSON"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "importance.json"
    path.write_text(text)
    with pytest.raises(LaptimeError) as raised:
        read_importance(path, blocks=3)
    assert str(raised.value).startswith(f"{path}: ")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_no_file_and_no_inputs(tmp_path: Path) -> None:
    with pytest.raises(LaptimeError, match="can't be read"):
        read_importance(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LaptimeError, match="is no JSON"):
        read_importance(tmp_path / "binary.json")
    with pytest.raises(LaptimeError, match="no inputs"):
        measure_importance(built("llama")[0], [])


def test_the_whole_model_agrees_with_itself_and_a_block_that_does_nothing_costs_nothing() -> None:
    model, inputs = built("llama")
    agreed = next_token_agreement(model, [inputs], {5: (0, 1, 2, 3, 4)})
    assert agreed == {5: 1.0}
    idle = model.model.layers[2]
    torch.nn.init.zeros_(idle.self_attn.o_proj.weight)
    torch.nn.init.zeros_(idle.mlp.down_proj.weight)
    result = block_importance(model, [inputs], (4,), "tiny")
    assert result.active == {4: [0, 1, 3, 4]}
    assert result.agreement == {4: 1.0}
    assert min(range(5), key=result.importance.__getitem__) == 2


@pytest.mark.parametrize(
    ("importance", "says"),
    [
        ([1.0, 2.0], "2 numbers for a model of 5 blocks"),
        ([1.0, 2.0, float("nan"), 1.0, 1.0], "block 2 has nan"),
        ([1.0, 2.0, 1.0, 1.0, float("inf")], "block 4 has inf"),
    ],
)
def test_a_wrong_importance_is_one_clear_line(importance: list[float], says: str) -> None:
    model, _ = built("llama")
    for numbers in ([3], []):
        with pytest.raises(LaptimeError, match=says):
            most_important(model, importance, numbers)


def test_all_numbers_that_a_model_can_take_are_tried() -> None:
    model, inputs = built("llama")
    assert sorted(block_importance(model, [inputs], ()).active) == [2, 3, 4]
