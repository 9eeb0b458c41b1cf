"""A bar of the progress of long work, for Python and notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def progress_bars() -> Callable[[str, int, int], None]:
    """A function for `progress=` that shows how far the work is: tqdm's bar, in a notebook as well as in a terminal.

    Without tqdm (transformers brings it) it shows nothing.

    Example: laptime.profile("preset:tiny-vlm", progress=laptime.progress_bars())
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return lambda phase, done, of: None
    bars: dict[str, Any] = {}

    def show(phase: str, done: int, of: int) -> None:
        bar = bars.get(phase)
        if bar is None:
            bar = bars[phase] = tqdm(total=of, desc=phase)
        bar.total = of
        bar.update(done - bar.n)
        if done >= of:
            bar.close()

    return show
