"""Loaders on damaged copies of what they read: each returns, or raises a LaptimeError of one line."""

from __future__ import annotations

import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laptime.errors import LaptimeError
from tests.torture.forked import each_in_forks, run_forked
from tests.torture.places import Place
from tests.torture.portions import Fault, Tried
from tests.torture.reading import damage_file, odd_table, odd_yaml, removed
from tests.torture.tries import general

Loader = Callable[[random.Random], None]


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    """Each loader in turn, many in one fork."""
    known = loaders(place.world, place.empty("try"))
    for number, what in each_in_forks(numbers, lambda number: load_one(known, seed, number)):
        name = known[number % len(known)][0]
        sort = "hangs" if what == "hangs" else "tracebacks"
        yield Tried(number, f"loading, {name}", Fault(sort, f"{name}: {what}") if what else None)


def load_one(known: list[tuple[str, Loader]], seed: int, number: int) -> str | None:
    """Damage and load once; what is wrong with how that ended."""
    try:
        known[number % len(known)][1](random.Random(f"loading:{seed}:{number}"))
    except LaptimeError as error:
        if "\n" in str(error):
            return "the error is not one line"
    except BaseException as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        own = next((f"{Path(f.filename).name}:{f.name}" for f in frames if "/laptime/" in f.filename), "?")
        return general(f"{type(error).__name__} in {own}: {str(error)[:80]}")
    return None


def again(place: Place, seed: int, number: int) -> None:
    """One try once more, with all that it says."""
    known = loaders(place.world, place.empty("try"))

    def work() -> int:
        print(known[number % len(known)][0])
        known[number % len(known)][1](random.Random(f"loading:{seed}:{number}"))
        return 0

    ended = run_forked(work)
    print(ended.out, ended.err)


@dataclass(frozen=True)
class Reader:
    """What reads an artefact of the world: a file or a folder, called `name` in the counts."""

    name: str
    artefact: str
    read: Callable[[Path], Any]


def readers() -> list[Reader]:
    """Every loader of files of known kinds."""
    from laptime.control.policies.saved_policy import read_policy
    from laptime.control.tables.answers import read_answers
    from laptime.control.tables.feature_table import read_features
    from laptime.data.frame import read_frame
    from laptime.data.run_folder import load_run
    from laptime.estimate.files import load_estimator
    from laptime.estimate.grid import read_grid
    from laptime.estimate.table.reading import read_table
    from laptime.sweeps.config_reading import read_sweep_config
    from laptime.sweeps.ledger import is_complete
    from laptime.trace.read.reading import read_timeline
    from laptime.workload.reading import read_examples

    return [
        Reader("read_frame of a run", "sweep", lambda p: read_frame(p, bulky=True)),
        Reader("load_run", "profile", load_run), Reader("load_run of a sweep", "sweep", load_run),
        Reader("keys of a sweep", "sweep", is_complete), Reader("older JSON", "legacy", read_frame),
        Reader("estimator", "est/total", load_estimator), Reader("policy", "policy", read_policy),
        Reader("features", "features", read_features), Reader("answers", "answers", read_answers),
        Reader("CSV bytes", "sweep.csv", read_frame), Reader("Parquet bytes", "sweep.parquet", read_frame),
        Reader("table of any kind", "sweep.csv", read_table), Reader("sweep.yaml", "sweep.yaml", read_sweep_config),
        Reader("grid.yaml", "grid.yaml", read_grid), Reader("questions", "questions.jsonl", read_examples),
        Reader("VQAv2", "vqa", lambda p: read_examples(p / "questions.json", samples=None)),
        Reader("Kineto", "trace.json", read_timeline), Reader("Kineto, gzip", "trace.json.gz", read_timeline),
        Reader("nsys", "trace.sqlite", read_timeline),
    ]  # fmt: skip


def loaders(world: Path, folder: Path) -> list[tuple[str, Loader]]:
    """(name, function that damages an artefact and reads it): each must return or raise LaptimeError."""

    def of_folder(reader: Reader) -> Loader:
        def once(chance: random.Random) -> None:
            place = folder / "loaded"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(world / reader.artefact, place)
            files = sorted(path for path in place.rglob("*") if path.is_file())
            damage_file(chance.choice(files), chance)
            reader.read(place)

        return once

    def of_file(reader: Reader) -> Loader:
        def once(chance: random.Random) -> None:
            place = folder / Path(reader.artefact).name
            removed(place)
            if place.suffix == ".yaml":
                place.write_bytes(odd_yaml(chance, (world / reader.artefact).read_text())[1])
            else:
                shutil.copy(world / reader.artefact, place)
                damage_file(place, chance)
            reader.read(place)

        return once

    def table(suffix: str) -> Loader:
        def once(chance: random.Random) -> None:
            from laptime.data.frame import read_frame
            from laptime.estimate.table.reading import read_table

            place = folder / f"odd.{suffix}"
            odd_table(world / "sweep.parquet", place, chance)
            chance.choice([read_frame, read_table])(place)

        return once

    known = [(one.name, of_folder(one) if (world / one.artefact).is_dir() else of_file(one)) for one in readers()]
    return [*known, ("odd CSV", table("csv")), ("odd Parquet", table("parquet")), *known[-7:-6]]
