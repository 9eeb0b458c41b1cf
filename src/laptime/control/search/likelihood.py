"""How probable a question's right answer is to a model: one forward over the prompts with the answers after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from laptime.control.tables.collection import EqualBatch
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.workload.example import LETTERS, Example


def answer_likelihoods(loaded: Loaded, some: EqualBatch, answers: Sequence[Sequence[int]]) -> Floats:
    """The geometric mean probability of each row's answer tokens, 0 to 1: one over the answer's perplexity, (rows,).

    answers: the tokens of each row's answer. Rows of equal prompts are filled up behind their answers, where no token
    of an answer looks.
    """
    prompts = some.kwargs["input_ids"]
    rows, length = prompts.shape
    device, most = prompts.device, max(map(len, answers))
    written = torch.zeros(rows, most, dtype=prompts.dtype, device=device)
    there = torch.zeros(rows, most, dtype=prompts.dtype, device=device)
    for row, ids in enumerate(answers):
        written[row, : len(ids)] = torch.tensor(ids, dtype=prompts.dtype, device=device)
        there[row, : len(ids)] = 1
    kwargs: dict[str, Any] = {"attention_mask": torch.ones_like(prompts), **some.kwargs}
    for name, value in kwargs.items():
        if value.shape == prompts.shape:
            more = written if name == "input_ids" else there if name == "attention_mask" else torch.zeros_like(written)
            kwargs[name] = torch.cat([value, more.to(value.dtype)], dim=1)
    with torch.no_grad():
        logits = loaded.model(**kwargs, use_cache=False).logits[:, length - 1 : length - 1 + most].float()
    gained = torch.log_softmax(logits, -1).gather(-1, written[..., None])[..., 0].double() * there
    likelihoods: Floats = torch.exp(gained.sum(1) / there.sum(1)).cpu().numpy()
    return likelihoods


def answer_tokens(loaded: Loaded, example: Example) -> list[int]:
    """The tokens of the first right answer; of a multiple-choice question, of its letter.

    Raises LaptimeError for an answer without a token, as of a model without a tokenizer.
    """
    right = example.answer_index
    text = example.answers[0] if right is None else LETTERS[right]
    tokenizer: Any = loaded.tokenizer
    ids: list[int] = [] if tokenizer is None else tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise LaptimeError(f"{example.place}: the answer {text[:40]!r} has no token in {loaded.name}'s tokenizer")
    return ids
