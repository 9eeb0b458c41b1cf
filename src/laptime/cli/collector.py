"""Python's collector of garbage in cycles rests while the command starts: all that is imported stays.

Looking through it again and again takes 6 to 13 ms, a twentieth of `laptime --help`.
"""

from __future__ import annotations

import gc


class Collector:
    """Whether this process's collector was told to rest."""

    def __init__(self) -> None:
        self.rests = False

    def rest(self) -> None:
        """Collect nothing until `resume`."""
        gc.disable()
        self.rests = True

    def resume(self) -> None:
        """Collect again, but never look through what is there now. Nothing where it wasn't told to rest."""
        if self.rests:
            gc.freeze()
            gc.enable()
            self.rests = False


COLLECTOR = Collector()
