"""Generated ids as the text that is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from laptime.errors import LaptimeError
from laptime.workload.datasets import answer_text
from tests.workload.families import loaded


def test_special_tokens_and_ids_without_a_word_are_left_out() -> None:
    model = loaded("llava_next")
    tokenizer = model.tokenizer
    ids = tokenizer("a dog")["input_ids"]
    special = tokenizer.all_special_ids[0]
    assert answer_text(model, ids) == "a dog"
    assert answer_text(model, [special, *ids, len(tokenizer) + 5, special]) == "a dog"
    assert answer_text(model, []) == ""


def test_what_a_model_generates_is_text() -> None:
    model = loaded("llama")
    prompt = model.tokenizer(["Why?"], return_tensors="pt")["input_ids"]
    out = model.model.generate(prompt.to(model.device), max_new_tokens=4, do_sample=False)
    assert isinstance(answer_text(model, out[0, prompt.shape[1] :].tolist()), str)


def test_without_a_tokenizer_it_says_so() -> None:
    with pytest.raises(LaptimeError, match="has no tokenizer"):
        answer_text(replace(loaded("llama"), tokenizer=None), [1])
