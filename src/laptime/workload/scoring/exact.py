"""Exact match, as SQuAD defines it: Rajpurkar et al., EMNLP 2016."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import lru_cache

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 when the normalised prediction is one of the normalised answers, else 0."""
    said = normalised(prediction)
    return float(any(normalised(answer) == said for answer in answers))


@lru_cache(maxsize=65536)
def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, then without a, an and the, with single spaces: in SQuAD's order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
