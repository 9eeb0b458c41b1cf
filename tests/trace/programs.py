"""Programs run by a small simulator of a host and a device: what a remedy makes of them is known.

The device works through each stream in order; a launch takes the host a while and its work starts no earlier than the
launch's end; a synchronisation holds the host until all that was launched has ended. The simulator shares no code with
laptime.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

LAUNCH_NS, GAP_NS, IN_GRAPH_NS, GRAPH_LAUNCH_NS = 5_000, 1_000, 500, 12_000


NAMED = {
    "load": "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__",
    "optimize": "Optimizer.step#AdamW.step",
    "differentiate": "autograd::engine::evaluate_function: AddmmBackward0",
}


@dataclass(frozen=True)
class Op:
    """One thing that the host does in a step.

    kind: work (the host is busy), load (likewise, in a data loader's range), optimize (in an optimizer's),
    differentiate (in a backward operator's), launch,
    sync, wait (stream `stream` for what was launched on `other`).
    """

    kind: str
    time_ns: int = 0
    stream: int = 7
    other: int = 7
    name: str = "gemm"
    memory: str | None = None  # of a copy to the device: pageable | pinned; within it: device
    bytes: int | None = None


@dataclass
class Run:
    """What was traced, and when each step's first activity began."""

    activities: list[ActivityRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)
    ranges: list[RangeRow] = field(default_factory=list)
    begun_ns: list[int] = field(default_factory=list)

    @property
    def all(self) -> tuple[list[ActivityRow], list[CallRow], list[RangeRow]]:
        return self.activities, self.calls, self.ranges

    @property
    def step_ns(self) -> int:
        """How long a steady step lasts."""
        return self.begun_ns[-1] - self.begun_ns[-2]


def run(step: list[Op], count: int = 8) -> Run:
    """The step, run several times in a row."""
    made, host, tails, number, waits = Run(), 1_000_000, dict.fromkeys((7, 20, 21), 0), 0, {}
    for at in range(count):
        began, first = host, True
        for op in step:
            if op.kind in ("work", *NAMED):
                if op.kind in NAMED:
                    made.ranges.append(RangeRow(host, host + op.time_ns, NAMED[op.kind]))
                host += op.time_ns
                continue
            if op.kind == "sync":
                end = max(host + 3_000, max(tails.values()) + 2_000)
                made.calls.append(CallRow(host, end, "cudaStreamSynchronize", 0))
                host = end
                continue
            if op.kind == "wait":
                made.calls += [
                    CallRow(host, host + 500, "cudaEventRecord", 0),
                    CallRow(host + 600, host + 1_000, "cudaStreamWaitEvent", 0),
                ]
                waits[op.stream] = tails[op.other]
                host += 1_000
                continue
            number += 1
            start = max(host + LAUNCH_NS, tails[op.stream] + GAP_NS, waits.pop(op.stream, 0))
            end = start + op.time_ns
            tails[op.stream] = end
            copied = op.memory is not None
            way = "DtoD" if op.memory == "device" else "HtoD"
            name = f"Memcpy {way} ({(op.memory or '').capitalize()} -> Device)" if copied else op.name
            kind = "memcpy" if copied else "kernel"
            row = ActivityRow(start, end, name, kind, stream=op.stream, correlation=number, bytes=op.bytes)
            made.activities.append(row)
            returns = end - op.time_ns // 20 if op.memory == "pageable" else host + LAUNCH_NS
            made.calls.append(CallRow(host, returns, "cudaMemcpyAsync" if copied else "cudaLaunchKernel", number))
            host = returns
            if first:
                made.begun_ns.append(start)
                first = False
        made.ranges.append(RangeRow(began, host, f"ProfilerStep#{at}"))
    return made


def as_graph(step: list[Op], count: int = 8) -> int:
    """How long the step lasts when one graph holds its launches: its other work and one synchronisation stay."""
    other = [op for op in step if op.kind in ("work", "load") and op.time_ns >= 1_000_000]
    tail, host, begun = 0, 0, []
    syncs = any(op.kind == "sync" for op in step)
    for _ in range(count):
        host += sum(op.time_ns for op in other)
        host += GRAPH_LAUNCH_NS
        ends: dict[int, int] = {}
        start = max(host, tail + GAP_NS)
        begun.append(start)
        waits: dict[int, int] = {}
        for op in step:
            if op.kind == "wait":
                waits[op.stream] = ends.get(op.other, start)
            elif op.kind == "launch":
                at = max(ends.get(op.stream, start - IN_GRAPH_NS) + IN_GRAPH_NS, waits.pop(op.stream, 0))
                ends[op.stream] = at + op.time_ns
        tail = max(ends.values())
        host = max(host, tail + 2_000) if syncs else host
    return begun[-1] - begun[-2]


def launches(count: int, time_ns: int, host_ns: int = 10_000, **changes: object) -> list[Op]:
    """Kernels with as much host time before each."""
    kernel = replace(Op("launch", time_ns), **changes)  # type: ignore[arg-type]
    return [op for _ in range(count) for op in (Op("work", host_ns), kernel)]
