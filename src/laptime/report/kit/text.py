"""Text from outside, safe to show: nothing in it acts as an instruction to a terminal or a browser."""

from __future__ import annotations

import re

from laptime.report.kit.numbers import count

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters and lone surrogates replaced: it can be encoded and shown."""
    return _UNPRINTABLE.sub("\ufffd", text)


def shortened(text: str, limit: int) -> str:
    """The text, cut with an ellipsis if it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int) -> str:
    """The text on one line: printable, white space reduced to single spaces, cut after `limit` characters."""
    return shortened(" ".join(printable(text).split()), limit)


def counted(how_many: int, one: str, many: str | None = None) -> str:
    """A count with its noun: `counted(1, "sample")` is 1 sample, `counted(3, "pass", "passes")` 3 passes."""
    return f"{count(how_many)} {one if how_many == 1 else many or one + 's'}"


def setting_text(value: object) -> str | None:
    """A setting of a configuration: `setting_text(True)` is yes, `setting_text(0.5)` 0.5; None if it is not set."""
    if value is None or value == [] or value == {}:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shortened(f"{value:g}" if isinstance(value, float) else str(value), 300)
