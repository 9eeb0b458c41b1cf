"""How the estimator's verbs take columns, configurations and grids: `a,b,c`, `k=v`, a YAML file of lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

    from laptime.estimate.composition import TotalEstimator
    from laptime.estimate.estimator import Estimator
    from laptime.estimate.roofline.roofline import Rates
    from laptime.estimate.roofline.work import Work
    from laptime.estimate.table.reading import Columns

MOST_ROWS = 2_000_000


def names(words: str) -> list[str]:
    """Column names written as a,b,c."""
    return [name for name in (word.strip() for word in words.split(",")) if name]


def columns(frame: polars.DataFrame, target: str | None, features: str, categorical: str, group: str) -> Columns:
    """The parts of a table's columns as the options name them; on a run's frame what is not named is found."""
    from laptime.estimate.table.positions import TARGET as BY_POSITION
    from laptime.estimate.table.positions import position_columns
    from laptime.estimate.table.reading import Columns, is_run_frame, run_columns
    from laptime.estimate.table.table import require_columns

    if target is None:
        raise LaptimeError(
            f"--target COL is needed: which column to predict (the table has {', '.join(frame.columns[:12])})"
        )
    require_columns(frame, [target])
    if not names(features) and not names(categorical):
        if is_run_frame(frame):
            found = position_columns(frame) if target == BY_POSITION else run_columns(frame, target)
            return Columns(target, found.features, found.categorical, names(group) or found.group)
        raise LaptimeError(f"--features a,b,c is needed: the columns that {target} depends on")
    return Columns(target, names(features), names(categorical), names(group))


def device_rates(bandwidth_gb_s: float | None, tflop_s: float | None) -> Rates | None:
    """What was measured of the device, both or neither. Raises LaptimeError for one alone, or nothing above 0."""
    from laptime.estimate.roofline.roofline import Rates

    if bandwidth_gb_s is None and tflop_s is None:
        return None
    if bandwidth_gb_s is None or tflop_s is None:
        raise LaptimeError("--bandwidth-gb-s and --tflop-s go together: a roofline has both")
    for name, value in (("--bandwidth-gb-s", bandwidth_gb_s), ("--tflop-s", tflop_s)):
        if not 0 < value < float("inf"):
            raise LaptimeError(f"{name} {value:g}: a rate above 0")
    return Rates(bandwidth_gb_s=bandwidth_gb_s, tflop_s=tflop_s)


def run_work(frame: polars.DataFrame, chosen: Columns, named: str, rates: Rates | None) -> Work | None:
    """The work columns of a run's defaults; none where the user named the features, or of any other table."""
    from laptime.estimate.roofline.work import work_of_run
    from laptime.estimate.table.reading import is_run_frame

    if named or not is_run_frame(frame):
        if rates is not None:
            raise LaptimeError("--bandwidth-gb-s and --tflop-s go with a run whose features are not named")
        return None
    return work_of_run(frame, chosen.target, chosen.features, chosen.categorical, rates)


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """k=v words (also several in one, with commas or spaces between) as values: numbers where they are some.

    Raises LaptimeError for a word that is no assignment, or a name that is given twice.
    """
    found: dict[str, Any] = {}
    for word in (part for words_ in words for part in re.split(r"[,\s]+", words_) if part):
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise LaptimeError(f"{word}: not of the form NAME=VALUE, such as batch=4")
        if name in found:
            raise LaptimeError(f"{name} is given twice ({found[name]}, {value})")
        found[name] = _value(value)
    return found


def grid(file: Path) -> polars.DataFrame:
    """Every combination of a YAML file's lists (name: [values]) as rows.

    Raises LaptimeError when the file is not that, or asks for more than MOST_ROWS combinations.
    """
    import yaml

    from laptime.estimate.lookup import grid_frame

    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LaptimeError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LaptimeError(f"{file}: {error}") from error
    except yaml.YAMLError as error:
        raise LaptimeError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(told, dict) or not told:
        raise LaptimeError(f"{file}: a grid is a mapping of names to lists of values, such as `batch: [1, 2, 4]`")
    values: dict[str, list[Any]] = {}
    for name, some in told.items():
        listed = some if isinstance(some, list) else [some]
        if not listed or any(isinstance(one, (list, dict)) or one is None for one in listed):
            raise LaptimeError(f"{file}, {name}: give a value or a list of values")
        if len({isinstance(one, str) for one in listed}) > 1:
            raise LaptimeError(f"{file}, {name}: numbers and text in one list; write them alike")
        values[str(name)] = listed
    if (count := prod(len(some) for some in values.values())) > MOST_ROWS:
        raise LaptimeError(f"{file}: {count:,} combinations are more than {MOST_ROWS:,}; give fewer values")
    frame: polars.DataFrame = grid_frame(values)
    return frame


def is_estimator(folder: Path) -> bool:
    """Whether `fit` wrote this folder: an estimator, or the stages of a run."""
    from laptime.estimate.composition import NEEDED

    return (folder / "estimator.json").exists() or all((folder / name / "estimator.json").exists() for name in NEEDED)


def load_estimator(folder: Path, tokens: str | None) -> Estimator | TotalEstimator:
    """The estimator of a folder; of a folder of stages (`fit RUN`) the total that they add up to.

    `tokens` (4,8,16: equally likely counts of output tokens) is for a total only.
    """
    from laptime.estimate.composition import TotalEstimator
    from laptime.estimate.estimator import Estimator

    if (folder / "estimator.json").exists() or not is_estimator(folder):
        if tokens is not None:
            raise LaptimeError(f"--tokens {tokens}: {folder} is no folder of stages, as fit writes of a run")
        return Estimator.load(folder)
    counts = None
    if tokens is not None:
        words = names(tokens)
        if not words or not all(word.isdigit() and 0 < int(word) < 10**7 for word in words):
            raise LaptimeError(f"--tokens {tokens}: counts of 1 or more, equally likely, such as 4,8,16")
        counts = [int(word) for word in words]
    return TotalEstimator.load(folder, counts)


def milliseconds(option: str, words: str) -> float:
    """A time written as 170, 170ms or 0.17s, in ms. Raises LaptimeError for anything else, or nothing above 0."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(ms|s)?\s*", words)
    try:
        value = float(found[1]) if found else float("nan")
    except ValueError:
        value = float("nan")
    if found and found[2] == "s":
        value *= 1000
    if not 0 < value < float("inf"):
        raise LaptimeError(f"{option} {words}: a time above 0, written as 170 or 170ms or 0.17s")
    return value


def write_page(file: Path, page: str) -> None:
    """Write an HTML page. Raises LaptimeError when that is not possible."""
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}; choose another --html") from error


def _value(word: str) -> Any:
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    try:
        return float(word)
    except ValueError:
        return {"true": True, "false": False}.get(word.lower(), word)
