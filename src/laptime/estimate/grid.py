"""Every combination of some knobs' values as rows: from a mapping of names to values, or a YAML file of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import polars

from laptime.data.located_yaml import read_yaml
from laptime.errors import LaptimeError

MOST_ROWS = 2_000_000


def grid_frame(values: Mapping[str, Sequence[Any]], start: int = 0, stop: int | None = None) -> polars.DataFrame:
    """The combinations numbered start to stop (all), in C order: the last knob changes fastest."""
    sizes = [len(some) for some in values.values()]
    places = np.unravel_index(np.arange(start, prod(sizes) if stop is None else stop), sizes)
    columns = zip(values.items(), places, strict=True)
    return polars.DataFrame([polars.Series(name, some, strict=False).gather(i) for (name, some), i in columns])


def grid_of(values: Mapping[Any, Any], where: str) -> polars.DataFrame:
    """Every combination of a mapping's values as rows; a single value stands for a list of one.

    `where`: what holds the mapping, for messages. Raises LaptimeError for a value that is no number, text or list of
    one of them, and for more than MOST_ROWS combinations.
    """
    if not values:
        raise LaptimeError(f"{where}: name at least one value, such as batch=4")
    lists: dict[str, list[Any]] = {}
    for name, some in values.items():
        listed = list(some) if isinstance(some, (list, tuple)) else [some]
        if not listed or any(isinstance(one, (list, dict)) or one is None for one in listed):
            raise LaptimeError(f"{where}, {name}: give a value or a list of values")
        if len({isinstance(one, str) for one in listed}) > 1:
            raise LaptimeError(f"{where}, {name}: numbers and text in one list; write them alike")
        lists[str(name)] = listed
    if (count := prod(len(some) for some in lists.values())) > MOST_ROWS:
        raise LaptimeError(f"{where}: {count} combinations are more than {MOST_ROWS}; give fewer values")
    return grid_frame(lists)


def read_grid(file: Path) -> polars.DataFrame:
    """Every combination of a YAML file's lists (`name: [values]`) as rows.

    Raises LaptimeError when the file can't be read or isn't that.
    """
    content, _ = read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise LaptimeError(f"{file}: a grid is a mapping of names to lists of values, such as `batch: [1, 2, 4]`")
    return grid_of(content, str(file))
