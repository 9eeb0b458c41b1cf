"""How late a client sends at 1,000 requests a second, by the server's own note of when each request came.

    python -m benchmarks.client_lag [--realtime] [--aiperf BIN] [--guidellm BIN] [--tokenizer FOLDER]

A server of known delays runs in a process on one core; each client runs on the other one, five seconds of even
arrivals. Lateness is a request's arrival less its place in the schedule (the earliest request is on time), so no client
is asked about itself. Requests that never came are lost. --realtime (root) gives both a priority that other work can't
take the cores from. Peers are run where their commands are given, each with its own way to ask for a rate; they count
with a tokenizer from a folder. `make bench-serving` runs this with both peers.
Writes benchmarks/results/client_lag.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from laptime.measure.host import describe_host
from tests.engines.known_server import Plan, running

RESULT = Path(__file__).parent / "results" / "client_lag.json"
RATE, SECONDS = 1000, 5
REALTIME = "--realtime" in sys.argv
QUANTILES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
PLAN = Plan(first_s=0.02, gap_s=0.005, chunks=(1, 1), role_first=True)


def serve(pipe) -> None:
    pin(os.cpu_count() - 1)
    with running(PLAN) as server:
        pipe.send(server.url)
        while pipe.recv() == "arrivals":
            pipe.send([one.arrived_ns for one in server.served])
            server.served.clear()


def pin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    if REALTIME:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))


def lateness(arrivals: list[int], expected: int) -> dict:
    """arrivals: of all requests, warm-up ones too; the last `expected` of them are the load."""
    came = np.sort(np.array(arrivals))[-expected:]
    late = (came - came[0]) / 1e6 - np.arange(len(came)) * 1e3 / RATE
    late -= late.min()
    return {
        "asked_per_s": RATE,
        "planned": expected,
        "lost": expected - len(came),
        "sent_per_s": round(float((len(came) - 1) / (came[-1] - came[0]) * 1e9), 1),
        "late_ms": {name: round(float(np.quantile(late, q)), 3) for name, q in QUANTILES},
    }


def measured(command: list[str], pipe, environment: dict[str, str] | None = None) -> dict:
    pipe.send("arrivals")
    pipe.recv()
    said = finished(command, {**os.environ, **(environment or {})})
    pipe.send("arrivals")
    arrivals = pipe.recv()
    if not arrivals:
        return {"failed": said[-300:]}
    return lateness(arrivals, RATE * SECONDS)


def finished(command: list[str], environment: dict[str, str]) -> str:
    """What a client said, run on one core. Whatever it started ends with it: left over, it would keep that core."""
    client = subprocess.Popen(command, preexec_fn=lambda: pin(0), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=environment, start_new_session=True)  # fmt: skip
    try:
        return client.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        return "it did not end within 120 s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
        client.wait()


def as_if_downloaded(tokenizer: Path, home: Path) -> None:
    """AIPerf looks a tokenizer up by a name, in the cache of Hugging Face's hub."""
    place = home / "hub" / f"models--{tokenizer.name}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("local")
    (place / "snapshots").mkdir()
    (place / "snapshots" / "local").symlink_to(tokenizer.resolve(), target_is_directory=True)


def version_of(command: str, package: str) -> str:
    """The version of a peer, from the environment that its command lies in."""
    asked = [
        str(Path(command).absolute().with_name("python")),
        "-c",
        f"import importlib.metadata as m; print(m.version('{package}'))",
    ]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--aiperf", "--guidellm", "--tokenizer"):
        parser.add_argument(name)
    parser.add_argument("--realtime", action="store_true")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there,))
    child.start()
    url, count = here.recv(), str(RATE * SECONDS)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": folder}
        if given.tokenizer:
            as_if_downloaded(Path(given.tokenizer), Path(folder))
        laptime = [sys.executable, "-m", "laptime", "serve-bench", url, "--model", "known", "--rate", str(RATE),
                   "--arrivals", "constant", "--requests", count, "--prompt-tokens", "16", "--new-tokens", "2",
                   "--warmup", "20", "--json", "--out"]  # fmt: skip
        results["laptime"] = [measured([*laptime, f"{folder}/run{turn}"], here) for turn in range(3)]
        if given.aiperf:
            aiperf = [given.aiperf, "profile", "--model", "known", "--url", url, "--endpoint-type", "chat",
                      "--streaming", "--tokenizer", Path(given.tokenizer).name, "--request-rate", str(RATE),
                      "--request-rate-mode", "constant", "--request-count", count, "--isl", "16", "--osl", "2",
                      "--ui", "none", "--artifact-dir", f"{folder}/aiperf"]  # fmt: skip
            results[f"AIPerf {version_of(given.aiperf, 'aiperf')}"] = [measured(aiperf, here, offline)]
        if given.guidellm:
            guidellm = [given.guidellm, "run", "--backend", f"kind=openai_http,target={url},model=known",
                        "--profile", f"kind=constant,rate={RATE}", "--constraint", f"kind=max_requests,count={count}",
                        "--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=2",
                        "--tokenizer", f"kind=hf_auto,model={Path(given.tokenizer).resolve()}", "--disable-progress",
                        "--output", f"kind=json,path={folder}/guidellm.json"]  # fmt: skip
            results[f"GuideLLM {version_of(given.guidellm, 'guidellm')}"] = [measured(guidellm, here, offline)]
    here.send("stop")
    child.join()
    result = {
        "realtime": REALTIME,
        "results": results,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
