"""ANLS: similarity by edit distance, which forgives a misread letter and nothing more.

Biten et al., "Scene Text Visual Question Answering", ICCV 2019; also DocVQA and InfographicVQA (Mathew et al.).
"""

from __future__ import annotations

from collections.abc import Sequence

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
