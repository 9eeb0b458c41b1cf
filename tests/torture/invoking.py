"""Every verb, started as a process of its own on an odd machine: encodings, narrow terminals, names, closed streams.

The input is whole. So a verb answers, or says in one line what is missing on that machine.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.torture.forked import LIMIT_S, processor_seconds
from tests.torture.places import Place
from tests.torture.portions import Fault, Tried
from tests.torture.tries import ANSWERS, Ended, Try, complaint

VERBS: tuple[tuple[str, ...], ...] = (
    ("audit", "profile"), ("audit", "sweep", "--html", "OUT.html"), ("audit", "legacy"), ("audit", "sweep.csv"),
    ("audit", "sweep", "--junit", "OUT.xml"), ("audit", "sweep", "--json"),
    ("report", "sweep", "--html", "OUT.html"), ("report", "profile", "--html", "OUT.html"), ("report", "profile"),
    ("compare", "profile", "sweep"), ("compare", "sweep", "sweep", "--json"),
    ("export", "sweep", "--to", "OUT.parquet"), ("export", "sweep", "--format", "csv", "--to", "OUT.csv"),
    ("export", "profile", "--format", "perfetto", "--to", "OUT.json"),
    ("export", "sweep", "--format", "legacy-json", "--to", "OUT"),
    ("export", "profile", "--format", "prometheus", "--to", "OUT.prom"),
    ("export", "profile", "--format", "otlp-json", "--to", "OUT.otlp.json"),
    ("merge", "sweep", "--out", "OUT"), ("fit", "sweep", "--out", "OUT"), ("fit", "sweep.parquet", "--out", "OUT"),
    ("evaluate", "est", "sweep.csv"), ("evaluate", "sweep"),
    ("predict", "est", "top_k=4", "blocks=8", "tier=low", "prompt_tokens=128", "image_tokens=576", "output_tokens=8"),
    ("predict", "est", "sweep.csv"), ("budget", "est", "--budget-ms", "170", "--grid", "grid.yaml"),
    ("trace", "trace.json"), ("trace", "trace.sqlite", "--html", "OUT.html"), ("trace", "trace.json.gz", "--json"),
    ("engine", "profile"), ("env",), ("env", "--json"), ("--version",), ("--help",), ("sweep", "sweep.yaml", "--nothing"),
    ("profile", "--help"), ("control", "train", "--help"), ("control", "evaluate", "sweep", "policy", "--features",
     "features"), ("control", "train", "sweep", "--estimator", "est", "--features", "features", "--out", "OUT"),
    ("nothing",), ("profile", "preset:nothing", "--out", "OUT"), ("sweep", "grid.yaml", "--out", "OUT"),
    ("serve-bench", "http://127.0.0.1:9", "--concurrency", "1", "--requests", "1", "--out", "OUT"),
    ("remedy", "nothing", "--out", "OUT"), ("importance", "nothing", "--out", "OUT.json"),
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What is odd. before: shell words that run first. name: of the folder that everything lies in."""

    environment: Mapping[str, str | None] = field(default_factory=dict)
    before: str = ""
    name: bytes = b"place"
    closed: Sequence[int] = ()
    nobody: bool = False
    columns: int = 0


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
MACHINES: dict[str, Machine] = {
    "ascii": Machine(ASCII),
    "ascii, 20 columns": Machine({**ASCII, "COLUMNS": "20"}, columns=20),
    "20 columns": Machine({"COLUMNS": "20"}, columns=20),
    "40 columns": Machine({"COLUMNS": "40"}, columns=40),
    "1 column": Machine({"COLUMNS": "1"}),
    "no columns": Machine({"COLUMNS": "0"}),
    "latin-1": Machine(LATIN),
    "no HOME": Machine({"HOME": None, "XDG_CACHE_HOME": None}),
    "HOME that is no folder": Machine({"HOME": "/dev/null", "XDG_CACHE_HOME": None}),
    "no variables": Machine(dict.fromkeys(("HOME", "PATH", "LANG", "TERM", "TMPDIR", "USER"))),
    "names with control characters": Machine(name=b"a\x1b[31mred\x07\nb\xe2\x80\xaec"),
    "names that are no UTF-8": Machine(name=b"caf\xe9-\xff"),
    "ascii and such names": Machine(ASCII, name=b"caf\xe9-\x1b]0;title\x07"),
    "names like options and formats": Machine(name=b"[bold]{x}%s<b>'\"`$(id) ;&"),
    "long names": Machine(name=b"n" * 200),
    "no stdin": Machine(closed=(0,)), "no stdout": Machine(closed=(1,)), "no stderr": Machine(closed=(2,)),
    "no streams": Machine(closed=(0, 1, 2)),
    "read-only folders": Machine(nobody=True),
    "one processor": Machine(before="taskset -c 0"),
    "full disk": Machine(name=b"full"),
    "folder gone": Machine(name=b"gone"),
    "colours": Machine({"FORCE_COLOR": "1", "COLUMNS": "40"}),
}  # fmt: skip


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    pairs = [(verb, machine) for verb in VERBS for machine in MACHINES]
    random.Random(f"invoking:{seed}").shuffle(pairs)
    for number in numbers:
        words, name = pairs[number % len(pairs)]
        kind = f"{words[0]}, {name}"
        asked, ended = _ended(place, words, name, MACHINES[name])
        fault = _complaint(asked, ended, MACHINES[name])
        if fault:
            fault = Fault(fault.sort, f"{' '.join(words[:2])}, {name}: {fault.what}")
        yield Tried(number, kind, fault)


def _ended(place: Place, words: Sequence[str], kind: str, machine: Machine) -> tuple[Try, Ended]:
    """Run the words in a copy of the world."""
    folder = place.empty("invoking")
    inside = Path(os.fsdecode(os.path.join(os.fsencode(folder), machine.name)))
    inside.mkdir(parents=True)
    for entry in place.world.iterdir():
        if entry.name != "other":
            copy = shutil.copytree if entry.is_dir() else shutil.copy
            copy(entry, inside / entry.name)
    relative = kind in ("folder gone", "ascii", "full disk")
    known = {entry.name for entry in place.world.iterdir()}
    shown = [
        word if relative or not (word in known or word.startswith("OUT")) or number == 0 else str(inside / word)
        for number, word in enumerate(words)
    ]
    before, after = f"cd {_quoted(inside)}; ", ""
    if kind == "folder gone":
        before += f"rm -rf {_quoted(inside)}; "
    if machine.nobody:
        os.chmod(folder, 0o755)
        os.chmod(place.folder, 0o755)
        before += "exec setpriv --reuid 65534 --regid 65534 --clear-groups "
    elif kind == "full disk":
        before = f"cd {_quoted(inside)}; mount -t tmpfs -o size=4k tmpfs . 2>/dev/null; cp -r {_quoted(place.world)}/sweep . 2>/dev/null; "
        after = f"; code=$?; cd /; umount -l {_quoted(inside)}; exit $code"
    after = "".join(f" {number}>&-" for number in machine.closed) + after
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _paths()}
    for variable, value in machine.environment.items():
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = value
    command = f"{before}{machine.before} {sys.executable} -m laptime {' '.join(map(_quoted, shown))}{after}"
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    out, err, code = _read(process)
    asked = Try(kind, shown, folder, codes=ANSWERS, quiet_words="names" in kind or words[0] == "env")
    return asked, Ended(code, out, err, 0.0)


def _read(process: subprocess.Popen[bytes]) -> tuple[str, str, int | None]:
    code: int | None
    try:
        out, err = process.communicate(timeout=10 * LIMIT_S)
        code = process.returncode
    except subprocess.TimeoutExpired:
        print(processor_seconds(process.pid))
        process.kill()
        (out, err), code = process.communicate(), None
    return out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), code


def _complaint(asked: Try, ended: Ended, machine: Machine) -> Fault | None:
    if 2 in machine.closed and ended.code == 2:
        ended = replace(ended, err="one line")
    styled = re.compile("\x1b\\[[0-9;]*m") if "FORCE_COLOR" in machine.environment else None
    if styled:
        ended = replace(ended, out=styled.sub("", ended.out), err=styled.sub("", ended.err))
    usage = [line for line in ended.err.strip().splitlines() if line.startswith("laptime: ")]
    if ended.code == 2 and len(usage) == 1 and not asked.arguments[0].startswith("-"):
        ended = replace(ended, err=ended.err if len(ended.err.strip().splitlines()) == 1 else usage[0] + "\n(more)")
    fault = complaint(asked, ended)
    if fault is None and machine.columns and "--json" not in asked.arguments:
        fault = _too_wide(ended.out, machine.columns)
    return fault


def _too_wide(out: str, columns: int) -> Fault | None:
    """A figure that was cut off: rich's ellipsis after a digit."""
    cut = re.search(r"\d+…|[\d.]+\.\.\.(?!\d)|\d…", out)
    return Fault("other", f"a figure is cut at {columns} columns: {cut[0]!r}") if cut else None


def _paths() -> str:
    return os.pathsep.join(path for path in sys.path if path and os.path.isdir(path))


def _quoted(word: object) -> str:
    return "'" + os.fsdecode(os.fsencode(str(word))).replace("'", "'\\''") + "'"
