"""Yes or no: which of the two an answer says.

MME counts an answer that begins with neither as wrong (Fu et al., arXiv 2306.13394); POPE takes every answer without
"no" or "not" for a yes (Li et al., EMNLP 2023). Here an answer that says neither is wrong, as in MME: a model that
repeats the question must not score in half of the cases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[a-z]+")
_SAID = {"yes": "yes", "yeah": "yes", "yep": "yes", "no": "no", "nope": "no"}
_NEITHER = re.compile(
    r"\b(?:no doubt|no idea|not (?:sure|certain|clear)|unsure|yes or no|(?:cannot|can't) (?:tell|say|determine|answer)"
    r"|not (?:able|possible) to (?:tell|say|determine|answer))\b|\byes/no\b"
)
_NO = frozenset({"no", "not", "none", "isn", "aren", "doesn", "don", "cannot"})


def yes_no_score(prediction: str, answers: Sequence[str]) -> float:
    """1 when the prediction says what the first answer says, yes or no; else 0."""
    return float(said(prediction) == (answers[0].strip().lower() if answers else None))


def said(prediction: str) -> str | None:
    """yes, no, or None for an answer that says neither.

    The first word decides if it is yes or no. Else the first sentence that is no question does: no if it denies
    anything, yes if it holds a yes or begins as "There is". "Not sure" is neither, and "no doubt" denies nothing.
    """
    text = _NEITHER.sub(" ", prediction.strip().lower().replace("’", "'"))
    sentences = [part for part in re.findall(r"[^.\n!?]+[.\n!?]?", text) if _WORD.search(part)]
    sentence = next((part for part in sentences if not part.endswith("?")), sentences[0] if sentences else "")
    words = _WORD.findall(sentence)
    if not words:
        return None
    if words[0] in _SAID:
        return _SAID[words[0]]
    if _NO & set(words):
        return "no"
    return "yes" if "yes" in words or words[:2] in (["there", "is"], ["there", "are"]) else None
