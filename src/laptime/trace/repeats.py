"""Repetition in a sequence of kernels: which periods it has, and the longest run of one repeated unit.

A period P is a lag at which the sequence equals itself. Candidates come from hashes of k consecutive kernels
(the distance to the previous occurrence of the same k-gram); each is then checked kernel by kernel. One in ten
kernels of a window may differ (an alignment-dependent variant of a kernel, a counter's update), so a step stays
a step when such details alternate. Cost: O(n log n) for the hashes and O(n) for each candidate.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MATCH = 0.9
"""Share of a window that must equal the next window."""

WINDOW = 262_144
"""Kernels from the middle of the trace that candidates are taken from: enough for dozens of steps."""

SAME = 0.97
"""Share of a run's kernels that must equal the one a shorter period earlier, for the shorter period to be the unit."""

LIKELY = 0.75
"""Share of a period's kernels, name by name, that must come again."""

LEAST_PERIOD, LEAST_COUNT = 4, 3
"""The fewest kernels of a layer, and the fewest layers of a step."""

EDGES = 0.25
"""How much of a unit may be cut from each end of where a period holds."""

EXACT = 0.99
"""Share of kernels that equal the one a period earlier, where nothing but the period speaks for something."""

LONG = 20_000
"""Of a longer step matches are estimated."""

_GRAMS = (1, 8, 64)
_CANDIDATES = 14


class RepeatLevel(msgspec.Struct, frozen=True):
    """One period and where it holds: `intervals` are [start, stop) in the sequence, each at least three units."""

    period: int
    intervals: tuple[tuple[int, int], ...]

    @property
    def covered(self) -> int:
        return sum(stop - start for start, stop in self.intervals)

    @property
    def repeats(self) -> int:
        return sum((stop - start) // self.period for start, stop in self.intervals)


class RepeatRun(msgspec.Struct, frozen=True):
    """A unit of `period` kernels repeated `count` times without a break, from `start` on."""

    period: int
    count: int
    start: int


def levels(tokens: Tokens) -> list[RepeatLevel]:
    """The periods of a sequence, shortest first, without multiples of one another that say nothing new."""
    if len(tokens) > WINDOW:
        first = (len(tokens) - WINDOW) // 2
        tokens = tokens[first : first + WINDOW]
    tried = [RepeatLevel(period, intervals(tokens, period, repeats=3)) for period in sorted(_candidates(tokens))]
    likely = [(level, _likeness(tokens, level)) for level in tried if level.intervals]
    likely = [(level, likeness) for level, likeness in likely if likeness >= LIKELY]
    result: list[RepeatLevel] = []
    for level, likeness in likely:
        # A step's length less some layers nearly fits too: of periods about as long, the better one counts. A
        # multiple fits better when a detail alternates from step to step, which makes no step of two.
        outdone = any(
            level.period / 3 < other.period < level.period * 3
            and other.period % level.period
            and better > likeness
            and other.covered >= 0.8 * level.covered
            for other, better in likely
        )
        if not outdone and not any(_says_as_much(known, level) for known in result):
            result.append(level)
    return result


def _likeness(tokens: Tokens, level: RepeatLevel) -> float:
    """Where the period holds: the share of each kernel name that equals the kernel a period later, mean of names.

    By name, so that the many kernels of layers don't outvote the few outside, which tell a step from its parts.
    """
    cores = [_core(tokens, a, b, level.period) for a, b in level.intervals]
    here = np.concatenate([tokens[a : b - level.period] for a, b in cores])
    if len(here) == 0:
        return 0.0  # no interval holds a whole period besides its edges: nothing is known
    there = np.concatenate([tokens[a + level.period : b] for a, b in cores])
    counts = np.bincount(here)
    equal = np.bincount(here[here == there], minlength=len(counts))
    return float(np.mean(equal[counts > 0] / counts[counts > 0]))


def _core(tokens: Tokens, start: int, stop: int, period: int) -> tuple[int, int]:
    """An interval without its edges: the tolerance lets it begin early and end late.

    By as many kernels as may differ in a unit; by more, up to EDGES of one, where what is beside fits in part.
    """
    edge, most = int((1 - MATCH) * period) + 1, int(EDGES * period)
    unlike = tokens[start : stop - period] != tokens[start + period : stop]
    first, last = np.flatnonzero(unlike[:most]), np.flatnonzero(unlike[::-1][:most])
    return (
        start + max(edge, int(first[-1]) + 1 if len(first) else 0),
        stop - max(edge, int(last[-1]) + 1 if len(last) else 0),
    )


def _says_as_much(known: RepeatLevel, level: RepeatLevel) -> bool:
    """Whether each interval of a longer period lies in one unbroken interval of a shorter one."""
    return all(
        any(min(stop, b) - max(start, a) >= 0.9 * (stop - start) for a, b in known.intervals)
        for start, stop in level.intervals
    )


def intervals(tokens: Tokens, period: int, *, repeats: int) -> tuple[tuple[int, int], ...]:
    """Where the sequence repeats itself at this lag for at least `repeats` units."""
    n = len(tokens)
    if period < 1 or n < repeats * period:
        return ()
    equal = _counted(tokens[:-period] == tokens[period:])
    alike = np.concatenate([[False], (equal[period:] - equal[:-period]) >= MATCH * period, [False]])
    starts = np.flatnonzero(alike[1:] & ~alike[:-1])
    ends = np.flatnonzero(~alike[1:] & alike[:-1])  # exclusive
    result: list[tuple[int, int]] = []
    for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
        start, stop = max(begin, result[-1][1] if result else 0), end - 1 + 2 * period
        if stop - start >= repeats * period:
            result.append((start, stop))
    return tuple(result)


def _counted(marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """How many are marked before each place, and behind the last."""
    before = np.zeros(len(marks) + 1, dtype=np.int32)
    np.cumsum(marks, dtype=np.int32, out=before[1:])
    return before


def _candidates(tokens: Tokens) -> set[int]:
    """Lags at which many k-grams come back, for short, middling and long k."""
    n = len(tokens)
    if n < 12:
        return set()
    gram, length, factor = hashes(tokens), 1, 0x9E3779B97F4A7C15
    result: set[int] = set()
    for k in _GRAMS:
        while length < k:
            gram = gram[:-length] * np.uint64(factor) + gram[length:]
            factor = factor * factor % 2**64
            length *= 2
            if len(gram) <= length:
                return result
        order = _grouped(gram)
        same = gram[order[1:]] == gram[order[:-1]]
        distance = (order[1:] - order[:-1])[same]
        counts = np.bincount(distance, minlength=2)
        counts[0] = 0
        result |= {int(lag) for lag in np.argsort(-counts, kind="stable")[:_CANDIDATES] if counts[lag] >= 2}
    return {lag for lag in result if 2 <= lag <= n // 3}


def hashes(tokens: Tokens) -> Hashes:
    """A number of 64 bits for each kernel, the same for the same name. numpy.random would take longer to import.

    Source: the output function of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    mixed = np.arange(1, int(tokens.max(initial=0)) + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Hashes = (mixed ^ (mixed >> np.uint64(31)))[tokens]
    return result


def _grouped(keys: Hashes) -> npt.NDArray[np.intp]:
    """The order in which equal keys stand side by side, each in the order of the sequence: sorted 16 bits at a time,
    which numpy does without comparing."""
    parts = keys.view(np.uint16).reshape(len(keys), 4)
    order = np.argsort(parts[:, 0], kind="stable")
    for i in range(1, 4):
        order = order[np.argsort(parts[order, i], kind="stable")]
    return order


def cyclic_run(unit: Tokens) -> RepeatRun | None:
    """The same as `longest_run` for a step whose beginning is not known: a run may go over its end."""
    return longest_run(np.concatenate([unit, unit]), of=len(unit))


def longest_run(step: Tokens, *, of: int | None = None) -> RepeatRun | None:
    """The repeated unit that covers most of a step, None when nothing covers half of it.

    Every lag up to a third of the step is tried; among lags that cover the same, the shortest is the unit.
    """
    return _longest_run(step.astype(np.int32).tobytes(), len(step) if of is None else of)


@lru_cache(maxsize=4)  # one step is asked about several times
def _longest_run(content: bytes, n: int) -> RepeatRun | None:
    small = np.frombuffer(content, dtype=np.int32)
    best: RepeatRun | None = None
    lags = np.arange(LEAST_PERIOD, n // LEAST_COUNT + 1)
    if len(lags) == 0:
        return None
    # Matches at a lag bound what a run at it can cover; only the promising lags are looked at closely.
    matches = _matches(small, lags)
    covering = matches + lags
    for i in np.argsort(-covering, kind="stable")[:200]:
        if covering[i] < 0.5 * n or (best and covering[i] < best.period * best.count * 0.98):
            break
        run = run_at(small, int(lags[i]))
        if run is None or run.count < LEAST_COUNT or not 0.5 * n <= run.period * run.count <= n:
            continue
        if best is None or _better(run, best):
            best = run
    return best if best is None else _reduced(small, best, n)


def _reduced(tokens: npt.NDArray[np.int32], run: RepeatRun, longest: int) -> RepeatRun:
    """The run of the shorter unit that a run's own unit repeats, where there is one: five layers are no layer.

    A multiple of a layer can reach a little further than its layers do, into others that differ in a kernel.
    """
    part = tokens[run.start : run.start + run.period * run.count]
    for period in range(LEAST_PERIOD, run.period // 2 + 1):
        if run.period % period == 0 and np.count_nonzero(part[:-period] == part[period:]) >= SAME * (
            len(part) - period
        ):
            shorter = run_at(tokens, period)
            if shorter is not None and shorter.count >= LEAST_COUNT and shorter.period * shorter.count <= longest:
                return shorter
    return run


def _better(run: RepeatRun, best: RepeatRun) -> bool:
    size, known = run.period * run.count, best.period * best.count
    if run.period < best.period:
        return size >= known - best.period  # a whole number of units may leave up to a unit uncovered
    return size > known + run.period


def _matches(tokens: npt.NDArray[np.int32], lags: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """For each lag the number of positions that equal the one a lag later; for very long steps about that, by FFT."""
    used = np.bincount(tokens) > 0
    if len(tokens) <= LONG:
        number = np.cumsum(used) - 1  # bytes compare fastest
        short = number.astype(np.uint8 if number[-1] < 256 else np.int32)[tokens]
        counts = [np.count_nonzero(short[:-lag] == short[lag:]) for lag in lags.tolist()]
        return np.array(counts, dtype=np.int64)
    # Random signs per kernel name: the correlation's expectation is the number of equal pairs.
    generator, rounds = np.random.default_rng(0), 8
    size = 1 << (2 * len(tokens) - 1).bit_length()
    power = np.zeros(size // 2 + 1)
    for _ in range(rounds):
        spectrum = np.fft.rfft(generator.choice(np.array([-1.0, 1.0]), size=len(used))[tokens], size)
        power += spectrum.real**2 + spectrum.imag**2
    return np.rint(np.fft.irfft(power, size)[lags] / rounds).astype(np.int64)


def run_at(tokens: npt.NDArray[np.int32], period: int) -> RepeatRun | None:
    """The longest run at one period: whole units only, counted from the first kernel that matches."""
    equal = tokens[:-period] == tokens[period:]
    cumulated = _counted(equal)
    alike = cumulated[period:] - cumulated[:-period] >= MATCH * period
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alike, [False]]).astype(np.int8)))
    if len(edges) == 0:
        return None
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    first, last = int(starts[longest]), int(ends[longest]) - 1 + 2 * period  # exclusive
    # The tolerance lets a run begin early and end late: cut back to kernels that do match.
    while first + 2 * period <= last and not equal[first]:
        first += 1
    while last - 1 - period > first and not equal[last - 1 - period]:
        last -= 1
    count = (last - first) // period
    return RepeatRun(period, count, first) if count >= 2 else None
