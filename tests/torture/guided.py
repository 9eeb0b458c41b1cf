"""Loaders on inputs that a fuzzer guided by coverage makes (atheris): it keeps what reaches code that nothing reached.

Each portion is for one file of one artefact, in a process of its own, whose laptime is instrumented.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tests.torture.places import Place, keep_copy
from tests.torture.portions import Fault, Tried
from tests.torture.tries import general

LIMIT_S = 60
"""For one input: the engine ends a process that takes longer."""
MOST_BYTES = 60_000
LEAST_SHARE = 0.5


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    if find_spec("atheris") is None:
        raise SystemExit("guided: pip install atheris, or leave this area out (--areas)")
    folder = place.empty("guided")
    target = numbers.start // len(numbers)
    words = [str(place.world), str(folder), str(target), str(len(numbers)), str(seed + target)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.torture.guided", *words], capture_output=True, text=True, check=False
    )
    log = folder / "log.json"
    seen = json.loads(log.read_text()) if log.exists() else {"name": "?", "inputs": 0, "faults": []}
    faults = [Fault("tracebacks", f"{seen['name']}: {what}") for what in seen["faults"]]
    if ended.returncode and "libFuzzer: timeout" in ended.stderr:
        faults.append(Fault("hangs", f"{seen['name']}: hangs"))
    elif ended.returncode or seen["inputs"] < LEAST_SHARE * len(numbers):
        faults.append(Fault("other", f"{seen['name']}: the fuzzer ends with {ended.returncode}: {ended.stderr[-300:]}"))
    if faults:
        keep_copy(folder, place.keep / f"guided-{seed}-{numbers.start}")
    for number in numbers:
        fault = faults[number - numbers.start] if number - numbers.start < len(faults) else None
        yield Tried(number, f"guided, {seen['name']}", fault)


def fuzz(world: Path, folder: Path, target: int, count: int, seed: int) -> None:
    """Fuzz one file of an artefact in this process, which then ends."""
    import atheris

    with atheris.instrument_imports(include=["laptime"]):
        from laptime.errors import LaptimeError
        from tests.torture.loading import readers

        known = readers()
        files = [(one, file) for one in known for file in files_of(world / one.artefact)]
        random.Random("guided").shuffle(files)  # a short run looks at files of many kinds
        reader, original = files[target % len(files)]
        reader.read(world / reader.artefact)  # what is imported late is instrumented too
    place = folder / Path(reader.artefact).name
    if (world / reader.artefact).is_dir():
        shutil.copytree(world / reader.artefact, place)
        file = place / original.relative_to(world / reader.artefact)
    else:
        file = place
    (folder / "corpus").mkdir()
    (folder / "corpus" / "original").write_bytes(original.read_bytes())
    faults: dict[str, int] = {}
    inputs = 0

    def one(data: bytes) -> None:
        nonlocal inputs
        inputs += 1
        file.write_bytes(data)
        what = None
        try:
            reader.read(place)
        except LaptimeError as error:
            what = "the error is not one line" if "\n" in str(error) else None
        except BaseException as error:
            frames = reversed(traceback.extract_tb(error.__traceback__))
            own = next((f"{Path(f.filename).name}:{f.name}" for f in frames if "/laptime/" in f.filename), "?")
            what = general(f"{type(error).__name__} in {own}: {str(error)[:80]}")
        if what is not None and what not in faults:
            faults[what] = inputs
            (folder / f"broken-{len(faults)}").write_bytes(data)
        if what is not None or inputs % 50 == 0 or inputs >= count:
            name = f"{reader.name}, {original.name}"
            (folder / "log.json").write_text(json.dumps({"name": name, "inputs": inputs, "faults": list(faults)}))

    options = [f"-runs={count}", f"-seed={seed + 1}", f"-max_len={MOST_BYTES}", f"-timeout={LIMIT_S}",
               "-rss_limit_mb=6000", "-verbosity=0", "-print_final_stats=0"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], one)
    atheris.Fuzz()


def files_of(artefact: Path) -> list[Path]:
    """The files that it consists of; empty ones say nothing."""
    files = sorted(artefact.rglob("*")) if artefact.is_dir() else [artefact]
    return [file for file in files if file.is_file() and file.stat().st_size]


if __name__ == "__main__":
    fuzz(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]))
