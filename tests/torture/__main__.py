"""`python -m tests.torture`: try to break laptime, count what happened by kind, keep what broke.

python -m tests.torture --tries 20000            all areas
python -m tests.torture --areas reading --seed 7 --tries 500
python -m tests.torture --areas reading --again reading:7:123    one try once more, and all that it says
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.torture import reading, writing
from tests.torture.forked import each_in_forks, import_what_verbs_need, run_forked, run_try, scratch
from tests.torture.tries import complaint
from tests.torture.worlds import build


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--areas", default=",".join(SHARES), help="which, of " + ", ".join(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again")
    parser.add_argument("--keep", type=Path, default=Path("runs/torture"))
    asked = parser.parse_args()
    import_what_verbs_need()
    folder = scratch()
    try:
        world = folder / "world"
        world.mkdir()
        ended = run_forked(lambda: build(world))
        if ended.code:
            print(ended.err, file=sys.stderr)
            return 1
        if asked.again:
            area, seed, number = asked.again.split(":")
            return again(world, folder, area, int(seed), int(number))
        broken: Counter[str] = Counter()
        areas = asked.areas.split(",")
        of = sum(SHARES[area] for area in areas)
        for area in areas:
            tries = round(asked.tries * SHARES[area] / of)
            broken.update(AREAS[area](world, folder, asked.seed, tries, asked.keep))
        print(f"{asked.tries} tries, {broken.total()} broken")
        return 1 if broken else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_tries(world: Path, folder: Path, seed: int, tries: int, keep: Path) -> Counter[str]:
    broken: Counter[str] = Counter()
    codes: Counter[object] = Counter()
    first: dict[str, str] = {}
    begin = time.monotonic()
    for number in range(tries):
        place = folder / "try"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        asked = reading.a_try(world, place, random.Random(f"reading:{seed}:{number}"))
        ended = run_try(asked)
        codes[ended.code] += 1
        wrong = complaint(asked, ended)
        if wrong:
            wrong = f"{asked.arguments[0]}: {wrong}"
            broken[wrong] += 1
            if wrong not in first:
                first[wrong] = f"reading:{seed}:{number} {asked.kind}"
                print(f"  new: {wrong}   {first[wrong]}", flush=True)
                shutil.copytree(
                    place, keep / f"reading-{seed}-{number}", symlinks=True, dirs_exist_ok=True, ignore=_pipes
                )
    print(
        f"reading: {tries} tries in {time.monotonic() - begin:.0f} s, exit codes {dict(codes)}, {broken.total()} broken"
    )
    for what, count in broken.most_common():
        print(f"  {count:5d} {what}   e.g. {first[what]}")
    return broken


def _pipes(folder: str, names: list[str]) -> list[str]:
    """What can't be copied."""
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


def load_tries(world: Path, folder: Path, seed: int, tries: int, keep: Path) -> Counter[str]:
    broken: Counter[str] = Counter()
    first: dict[str, str] = {}
    begin = time.monotonic()
    place = folder / "try"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    known = reading.loaders(world, place)

    def work(number: int) -> str | None:
        return load_one(known, seed, number)

    for number, what in each_in_forks(tries, work):
        what = f"{known[number % len(known)][0]}: {what}"
        broken[what] += 1
        first.setdefault(what, f"loading:{seed}:{number}")
    print(f"loading: {tries} tries in {time.monotonic() - begin:.0f} s, {broken.total()} broken")
    for what, count in broken.most_common():
        print(f"  {count:5d} {what}   e.g. {first[what]}")
    return broken


def load_one(known: list, seed: int, number: int) -> str | None:
    from laptime.errors import LaptimeError

    try:
        known[number % len(known)][1](random.Random(f"loading:{seed}:{number}"))
    except LaptimeError as error:
        if "\n" in str(error):
            return "the error is not one line"
    except BaseException as error:
        import traceback

        last = traceback.extract_tb(error.__traceback__)
        own = next((f"{Path(f.filename).name}:{f.name}" for f in reversed(last) if "/laptime/" in f.filename), "?")
        from tests.torture.tries import _general

        return _general(f"{type(error).__name__} in {own}: {str(error)[:80]}")
    return None


def again(world: Path, folder: Path, area: str, seed: int, number: int) -> int:
    place = folder / "try"
    place.mkdir()
    if area == "loading":
        known = reading.loaders(world, place)

        def work() -> int:
            print(known[number % len(known)][0])
            known[number % len(known)][1](random.Random(f"loading:{seed}:{number}"))
            return 0

        ended = run_forked(work)
        print(ended.out, ended.err)
        return 0
    asked = reading.a_try(world, place, random.Random(f"{area}:{seed}:{number}"))
    print(asked.kind, json.dumps(list(asked.arguments)))
    if asked.arguments[0] != "--debug":
        asked = type(asked)(asked.kind, ["--debug", *asked.arguments], asked.folder, asked.environment)
    ended = run_try(asked)
    print(ended.code, ended.seconds)
    print(ended.out[-1500:])
    print(ended.err[-4000:])
    return 0


def write_tries(world: Path, folder: Path, seed: int, tries: int, keep: Path) -> Counter[str]:
    return _written("writing", writing.tries(world, folder, random.Random(f"writing:{seed}"), tries))


def line_tries(world: Path, folder: Path, seed: int, tries: int, keep: Path) -> Counter[str]:
    return _written("lines", writing.line_tries(folder, random.Random(f"lines:{seed}"), tries))


def _written(area: str, results: Iterator[tuple[str, str | None]]) -> Counter[str]:
    begin = time.monotonic()
    kinds, broken = writing.counted(results)
    print(f"{area}: {kinds.total()} tries in {time.monotonic() - begin:.0f} s, {broken.total()} broken")
    for kind, count in sorted(kinds.items()):
        print(f"  {count:5d} {kind}")
    return broken


SHARES = {"loading": 0.88, "reading": 0.1, "lines": 0.01, "writing": 0.01}
"""Areas, and which part of the tries each gets: a loader takes milliseconds, a writer that is killed a second."""

AREAS = {"reading": read_tries, "loading": load_tries, "writing": write_tries, "lines": line_tries}

if __name__ == "__main__":
    sys.exit(main())
