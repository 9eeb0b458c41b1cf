"""What a model answered, as text."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded


def answer_text(loaded: Loaded, output_ids: Sequence[int]) -> str:
    """The text of one row of generated ids (a row of Sample.output_ids: without the prompt), special tokens left out.

    `answer_text(loaded, sample.output_ids[0])` is what laptime.workload.scoring.score takes as the prediction.
    Raises LaptimeError when the model has no tokenizer.
    """
    if loaded.tokenizer is None:
        raise LaptimeError(f"{loaded.name}: has no tokenizer, so its answers can't be read; leave 'score' out")
    text: str = loaded.tokenizer.decode(list(output_ids), skip_special_tokens=True)
    return text.strip()
