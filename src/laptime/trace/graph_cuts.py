"""Where steps begin and end in a device's kernel sequence by launches of graphs.

Nothing here measures time; `steps` does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Activities, Activity, Int64
from laptime.trace.repeats import Tokens, hashes, longest_run
from laptime.trace.step_cuts import ALIKE, LEAST_STEPS, MOST, MOSTLY, Cuts

BESIDE = 0.1
"""Graph replays of which more kernels than this share run behind the start of the next replay are side by side."""


def replays(activities: Activities, kernels: Int64) -> Int64:
    """For each kernel an id of the graph replay that it ran in, -1 outside graphs.

    A replay's kernels bear their launch's correlation; some tracers mark no graph nodes, so kernels that share
    one launch with others count as a replay too. Correlations of several processes are kept apart.
    """
    correlation, process = activities.correlation[kernels], activities.process[kernels].astype(np.int64)
    known = correlation >= 0
    key = np.where(known, (process << 40) + correlation, -1)
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.concatenate([[True], key[order[1:]] != key[order[:-1]], [True]]))
    shared = np.empty(len(key), dtype=np.bool_)
    shared[order] = np.repeat(np.diff(edges) > 2, np.diff(edges))
    marked = (activities.graph_node[kernels] >= 0) | (activities.kind[kernels] == Activity.GRAPH)
    return np.where(known & (marked | shared), key, -1)


def side_by_side(graph: Int64, *, least: float) -> bool:
    """Whether replays run beside one another, as on two streams: no kernel then ends one and begins the next.

    Args:
        graph: for each kernel its graph launch, -1 for kernels outside graphs.
        least: the share of the kernels that must be in graphs.
    """
    own = graph[graph >= 0]
    first, launch = np.unique(own, return_index=True, return_inverse=True)[1:]
    order = np.sort(first)
    latest = np.searchsorted(order, np.arange(len(own)), side="right") - 1
    late = latest != np.searchsorted(order, first[launch])
    return len(own) > 0 and len(own) >= least * len(graph) and float(late.mean()) > BESIDE


def by_graph(graph: Int64, tokens: Tokens, before_ns: Int64) -> Cuts | None:
    """Steps by graph launches: one step per launch, when the same graph (or several alike) runs most kernels.

    Args:
        graph: for each kernel its graph launch (an id that grows with time), -1 for kernels outside graphs.
        tokens: name id of each kernel.
        before_ns: idle time right before each kernel.
    """
    inside = np.flatnonzero(graph >= 0)
    if len(inside) == 0 or len(inside) < 0.5 * len(tokens):
        return None
    if side_by_side(graph, least=MOSTLY):
        return None
    change = np.sort(np.unique(graph[inside], return_index=True)[1])  # where each launch begins
    starts = inside[change]
    sizes = np.diff(np.r_[change, len(inside)])
    if len(starts) < LEAST_STEPS:
        whole = len(inside) >= MOST * len(tokens) and sizes.min() >= 0.98 * sizes.max()
        if not whole or longest_run(tokens[starts[0] : starts[0] + sizes[0]]) is None:
            return None
    # One whole-step graph per step: the launches' sizes agree. Many small graphs per step do not make steps.
    usual = int(np.bincount(sizes).argmax())
    alike = np.abs(sizes - usual) <= 0.02 * usual
    if alike.mean() < 0.6 or (usual > 1 and _one_of_several(tokens, starts, sizes, usual)):
        return None
    stops = np.r_[starts[1:], len(tokens)]  # kernels between two graphs belong to the step before them
    last_end = inside[-1] + 1
    if alike[-1]:
        stops[-1] = last_end
    if (sizes * alike).sum() < MOSTLY * len(tokens):
        return _by_turns(tokens, inside, change, before_ns)  # one of several graphs of a step, as a draft model's
    chosen = alike
    return Cuts("graph", round(float(alike.mean()), 3), starts[chosen].astype(np.int64), stops[chosen].astype(np.int64))


def _by_turns(
    tokens: Tokens, inside: npt.NDArray[np.intp], change: npt.NDArray[np.intp], before_ns: Int64
) -> Cuts | None:
    """Steps of several graphs that take turns: three of a draft model and one that verifies, again and again.

    Args:
        tokens: name id of each kernel.
        inside: positions of the kernels in graphs.
        change: where among these a launch's first one is.
        before_ns: idle time right before each kernel.
    """
    graphs = np.add.reduceat(hashes(tokens[inside]), change)
    starts = inside[change]
    for turn in range(2, len(graphs) // LEAST_STEPS + 1):
        if np.mean(graphs[:-turn] == graphs[turn:]) < ALIKE:
            continue
        waits = [float(np.median(before_ns[starts[phase::turn]])) for phase in range(turn)]
        begins = starts[int(np.argmax(waits)) :: turn]
        stops = np.r_[begins[1:], len(tokens)]
        whole = np.searchsorted(starts, stops) - np.searchsorted(starts, begins) == turn
        begins, stops = begins[whole], stops[whole]
        if len(begins) < LEAST_STEPS:
            return None
        if stops[-1] == len(tokens):
            stops[-1] = inside[-1] + 1
        return Cuts("graph", round(1 - 1 / (1 + len(begins)), 3), begins.astype(np.int64), stops.astype(np.int64))
    return None


def _one_of_several(tokens: Tokens, starts: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp], usual: int) -> bool:
    """Whether the graph is a piece of a step, as with one graph per layer: it holds no repeated layer itself."""
    at = starts[int(np.flatnonzero(sizes == usual)[0])]
    return usual < 100 and longest_run(tokens[at : at + usual]) is None
