"""VQA accuracy: how many of ten people gave this answer, three being enough.

Antol et al., "VQA: Visual Question Answering", ICCV 2015; the evaluation page and code of visualqa.org define the
normalisation, which is written down here rule by rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

FEWEST_ANSWERS = 4
"""Below this not even the answer that all gave could score 1: of the others three must agree with it."""

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""What becomes a space, or nothing. Not among them: the apostrophe (girl's), the colon (2:50) and the full stop."""
NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}
ARTICLES = frozenset({"a", "an", "the"})

ONE_APOSTROPHE = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd
it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't should've shouldn't somebody'll
somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd they'll
they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
MORE_APOSTROPHES = """
couldn't've hadn't've he'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've
something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've
"""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(
    r"\.(?!\d)"
)  # the published look-behind never excludes anything, so .5 and 3.5 stay and 5. ends


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(matches / 3, 1), averaged over the subsets that leave one of the answers out. Needs FEWEST_ANSWERS answers.

    Matches are among the answers that are left, after normalising both sides. With ten answers and m matches in all:
    m = 0, 1, 2, 3, 4+ give 0, 0.3, 0.6, 0.9, 1. Both sides are always normalised, as the evaluation page defines it;
    the published code skips that where all ten answers are one and the same, so a right "Yes." fails there.
    """
    said = normalised(prediction)
    matches = sum(normalised(answer) == said for answer in answers)
    others = len(answers) - matches
    return (others * min(matches / 3, 1.0) + matches * min((matches - 1) / 3, 1.0)) / len(answers)


@lru_cache(maxsize=65536)
def normalised(text: str) -> str:
    """The text as VQA accuracy compares it.

    1. Newlines and tabs become spaces; the ends are stripped.
    2. Each sign of PUNCTUATION is removed where it stands beside a space somewhere in the text, or where the text has
       a comma between two digits (100,978); else it becomes a space.
    3. Full stops go unless a digit follows.
    4. Lower case; number words up to ten become digits, "none" 0; articles go; a contraction without its apostrophe
       (dont) gets it back. Words are joined by one space.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    plain = text
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    for sign in PUNCTUATION:
        if sign in text:
            gone = in_number or f"{sign} " in text or f" {sign}" in text
            plain = plain.replace(sign, "" if gone else " ")
    plain = _FULL_STOP.sub("", plain)
    words = (NUMBERS.get(word, word) for word in plain.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _contractions() -> dict[str, str]:
    """The published table: each form with one of its apostrophes forgotten, to the form itself.

    The table's forms with a capital (I'm, I've, I'd've) are left out: words are in lower case when they are looked up.
    Its one odd line takes the apostrophe out of somebody'd.
    """
    table = {"somebody'd": "somebodyd"}
    for form in (ONE_APOSTROPHE + MORE_APOSTROPHES).split():
        table |= {form[:i] + form[i + 1 :]: form for i, sign in enumerate(form) if sign == "'"}
    return table


CONTRACTIONS = _contractions()
