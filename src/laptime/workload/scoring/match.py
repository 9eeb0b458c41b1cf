"""Scores of 0 or 1 by comparing the answer with the right ones: exact match, containment and relaxed accuracy.

Exact match compares the normalised texts: Rajpurkar et al., "SQuAD", EMNLP 2016. An answer that contains a right one is
right in Mallen et al., "When Not to Trust Language Models", ACL 2023. In relaxed accuracy a number may also be off
by 5 %: Methani et al., "PlotQA", WACV 2020; Masry et al., "ChartQA", ACL Findings 2022, section 5.1.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite

TOLERANCE = 0.05

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 when the normalised prediction is one of the normalised answers, else 0."""
    said = normalised(prediction)
    return float(any(normalised(answer) == said for answer in answers))


def contains(prediction: str, answers: Sequence[str]) -> float:
    """1 when the normalised words of one of the answers stand in the normalised prediction, one after the other."""
    said = normalised(prediction)
    meant = [normalised(answer) for answer in answers]
    return float(any(answer == said or (answer and f" {answer} " in f" {said} ") for answer in meant))


@lru_cache(maxsize=65536)
def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, then without a, an and the, with single spaces: in SQuAD's order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def relaxed_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """1 when the prediction is right for any of the answers, else 0.

    Two numbers: right within TOLERANCE of the answer, that bound included. A percent sign divides by 100 on either
    side, so 20% is 0.2. An answer of 0 needs 0. Anything else: right when equal but for case and space at the ends.
    A number with thousands separators is text, as in the published code.
    """
    return float(any(_right(prediction.strip(), answer.strip()) for answer in answers))


def _right(prediction: str, answer: str) -> bool:
    if prediction.lower() == answer.lower():
        return True
    said, meant = _number(prediction), _number(answer)
    if said is None or meant is None:
        return False
    return abs(said - meant) <= TOLERANCE * abs(meant) * (1 + 1e-9)  # 1.05 for 1 is within, whatever its last bit


def _number(text: str) -> float | None:
    percent = text.endswith("%")
    match = _NUMBER.fullmatch(text.rstrip("%").rstrip() if percent else text)
    value = float(match[0]) if match else float("nan")
    return (value / 100 if percent else value) if isfinite(value) else None


THRESHOLD = 0.5
"""tau: from this normalised distance on an answer counts as another word, and scores 0."""


def anls(prediction: str, answers: Sequence[str]) -> float:
    """The best over the answers of 1 - NL where NL < THRESHOLD, else 0; NL = edit distance / the longer length.

    Both sides in lower case with single spaces, as in the published evaluation. (Averaging over the questions, the A
    of the name, is the reader's mean over samples.)
    """
    said = " ".join(prediction.lower().split())
    return max((_similarity(said, " ".join(answer.lower().split())) for answer in answers), default=0.0)


def _similarity(a: str, b: str) -> float:
    if a == b:
        return 1.0
    longer = max(len(a), len(b))
    if abs(len(a) - len(b)) >= THRESHOLD * longer:
        return 0.0  # the distance is at least the difference of the lengths
    distance = edit_distance(a, b) / longer
    return 1.0 - distance if distance < THRESHOLD else 0.0


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements that make b of a.

    Myers' bit-vector algorithm (Journal of the ACM 46, 1999) in Hyyrö's form: one column of the table is two whole
    numbers, one bit a row.
    """
    if not a or not b:
        return len(a) + len(b)
    rows: dict[str, int] = {}
    for place, sign in enumerate(a):
        rows[sign] = rows.get(sign, 0) | 1 << place
    last, mask = 1 << len(a) - 1, (1 << len(a)) - 1
    up, down, distance = mask, 0, len(a)  # the bits where a column rises or falls by one from row to row
    for sign in b:
        match = rows.get(sign, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        rise, fall = down | ~(diagonal | up) & mask, up & diagonal
        distance += bool(rise & last) - bool(fall & last)
        rise = (rise << 1 | 1) & mask
        up, down = (fall << 1 | ~(diagonal | rise)) & mask, rise & diagonal
    return distance
