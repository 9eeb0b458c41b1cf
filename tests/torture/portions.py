"""What a portion of the tries came to, kept line by line, so that a run that was stopped goes on where it stopped.

A portion in which something broke is tried again by the next run: its line counts no more.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import msgspec

Sort = Literal["tracebacks", "hangs", "lost or doubled keys", "mixed artefacts", "raw escapes", "other"]
"""The sorts of faults that are counted."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with how a try ended. what: in words that are the same for all tries of a kind."""

    sort: Sort
    what: str


class Tried(msgspec.Struct, frozen=True):
    """One try: what was done, and what was wrong afterwards. kills, resumes: how many of them it had in it."""

    number: int
    kind: str
    fault: Fault | None = None
    kills: int = 0
    resumes: int = 0


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """Tries of one area, counted. broken: faults by their words. examples: the first try of each fault."""

    area: str
    seed: int
    first: int
    tries: int
    kinds: dict[str, int]
    faults: dict[str, int]
    broken: dict[str, int]
    examples: dict[str, str]
    kills: int
    resumes: int
    seconds: float
    commit: str

    @property
    def place(self) -> tuple[str, int, int, int]:
        return self.area, self.seed, self.first, self.tries


def counted(area: str, seed: int, numbers: range, tried: Iterable[Tried], clock: tuple[float, float]) -> Portion:
    """Count tries. clock: when they began and ended, in seconds."""
    kinds: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kills = resumes = 0
    for one in tried:
        kinds[one.kind] += 1
        kills, resumes = kills + one.kills, resumes + one.resumes
        if one.fault:
            faults[one.fault.sort] += 1
            broken[one.fault.what] += 1
            examples.setdefault(one.fault.what, f"{area}:{seed}:{one.number}")
    return Portion(
        area=area, seed=seed, first=numbers.start, tries=len(numbers), kinds=dict(kinds), faults=dict(faults),
        broken=dict(broken), examples=examples, kills=kills, resumes=resumes, seconds=clock[1] - clock[0],
        commit=commit(),
    )  # fmt: skip


def commit() -> str:
    """The commit of the code that is tried, with `+` where files differ from it."""

    def said(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    return said("rev-parse", "--short", "HEAD") + ("+" if said("status", "--porcelain", "-uno") else "")


class Kept:
    """The file of the portions that were tried."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)

    def all(self) -> dict[tuple[str, int, int, int], Portion]:
        """The last line of each portion."""
        if not self.file.exists():
            return {}
        whole = self.file.read_bytes()
        lines = whole[: whole.rfind(b"\n") + 1].splitlines()
        portions = [msgspec.json.decode(line, type=Portion) for line in lines]
        return {portion.place: portion for portion in portions}

    def add(self, portion: Portion) -> None:
        with self.file.open("ab") as out:
            out.write(msgspec.json.encode(portion) + b"\n")


def figures(portions: Iterable[Portion]) -> dict[str, object]:
    """The sums of all portions: what a results file holds."""
    areas: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    faults: Counter[str] = Counter(dict.fromkeys(get_args(Sort), 0))
    broken: Counter[str] = Counter()
    commits: set[str] = set()
    seconds = 0.0
    for one in portions:
        areas.setdefault(one.area, Counter()).update(tries=one.tries, kills=one.kills, resumes=one.resumes)
        kinds.setdefault(one.area, Counter()).update(one.kinds)
        faults.update(one.faults)
        broken.update(one.broken)
        commits.add(one.commit)
        seconds += one.seconds
    total = sum(areas.values(), Counter())
    return {
        "tries": total["tries"], "broken": broken.total(), "faults": dict(faults), "kinds_of_faults": dict(broken),
        "kills_9": total["kills"], "resumes_on_another_day": total["resumes"],
        "areas": {area: {"tries": count["tries"], "kills_9": count["kills"], "resumes_on_another_day": count["resumes"],
                         "kinds": _few(kinds[area])} for area, count in areas.items()},
        "commits": sorted(commits), "seconds": round(seconds),
    }  # fmt: skip


def _few(kinds: Counter[str]) -> dict[str, int]:
    """Kinds with their counts, the most frequent first; beyond forty they are summed up."""
    most = kinds.most_common(40)
    rest = len(kinds) - len(most)
    return dict(most) | ({f"{rest} further kinds": kinds.total() - sum(n for _, n in most)} if rest else {})
