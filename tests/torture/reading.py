"""Tries on what laptime reads: damaged run folders, tables, older JSON, estimators, traces, YAML, questions."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.torture.damage import damaged_bytes, damaged_lines, damaged_value
from tests.torture.forked import run_try
from tests.torture.places import Place, keep_copy
from tests.torture.portions import Fault, Tried
from tests.torture.tries import Try, complaint

RUN_VERBS: tuple[tuple[str, ...], ...] = (
    ("audit", "RUN"), ("report", "RUN", "--html", "OUT.html"), ("export", "RUN", "--to", "OUT.parquet"),
    ("export", "RUN", "--format", "csv", "--to", "OUT.csv"),
    ("export", "RUN", "--format", "legacy-json", "--to", "OUT"), ("compare", "RUN", "GOOD"), ("compare", "GOOD", "RUN"),
    ("fit", "RUN", "--out", "OUT"), ("merge", "RUN", "GOOD", "--out", "OUT"), ("merge", "RUN", "--out", "OUT"),
    ("evaluate", "RUN"), ("evaluate", "EST", "RUN"),
    ("export", "RUN", "--format", "perfetto", "--to", "OUT.json"), ("report", "RUN", "--json"),
)  # fmt: skip
TABLE_VERBS: tuple[tuple[str, ...], ...] = (
    ("audit", "RUN"), ("report", "RUN", "--html", "OUT.html"), ("export", "RUN", "--to", "OUT.parquet"),
    ("export", "RUN", "--format", "csv", "--to", "OUT.csv"),
    ("export", "RUN", "--format", "legacy-json", "--to", "OUT"), ("fit", "RUN", "--out", "OUT"), ("evaluate", "RUN"),
    ("evaluate", "EST", "RUN"), ("predict", "EST", "RUN"),
    ("fit", "RUN", "--target", "total_ms", "--features", "config.top_k,config.blocks", "--group", "config_id", "--out",
     "OUT"),
)  # fmt: skip
EST_VERBS: tuple[tuple[str, ...], ...] = (
    ("predict", "RUN", "top_k=4", "blocks=8", "tier=low", "prompt_tokens=128", "image_tokens=576", "output_tokens=8"),
    ("budget", "RUN", "--budget-ms", "170", "--grid", "GRID"), ("evaluate", "RUN", "TABLE"),
)  # fmt: skip
TRACE_VERBS: tuple[tuple[str, ...], ...] = (
    ("trace", "RUN"), ("trace", "RUN", "--html", "OUT.html"), ("trace", "RUN", "--json"),
    ("export", "RUN", "--format", "perfetto", "--to", "OUT.json"),
)  # fmt: skip

Damage = Callable[[random.Random, bytes], tuple[str, bytes]]


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    """Verbs on damaged copies of what they read."""
    for number in numbers:
        folder = place.empty("try")
        asked = a_try(place.world, folder, random.Random(f"reading:{seed}:{number}"))
        fault = complaint(asked, run_try(asked))
        verb = asked.arguments[0]
        if fault:
            fault = Fault(fault.sort, f"{verb}: {fault.what}")
            keep_copy(folder, place.keep / f"reading-{seed}-{number}")
        yield Tried(number, f"{verb} on a damaged {asked.kind.partition(',')[0]}", fault)


def again(place: Place, seed: int, number: int) -> None:
    """One try once more, with all that it says."""
    asked = a_try(place.world, place.empty("try"), random.Random(f"reading:{seed}:{number}"))
    print(asked.kind, json.dumps(list(asked.arguments)))
    ended = run_try(Try(asked.kind, ["--debug", *asked.arguments], asked.folder, asked.environment))
    print(ended.code, ended.seconds)
    print(ended.out[-1500:])
    print(ended.err[-4000:])


def a_try(world: Path, folder: Path, chance: random.Random) -> Try:
    """A damaged copy of something in `folder`, and a verb that reads it."""
    makers = ((_run_try, 5), (_table_try, 4), (_legacy_try, 1), (_estimator_try, 2), (_trace_try, 1), (_grid_try, 1))
    (maker,) = chance.choices([m for m, _ in makers], [w for _, w in makers])
    return maker(world, folder, chance)


def _words(words: Sequence[str], world: Path, folder: Path, place: Path, chance: random.Random) -> list[str]:
    known = {"RUN": place, "GOOD": world / chance.choice(["sweep", "profile"]), "EST": world / "est",
             "TABLE": world / "sweep.parquet", "GRID": world / "grid.yaml"}  # fmt: skip
    words = [str(known.get(word, folder / word if word.startswith("OUT") else word)) for word in words]
    return [*words, "--json"] if chance.random() < 0.25 and "--json" not in words else words


def _run_try(world: Path, folder: Path, chance: random.Random) -> Try:
    source = world / chance.choice(["profile", "sweep", "sweep"])
    place = folder / "run"
    shutil.copytree(source, place)
    kinds = []
    for _ in range(chance.choice([1, 1, 1, 2])):
        file = chance.choice(sorted(place.iterdir()))
        if file.is_file():
            kinds.append(f"{file.name}: {damage_file(file, chance)}")
    return Try(
        f"run folder, {'; '.join(kinds)}", _words(chance.choice(RUN_VERBS), world, folder, place, chance), folder
    )


def damage_file(file: Path, chance: random.Random) -> str:
    """Damage a file in one way; which."""
    content = file.read_bytes()
    if chance.random() < 0.08:
        return _not_a_file(file, chance)
    ways: list[tuple[Damage, int]] = [(damaged_value, 6), (damaged_bytes, 4), (damaged_lines, 2)]
    (way,) = chance.choices([w for w, _ in ways], [n for _, n in ways])
    how, content = way(chance, content)
    file.write_bytes(content)
    return how


def _not_a_file(file: Path, chance: random.Random) -> str:
    file.unlink()
    what = chance.choice(["missing", "a folder", "a pipe", "a link to itself", "a link to nothing", "/dev/null"])
    if what == "a folder":
        file.mkdir()
    elif what == "a pipe":
        os.mkfifo(file)
    elif what == "a link to itself":
        file.symlink_to(file)
    elif what == "a link to nothing":
        file.symlink_to(file.with_name("nothing"))
    elif what == "/dev/null":
        file.symlink_to("/dev/null")
    return what


def _table_try(world: Path, folder: Path, chance: random.Random) -> Try:
    """A table: with one column of another type or value, written by a fork, or the bytes of one damaged."""
    suffix = chance.choice(["csv", "parquet"])
    place = folder / f"table.{suffix}"
    if chance.random() < 0.4:
        shutil.copy(world / f"sweep.{suffix}", place)
        kind = f"bytes: {damage_file(place, chance)}"
    else:
        kind = _odd_table(world / "sweep.parquet", place, chance)
    return Try(f"{suffix} table, {kind}", _words(chance.choice(TABLE_VERBS), world, folder, place, chance), folder)


def _odd_table(source: Path, place: Path, chance: random.Random) -> str:
    from tests.torture.forked import run_forked

    name = folder_note = place.with_suffix(".how")

    def write() -> int:
        how = odd_table(source, place, chance)
        folder_note.write_text(how)
        return 0

    chance.random()
    ended = run_forked(write)
    return name.read_text() if name.exists() else f"not written: {ended.err[-200:]}"


def odd_table(source: Path, place: Path, chance: random.Random) -> str:
    """Write a table with something odd in it; what."""
    import polars as pl

    frame = pl.read_parquet(source)
    hows = []
    for _ in range(chance.choice([1, 1, 2])):
        how, frame = _odd_frame(frame, chance)
        hows.append(how)
    removed(place)
    if place.suffix == ".csv":
        flat = frame.select(pl.col(name) for name, type_ in frame.schema.items()
                            if not type_.is_nested() and type_ not in (pl.Object, pl.Binary) and not isinstance(type_, pl.Duration))  # fmt: skip
        flat.write_csv(place)
    else:
        frame.write_parquet(place)
    return "; ".join(hows)


def _odd_frame(frame: Any, chance: random.Random) -> tuple[str, Any]:
    import polars as pl

    n = frame.height
    name = chance.choice(frame.columns)
    if chance.random() < 0.6:
        likely = [c for c in frame.columns if c.endswith("_ms") or c in ("repeat", "flags", "config_id")
                              or c.startswith("config.")]  # fmt: skip
        name = chance.choice(likely or frame.columns)
    rows = {
        "one row": lambda: frame.head(1), "no rows": lambda: frame.head(0), "two rows": lambda: frame.head(2),
        "rows twice": lambda: pl.concat([frame, frame]), "rows shuffled": lambda: frame.sample(fraction=1, shuffle=True),
        "warm-ups only": lambda: frame.with_columns(pl.lit(-1, pl.Int64).alias("repeat")) if n else frame,
        "repeat -5 in places": lambda: frame.with_columns(
            pl.when(pl.int_range(pl.len()) % 3 == 0).then(-5).otherwise(0).cast(pl.Int64).alias("repeat")),
        "columns shuffled": lambda: frame.select(chance.sample(frame.columns, len(frame.columns))),
        "few columns": lambda: frame.select(chance.sample(frame.columns, chance.randrange(1, len(frame.columns)))),
        "a column gone": lambda: frame.drop(name),
        "a name with an escape": lambda: frame.rename({name: f"\x1b[31m{name}\u202e"}),
        "a knob more": lambda: frame.with_columns(pl.lit("\x1b[31mred").alias("config.\x1b[1mevil")),
    }  # fmt: skip
    if chance.random() < 0.3:
        how = chance.choice(list(rows))
        try:
            return how, rows[how]()
        except Exception:
            return "as it was", frame
    nan, inf = float("nan"), float("inf")
    values: list[Any] = [
        [1.0, 2.0], {"a": 1}, b"\xff\x00", nan, inf, -inf, 1e308, -1e308, 5e-324, 0.0, -0.0, -1.0, 1e300, 2**62,
        2**63 - 1, -(2**63), "", "text", "\x1b[31mred", "\u202eevil", "nan", "inf", "1e999", True, None, "NaN",
        "9" * 400,
    ]  # fmt: skip
    value = chance.choice(values)
    odd = pl.Series(name, [value] * n) if value is not None else pl.Series(name, [None] * n)
    kinds = {
        "duration": lambda: pl.Series(name, range(n)).cast(pl.Duration("ms")),
        "date": lambda: pl.Series(name, range(n)).cast(pl.Int32).cast(pl.Date),
        "datetime": lambda: pl.Series(name, range(n)).cast(pl.Datetime("us")),
        "time": lambda: pl.Series(name, range(n)).cast(pl.Time),
        "decimal": lambda: pl.Series(name, range(n)).cast(pl.Decimal(20, 3)),
        "categorical": lambda: pl.Series(name, [str(i % 3) for i in range(n)]).cast(pl.Categorical),
        "unsigned 64": lambda: pl.Series(name, [2**64 - 1] * n, dtype=pl.UInt64),
        "float 32": lambda: pl.Series(name, [1e38] * n, dtype=pl.Float32),
        "int 8": lambda: pl.Series(name, [i % 100 for i in range(n)], dtype=pl.Int8),
        "boolean": lambda: pl.Series(name, [bool(i % 2) for i in range(n)]),
        "all the same": lambda: pl.Series(name, [1] * n),
    }
    if chance.random() < 0.35:
        how = chance.choice(list(kinds))
        return f"{name} is {how}", frame.with_columns(kinds[how]())
    if chance.random() < 0.5 and n:
        places = pl.Series([chance.random() < chance.choice([0.02, 0.5]) for _ in range(n)])
        try:
            mixed = pl.select(pl.when(places).then(odd).otherwise(frame[name]).alias(name)).to_series()
            return f"{name} is {str(value)[:12]!r} in places", frame.with_columns(mixed)
        except Exception:
            return "as it was", frame
    return f"{name} is {str(value)[:12]!r}", frame.with_columns(odd)


def _legacy_try(world: Path, folder: Path, chance: random.Random) -> Try:
    place = folder / "legacy"
    shutil.copytree(world / "legacy", place)
    file = chance.choice(sorted(place.iterdir()))
    how = damage_file(file, chance)
    target = place if chance.random() < 0.5 else file
    return Try(f"older JSON, {how}", _words(chance.choice(TABLE_VERBS[:6]), world, folder, target, chance), folder)


def _estimator_try(world: Path, folder: Path, chance: random.Random) -> Try:
    place = folder / "est"
    shutil.copytree(world / "est", place)
    file = chance.choice(sorted(path for path in place.rglob("*") if path.is_file()))
    how = damage_file(file, chance)
    words = _words(chance.choice(EST_VERBS), world, folder, place, chance)
    return Try(f"estimator, {file.name.partition('-')[0]}: {how}", words, folder)


def _trace_try(world: Path, folder: Path, chance: random.Random) -> Try:
    source = world / chance.choice(["trace.json", "trace.json.gz", "trace.sqlite"])
    place = folder / source.name
    shutil.copy(source, place)
    how = damage_file(place, chance)
    return Try(f"{source.name}, {how}", _words(chance.choice(TRACE_VERBS), world, folder, place, chance), folder)


def _grid_try(world: Path, folder: Path, chance: random.Random) -> Try:
    place = folder / "grid.yaml"
    how, text = odd_yaml(chance, (world / "grid.yaml").read_text())
    place.write_bytes(text)
    words = ["budget", str(world / "est"), "--budget-ms", "170", "--grid", str(place)]
    return Try(f"grid, {how}", words, folder)


YAMLS: tuple[str, ...] = (
    "\x00", "- \x00", "9" * 5000, "[" * 400, "[" * 100_000, "{a: " * 400, "a: " * 50, "- " * 3000, "null",
    "2001-99-99", "9999-99-99T99:99:99", "0x" + "f" * 6000, "1:" * 2000 + "1", "!!python/object:os.system x",
    "&a [*a, *a]", "*nothing", "? [a]\n: b", "\ud800", "\u2028", "\x1b[31m", "%YAML 9.9\n---\n1", "--- 1\n--- 2",
    "!!binary //8=", "!!set {a}", "!!timestamp 0000-00-00", ".nan", ".inf", "1e999", "~", "''", "{}", "[]", "[[1]]",
    "yes", "\t", "|\n  text", ">-\n  text", "<<: {a: 1}", "08", "0b2", "1_000", "+.e", "=", "-", "{", "'", '"', "&", "@",
    "`", "'\\ud800'", '"\\ud800"', '"\\x1b[31m"', "!!int 1" + "0" * 6000, "-1", "1e18", "99999999999",
)  # fmt: skip
"""YAML that goes wrong somewhere, to stand in the place of a value."""


def odd_yaml(chance: random.Random, text: str) -> tuple[str, bytes]:
    """(how, content) of a YAML text with one value, one line or some bytes replaced."""
    way = chance.randrange(4)
    lines = text.splitlines()
    at = chance.randrange(len(lines))
    odd = chance.choice(YAMLS)
    if way == 0:
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {odd}" if colon else odd
    elif way == 1:
        lines.insert(at, odd)
    elif way == 2 and "[" in lines[at]:
        lines[at] = lines[at].replace(lines[at][lines[at].index("[") + 1 :].split(",")[0].rstrip("]"), odd, 1)
    else:
        how, content = damaged_bytes(chance, text.encode())
        return f"bytes {how}", content
    return f"{odd[:14]!r} put in", "\n".join(lines).encode("utf-8", "surrogatepass")


def removed(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
