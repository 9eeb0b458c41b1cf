"""What an executor adds to a sample, and what more workers bring.

python benchmarks/sweep_executors.py --executor local --workers 2
python benchmarks/sweep_executors.py --executor ray --workers 2
python benchmarks/sweep_executors.py --executor local,torchrun --workers 1,2,4 --model preset:molmoe-1b --gpus
python benchmarks/sweep_executors.py --executor local,ray --workers 1,2 --model preset:molmoe-1b --gpus --blocks 8

Each case is the same sweep. Two figures come from its samples alone, so start-up (imports, loading) is in neither:
the time between two samples of one worker that belongs to no call (overhead: queue, sending, writing with fsync), and
samples a second over the stretch in which all workers were measuring (throughput). Cases take turns, `--turns` times;
ratios against the first case, one worker in process, with a bootstrap interval over turns and stretches of the run.
Calls of one configuration (one value of --blocks) make all stretches alike, and the interval narrow. `against_local` is
the same ratio against the executor local with as many workers, where that was measured.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from recorded import record

TEXT = """model: {model}
device: {device}
seed: {seed}
workload: {{samples: {samples}}}
knobs: {{blocks: [{blocks}], new_tokens: {new_tokens}, prompt_tokens: {prompt_tokens}{image}}}
measure: {{repeats: {repeats}, rounds: {rounds}, warmups: 3, energy: false}}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--executor", default="local,ray")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--model", default="preset:tiny-llm")
    parser.add_argument("--gpus", action="store_true")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--blocks", default="4,8")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--image-size", default=None)
    parser.add_argument("--name", default="sweep_executors")
    asked = parser.parse_args()
    workers = [int(number) for number in asked.workers.split(",")]
    cases = [("local", 1)] + [
        (executor, number)
        for executor, number in itertools.product(asked.executor.split(","), workers)
        if (executor, number) != ("local", 1)
    ]
    rates: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    overheads: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as base:
        config = Path(base) / "sweep.yaml"
        config.write_text(
            TEXT.format(
                model=asked.model,
                device="cuda" if asked.gpus else "cpu",
                seed=0,
                samples=asked.samples,
                repeats=asked.repeats,
                rounds=max(4, asked.repeats // 2),
                blocks=asked.blocks,
                new_tokens=asked.new_tokens,
                prompt_tokens=asked.prompt_tokens,
                image=f", image_size: {asked.image_size}" if asked.image_size else "",
            )
        )
        for turn in range(asked.turns):
            for case in cases if turn % 2 == 0 else reversed(cases):
                out = Path(base) / f"{case[0]}-{case[1]}-{turn}"
                run_case(config, out, *case, gpus=asked.gpus)
                lanes = lanes_of(out)
                overheads[case] += between_calls_ms(lanes)
                rates[case].append(throughput(lanes))
                print(f"turn {turn}: {case[0]} with {case[1]}: {np.mean(rates[case][-1]):.2f} samples/s", flush=True)
    report(cases, rates, overheads, asked.name, gpus=asked.gpus)


def run_case(config: Path, out: Path, executor: str, workers: int, *, gpus: bool) -> None:
    """One sweep in a process of its own."""
    sweep = ["-m", "laptime", "sweep", str(config), "--out", str(out), "--executor", executor]
    command = [sys.executable, *sweep, "--workers", str(workers)]
    if executor == "torchrun":
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
        command = [sys.executable, *launch, *sweep]
    variables = dict(os.environ)
    if not gpus:
        variables["OMP_NUM_THREADS"] = "1"  # the same work for a worker alone as for one of two
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stderr[-3000:]}")


Lane = list[tuple[float, float, int, str]]
"""One worker's samples in time: (start, end, repeat, config_id), in ms."""


def lanes_of(out: Path) -> list[Lane]:
    """The samples of each worker, in the order in which it measured them."""
    from laptime.data.run_folder import load_run

    lanes: dict[str, Lane] = defaultdict(list)
    for sample in load_run(out).samples:
        begin = sample.started_unix_ms
        lanes[sample.worker].append((begin, begin + sample.host_stages.total_ms, sample.repeat, sample.config_id))
    return [sorted(lane) for lane in lanes.values()]


def between_calls_ms(lanes: list[Lane]) -> list[float]:
    """From a call's end to the next call's start, within one visit."""
    return [
        after[0] - before[1]
        for lane in lanes
        for before, after in itertools.pairwise(lane)
        if before[2] >= 0 and after[2] >= 0 and before[3] == after[3]
    ]


def throughput(lanes: list[Lane], stretches: int = 10) -> list[float]:
    """Calls (warm-ups too) a second while all workers measure, in stretches of equal length."""
    begin, end = max(lane[0][0] for lane in lanes), min(lane[-1][1] for lane in lanes)
    edges = np.linspace(begin, end, stretches + 1)
    ends = [call[1] for lane in lanes for call in lane]
    counts, _ = np.histogram(ends, edges)
    return [float(count) for count in counts / np.diff(edges) * 1e3]


def ratio(top: list[list[float]], bottom: list[list[float]]) -> tuple[float, float, float]:
    """Of mean rates, turn by turn, with a bootstrap interval of 95 % over stretches."""
    a, b = np.concatenate(top), np.concatenate(bottom)
    rng = np.random.default_rng(0)
    draws = [rng.choice(a, len(a)).mean() / rng.choice(b, len(b)).mean() for _ in range(4000)]
    return float(a.mean() / b.mean()), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def report(
    cases: list[tuple[str, int]],
    rates: dict[tuple[str, int], list[list[float]]],
    overheads: dict[tuple[str, int], list[float]],
    name: str,
    *,
    gpus: bool,
) -> None:
    base = cases[0]
    alone = float(np.median(overheads[base]))
    rows: list[dict[str, Any]] = []
    print(f"\n{'case':<14}{'samples/s':>10}{'× one':>8}{'95 % interval':>16}{'between calls':>16}{'added':>10}")
    for case in cases:
        value, low, high = ratio(rates[case], rates[base])
        between = float(np.median(overheads[case]))
        beside = ratio(rates[case], rates["local", case[1]]) if ("local", case[1]) in rates else None
        rows.append(
            {
                "executor": case[0],
                "workers": case[1],
                "samples_per_s": float(np.mean(np.concatenate(rates[case]))),
                "ratio": value,
                "ratio_low": low,
                "ratio_high": high,
                "against_local": beside,
                "between_calls_ms": between,
                "between_calls_p95_ms": float(np.quantile(overheads[case], 0.95)),
                "added_ms": between - alone,
            }
        )
        print(
            f"{case[0]} {case[1]:<{13 - len(case[0])}}{rows[-1]['samples_per_s']:>10.2f}{value:>8.2f}"
            f"{f'{low:.2f}-{high:.2f}':>16}{between:>13.2f} ms{between - alone:>+7.2f} ms"
            + (" ({:.2f}, {:.2f}-{:.2f} against local)".format(*beside) if beside else "")
        )
    import torch

    from laptime.measure.environment import describe

    print(record(name, {"cases": rows}, describe(torch.device("cuda:0" if gpus else "cpu"))))


if __name__ == "__main__":
    main()
