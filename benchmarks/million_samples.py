"""A run folder of a million samples: how long it takes to load, to sum up, to audit, and in how much memory.

    python benchmarks/million_samples.py [--samples 1000000] [--folder /tmp/million]

The lines are as a sweep on a GPU writes them, marks and output ids included: about 1.5 kB each. Each task runs in a
process of its own, as a command would. The peer reads a tenth of it in the same run, in the usual way: json.loads of
each line, pandas.json_normalize.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from laptime.data.record import Environment, GpuState, Mark, Sample, Scalar, StageTimes, WorkerStart, config_id
from laptime.data.run_folder import new_info, readable_json

TASKS = {
    "load + summary": "from laptime.data.frame import read_frame; "
    "from laptime.data.summary import summarise_frame; "
    "answer = summarise_frame(read_frame(folder)).used",
    "audit": "from laptime.audits import audit; answer = [(f.code, f.severity) for f in audit(folder).findings]",
    "peer: json.loads + pandas": "import json, pathlib, pandas; "
    "lines = [json.loads(l) for f in sorted(pathlib.Path(folder).glob('samples-*')) for l in open(f, 'rb')]; "
    "answer = len(pandas.json_normalize(lines).groupby('config_id')['stages.total_ms'].median())",
}

PROGRAM = """
import os, sys, time, resource
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
folder, begin = sys.argv[1], time.perf_counter()
{task}
wall = time.perf_counter() - begin
own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
processor = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
import json
print(json.dumps([wall, processor, own.ru_maxrss / 1024, str(answer)]))
"""


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


def write_run(folder: Path, samples: int, workers: int = 2, inputs: int = 100) -> None:
    """Write a sweep's folder. Every configuration meets every worker; lines are whole records, encoded by laptime."""
    folder.mkdir(parents=True)
    environment = Environment(laptime="0", python="3", platform="Linux", cpu="cpu", cpu_count=2, gpu="H200")
    (folder / "run.json").write_bytes(readable_json(new_info(["laptime", "sweep"], {}, environment)))
    for worker in range(workers):
        start = WorkerStart(worker=str(worker), started_unix_ms=1.8e12, host="here", environment=environment)
        (folder / f"worker-{worker}.jsonl").write_bytes(msgspec.json.encode(start) + b"\n")
    files = [(folder / f"samples-{worker}.jsonl").open("wb", buffering=1 << 20) for worker in range(workers)]
    rng = np.random.default_rng(0)
    configs = [(config_id(config), config) for config in configurations()]
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


def timed(task: str, folder: Path) -> dict[str, object]:
    """Run one task in a new process: seconds on the wall and on the processors, peak memory of it and its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(task=TASKS[task]), str(folder)], stdout=subprocess.PIPE, text=True
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_mib(process.pid))
        time.sleep(0.02)
    output = process.stdout
    assert output is not None
    wall, processor, own, answer = msgspec.json.decode(output.read())
    return {"wall_s": wall, "processor_s": processor, "rss_mib": max(peak, own), "answer": answer}


def _resident_mib(process: int) -> float:
    """Resident memory of a process and its children now, together."""
    with suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (str(process), *children)]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def main() -> None:
    """Make the folder, time the three tasks, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to make (or find) the run; default: a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch) / "run"
        part = Path(scratch) / "part"
        if not folder.exists():
            write_run(folder, asked.samples)
        write_run(part, asked.samples // 10)
        size = sum(file.stat().st_size for file in folder.glob("samples-*")) / 2**20
        print(f"{asked.samples:,} samples, {size:,.0f} MiB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        figures: dict[str, object] = {"samples": asked.samples, "mib": size, "load": os.getloadavg()[0]}
        for task in TASKS:
            peer = task.startswith("peer")
            figures[task] = measured = timed(task, part if peer else folder)
            name = f"{task} (a tenth)" if peer else task
            seconds = f"{measured['wall_s']:.2f} s | {measured['processor_s']:.2f} s on the processors"
            print(f"| {name} | {seconds} | {measured['rss_mib']:,.0f} MiB |", flush=True)
        tenth = timed("load + summary", part)
        ratio = figures["peer: json.loads + pandas"]["processor_s"] / tenth["processor_s"]  # type: ignore[index]
        figures["load + summary of a tenth"], figures["peer_ratio"] = tenth, ratio
        print(f"the peer takes {ratio:.1f} times the processor time of load + summary on the same tenth")
    from recorded import record

    environment = {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count()}
    print(record("million_samples", figures, environment).name)


if __name__ == "__main__":
    main()
