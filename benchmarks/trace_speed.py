"""How fast is a trace read and analysed, whole processes, against what people use now?

    LAPTIME_TRACES=FOLDER LAPTIME_PEER_PYTHON=E/bin/python python benchmarks/trace_speed.py

`laptime` is the whole command (trace FILE --json), `library` read_trace() in one process. The peer is
HolisticTraceAnalysis (load and idle-time breakdown) in an environment of its own: python -m venv E && E/bin/pip install
HolisticTraceAnalysis. Beside it json.loads, which only parses. The files are made of a real trace, repeated with
shifted times and ids. Runs take turns, so a machine that is busy
with other things slows all of them; ratios are of neighbours.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from laptime.data.stats import median_interval, ratio_of_medians
from recorded import as_installed, record

ROOT = Path(__file__).resolve().parent.parent
MB = 1_000_000
LIBRARY = "import sys; from laptime.trace.analysis import read_trace; print(read_trace(sys.argv[1]).devices[0].idle_ns)"
OUR_READER = (
    "import os, sys; os.environ['OPENBLAS_NUM_THREADS'] = '1'; "  # as the command does
    "from laptime.trace.read.reading import read_timeline; read_timeline(sys.argv[1])"
)
JSON = "import json, sys; json.loads(open(sys.argv[1], 'rb').read())"
PEER = """
import sys
from hta.trace_analysis import TraceAnalysis
analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/")
print(analysis.get_idle_time_breakdown(visualize=False)[0])
"""
_SHIFTED = re.compile(rb'"(ts|correlation|External id|id)": (\d+)')
_BETWEEN = re.compile(rb"(?<=\n  \}),\n(?=  \{)")
_IDS_PER_COPY = 10_000_000


@dataclass(frozen=True)
class Run:
    """One whole process."""

    seconds: float
    peak_mb: float
    processor_s: float  # of the process and those that it waited for: other work beside it changes this little


def run(command: list[str], path: Path, *, watched: bool = False) -> Run:
    """Start a process and wait for it. Raises RuntimeError when it fails.

    Only a watched one says what memory it took. Watching takes a second processor's time, so its seconds don't count.
    """
    for part in [path] if path.is_file() else sorted(path.iterdir()):
        with part.open("rb") as file:  # so that nobody waits for the disk
            while file.read(MB):
                pass
    filled = [str(path) if word == "FILE" else word for word in command]
    with tempfile.TemporaryFile() as errors:
        before, begin = os.times(), time.perf_counter()
        process = subprocess.Popen(filled, stdout=subprocess.DEVNULL, stderr=errors)
        watch = Watch(process.pid)
        if watched:
            watch.start()
        process.wait()
        seconds, after = time.perf_counter() - begin, os.times()
        if watched:
            watch.join()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command[0]} {path.name}: {errors.read()[-500:].decode()}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, watch.most_kb * 1024 / MB, spent)


class Watch(threading.Thread):
    """What a process and its children take at most: its own high-water mark, and all of them together every 5 ms.

    Pages that a child shares with its parent are counted twice, so this is rather too much than too little.
    """

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid, self.most_kb = pid, 0

    def run(self) -> None:
        task = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        while (own := memory_kb(self.pid)) is not None:
            try:
                children = [memory_kb(int(child)) for child in task.read_text().split()]
            except OSError:
                break
            together = own["VmRSS"] + sum(child["VmHWM"] for child in children if child)
            self.most_kb = max(self.most_kb, own["VmHWM"], together)
            time.sleep(0.005)


def memory_kb(pid: int) -> dict[str, int] | None:
    """VmRSS and VmHWM of a process, None when it has none any more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return sizes if len(sizes) == 2 else None


def in_turns(commands: dict[str, list[str]], path: Path, rounds: int) -> dict[str, list[Run]]:
    """Run each command once watched, for its memory, and then once a round."""
    peaks = {name: run(command, path, watched=True).peak_mb for name, command in commands.items()}
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken = run(command, path)
            runs[name].append(Run(taken.seconds, peaks[name], taken.processor_s))
    for name, taken in runs.items():
        seconds = sorted(r.seconds for r in taken)
        spent = sorted(r.processor_s for r in taken)[len(taken) // 2]
        print(
            f"  {name:22} {seconds[len(seconds) // 2]:7.2f} s, processors {spent:7.2f} s, {taken[0].peak_mb:7.0f} MB",
            flush=True,
        )
    return runs


def figures(runs: dict[str, list[Run]], path: Path, peers: list[str]) -> dict[str, object]:
    """Medians, and how many times longer and larger each peer is than `laptime`."""
    ours = runs["laptime"]
    result: dict[str, object] = {
        "file_mb": round(sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir())) / MB, 1),
        "seconds": {name: median_interval([r.seconds for r in taken]) for name, taken in runs.items()},
        "processor_seconds": {name: median_interval([r.processor_s for r in taken]) for name, taken in runs.items()},
        "peak_mb": {name: round(taken[0].peak_mb, 1) for name, taken in runs.items()},
    }
    for peer in peers:
        result[f"{peer}_over_laptime_seconds"] = ratio_of_medians(
            [r.seconds for r in runs[peer]], [r.seconds for r in ours], paired=True
        )
        result[f"{peer}_over_laptime_processor"] = ratio_of_medians(
            [r.processor_s for r in runs[peer]], [r.processor_s for r in ours], paired=True
        )
        result[f"{peer}_over_laptime_peak"] = round(runs[peer][0].peak_mb / ours[0].peak_mb, 2)
    return result


def parts(text: bytes) -> tuple[bytes, list[bytes], bytes]:
    """A Kineto file as (up to the first event, the events, from the list's end on)."""
    start = text.index(b'"traceEvents": [') + len(b'"traceEvents": [')
    end = text.rindex(b"]")
    return text[:start], _BETWEEN.split(text[start:end].strip(b"\n ")), text[end:]


def repeated(head: bytes, events: list[bytes], tail: bytes, wanted_bytes: int, target: Path) -> Path:
    """Write events again and again, later each time and with ids of their own, until the file is large enough."""
    times = [int(match[1]) for event in events if (match := re.search(rb'"ts": (\d+)', event))]
    length = max(times) - min(times) + 1_000_000
    body = b",\n  ".join(events)
    with target.open("wb") as file:
        file.write(head + b"\n  ")
        for copy in range(1000):
            shift = {b"ts": copy * length}

            def moved(
                match: re.Match[bytes], shift: dict[bytes, int] = shift, ids: int = copy * _IDS_PER_COPY
            ) -> bytes:
                return b'"%s": %d' % (match[1], int(match[2]) + shift.get(match[1], ids))

            file.write((b",\n  " if copy else b"") + (_SHIFTED.sub(moved, body) if copy else body))
            if file.tell() >= wanted_bytes:
                break
        file.write(b"\n  " + tail)
    return target


SIZES = ("kineto_55mb", "kineto_300mb", "kineto_1gb")


def kineto_files(traces: Path | None, folder: Path, wanted: tuple[str, ...] = SIZES) -> tuple[str, dict[str, Path]]:
    """Files of about 55 MB, 300 MB and 1 GB, or some of them, and what they are made of."""
    real = sorted(traces.glob("qwen3_4b_hf_decode24*.json.gz")) if traces else []
    if not real:
        sys.exit("name the folder of qwen3_4b_hf_decode24.json.gz with --traces or LAPTIME_TRACES")
    text = gzip.decompress(real[0].read_bytes())
    head, events, tail = parts(text)
    first = sorted(int(match[1]) for event in events if (match := re.search(rb'"ts": (\d+)', event)))
    middle = first[int(len(first) * 55 * MB / len(text))]
    half = [event for event in events if not (match := re.search(rb'"ts": (\d+)', event)) or int(match[1]) < middle]
    sources = {"kineto_55mb": (half, 50), "kineto_300mb": (events, 250), "kineto_1gb": (events, 1000)}
    return real[0].name, {
        name: repeated(head, sources[name][0], tail, sources[name][1] * MB, folder / f"{name}.json") for name in wanted
    }


def nsys_file(traces: Path | None, folder: Path) -> Path:
    """An export with at least a million kernels, each with its launch."""
    target = folder / "million.sqlite"
    real = sorted(traces.glob("GTLS@cfb514d3*.sqlite")) if traces else []
    if real:
        shutil.copyfile(real[0], target)
    else:
        sys.path.insert(0, str(ROOT))
        from tests.trace.write_traces import ActivityRow, CallRow, write_nsys

        rows = [ActivityRow(9_000 * i + 6_000, 9_000 * i + 8_117, f"k{i % 90}", correlation=i) for i in range(25_000)]
        write_nsys(target, rows, [CallRow(9_000 * i, 9_000 * i + 4_003, correlation=i) for i in range(25_000)])
    target.chmod(0o600)
    db = sqlite3.connect(target, isolation_level=None)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    (span, kernels) = db.execute('SELECT max("end") + 1000000, count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL').fetchone()
    copies = -(-1_100_000 // kernels)
    changed = {
        "start": f"start + k * {span}",
        "end": f'"end" + k * {span}',
        "correlationId": "correlationId + k * 1000000",
    }
    for kind in ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME"):
        table = f"CUPTI_ACTIVITY_KIND_{kind}"
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        if columns:
            values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
            db.execute(
                f"WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {copies - 1}) "
                f"INSERT INTO {table} SELECT {values} FROM (SELECT * FROM {table}) CROSS JOIN n ORDER BY k"
            )
    db.close()
    return target


def main() -> None:
    """Make the files, run all in turns, write benchmarks/results/trace_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    parser.add_argument(
        "--peer",
        type=Path,
        default=os.environ.get("LAPTIME_PEER_PYTHON"),
        help="the Python of an environment with HolisticTraceAnalysis",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="keep the made files here")
    options = parser.parse_args()
    as_installed()
    traces = Path(options.traces) if options.traces else None
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(exist_ok=True)
        made_of, files = kineto_files(traces, folder)
        commands = {"laptime": [sys.executable, "-m", "laptime", "trace", "FILE", "--json"]}
        programs = {"library": LIBRARY, "reader_only": OUR_READER, "json_loads": JSON}
        commands |= {name: [sys.executable, "-c", program, "FILE"] for name, program in programs.items()}
        peers = ["json_loads"]
        if options.peer:
            commands["holistic"] = [str(options.peer), "-c", PEER, "FILE"]
            peers.append("holistic")
        for name in ("kineto_55mb", "kineto_300mb"):
            print(name, flush=True)
            results[name] = figures(in_turns(commands, files[name], options.rounds), files[name], peers)
        ours = {name: commands[name] for name in ("laptime", "library", "reader_only")}
        print("kineto_1gb", flush=True)
        results["kineto_1gb"] = figures(
            in_turns(ours, files["kineto_1gb"], min(3, options.rounds)), files["kineto_1gb"], []
        )
        print("nsys", flush=True)
        nsys = nsys_file(traces, folder)
        results["nsys_million"] = figures(in_turns(ours, nsys, options.rounds), nsys, [])
    peer_version = None
    if options.peer:
        asked = "import importlib.metadata as m; print(m.version('HolisticTraceAnalysis'))"
        peer_version = subprocess.run(
            [options.peer, "-c", asked], capture_output=True, text=True, check=True
        ).stdout.strip()
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in ("msgspec", "numpy", "isal")},
        "HolisticTraceAnalysis": peer_version,
        "made_of": made_of,
    }
    print(record("trace_speed", results, environment))


if __name__ == "__main__":
    main()
