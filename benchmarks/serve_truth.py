"""What the client of `laptime serve-bench` says, held against a server that notes its own instants on the same clock.

    .venv/bin/python -m benchmarks.serve_truth [--realtime]

Two parts. Truth: for each request the client's instant of each chunk less the server's instant of writing it, and the
client's gaps less the server's. Speed: 100, 300 and 1,000 requests a second for five seconds each: how late the client
sent, how late its own task woke, how many requests were lost. The server runs in a process of its own. Writes
benchmarks/results/serve_truth.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from benchmarks.client_lag import REALTIME, pin

from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.loads import Load, concurrency, constant, poisson
from laptime.engines.questions import Asking
from laptime.engines.request import RequestSample, read_requests
from laptime.measure.host import describe_host
from tests.engines.known_server import Plan, running

RESULT = Path(__file__).parent / "results" / "serve_truth.json"
TRUTH = Plan(first_s=0.05, gap_s=0.01, chunks=(1, 2, 1, 3, 1, 1, 1, 1), role_first=True)
FAST = Plan(first_s=0.02, gap_s=0.005, chunks=(1, 1))


def serve(plan: Plan, pipe) -> None:
    """The child: serve until told to stop, then send what was served."""
    pin(os.cpu_count() - 1)
    with running(plan) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send([(one.body["messages"][0]["content"], one.arrived_ns, one.writes_ns) for one in server.served])


def measured(plan: Plan, loads: list[Load]) -> tuple[list[RequestSample], list, object]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(plan, there))
    child.start()
    url = here.recv()
    asking = Asking(api="chat", model="known", prompt_tokens=16, new_tokens=16)
    with tempfile.TemporaryDirectory() as folder:
        request = ServeRequest(url=url, asking=asking, loads=loads, warmup=20)
        report = serve_bench(request, Path(folder) / "run")
        requests = read_requests(Path(folder) / "run")
    here.send("stop")
    served = here.recv()
    child.join()
    return requests, served, report


def quantiles(values: list[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(values, q)), 4) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def truth() -> dict:
    requests, served, _ = measured(TRUTH, [concurrency(1, 100), concurrency(8, 200), poisson(50, 200, 0)])
    by_number = {text.split(":")[0].split()[1]: (arrived, writes) for text, arrived, writes in served}
    figures: dict[str, dict[str, list[float]]] = {}
    for request in requests:
        if request.repeat < 0:
            continue
        arrived, writes = by_number[request.request_id.removeprefix("made-up-")]
        level = figures.setdefault(request.load, {"chunk": [], "gap": [], "ttft": [], "tpot": []})
        level["chunk"] += [(chunk.ns - write) / 1e6 for chunk, write in zip(request.chunks, writes, strict=True)]
        true_gaps = np.diff(writes) / 1e6
        level["gap"] += np.abs(np.array(request.chunk_gaps_ms) - true_gaps).tolist()
        own_ms = (writes[0] - arrived) / 1e6
        level["ttft"].append((request.first_content.ns - request.sent.ns) / 1e6 - own_ms)
        level["tpot"].append(abs(request.tpot_ms - float(true_gaps.sum()) / (sum(TRUTH.chunks) - 1)))
        assert request.output_tokens == sum(TRUTH.chunks)
    return {load: {name: quantiles(values) for name, values in level.items()} for load, level in figures.items()}


def speed(rate: int) -> dict:
    cpu = time.process_time()
    requests, served, report = measured(FAST, [constant(rate, 5 * rate)])
    (level,) = report.levels
    return {
        "asked_per_s": rate,
        "answered_per_s": round(level.requests_per_s, 1),
        "planned": level.planned,
        "lost": level.planned - level.finished,
        "late_p99_ms": round(level.late_p99_ms, 3),
        "lag_p99_ms": round(level.lag_p99_ms, 3),
        "late_ms": quantiles([request.client_wait_ms for request in requests if request.repeat >= 0]),
        "client_cpu_ms_per_request": round((time.process_time() - cpu) / level.planned * 1e3, 3),
        "span_s": round(level.span_s, 2),
        "served": len(served),
    }


def main() -> None:
    pin(0)
    result = {
        "realtime": REALTIME,
        "load_average_before": [round(value, 1) for value in os.getloadavg()],
        "error_ms": truth(),
        "speed": [speed(100), speed(300), speed(1000)],
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
