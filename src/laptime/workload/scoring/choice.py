"""Multiple choice: which option a free answer names.

Follows the published evaluation of MMMU (Yue et al., CVPR 2024), but where that draws an option at random because none
was named, nothing is chosen here and the answer is wrong: a score must not depend on a draw. ScienceQA's pattern "the
answer is (B)" (Lu et al., NeurIPS 2022) comes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from laptime.workload.example import LETTERS
from laptime.workload.scoring.match import normalised

_STATED = re.compile(r"\b(?i:answer)\b(?:\s+is\b)?[\s:*(]*([A-Z]|(?<=\()[a-z](?=\)))(?![\w'’])")
_MARKED = re.compile(r"(?<![\w'’.])([A-Z])[.:)](?!\w)")
_ALONE = re.compile(r"(?<![\w'’.])([A-Z])(?![\w'’])")
_WORD_FOLLOWS = re.compile(r"\s+[a-z]")


def choice_score(prediction: str, choices: Sequence[str], right: int) -> float:
    """1 when the prediction names the option at place `right`, else 0."""
    return float(chosen(prediction, choices) == right)


def chosen(prediction: str, choices: Sequence[str]) -> int | None:
    """The place of the option that an answer names; None when it names none. At most 26 options.

    The first of these that applies; where it finds several options, the one named last (as in MMMU):

    1. The whole answer is a letter, in either case, perhaps in brackets or with a full stop.
    2. The whole answer is an option's text, by exact match's normalisation.
    3. "answer is B", "Answer: (B)", "the answer is (b)".
    4. A capital letter followed by a bracket, full stop or colon: "(B)", "B)", "B.", "B:".
    5. A capital letter that stands alone.
    6. An option's text inside the answer, as whole words, by the same normalisation; one that is part of another
       option at the same place gives way to it.

    In 3 and 5, A or I right before a word in lower case is an article or a pronoun, not an option ("A dog", "I see").
    "A. bangkok" marks its option (4), whatever follows.
    """
    letters = LETTERS[: len(choices)]
    text = prediction.strip()
    bare = text.strip(" .,:;!?'\"()[]*")
    if len(bare) == 1 and bare.upper() in letters:
        return letters.index(bare.upper())
    said = normalised(text)
    options = [normalised(choice) for choice in choices]
    if said in options:
        return options.index(said)
    for pattern in (_STATED, _MARKED, _ALONE):
        named = [
            match
            for match in pattern.finditer(text)
            if match[1].upper() in letters and (pattern is _MARKED or not _an_article(match))
        ]
        if named:
            return letters.index(named[-1][1].upper())
    return _last_text(f" {said} ", options)


def _an_article(letter: re.Match[str]) -> bool:
    """A or I before a word in lower case: a cat, not option A."""
    return letter[0][-1] in "AI" and _WORD_FOLLOWS.match(letter.string, letter.end()) is not None


def _last_text(said: str, options: Sequence[str]) -> int | None:
    """The option whose text ends last in `said`; of two that end together the longer, of equal ones the first."""
    ends = [(said.rfind(f" {option} ") + len(option), len(option), -place) for place, option in enumerate(options)]
    named = [end for end, option in zip(ends, options, strict=True) if option and f" {option} " in said]
    return -max(named)[2] if named else None
