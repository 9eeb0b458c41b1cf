"""Feed damaged traces to both readers: an answer or one line comes out, soon, and no invented number.

    LAPTIME_TRACES=FOLDER python benchmarks/fuzz_trace.py --mutations 150000 --atheris 60000

Two ways: plain mutation (files cut, bits flipped, bytes moved and replaced by what hurts parsers) of small real traces,
of whole real files and of written ones; and coverage-guided mutation by atheris. An input is broken when the reader
raises anything but LaptimeError, when its line is not one line, when the timeline is not in order, when reading takes
over ten seconds of processor time, or when a file that was merely cut yields a row that the whole file does not have.
What breaks is kept in tests/trace/read/corpus, unless it is made of a real file. Counts go to
benchmarks/results/fuzz_trace.json.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE.parent / "tests" / "trace" / "read" / "corpus"
RESULT = HERE / "results" / "fuzz_trace.json"
LIMIT_S = 10.0
NASTY = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b",",
        b":",
        b"\n",
        b"\x00",
        b"\xff",
        b"null",
        b"NaN",
        b"-Infinity",
        b"1e999",
    ),
    *(b"-1", b"9" * 30, b'{"ph": "X"}', b"[" * 200, b'{"a":' * 200, b"}, {", b'"traceEvents": [', b"\xed\xa0\x80"),
    *(b'"kernel"', b"0.0000000001", b"18446744073709551616", b'"ts"', b'"dur": -5', b"\\u0000", b"\\ud800"),
)

Rows = set[tuple[object, ...]]


def look(path: Path, whole: Rows | None, analyse: bool) -> tuple[str, str | None]:
    """Read one file: (what came out, what is wrong with that)."""
    from laptime.errors import LaptimeError
    from laptime.trace.analysis import analyse as analyse_timeline
    from laptime.trace.integrity import check
    from laptime.trace.read.reading import read_timeline

    started = time.process_time()  # a busy machine is no fault of the reader's
    try:
        timeline = read_timeline(path)
        verdict = check(timeline).verdict
        wrong = disorder(timeline)
        if whole is not None and not rows_of(timeline) <= whole:
            wrong = "rows that the whole file does not have"
        if analyse and wrong is None:
            analyse_timeline(timeline)
    except LaptimeError as error:
        verdict, wrong = "refused", None if "\n" not in str(error) else "more than one line"
    except BaseException:  # the point is to catch everything, also what is no Exception
        verdict, wrong = "crashed", traceback.format_exc()
    if time.process_time() - started > LIMIT_S:
        wrong = f"took {time.process_time() - started:.1f} s of the processor's time"
    return verdict, wrong


def disorder(timeline: object) -> str | None:
    """What is not as timeline.py promises."""
    for table in (timeline.activities, timeline.calls, timeline.ranges):  # type: ignore[attr-defined]
        columns = [getattr(table, name) for name in table.__slots__]
        if len({len(column) for column in columns if len(column) or not optional(table, column)}) > 1:
            return "columns of unequal length"
        if (table.end_ns < table.start_ns).any() or (table.start_ns[1:] < table.start_ns[:-1]).any():
            return "rows out of order"
        if len(table.name) and not 0 <= table.name.min() <= table.name.max() < len(timeline.strings):  # type: ignore[attr-defined]
            return "names out of range"
    return None


def optional(table: object, column: object) -> bool:
    """Whether a column may be empty: it has a default."""
    fields = table.__struct_fields__  # type: ignore[attr-defined]
    defaults = table.__struct_defaults__  # type: ignore[attr-defined]
    return any(getattr(table, name) is column for name in fields[len(fields) - len(defaults) :])


def rows_of(timeline: object) -> Rows:
    """Times, device and stream of every activity."""
    a = timeline.activities  # type: ignore[attr-defined]
    columns = (a.start_ns, a.end_ns, a.device, a.stream, a.correlation)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def small_kineto(path: Path) -> list[bytes]:
    """The first events of each kind of a real file, as Kineto writes them and without spaces."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    events, seen = [], Counter()
    for event in data["traceEvents"]:
        kind = (event.get("ph"), event.get("cat"))
        seen[kind] += 1
        if seen[kind] <= 4:
            events.append(event)
    head = {
        key: value for key, value in data.items() if key in ("schemaVersion", "displayTimeUnit", "deviceProperties")
    }
    small = head | {"traceEvents": events, "traceName": "x"}
    return [json.dumps(small, indent=2).encode(), json.dumps(small, separators=(",", ":")).encode()]


def small_nsys(path: Path, folder: Path) -> bytes:
    """The first rows of the tables that are read."""
    target = folder / "small.sqlite"
    target.unlink(missing_ok=True)
    source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    small = sqlite3.connect(target)
    small.execute("PRAGMA page_size = 1024")
    wanted = "name GLOB 'CUPTI_ACTIVITY_KIND_*' OR name GLOB 'NVTX_*' OR name IN ('StringIds', 'PROFILER_OVERHEAD')"
    wanted += " OR name GLOB '*META_DATA*' OR name = 'TARGET_INFO_CUDA_DEVICE'"
    for name, sql in source.execute(
        f"SELECT name, sql FROM sqlite_master WHERE type = 'table' AND ({wanted})"
    ).fetchall():
        small.execute(sql)
        rows = source.execute(f'SELECT * FROM "{name}" LIMIT 25').fetchall()
        if rows:
            small.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(rows[0]))})', rows)
    small.commit()
    small.close()
    return target.read_bytes()


def seeds(traces: Path | None, folder: Path) -> list[tuple[str, bytes]]:
    """(reader, content) of small valid files."""
    sys.path.insert(0, str(HERE.parent))
    from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

    at = 1_712_195_495_519_689_034
    activities = [ActivityRow(at + 90 * i, at + 90 * i + 61, f"k{i % 5}", correlation=i + 1) for i in range(12)]
    calls = [CallRow(at + 90 * i - 5_000, at + 90 * i - 4_000, correlation=i + 1) for i in range(12)]
    ranges = [RangeRow(at - 9_000, at + 9_000)]
    contents = [
        ("kineto", write_kineto(folder / name, activities, calls, ranges, style=style).read_bytes())
        for style in ("2025", "2021")
        for name in ("t.json", "t.json.gz")
    ]
    contents.append(("nsight", write_nsys(folder / "t.sqlite", activities, calls, ranges).read_bytes()))
    if traces is not None:
        for path in sorted(traces.glob("*.json.gz")):
            contents += [("kineto", content) for content in small_kineto(path)]
        contents += [("nsight", small_nsys(path, folder)) for path in sorted(traces.glob("*.sqlite"))]
    return contents


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> tuple[bytes, bool]:
    """A damaged copy, and whether it was merely cut. Moved bytes make no database at all: there bits flip mostly."""
    flips_only = data.startswith(b"SQLite") and chance.random() < 0.8
    if chance.random() < 0.2:
        return data[: chance.randrange(1, len(data))], True
    changed = bytearray(data)
    for _ in range(1 << chance.randrange(5)):
        at = chance.randrange(len(changed)) if changed else 0
        way = chance.randrange(2 if flips_only else 6)
        if way <= 1 and changed:
            changed[at] ^= 1 << chance.randrange(8)
        elif way == 2:
            changed[at : at + chance.randrange(20)] = chance.choice(NASTY)
        elif way == 3:
            changed[at:at] = chance.choice(NASTY)
        elif way == 4:
            del changed[at : at + 1 << chance.randrange(12)]
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other))
            changed[at:at] = other[start : start + chance.randrange(300)]
    return bytes(changed), False


def mutate(count: int, traces: Path | None, seed: int) -> dict[str, Any]:
    """The plain loop."""
    from laptime.trace.read.reading import read_timeline

    chance = random.Random(seed)
    outcomes: dict[str, Counter[str]] = {"kineto": Counter(), "nsight": Counter()}
    broken: list[str] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        written = {content for _, content in seeds(None, folder)}
        small = seeds(traces, folder)
        large = []
        if traces is not None:
            large = [("nsight", path.read_bytes()) for path in sorted(traces.glob("*.sqlite"))]
            large += [
                ("kineto", path.read_bytes()) for path in sorted(traces.glob("*.gz")) if path.stat().st_size < 500_000
            ]
        path = folder / "input"
        rows = {}
        for _, content in small + large:
            path.write_bytes(content)
            rows[content] = rows_of(read_timeline(path))
        started, slowest = time.perf_counter(), 0.0
        for i in range(count):
            pool = large if large and i % 100 == 0 else small
            reader, content = chance.choice(pool)
            if i % 2 and pool is small:  # as many for the one reader as for the other
                reader, content = chance.choice([entry for entry in small if entry[0] == "nsight"])
            data, cut = mutated(chance, content, [entry[1] for entry in small if entry[0] == reader])
            path.write_bytes(data)
            before = time.perf_counter()
            verdict, wrong = look(path, rows[content] if cut else None, i % 4 == 0)
            slowest = max(slowest, time.perf_counter() - before)
            outcomes[reader][verdict] += 1
            if wrong:
                broken.append(keep(data, wrong, ours=content in written))
    return {
        "inputs": count,
        "seed": seed,
        "outcomes": {reader: dict(counts) for reader, counts in outcomes.items()},
        "broken": broken,
        "slowest_s": round(slowest, 3),
        "wall_s": round(time.perf_counter() - started, 1),
    }


def keep(data: bytes, wrong: str, ours: bool) -> str:
    """Put an input that broke a reader into the tests' corpus, or, made of somebody else's file, beside it."""
    folder = CORPUS if ours else Path(tempfile.gettempdir()) / "laptime-broken-traces"
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:12]
    (folder / name).write_bytes(data)
    print(f"broken: {folder / name}\n{wrong}", file=sys.stderr)
    return name


def guided(count: int, log: Path, seeds_folder: Path, input_path: Path) -> None:
    """One atheris process: it never returns, so it keeps its counts in a file."""
    import atheris

    with atheris.instrument_imports(include=["laptime.trace"]):
        import laptime.trace.analysis
        import laptime.trace.read.reading  # noqa: F401
    outcomes: Counter[str] = Counter()
    state = {"slowest_s": 0.0, "broken": []}

    def one(data: bytes) -> None:
        input_path.write_bytes(data)
        before = time.perf_counter()
        verdict, wrong = look(input_path, None, analyse=sum(outcomes.values()) % 4 == 0)
        state["slowest_s"] = max(state["slowest_s"], round(time.perf_counter() - before, 3))
        outcomes[verdict] += 1
        if wrong:
            state["broken"].append(keep(data, wrong, ours=False))
        total = sum(outcomes.values())
        if total % 500 == 0 or total >= count:
            log.write_text(json.dumps({"inputs": total, "outcomes": dict(outcomes), **state}))

    options = [
        f"-runs={count}",
        "-max_len=60000",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds_folder)], one)
    atheris.Fuzz()


def run_guided(count: int, traces: Path | None) -> dict[str, dict[str, Any]]:
    """Atheris once per reader, each in a process of its own."""
    result = {}
    for reader in ("kineto", "nsight"):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
            folder = Path(name)
            corpus = folder / "corpus"
            corpus.mkdir()
            for i, (kind, content) in enumerate(seeds(traces, folder)):
                if kind == reader:
                    (corpus / str(i)).write_bytes(content)
            log = folder / "log.json"
            started = time.perf_counter()
            arguments = [str(count // 2), str(log), str(corpus), str(folder / "input")]
            done = subprocess.run(
                [sys.executable, __file__, "--guided", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            counts = json.loads(log.read_text()) if log.exists() else {"inputs": 0}
            if done.returncode:
                counts["exit"] = done.stderr[-2000:]
            result[reader] = counts | {"wall_s": round(time.perf_counter() - started, 1)}
    return result


def main() -> int:
    """Run both ways and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=150_000)
    parser.add_argument("--atheris", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--guided", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.guided:
        count, *paths = options.guided
        guided(int(count), *map(Path, paths))
        return 0
    packages = ["msgspec", "numpy", "isal", *(["atheris"] if options.atheris else [])]
    try:  # before the work, not after it
        versions = {name: version(name) for name in packages}
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is not installed: pip install {error.name}, or --atheris 0")
    traces = Path(options.traces) if options.traces else None
    with ThreadPoolExecutor(1) as beside:  # it only waits for processes of its own
        by_coverage = beside.submit(run_guided, options.atheris, traces) if options.atheris else None
        mutation = mutate(options.mutations, traces, options.seed)
    counts_by_coverage = by_coverage.result() if by_coverage else {}
    result: dict[str, object] = {
        "what": "damaged traces fed to both readers, the integrity checks and, every fourth, the whole analysis",
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            **versions,
            "sqlite": sqlite3.sqlite_version,
            "real_traces": len(list(traces.iterdir())) if traces else 0,
        },
        "mutation": mutation,
        "coverage_guided": counts_by_coverage,
    }
    all_counts = [mutation, *counts_by_coverage.values()]
    result["inputs"] = sum(counts["inputs"] for counts in all_counts)
    result["broken"] = sum(len(counts.get("broken", ())) + ("exit" in counts) for counts in all_counts)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['inputs']} inputs, {result['broken']} broken; {options.output}")
    return 1 if result["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
