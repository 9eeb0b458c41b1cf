"""How fast are the traces of several ranks set side by side, whole processes, against HolisticTraceAnalysis?

    LAPTIME_TRACES=FOLDER LAPTIME_PEER_PYTHON=E/bin/python python benchmarks/trace_ranks.py

`laptime` is the whole command (trace FOLDER --json): it shares the files among the processors. The peer loads the same
folder and computes its temporal breakdown and its overlap of communication with computation; its environment is that of
trace_speed.py. Two folders: eight real ranks of one small training step, and eight files of 55 MB made of a real trace.
On the large one the peer's temporal breakdown stops with an assertion (its non-compute time is below 0): its time until
then counts. Runs take turns. `libraries` starts Python, imports what laptime needs from elsewhere, and does no more.
AMD's TraceLens, the peer for operators, is measured by trace_operators.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from trace_speed import figures, in_turns, kineto_files

from recorded import as_installed, record

PEER = """
import os, sys
from hta.trace_analysis import TraceAnalysis
names = sorted(os.listdir(sys.argv[1]))
analysis = TraceAnalysis(trace_files={i: name for i, name in enumerate(names)}, trace_dir=sys.argv[1])
for question in (analysis.get_temporal_breakdown, analysis.get_comm_comp_overlap):
    try:
        print(question(visualize=False))
    except Exception as error:
        print("stopped:", repr(error))
"""
LIBRARIES = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as laptime trace sets it
import numpy, msgspec, isal.isal_zlib
os._exit(0)
"""
RANKS = 8


def main() -> None:
    """Make the folders, run both in turns, write benchmarks/results/trace_ranks.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    parser.add_argument("--peer", type=Path, default=os.environ.get("LAPTIME_PEER_PYTHON"), help="the peer's Python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="the eight real ranks only")
    options = parser.parse_args()
    as_installed()
    traces = Path(options.traces)
    commands = {
        "laptime": [sys.executable, "-m", "laptime", "trace", "FILE", "--json"],
        "libraries": [sys.executable, "-c", LIBRARIES],
    }
    peers = []
    if options.peer:
        commands["holistic"], peers = [str(options.peer), "-c", PEER, "FILE"], ["holistic"]
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = folder / "small", folder / "large"
        shutil.copytree(traces / "dlrm_8_ranks", small)
        for path in small.iterdir():
            if not path.name.endswith(".json.gz"):
                path.unlink()
        large.mkdir()
        folders = [("8_real_ranks", small)]
        if not options.small:
            _, made = kineto_files(traces, folder, ("kineto_55mb",))
            for rank in range(RANKS):
                one = large / f"rank{rank}.json"
                shutil.copyfile(made["kineto_55mb"], one)
                with one.open("ab") as file:
                    file.write(b"\n" * rank)  # the same trace twice is refused
            folders.append(("8_times_55mb", large))
        for name, path in folders:
            print(name, flush=True)
            results[name] = figures(in_turns(commands, path, options.rounds), path, peers)
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
    }
    print(record("trace_ranks", results, environment))


if __name__ == "__main__":
    main()
