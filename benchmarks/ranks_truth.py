"""What `laptime trace FOLDER` says of two ranks, beside what events and the host's clock said of the same steps.

    python benchmarks/ranks_truth.py --keep FOLDER       # two GPUs of one host
    python benchmarks/ranks_truth.py --kept FOLDER       # what laptime of today says of the traces that were kept

Each case is a loop of matrix products and all-reduces in two processes. Who waits for whom is known by construction,
and measured without the trace: CUDA events around each stretch of compute and each collective, placed on the clock that
both processes share. A rank waits in a collective until the other has come to it. benchmarks/results/ranks_truth.json.
With --device cpu the loops run on gloo and no trace is read: a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

import laptime
from laptime.measure.environment import describe
from recorded import record

RANKS, STEPS, WARM = 2, 6, 3


@dataclass(frozen=True)
class Case:
    """products: matrix products before each collective, by rank. late_ms: what a rank's host sleeps before each step.

    straggler: for whom the other waits; None: for nobody in particular. beside: products run beside each collective.
    """

    products: tuple[int, int]
    collectives: int
    late_ms: tuple[float, float] = (0.0, 0.0)
    megabytes: int = 32
    beside: bool = False
    straggler: int | None = None


CASES = {
    "equal work": Case((24, 24), 4),
    "one computes more": Case((24, 36), 4, straggler=1),
    "the other computes more": Case((40, 24), 4, straggler=0),
    "many small collectives": Case((4, 6), 24, megabytes=1, straggler=1),
    "a late host": Case((24, 24), 4, (12.0, 0.0), straggler=0),
    "large collectives": Case((6, 6), 4, megabytes=512),
    "collectives beside compute": Case((24, 24), 4, megabytes=256, beside=True),
}


class Clocked:
    """Device marks of one rank, each placed on the host's monotonic clock in ns."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.reference = self._mark()
        if self.cuda:
            torch.cuda.synchronize()
            before = time.monotonic_ns()
            self.reference.record()
            torch.cuda.synchronize()
            self.zero_ns = (before + time.monotonic_ns()) // 2
        self.marks: list[tuple[str, Any]] = []

    def _mark(self) -> Any:
        return torch.cuda.Event(enable_timing=True) if self.cuda else None

    def __call__(self, name: str) -> None:
        """Mark this place of the current stream."""
        mark = self._mark()
        if mark is None:
            mark = time.monotonic_ns()
        else:
            mark.record()
        self.marks.append((name, mark))

    def read(self) -> list[tuple[str, float]]:
        """The marks in ns."""
        if not self.cuda:
            return [(name, float(at)) for name, at in self.marks]
        torch.cuda.synchronize()
        return [(name, self.zero_ns + 1e6 * self.reference.elapsed_time(at)) for name, at in self.marks]


def rank_main(rank: int, asked: argparse.Namespace, port: int, folder: str) -> None:
    """One rank: every case, traced and marked."""
    device = torch.device("cpu" if asked.device == "cpu" else f"cuda:{rank}")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device.type == "cpu" else "nccl", rank=rank, world_size=RANKS)
    width = 64 if device.type == "cpu" else 4096
    kind = torch.float32 if device.type == "cpu" else torch.bfloat16
    left, right = (torch.randn(width, width, device=device, dtype=kind) / width**0.5 for _ in range(2))
    for name in asked.cases:
        case = CASES[name]
        sums = torch.ones(case.megabytes * (1 << 18 if device.type == "cuda" else 64), device=device)

        def step(mark: Any, case: Case = case, sums: torch.Tensor = sums) -> None:
            time.sleep(case.late_ms[rank] / 1e3)
            for _ in range(case.collectives):
                mark("compute")
                work = dist.all_reduce(sums, async_op=True) if case.beside else None
                for _ in range(case.products[rank]):
                    left @ right
                mark("communicate")
                if work is None:
                    dist.all_reduce(sums)
                else:
                    work.wait()
                mark("done")
            if device.type == "cuda":
                torch.cuda.synchronize()

        for _ in range(WARM):
            step(lambda _: None)
        dist.barrier()
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
        with profile(activities=activities) as taken:
            marks = Clocked(device)
            for _ in range(STEPS):
                step(marks)
            read = marks.read()
        place = Path(folder) / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        if device.type == "cuda":
            taken.export_chrome_trace(str(place / f"rank{rank}.json.gz"))
        (place / f"marks{rank}.txt").write_text(json.dumps(read))
        dist.barrier()
    dist.destroy_process_group()


def truth(marks: list[list[tuple[str, float]]], case: Case) -> dict[str, Any]:
    """By rank, in ms: compute, time in collectives that nothing hid, and waiting for the other."""
    compute, exposed, come = [], [], []
    for rank in marks:
        at = [time_ns for _, time_ns in rank]
        compute.append(sum(b - a for a, b in zip(at[0::3], at[1::3], strict=True)) / 1e6)
        exposed.append(sum(b - a for a, b in zip(at[1::3], at[2::3], strict=True)) / 1e6)
        come.append(at[0::3] if case.beside else at[1::3])
    waited = [
        sum(max(0.0, other - own) for own, other in zip(come[rank], come[1 - rank], strict=True)) / 1e6
        for rank in range(RANKS)
    ]
    return {"compute_ms": compute, "exposed_ms": exposed, "waited_ms": waited, "straggler": case.straggler}


def said_of(place: Path) -> dict[str, Any]:
    """What laptime says of one case's traces."""
    said = laptime.read_ranks(place)
    ranks = sorted(said.ranks, key=lambda one: one.rank)
    return {
        "compute_ms": [one.compute_ns / 1e6 for one in ranks],
        "exposed_ms": [one.exposed_communication_ns / 1e6 for one in ranks],
        "waited_ms": [None if one.waited_ns is None else one.waited_ns / 1e6 for one in ranks],
        "exposed_waited_ms": [None if one.exposed_waited_ns is None else one.exposed_waited_ns / 1e6 for one in ranks],
        "straggler": said.straggler,
        "aligned": said.clocks.aligned,
        "headline": said.headline,
    }


def say_again(folder: Path) -> None:
    """Write what laptime says today of kept traces beside what was measured; the run's environment stays."""
    target = Path(__file__).parent / "results" / "ranks_truth.json"
    recorded = json.loads(target.read_text(encoding="utf-8"))
    for name, row in recorded["figures"]["cases"].items():
        row["said"] = said_of(folder / name.replace(" ", "-"))
        print(name, row["said"]["headline"])
    target.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the cases, read the traces, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--keep", type=Path, help="leave the traces in this folder")
    parser.add_argument("--kept", type=Path, help="read that folder's traces again; what was measured stays")
    asked = parser.parse_args()
    if asked.kept:
        say_again(asked.kept)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        torch.multiprocessing.spawn(rank_main, (asked, port, str(folder)), nprocs=RANKS)
        for name in asked.cases:
            place = folder / name.replace(" ", "-")
            marks = [json.loads((place / f"marks{rank}.txt").read_text()) for rank in range(RANKS)]
            rows[name] = {"truth": truth(marks, CASES[name])}
            if asked.device == "cuda":
                rows[name]["said"] = said_of(place)
            print(name, json.dumps(rows[name], default=lambda value: round(value, 3)), flush=True)
    if asked.device == "cuda":
        print("written to", record("ranks_truth", {"steps": STEPS, "cases": rows}, describe(torch.device("cuda:0"))))


if __name__ == "__main__":
    main()
