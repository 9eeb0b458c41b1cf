"""How a policy is called: its title in a table or beside a line, and its name in a sentence."""

from __future__ import annotations

from laptime.control.judge.result import BOUNDED, SMALLER_BUDGET
from laptime.report.kit.text import one_line

NAME_LIMIT = 60
NAMELESS = "(no name)"

_TITLES = {"static": "best static", "lookup": "lookup table", "grpo": "GRPO"}
_IN_SENTENCES = {
    "static": "the best static configuration",
    "lookup": "a lookup table",
    "per type": "a per-type lookup with the same bounds",
    "logistic": "a logistic regression with the same bounds",
    "oracle": "the oracle",
    BOUNDED: "an oracle within the same bounds",
}


def title(policy: str) -> str:
    """A policy in a table or beside its line: "grpo" is GRPO; what follows a comma in its name stays."""
    own = policy.removesuffix(SMALLER_BUDGET)
    base, comma, rest = own.partition(",")
    words = f"{_TITLES.get(base, base)}{comma}{rest}" + (", less budget" if own != policy else "")
    return one_line(words, NAME_LIMIT) or NAMELESS


def in_sentence(policy: str) -> str:
    """A policy in a sentence: "static" is the best static configuration."""
    own = policy.removesuffix(SMALLER_BUDGET)
    base, comma, rest = own.partition(", ")
    if comma and rest.endswith(" budgets"):
        return f"{in_sentence(base)} on {one_line(rest, NAME_LIMIT)}"
    return (_IN_SENTENCES.get(own) or title(own)) + (" with a smaller budget" if own != policy else "")


def sentence(words: str) -> str:
    """The words with a capital first letter."""
    return words[:1].upper() + words[1:]
