"""CIDEr-D of a caption: how much it says what people's captions of this image say, and not those of other images.

Vedantam, Zitnick and Parikh, CVPR 2015: for n-grams of 1 to 4 words the cosine of tf-idf vectors, averaged over the
references; CIDEr-D clips counts at the reference's and lowers captions of another length (sigma = 6). Words are lower
case, without punctuation; the published code has the tokeniser of the Penn Treebank instead. The published value is 0
to 10; here it is divided by 10, so that a score is 0 to 1 as all others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp, log, sqrt

SIGMA = 6.0
LONGEST = 4

_WORD = re.compile(r"[\w']+")
Grams = Counter[tuple[str, ...]]


class CaptionCorpus:
    """How many images' captions hold each n-gram. references: the captions of each image of the data set."""

    def __init__(self, references: Iterable[Sequence[str]]) -> None:
        self._holding: Grams = Counter()
        images = 0
        for captions in references:
            images += 1
            self._holding.update({gram for caption in captions for gram in grams(caption)})
        self._log_images = log(max(images, 1))

    def score(self, prediction: str, references: Sequence[str]) -> float:
        """CIDEr-D / 10 of one caption, 0 to 1. Raises ValueError without a reference."""
        if not references:
            raise ValueError("no caption to compare with")
        own = self._vectors(prediction)
        similar = sum(self._similar(own, self._vectors(one)) for one in references) / len(references) / LONGEST
        return min(1.0, similar)  # a copy of every caption may be above 1 by rounding

    def _vectors(self, text: str) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        counts = grams(text)
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        for gram, count in counts.items():
            vectors[len(gram) - 1][gram] = count * (self._log_images - log(max(1, self._holding[gram])))
        norms = [sqrt(sum(value * value for value in vector.values())) for vector in vectors]
        return vectors, norms, len(_WORD.findall(text.lower()))

    def _similar(
        self,
        own: tuple[list[dict[tuple[str, ...], float]], list[float], int],
        reference: tuple[list[dict[tuple[str, ...], float]], list[float], int],
    ) -> float:
        penalty = exp(-((own[2] - reference[2]) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for mine, its, norm, other in zip(own[0], reference[0], own[1], reference[1], strict=True):
            if norm and other:
                common = sum(min(value, its[gram]) * its[gram] for gram, value in mine.items() if gram in its)
                total += common / (norm * other)
        return total * penalty


def grams(text: str) -> Grams:
    """All n-grams of 1 to LONGEST words, with their counts."""
    words = _WORD.findall(text.lower())
    return Counter(tuple(words[at : at + n]) for n in range(1, LONGEST + 1) for at in range(len(words) - n + 1))
