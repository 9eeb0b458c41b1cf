"""Questions about a page and their answers, from its truth. Ten types, from easy to ones that need pixels or depth."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

from .pages import NAMES, Truth
from .shapes import KINDS

PHRASES: dict[str, tuple[str, ...]] = {
    "colour": ("Big shape's colour?", "Colour of the large one?", "Which colour is the big?"),
    "kind": ("What is the big shape?", "Kind of the large one?", "Which shape is largest?"),
    "word": ("What is the word?", "Read the big letters?", "Which word is there?"),
    "digit": ("Which digit is {a}?", "The {a} digit?", "Read the {a} digit?"),
    "chase": ("Digit coloured as big?", "Which digit matches big?", "Digit in big's colour?"),
    "count": ("How many {a} shapes?", "Count the {a} shapes?", "Number of {a} shapes?"),
    "compare": ("Larger: {a} or {b}?", "Is {a} or {b} larger?", "Which wins, {a} or {b}?"),
    "add": ("{a} plus {b} digit?", "Sum of {a} and {b}?", "Add {a} to {b}?"),
    "initial": ("Code starts with?", "How does the code start?", "First sign of the code?"),
    "code": ("Read the small code?", "What is the code?", "Which code is printed?"),
}
"""How each type may be asked; {a} and {b} are colours. Every question ends with its only question mark."""
TYPES = tuple(PHRASES)


@dataclass(frozen=True)
class Question:
    """kind: one of TYPES."""

    kind: str
    text: str
    answer: str


def words() -> tuple[str, ...]:
    """Every word of the questions, and the names that answer one, in a fixed order."""
    asked = {word for phrases in PHRASES.values() for phrase in phrases for word in re.findall(r"[A-Za-z]{2,}", phrase)}
    capitals = {name.capitalize() for name in NAMES}  # a question may begin with one
    return tuple(sorted(asked | capitals | set(NAMES) | set(KINDS)))


def ask(kind: str, truth: Truth, split: str, number: int, again: int = 0) -> Question:
    """A question of that type about page `number` of the split. again: a number for each further one on one page."""
    rng = np.random.default_rng((zlib.crc32(f"{split} {kind}".encode()), number, again))
    phrase, first, second, other, rare = rng.random(5).tolist()
    digits = [one.colour for one in truth.digits]
    a = digits.pop(int(first * len(digits)))
    b = digits[int(second * len(digits))]
    if kind == "count":
        present = [one.colour for one in (truth.large, *truth.shapes)]
        a = NAMES[int(other * len(NAMES))] if rare < 0.3 else present[int(other * len(present))]
    forms = PHRASES[kind]
    text = forms[int(phrase * len(forms))].format(a=a, b=b)
    return Question(kind, text[0].upper() + text[1:], _answer(kind, truth, a, b))


def _answer(kind: str, truth: Truth, a: str, b: str) -> str:
    if kind == "colour":
        return truth.large.colour
    if kind == "kind":
        return truth.large.what
    if kind == "word":
        return truth.word
    if kind == "digit":
        return str(truth.digit(a))
    if kind == "chase":
        return str(truth.digit(truth.large.colour))
    if kind == "count":
        return str(truth.count(a))
    if kind == "compare":
        return a if truth.digit(a) > truth.digit(b) else b
    if kind == "add":
        return str(truth.digit(a) + truth.digit(b))
    return truth.code[0] if kind == "initial" else truth.code
