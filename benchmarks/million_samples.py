"""What each verb costs on a run of a million samples: processor time, wall time, memory.

    python benchmarks/million_samples.py [--samples 1000000] [--folder /tmp/million] [--task NAME] [--again]

The lines are as a sweep on a GPU writes them, marks and output ids included: about 1.5 kB each. Each task runs in a
process of its own, as a user starts it. The peer reads a tenth of the samples in the usual way: json.loads of a line,
pandas.json_normalize.

With --folder the run folders stay there, and what was measured is kept after each task: started again, the command goes
on where it stopped. --again measures anew what is there. --task, once for each, measures only that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from laptime.data.json_text import readable_json
from laptime.data.record import Environment, GpuState, Mark, Sample, Scalar, StageTimes, WorkerStart, config_id
from laptime.data.run_folder import new_info

SUMMARY = (
    "import sys; from laptime.data.frame import read_frame; from laptime.data.summary import summarise_frame; "
    "print(summarise_frame(read_frame(sys.argv[1])).used)"
)
PEER = (
    "import json, pathlib, sys, pandas; "
    "lines = [json.loads(l) for f in sorted(pathlib.Path(sys.argv[1]).glob('samples-*')) for l in open(f, 'rb')]; "
    "print(len(pandas.json_normalize(lines).groupby('config_id')['stages.total_ms'].median()))"
)
VERB = ["-m", "laptime"]
TASKS = {
    "read and summarise": ["-c", SUMMARY, "a"],
    "audit": [*VERB, "audit", "a"],
    "report": [*VERB, "report", "a", "--html", "report.html", "--force"],
    "compare, as many samples on each side": [*VERB, "compare", "a", "b"],
    "export, Parquet": [*VERB, "export", "a", "--to", "a.parquet", "--force"],
    "export, CSV": [*VERB, "export", "a", "--format", "csv", "--to", "a.csv", "--force"],
    "fit": [*VERB, "fit", "a", "--out", "estimator", "--force"],
    "older JSON: write": [*VERB, "export", "a", "--format", "legacy-json", "--to", "older", "--force"],
    "older JSON: read and audit": [*VERB, "audit", "older"],
    "read and summarise, a tenth": ["-c", SUMMARY, "tenth"],
    "peer, a tenth": ["-c", PEER, "tenth"],
}
"""What is measured: the arguments of Python, started in the folder that holds the runs."""


def configurations() -> list[dict[str, Scalar]]:
    """3 tiers × 3 top-k × 3 blocks × 2 prompt lengths."""
    same: dict[str, Scalar] = {
        "model": "preset:molmoe-1b",
        "dtype": "bfloat16",
        "attention": "sdpa",
        "cache": "dynamic",
        "compile": False,
        "batch": 1,
        "new_tokens": 32,
        "cache_policy": "keep",
        "tf32": False,
    }
    tiers = (("low", "336x336", 2), ("medium", "672x672", 6), ("high", "1008x1008", 12))
    return [
        {**same, "tier": tier, "image_size": size, "crops": crops, "top_k": k, "blocks": b, "prompt_tokens": p}
        for tier, size, crops in tiers
        for k in (2, 4, 8)
        for b in (8, 12, 16)
        for p in (64, 256)
    ]


def write_run(
    folder: Path,
    samples: int,
    workers: int = 2,
    inputs: int = 100,
    seed: int = 0,
    kinds: list[dict[str, Scalar]] | None = None,
) -> None:
    """Write a sweep's folder. Every configuration meets every worker; lines are whole records, encoded by laptime."""
    folder.mkdir(parents=True)
    environment = Environment(laptime="0", python="3", platform="Linux", cpu="cpu", cpu_count=2, gpu="H200")
    (folder / "run.json").write_bytes(readable_json(new_info(["laptime", "sweep"], {}, environment)))
    for worker in range(workers):
        start = WorkerStart(worker=str(worker), started_unix_ms=1.8e12, host="here", environment=environment)
        (folder / f"worker-{worker}.jsonl").write_bytes(msgspec.json.encode(start) + b"\n")
    files = [(folder / f"samples-{worker}.jsonl").open("wb", buffering=1 << 20) for worker in range(workers)]
    rng = np.random.default_rng(seed)
    configs = [(config_id(config), config) for config in kinds or configurations()]
    noise = np.exp(rng.normal(0, 0.01, (samples, 4)))
    ids = rng.integers(0, 50_000, (4096, 32)).tolist()
    clock = [1.8e12] * workers
    encoder = msgspec.json.Encoder()
    for number in range(samples):
        name, config = configs[number % len(configs)]
        turn = number // len(configs)
        worker = (number + turn) % workers
        one = _sample(name, config, noise[number], ids[number % 4096], turn % inputs, turn // inputs)
        one = msgspec.structs.replace(one, worker=str(worker), started_unix_ms=clock[worker])
        clock[worker] += one.stages.total_ms
        files[worker].write(encoder.encode(one) + b"\n")
    for file in files:
        file.close()


def _sample(
    name: str, config: dict[str, Scalar], noise: np.ndarray, ids: list[int], sample: int, repeat: int
) -> Sample:
    crops, blocks, k, prompt = (int(config[n] or 0) for n in ("crops", "blocks", "top_k", "prompt_tokens"))
    vision, prefill, decode, other = (
        int(1e6 * ms * by)
        for ms, by in zip(
            (5.0 * crops, (25 + prompt / 20) * blocks / 8, (180 + 20 * k) * blocks / 8, 6.0), noise, strict=True
        )
    )
    total = vision + prefill + decode + other
    stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=total)
    places = [0, other // 4, other // 4 + vision, other // 3 + vision, other // 3 + vision + prefill]
    places += [other // 2 + vision + prefill] * 2 + [total - other // 2, total]
    kinds = ("start", "vision-begin", "vision-end", "prefill-begin", "first-logits", "first-token", "decode-begin")
    first = places[5]
    return Sample(
        config_id=name,
        sample_id=f"{sample:04d}",
        repeat=repeat,
        worker="0",
        config=config,
        stages=stages,
        host_stages=stages,
        ttft_ms=first / 1e6,
        tpot_ms=(total - first) / 31e6,
        itl_ms=None,
        output_tokens=32,
        decode_forwards=31,
        prompt_tokens=prompt + 144 * crops,
        image_tokens=144 * crops,
        crops=crops,
        generated_tokens=32,
        memory_peak_bytes=15_105_219_584,
        energy_j=round(total * 1.3e-7, 3),
        gpu=GpuState(sm_mhz=1980, temperature_c=32, power_w=159.202),
        gc_pause_ms=0.116354,
        marks=[Mark(kind, at, at) for kind, at in zip((*kinds, "logits", "end"), places, strict=True)],
        output_ids=[ids],
    )


def timed(arguments: list[str], folder: Path) -> dict[str, object]:
    """Run one task in a new process: seconds on the wall and on the processors, peak memory of it and its children.

    Raises SystemExit where the task fails: exit code 1 is an answer.
    """
    load, began = os.getloadavg()[0], time.perf_counter()
    with (folder / "output.txt").open("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        peak, status = 0.0, 0
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, _resident_mib(process.pid))
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}\n" + "\n".join(lines[-10:]))
    return {
        "wall_s": wall,
        "processor_s": used.ru_utime + used.ru_stime,
        "peak_mib": max(peak, used.ru_maxrss / 1024),
        "load": load,
        "exit_code": process.returncode,
        "first_line": lines[0][:200] if lines else "",
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit that was measured, with a plus sign where the working tree differs from it."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=7"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.check_output(words, text=True).strip()
    return ""


def _resident_mib(process: int) -> float:
    """Resident memory of a process and its children now, together."""
    with suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (str(process), *children)]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def make_runs(folder: Path, samples: int) -> None:
    """Write two runs that differ by noise only, and a tenth of one. What is there is whole, and is left."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("a", samples, 0), ("b", samples, 1), ("tenth", samples // 10, 0)):
        if not (folder / name).exists():
            shutil.rmtree(part := folder / f"{name}.part", ignore_errors=True)
            write_run(part, count, seed=seed)
            part.rename(folder / name)


def measure(folder: Path, samples: int, tasks: list[str], *, again: bool) -> dict[str, dict[str, object]]:
    """Measure the tasks, keep each in measured.json beside the runs, and leave out what stands there unless `again`."""
    kept = folder / "measured.json"
    known = json.loads(kept.read_bytes()) if kept.exists() else {"samples": samples, "tasks": {}}
    if known["samples"] != samples:
        raise SystemExit(f"{folder} holds runs of {known['samples']:,} samples: name another folder")
    for task in tasks:
        if task in known["tasks"] and not again:
            continue
        if task == "older JSON: read and audit" and not (folder / "older").exists():
            timed(TASKS["older JSON: write"], folder)
        row = known["tasks"][task] = timed(TASKS[task], folder)
        kept.write_text(json.dumps(known, indent=1))
        print(f"{task:40} {row['processor_s']:7.1f} s of processor {row['peak_mib']:6.0f} MiB", flush=True)
    return {task: known["tasks"][task] for task in TASKS if task in known["tasks"]}


def main() -> None:
    """Make the runs, measure the tasks, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to make (or find) the runs; default: a temporary one")
    parser.add_argument("--task", action="append", choices=TASKS, help="measure only this; once for each")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        make_runs(folder, asked.samples)
        size = sum(file.stat().st_size for file in (folder / "a").glob("samples-*")) / 2**20
        tasks = measure(folder, asked.samples, asked.task or list(TASKS), again=asked.again)
    from recorded import record

    environment = {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count()}
    figures = {"samples": asked.samples, "mib": size, "tasks": tasks}
    print(record("million_samples", figures, environment).name)


if __name__ == "__main__":
    main()
