from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.models.presets import recipe
from laptime.workload.inputs import random_ids, special_ids


@given(
    length=st.integers(0, 300),
    vocab=st.integers(2, 500),
    banned=st.sets(st.integers(-3, 600), max_size=100),
    seed=st.integers(0, 2**60),
)
def test_ids_are_in_the_vocabulary_seeded_and_never_banned(
    length: int, vocab: int, banned: set[int], seed: int
) -> None:
    if set(range(vocab)) <= banned:
        return
    ids = random_ids(length, vocab_size=vocab, banned=banned, seed=seed)
    assert ids.shape == (length,)
    assert ids.dtype == torch.int64
    assert set(ids.tolist()) <= set(range(vocab)) - banned
    assert torch.equal(ids, random_ids(length, vocab_size=vocab, banned=banned, seed=seed))


def test_every_allowed_id_can_come() -> None:
    assert set(random_ids(2000, vocab_size=20, banned={3, 4}, seed=0).tolist()) == set(range(20)) - {3, 4}


def test_impossible_prompts_are_refused() -> None:
    with pytest.raises(LaptimeError, match="leaves none"):
        random_ids(1, vocab_size=3, banned={0, 1, 2}, seed=0)
    with pytest.raises(LaptimeError, match="negative"):
        random_ids(-1, vocab_size=3, banned=(), seed=0)


@pytest.mark.parametrize("name", ["tiny-vlm", "qwen2.5-vl-3b", "molmoe-1b", "llama-3-8b"])
def test_special_ids_of_presets(name: str) -> None:
    preset = recipe(name)
    special = special_ids(preset.config, preset.tokenizer)
    assert {preset.pad, *preset.suppress} <= special
    assert special == set(preset.tokenizer.added_tokens_decoder)  # and nothing else is banned


def test_special_ids_come_from_the_config_alone_too() -> None:
    config = SimpleNamespace(
        image_token_id=7, video_token_index=8, boi_token_id=9, eos_token_id=[2, 3], pad_token_id=None, hidden_size=64
    )
    config.get_text_config = lambda: SimpleNamespace(bos_token_id=1)
    assert special_ids(config, None) == {1, 2, 3, 7, 8, 9}
