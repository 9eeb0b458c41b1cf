"""What ends laptime early: what a user can mend, said in one line (exit code 2), and a signal that asks it to stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec


class LaptimeError(Exception):
    """Bad input or a question that can't be answered. Its text is one line, written for the user.

    It names an argument as Python does, in backticks: `new_tokens`. In Python it is raised as it is. The command line
    prints it with the options' names and exits with 2.
    """


class NoTraceError(LaptimeError):
    """A file of another kind where a trace was looked for: in a folder of traces it can be left out."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end: Ctrl-C (SIGINT), SIGTERM or SIGHUP. What was written is kept."""

    def __init__(self, number: int) -> None:
        """number: of the signal."""
        super().__init__(number)
        self.number = number


def did_you_mean(
    written: str, known: Iterable[str], *, cutoff: float = 0.6, shown: Mapping[str, str] | None = None
) -> str:
    """`did you mean a or b?` of the known names that are near what was written; "" where none is.

    shown: how a known name is shown, where not by itself.
    """
    from difflib import get_close_matches  # for errors only: start-up counts

    close = get_close_matches(written, list(dict.fromkeys(known)), n=3, cutoff=cutoff)
    near = [(shown or {}).get(name, name) for name in close]
    return f"did you mean {' or '.join(near)}?" if near else ""


def require_torch() -> None:
    """Raise LaptimeError unless torch and transformers are installed (without importing them)."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        names = " and ".join(missing)
        raise LaptimeError(f"{names} {are} not installed but needed to measure: pip install 'laptime[torch]'")
