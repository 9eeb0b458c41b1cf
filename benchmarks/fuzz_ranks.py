"""Feed damaged archives and folders of ranks to `read_ranks`: an answer or one line comes out, and nothing stays.

    LAPTIME_TRACES=FOLDER python benchmarks/fuzz_ranks.py --inputs 20000

Two or three small traces are put into a folder, a .zip, a .tar or a .tar.gz. Then the archive's bytes are damaged, or
one of its members before it is packed, or a member's name. What is broken: anything raised but LaptimeError, more than
one line, shares of a rank that exceed its span, a file outside the folder, a folder left in the place for temporary
files. The count goes to benchmarks/results/fuzz_ranks.json; what breaks is kept beside the temporary files.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

from fuzz_trace import LIMIT_S, mutated, seeds

from laptime.errors import LaptimeError
from laptime.trace.ranks import read_ranks
from recorded import record

NAMES = ("rank0.json", "rank1.json.gz", "worker_2.sqlite", "../../evil.json", "/etc/evil.json", "a/b/c.json", "..json")
SHAPES = ("folder", "zip", "tar", "tar.gz", "files")
KEPT = Path(tempfile.gettempdir()) / "broken-ranks"


def main() -> int:
    """The loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one process reads them all
    chance = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    slowest, began = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        work = Path(name)
        tempfile.tempdir = str(work / "temporary")
        Path(tempfile.tempdir).mkdir()
        made = work / "seeds"
        made.mkdir()
        contents = [content for _, content in seeds(Path(options.traces) if options.traces else None, made)]
        for i in range(options.inputs):
            paths = damaged(chance, contents, work / str(i))
            before = time.process_time()  # other work beside it makes nothing slow
            shape, verdict, wrong = look(paths, work)
            spent = time.process_time() - before
            slowest = max(slowest, spent)
            outcomes[f"{shape}: {verdict}"] += 1
            if wrong or spent > LIMIT_S:
                broken.append(keep(i, paths, wrong or "slow"))
            remove(work / str(i))
    figures = {
        "inputs": options.inputs,
        "seed": options.seed,
        "outcomes": dict(sorted(outcomes.items())),
        "broken": broken,
        "slowest_s": round(slowest, 3),
        "wall_s": round(time.perf_counter() - began, 1),
    }
    print(record("fuzz_ranks", figures, {"python": sys.version.split()[0], "cpu_count": os.cpu_count()}))
    print(f"{options.inputs} inputs, {len(broken)} broken")
    return 1 if broken else 0


def damaged(chance: random.Random, contents: list[bytes], folder: Path) -> list[Path]:
    """Some ranks in a folder or an archive, damaged somewhere."""
    folder.mkdir()
    names = [chance.choice(NAMES) if chance.random() < 0.3 else NAMES[i] for i in range(chance.randrange(1, 4))]
    members = [(name, chance.choice(contents)) for name in names]
    inside = chance.random() < 0.5
    if inside:
        at = chance.randrange(len(members))
        members[at] = (members[at][0], mutated(chance, members[at][1], contents)[0])
    shape = chance.choice(SHAPES)
    if shape in ("folder", "files"):
        for i, (name, content) in enumerate(members):
            target = folder / str(i) / Path(name).name
            target.parent.mkdir()
            target.write_bytes(content)
        return [folder] if shape == "folder" else sorted(path for path in folder.rglob("*") if path.is_file())
    data = packed(shape, members)
    if not inside:
        data = mutated(chance, data, [data])[0]
    target = folder / f"ranks.{shape}"
    target.write_bytes(data)
    return [target]


def packed(shape: str, members: list[tuple[str, bytes]]) -> bytes:
    """An archive's bytes."""
    whole = io.BytesIO()
    if shape == "zip":
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, (name, content) in enumerate(members):
                archive.writestr(f"{name}" if i == 0 else f"{i}/{name}", content)
        return whole.getvalue()
    with tarfile.open(fileobj=whole, mode="w:gz" if shape == "tar.gz" else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def look(paths: list[Path], work: Path) -> tuple[str, str, str | None]:
    """Read it: (its shape, what came out, what is wrong with that)."""
    shape = "folder" if paths[0].is_dir() else "".join(paths[0].suffixes) if len(paths) == 1 else "files"
    before = {path for path in work.iterdir() if path.name != "temporary"}
    try:
        ranks = read_ranks(*paths).ranks
        verdict, wrong = "read", None
        for one in ranks:
            if one.span_ns is not None and one.busy_ns is not None and not 0 <= one.busy_ns <= one.span_ns:
                wrong = f"busy for {one.busy_ns} of {one.span_ns} ns"
    except LaptimeError as error:
        verdict, wrong = "refused", None if "\n" not in str(error) else "more than one line"
    except BaseException:  # the point is to catch everything, also what is no Exception
        verdict, wrong = "crashed", traceback.format_exc()
    if left := [*(work / "temporary").iterdir(), *(set(work.iterdir()) - before - {work / "temporary"})]:
        wrong = wrong or f"left behind: {[path.name for path in left]}"
    return shape if shape in ("folder", "files") else "archive or file", verdict, wrong


def keep(number: int, paths: list[Path], wrong: str) -> str:
    """Copy what broke, and say why."""
    for path in paths:
        for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
            target = KEPT / str(number) / file.relative_to(path.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    print(f"broken: {KEPT / str(number)}\n{wrong}", file=sys.stderr, flush=True)
    return str(number)


def remove(folder: Path) -> None:
    """A folder of files and folders."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
