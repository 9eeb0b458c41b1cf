"""`python -m tests.torture`: try to break laptime, count what happened by kind, keep what broke.

python -m tests.torture --tries 20000            all areas; a run that was stopped goes on
python -m tests.torture --tries 20000 --record   the same, and benchmarks/results/torture.json with the counts
python -m tests.torture --areas reading --seed 7 --tries 500
python -m tests.torture --areas reading --again reading:7:123    one try once more, and all that it says
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.torture import guided, invoking, lines, loading, reading, serving, sweeping, writing
from tests.torture.forked import import_what_verbs_need, run_forked, scratch
from tests.torture.places import Place
from tests.torture.portions import Kept, Portion, Tried, counted, figures
from tests.torture.worlds import build

Area = Callable[[Place, int, range], Iterator[Tried]]

AREAS: dict[str, tuple[Area, float, int]] = {
    "sweeping": (sweeping.tried, 0.0025, 5), "serving": (serving.tried, 0.0025, 10), "writing": (writing.tried, 0.01, 20), "lines": (lines.tried, 0.005, 20),
    "invoking": (invoking.tried, 0.005, 25), "reading": (reading.tried, 0.1, 100),
    "guided": (guided.tried, 0.35, 350), "loading": (loading.tried, 0.525, 1000),
}  # fmt: skip
"""For each area: its tries, which part of all tries it gets, and how many make a portion. A loader takes milliseconds,
a sweep that is killed many seconds."""

RESULT = Path("benchmarks/results/torture.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--areas", default=",".join(AREAS), help="which, of " + ", ".join(AREAS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", help="AREA:SEED:NUMBER of one try")
    parser.add_argument("--keep", type=Path, default=Path("runs/torture"), help="where what broke and the counts go")
    parser.add_argument("--record", action="store_true", help=f"write the counts to {RESULT}")
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
            return again(Place(world, folder, asked.keep), area, int(seed), int(number))
        done = [*all_portions(Place(world, folder, asked.keep), asked.areas.split(","), asked.seed, asked.tries)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sums = figures(done)
    print(msgspec.json.format(msgspec.json.encode(sums), indent=1).decode())
    if asked.record:
        machine = {"python": platform.python_version(), "platform": platform.platform()}
        command = f"python -m tests.torture --tries {asked.tries} --record"
        whole = {"benchmark": "torture", "command": command, "environment": machine, "figures": sums}
        RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    return 1 if sums["broken"] else 0


def all_portions(place: Place, areas: list[str], seed: int, tries: int) -> Iterator[Portion]:
    """Try what no portion has yet, and what broke; every portion of this run."""
    kept = Kept(place.keep / "portions.jsonl")
    before = kept.all()
    of = sum(AREAS[area][1] for area in areas)
    for area in areas:
        tried, share, size = AREAS[area]
        count = round(tries * share / of)
        for first in range(0, count, size):
            numbers = range(first, min(count, first + size))
            known = before.get((area, seed, first, len(numbers)))
            if known is None or known.broken:
                begin = time.monotonic()
                found = [*said(tried(place, seed, numbers))]
                known = counted(area, seed, numbers, found, (begin, time.monotonic()))
                kept.add(known)
                print(
                    f"{area}: {numbers.stop} of {count} tries, {known.seconds:.0f} s, {len(known.broken)} broken",
                    flush=True,
                )
            yield known


def said(tried: Iterator[Tried]) -> Iterator[Tried]:
    """The same, with a line on each fault."""
    for one in tried:
        if one.fault:
            print(f"  {one.number}: {one.kind}: {one.fault.sort}: {one.fault.what}", flush=True)
        yield one


def again(place: Place, area: str, seed: int, number: int) -> int:
    """Do one try once more and print all that it says."""
    if area == "loading":
        loading.again(place, seed, number)
    elif area == "reading":
        reading.again(place, seed, number)
    else:
        print([*AREAS[area][0](place, seed, range(number, number + 1))])
    return 0


if __name__ == "__main__":
    sys.exit(main())
