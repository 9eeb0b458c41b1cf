"""Real decisions of `laptime compare --run A --against B`: how often is it wrong about identical code, and about 5 %?

    python benchmarks/compare_real.py [--same 100] [--slower 20] [--until 08:15] [--most-load 1.5]

A is `laptime profile preset:tiny-llm`. In A/A decisions B is the same line. In A/B decisions B waits after each decode
step for 5 % of the time that the step took, so that its decode takes 5 % longer by construction, and its total by a
little less. Every decision is a whole `laptime compare` with processes of its own. They are forks of one process that
has imported torch, because 120 decisions would start thousands of Pythons otherwise; so processes share the placement
of the libraries, and not that of the model. Each decision is written as soon as it is known, and a second start of this
command goes on with the file.

The promise (5 % found in 90 % within 40 processes) is for processes that differ by 2 % or less. So each decision also
says how much its processes of one side differed in decode, and those within 2 % are counted beside all. Before each
decision the machine's load must be below `--most-load`. On a machine that others use, processes differ by 10 to 50 %,
and waiting takes B more than 5 %, because it shares its processor while it waits.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

SLOWER = 0.05
PROFILE = [
    "profile", "preset:tiny-llm", "--samples", "5", "--repeats", "1", "--prompt-tokens", "32", "--new-tokens", "8",
    "--max-warmups", "2",
]  # fmt: skip
KEEP = "foreign-process,cold,gc-pause"
RESULT = Path(os.environ.get("OUT") or Path(__file__).parent / "results") / "compare_real.json"
ASK_S = 300.0
QUIET_SD = 0.02
"""Processes of one side that differ by this or less (standard deviation) are what the promise is for."""
LOOK_AGAIN_S = 20.0


def ask(place: str, side: str, folder: str) -> int:
    """The launched command: have the server fork a process of this side, and end as it ended."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(ASK_S)
        line.connect(place)
        line.sendall(json.dumps({"side": side, "folder": folder}).encode())
        return int(line.recv(16) or b"70")


def slow_decode(share: float) -> None:
    """Let every decode step of the model take this share longer, from the end of the one before to its own end."""
    from functools import wraps

    from transformers import Qwen3ForCausalLM

    plain = Qwen3ForCausalLM.forward
    last = 0.0

    @wraps(plain)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal last
        began = time.perf_counter()
        made = plain(self, *args, **kwargs)
        ended = time.perf_counter()
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is not None and ids.shape[1] == 1:
            until = ended + share * (ended - (last or began))
            while time.perf_counter() < until:
                pass
            last = time.perf_counter()
        else:
            last = 0.0  # prefill: the first step counts from its own beginning
        return made

    Qwen3ForCausalLM.forward = forward


def fork(arguments: list[str], said: Path, side: str = "A") -> int:
    """Run `laptime ARGUMENTS` in a forked process, its stdout in a file; the process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        from laptime.cli.main import main

        for descriptor, file in ((1, said), (2, said.with_suffix(".err"))):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if side == "B":
            slow_decode(SLOWER)
        code = main(arguments) or 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def decide(kind: str, number: int, folder: Path) -> dict[str, Any]:
    """One decision: start `laptime compare`, and fork what it asks for until it ends."""
    place, said = folder / "line", folder / "compare.json"
    command = f"{sys.executable} -I -S {Path(__file__).resolve()} --ask {place} "
    sides = {"A": "A", "B": "A" if kind == "same" else "B"}
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()
        server.settimeout(0.05)
        compare = fork(
            [
                "compare", "--run", command + sides["A"] + " {out}", "--against", command + sides["B"] + " {out}",
                "--out", str(folder / "turns"), "--keep", KEEP, "--json",
            ],
            said,
        )  # fmt: skip
        while True:
            ended, status = os.waitpid(compare, os.WNOHANG)
            if ended:
                break
            try:
                line, _ = server.accept()
            except TimeoutError:
                continue
            with line:
                asked = json.loads(line.recv(4096))
                pid = fork([*PROFILE, "--out", asked["folder"]], folder / "profile.out", asked["side"])
                line.sendall(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise SystemExit(f"compare ended with {code}: {(folder / 'compare.err').read_text()[-2000:]}")
    said_so = json.loads(said.read_text())
    stages = {
        s["stage"]: {
            "verdict": s["verdict"],
            "odds": s["odds"],
            **{end: s["ratio"][end] for end in ("value", "low", "high")},
        }
        for s in said_so["stages"]
    }
    return {
        "kind": kind, "number": number, "verdict": said_so["verdict"], "exit": code,
        "processes": len(said_so["turns"]), "seconds": round(time.monotonic() - began, 1),
        "load": round(os.getloadavg()[0], 1), "sd": round(between_processes(folder / "turns"), 4), "stages": stages,
        "pairs": pairs(folder / "turns"),
    }  # fmt: skip


def pairs(turns: Path) -> dict[str, list[float]]:
    """ln(B/A) of each pair of processes, as the comparison judged it: what another test would have said of them."""
    from laptime.comparisons.between_runs import difference
    from laptime.comparisons.calls import calls_of
    from laptime.comparisons.matching import match
    from laptime.data.run_folder import load_run
    from laptime.data.usable import usable

    folders = sorted(turns.glob("[0-9]*-[AB]"))
    clean = {f: calls_of(usable(load_run(f).samples, tuple(KEEP.split(",")))[0]) for f in folders}
    logs: dict[str, list[float]] = {"decode": [], "total": []}
    for one, other in zip(folders[::2], folders[1::2], strict=False):
        a, b = (one, other) if one.name.endswith("A") else (other, one)
        matched = match(clean[a], clean[b], 1)
        for stage, values in logs.items():
            if (value := difference(matched, stage)) is not None:
                values.append(round(value, 5))
    return logs


def between_processes(turns: Path) -> float:
    """The standard deviation between processes of a side, of the logarithm of their median decode; robust."""
    import numpy as np

    from laptime.data.run_folder import load_run

    away = []
    for side in "AB":
        folders = sorted(turns.glob(f"[0-9]*-{side}"))
        logs = np.log([np.median([s.stages.decode_ms for s in load_run(f).samples if s.repeat >= 0]) for f in folders])
        away += [abs(logs - np.median(logs))]
    return float(1.4826 * np.median(np.concatenate(away)))


def wait_until_quiet(most: float) -> None:
    """Wait until the load of the last minute is below this."""
    while os.getloadavg()[0] >= most:
        print(f"load {os.getloadavg()[0]:.1f}, waiting for less than {most:g}", file=sys.stderr, flush=True)
        time.sleep(LOOK_AGAIN_S)


def clopper_pearson(hits: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0


def summary(decisions: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of both kinds, with intervals."""
    told: dict[str, Any] = {}
    quiet = [d for d in decisions if d.get("sd", 1.0) <= QUIET_SD]
    for kind, name, some in (
        (kind, kind + words, some)
        for kind in ("same", "slower") for words, some in (("", decisions), (", processes within 2 %", quiet))
    ):  # fmt: skip
        of = [d for d in some if d["kind"] == kind]
        if not of:
            continue
        words = {word: sum(d["verdict"] == word for d in of) for word in ("same", "inconclusive", "faster", "slower")}
        wrong = words["faster"] + (words["slower"] if kind == "same" else 0)
        processes = sorted(d["processes"] for d in of)
        told[name] = {
            "decisions": len(of), "words": words, "false": wrong, "false_interval": clopper_pearson(wrong, len(of)),
            "processes": {"median": processes[len(processes) // 2], "least": processes[0], "most": processes[-1]},
        }  # fmt: skip
        if kind == "slower":
            found = words["slower"]
            told[name] |= {"found": found, "found_interval": clopper_pearson(found, len(of))}
    return told


def write(decisions: list[dict[str, Any]]) -> None:
    """All decisions so far, and what they amount to."""
    import numpy
    import torch

    from recorded import record

    environment = {
        "python": platform.python_version(), "platform": platform.platform(), "torch": str(torch.__version__),
        "numpy": numpy.__version__, "cpus": os.cpu_count(), "threads": 1, "nice": os.nice(0),
    }  # fmt: skip
    asked = {"profile": " ".join(PROFILE), "keep": KEEP, "decode_longer_by": SLOWER}
    record("compare_real", {**asked, **summary(decisions), "decisions": decisions}, environment)


def prepare() -> None:
    """Import here, once, what every process needs: by measuring once."""
    import laptime.comparisons.launches  # noqa: F401
    from laptime.cli.main import run

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert run([*PROFILE, "--out", f"{folder}/run"]) == 0
    gc.collect()
    gc.freeze()  # a process has less to look through


def main() -> None:
    """Decide until there are enough, or it is late."""
    if "--ask" in sys.argv:
        raise SystemExit(ask(*sys.argv[2:5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same", type=int, default=100, help="A/A decisions")
    parser.add_argument("--slower", type=int, default=20, help="A/B decisions")
    parser.add_argument("--until", metavar="HH:MM", help="begin no decision after this time of day")
    parser.add_argument("--most-load", type=float, default=1.5, help="begin a decision below this load only")
    asked = parser.parse_args()
    prepare()
    decisions = json.loads(RESULT.read_text())["figures"]["decisions"] if RESULT.exists() else []
    while True:
        done = {kind: sum(d["kind"] == kind for d in decisions) for kind in ("same", "slower")}
        left = {kind: (getattr(asked, kind) - n) / max(1, getattr(asked, kind)) for kind, n in done.items()}
        kind = max(left, key=lambda k: left[k])
        if left[kind] <= 0 or (asked.until and time.strftime("%H:%M") >= asked.until):
            break
        wait_until_quiet(asked.most_load)
        folder = Path(tempfile.mkdtemp(prefix="decision-"))
        try:
            decisions.append(decide(kind, done[kind], folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write(decisions)
        print({k: v for k, v in decisions[-1].items() if k != "stages"}, flush=True)
    print(json.dumps(summary(decisions), indent=1))


if __name__ == "__main__":
    main()
