"""What a user can mend: one line that says what is wrong, where, and how to mend it (exit code 2)."""

from __future__ import annotations


class LaptimeError(Exception):
    """Bad input or a question that can't be answered. Its text is one line, written for the user.

    The command line prints it and exits with 2; in Python it is raised as it is.
    """
