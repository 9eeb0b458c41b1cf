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

_IN_A_WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff]"
"""Characters that continue a word of letters. Chinese and Japanese are written without spaces, so theirs don't."""

_STATED = re.compile(
    rf"(?<!{_IN_A_WORD})(?:(?i:answer|option|choice)(?:\s+is)?|(?:\u7b54\u6848|\u9009\u9879|\u9078\u9805)[\u662f\u4e3a\u70ba]?)"
    rf"[\s:\uff1a*(]*(?:([A-Z])(?!{_IN_A_WORD}|['’])|([a-z])(?=[).,;:*]|\s*$))",
    re.MULTILINE,
)
_MARKED = re.compile(rf"(?<!{_IN_A_WORD})(?<!['’.])([A-Z])[.:)](?!{_IN_A_WORD})")
_ALONE = re.compile(rf"(?<!{_IN_A_WORD})(?<!['’.])([A-Z])(?!{_IN_A_WORD}|['’])")
_WORD_FOLLOWS = re.compile(r"\s+[a-z]")
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bcannot|\bnor|\brather than|\binstead of)\s+(?:be\s+|option\s+|choice\s+)?[\"'(*]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\"'*]*\s+(?:(?:is|are)(?:\s+not|n['’]t|\s+(?:wrong|incorrect|false))|cannot be|can['’]t be)\b", re.IGNORECASE
)


def choice_score(prediction: str, choices: Sequence[str], right: int) -> float:
    """1 when the prediction names the option at place `right`, else 0."""
    return float(chosen(prediction, choices) == right)


def chosen(prediction: str, choices: Sequence[str]) -> int | None:
    """The place of the option that an answer names; None when it names none. At most 26 options.

    The first of these that applies; where it finds several options, the one named last (as in MMMU):

    1. The whole answer is a letter, in either case, perhaps in brackets or with a full stop.
    2. The whole answer is an option's text, by exact match's normalisation.
    3. "answer is B", "Answer: (B)", "the answer is b.", "Option B"; the same in Chinese.
    4. A capital letter followed by a bracket, full stop or colon: "(B)", "B)", "B.", "B:".
    5. A capital letter that stands alone.
    6. An option's text inside the answer, as whole words, by the same normalisation; one that is part of another
       option at the same place gives way to it.

    In 3 and 5, A or I right before a word in lower case is an article or a pronoun, not an option ("A dog", "I see").
    "A. bangkok" marks its option (4), whatever follows. What is denied isn't named: "not B", "B is wrong".
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
            letter
            for match in pattern.finditer(text)
            if (letter := _letter(match)) in letters
            and (pattern is _MARKED or not _an_article(match))
            and not _denied(match)
        ]
        if named:
            return letters.index(named[-1])
    return _last_text(f" {said} ", options)


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


def _denied(match: re.Match[str]) -> bool:
    """Whether the words around say that it is not this one."""
    before, after = match.string[: match.start()], match.end()
    return _DENIED_BEFORE.search(before) is not None or _DENIED_AFTER.match(match.string, after) is not None


def _an_article(letter: re.Match[str]) -> bool:
    """A or I before a word in lower case: a cat, not option A."""
    return letter[0][-1] in "AI" and _WORD_FOLLOWS.match(letter.string, letter.end()) is not None


def _last_text(said: str, options: Sequence[str]) -> int | None:
    """The option whose text ends last in `said`; of two that end together the longer, of equal ones the first."""
    ends = [
        (found.end(), len(option), -place)
        for place, option in enumerate(options)
        if option
        for found in re.finditer(rf"(?<= ){re.escape(option)}(?= )", said)
        if not _denied(found)
    ]
    return -max(ends)[2] if ends else None
