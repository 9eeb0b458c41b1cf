"""Text as a report shows it: on one line, shortened, counted, printable (laptime.data.printable)."""

from __future__ import annotations

from laptime.data.printable import printable
from laptime.report.kit.numbers import count

__all__ = ["counted", "one_line", "printable", "setting_text", "shortened"]


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
