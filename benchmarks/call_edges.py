"""What a StageTimer does before generate() runs and after it has returned, in µs, by its own clock on a CPU.

    python benchmarks/call_edges.py                        # this code
    python benchmarks/call_edges.py --beside ../other/src  # and another version of it, in turns

benchmarks/observer_effect.py asks what measuring adds to a call on a GPU. There a machine's noise is larger than this.
Here the model's own generate() is clocked inside the timer's: what remains of the whole is the timer's. "Looked at"
reads `timer.last` after each call and outside of the time. "In a loop" does not, so building the sample of the call
before is in the time before the next one. What only a GPU has (NVML, the allocator's counters, events) is not in it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PRESETS = ("tiny-llm", "tiny-vlm")
HERE = Path(__file__).parent


def main() -> None:
    """Measure this version, and another one beside it, and write benchmarks/results/call_edges.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, metavar="SRC", help="the src folder of another version")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="how often the versions take turns")
    parser.add_argument("--one", metavar="PRESET", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(edges(arguments.one, arguments.calls)))
        return
    versions = {"this version": HERE.parent / "src"}
    if arguments.beside is not None:
        versions["the one before"] = arguments.beside.resolve()
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for preset in PRESETS:
            for version, source in versions.items():
                command = [sys.executable, __file__, "--one", preset, "--calls", str(arguments.calls)]
                environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                taken.setdefault((preset, version), []).append(json.loads(done.stdout.splitlines()[-1]))
    figures: dict[str, Any] = {"calls": arguments.calls, "rounds": arguments.rounds, "median_us": {}}
    for (preset, version), rounds in taken.items():
        medians = {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}
        figures["median_us"].setdefault(preset, {})[version] = medians
        print(f"{preset:10} {version:16} " + "  ".join(f"{name} {us:7.1f}" for name, us in medians.items()))
    import torch

    from laptime.measure.environment import describe
    from recorded import record

    print(record("call_edges", figures, describe(torch.device("cpu"))))


def edges(preset: str, calls: int) -> dict[str, float]:
    """Medians, in µs, of what lies before the model's own generate() and after it."""
    import torch

    from laptime import StageTimer
    from laptime.models.loading import load_model
    from laptime.workload.inputs import make_inputs

    torch.set_num_threads(1)
    loaded = load_model(f"preset:{preset}")
    loaded.model.generation_config.eos_token_id = None
    inputs = make_inputs(loaded, prompt_tokens=32, image_size=(64, 64) if loaded.is_vlm else None, new_tokens=3)
    call = {**inputs.kwargs, "max_new_tokens": 3, "do_sample": False}
    timer = StageTimer(loaded.model)
    taken: dict[str, list[float]] = {}
    with timer:
        stand_in = loaded.model.__dict__["generate"]
        original, inner = stand_in.original, [0, 0]

        def clocked(*args: Any, **kwargs: Any) -> Any:
            inner[0] = time.perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                inner[1] = time.perf_counter_ns()

        stand_in.original = clocked
        gc.collect()
        gc.disable()
        for look in (True, False):
            way = "looked at" if look else "in a loop"
            for number in range(calls + 5):
                begin = time.perf_counter_ns()
                loaded.model.generate(**call)
                end = time.perf_counter_ns()
                if look:
                    _ = timer.last
                if number >= 5:
                    taken.setdefault(f"before, {way}", []).append((inner[0] - begin) / 1e3)
                    taken.setdefault(f"after, {way}", []).append((end - inner[1]) / 1e3)
        gc.enable()
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    main()
