"""What several ranks say together, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.trace.rank_absences import Absent
from laptime.trace.rank_waits import MATERIAL
from laptime.trace.ranks_result import Clocks, RankTimes

FIRST = 0.5
"""From which share on waiting in the first collective is said: captures that begin apart add to it."""

ALL_HERE = Absent()


def headline(
    ranks: Sequence[RankTimes],
    clocks: Clocks,
    straggler: int | None,
    *,
    unsure: bool = False,
    apart: bool = False,
    absent: Absent = ALL_HERE,
) -> str:
    """What the ranks computed, how long they communicated, and what of that is waiting for one of them.

    unsure: whether waiting would matter, were it not shorter than the clocks' spread. apart: whether nothing says that
    the files are ranks of one run. absent: the ranks of the run whose traces aren't here.
    """
    low, high = (_ms(bound(r.compute_ns for r in ranks)) for bound in (min, max))
    partial = [rank.rank for rank in ranks if rank.verdict != "ok"]
    hedge = f", {len(partial)} of them from partial files ({listed(partial)})" if partial else ""
    of = f" of {absent.world}" if absent.count else ""
    what = f"{len(ranks)} files, which may be of separate runs" if apart else f"{len(ranks)}{of} ranks"
    text = f"{what}{hedge}: they compute {low if low == high else f'{low} to {high}'} ms each"
    least = min(ranks, key=lambda rank: rank.exposed_communication_ns)
    most = max(ranks, key=lambda rank: rank.exposed_communication_ns)
    if most.exposed_communication_ns == 0:
        return f"{text}; none has exposed communication"
    fewest, longest = _ms(least.exposed_communication_ns), _ms(most.exposed_communication_ns)
    if fewest == longest and len(ranks) > 1:
        text += f"; exposed communication is {longest} ms on each"
    else:
        text += f"; exposed communication is {fewest} ms (rank {least.rank}) to {longest} ms (rank {most.rank})"
    if not clocks.aligned:
        return f"{text}. Who waits for whom is not known: {clocks.why}"
    slow = next((rank for rank in ranks if rank.rank == straggler), None)
    if unsure:
        spread = f"{(clocks.spread_ns or 0) / 1e3:.3g} µs"
        return f"{text}. Who waits for whom isn't certain: waits are as short as the clocks' spread of {spread}"
    waiting = _little(ranks) if slow is None else _held_up_by(slow, ranks)
    return f"{text}. {_among(waiting, absent) if absent.shares else waiting}"


def _among(waiting: str, absent: Absent) -> str:
    """The same sentence, said of the ranks that are here."""
    words = {
        "other ranks": "another of these",
        "for others;": "for others of these;",
        "Most waiting ": "Of the waiting for one of these most ",
        "The largest part of the waiting ": "Of the waiting for one of these the largest part ",
        "No single rank holds": "No single one of these holds",
    }
    for said, of_these in words.items():
        waiting = waiting.replace(said, of_these)
    if absent.count == 1:
        one = f"rank {absent.ranks[0]}" if absent.ranks else "the one other rank"
        return f"{waiting}; how long they wait for {one} isn't known: its trace is not here"
    return f"{waiting}; how long they wait for the other {absent.count} ranks isn't known: their traces are not here"


def _held_up_by(slow: RankTimes, ranks: Sequence[RankTimes]) -> str:
    exposed = sum(rank.exposed_waited_ns or 0 for rank in ranks)
    for_it = [row for rank in ranks for row in rank.waited_for or [] if row.rank == slow.rank]
    caused, first = sum(row.exposed_ns for row in for_it), sum(row.first_ns for row in for_it)
    hidden = sum(rank.waited_ns or 0 for rank in ranks) > 2 * exposed
    what = "waiting that no compute hides" if hidden else "waiting"
    share = f"Most {what}" if 2 * caused > exposed else f"The largest part of the {what} ({caused / exposed:.0%})"
    share = share.replace("%", " %")
    text = f"{share} is for rank {slow.rank}, which comes last to {slow.last_in} of {slow.paired} collectives"
    if (slow.last_in or 0) > 1 and first > FIRST * caused:
        beside = (
            " with no compute beside it" if any((r.waited_ns or 0) > (r.exposed_waited_ns or 0) for r in ranks) else ""
        )
        text += f"; the ranks wait {_ms(caused)} ms for it together{beside}, {_ms(first)} ms of that in the first one"
    return text


def _little(ranks: Sequence[RankTimes]) -> str:
    """What is true where no single rank holds the others up by much."""
    worst = max(ranks, key=_exposed_share)
    exposed = worst.exposed_waited_ns or 0
    if any(_later(rank) >= MATERIAL * max(rank.span_ns - _first(rank), 1) for rank in ranks):
        return "No single rank holds the others up"
    if _exposed_share(worst) >= MATERIAL and _first(worst) > max(map(_later, ranks)):
        whom = max(worst.waited_for or [], key=lambda row: row.first_ns)
        waits = f"Rank {worst.rank} waits {_ms(whom.first_ns)} ms for rank {whom.rank} in the first collective"
        later = _ms(max(map(_later, ranks)))
        return f"{waits}, as it does where captures begin apart; in later ones no rank waits for more than {later} ms"
    longest = max(ranks, key=lambda rank: (rank.waited_ns or 0) / max(rank.span_ns, 1))
    if (longest.waited_ns or 0) >= MATERIAL * longest.span_ns:
        waited = longest.waited_ns or 0
        beside = f"compute runs beside {_ms(waited - (longest.exposed_waited_ns or 0))} ms of that"
        return f"Rank {longest.rank} waits {_ms(waited)} ms for others; {beside}"
    if exposed == 0:
        return "None of it is waiting for other ranks"
    return f"At most {_ms(exposed)} ms of it is waiting for other ranks (rank {worst.rank})"


def _later(rank: RankTimes) -> int:
    """Exposed waiting behind the first collective of each group."""
    return (rank.exposed_waited_ns or 0) - _first(rank)


def _first(rank: RankTimes) -> int:
    """Exposed waiting in the first collective of each group."""
    return sum(row.first_ns for row in rank.waited_for or [])


def _exposed_share(rank: RankTimes) -> float:
    return (rank.exposed_waited_ns or 0) / max(rank.span_ns, 1)


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3g}" if ns < 1e9 else f"{ns / 1e6:.0f}"


def listed(numbers: Sequence[int]) -> str:
    """Some ranks' numbers in a sentence."""
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown}, …"
