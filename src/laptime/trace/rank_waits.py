"""Who waited for whom in collectives, what of it no compute hid, and which rank the others wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.device_time import covered_ns
from laptime.trace.rank_pairs import Paired
from laptime.trace.ranks_result import Waiting
from laptime.trace.read.timeline import Int64

LARGEST = 0.4
"""A straggler has at least this share of all exposed waiting: with less of it, several ranks come late in turn."""

MATERIAL = 0.05
"""The least share of a rank's time whose exposed waiting names a straggler.

In two runs of benchmarks/ranks_truth.py two equal GPUs with equal work waited up to 3.9 and 4.9 % of the time for each
other: less than this share is what equal ranks show.
"""


class Computing(Protocol):
    """A rank's compute beside its collectives."""

    @property
    def beside_start_ns(self) -> Int64:
        """When compute beside a collective starts."""

    @property
    def beside_end_ns(self) -> Int64:
        """When it ends."""


class Waits(msgspec.Struct, frozen=True, eq=False):
    """How long each rank (row) waited in collectives for each that came last (column).

    `exposed_ns`: what of it had no compute beside it. `first_ns`: what of that lies in the first collective of a group,
    before which captures can begin apart. `sure_ns`: what of the rest is longer than the clocks' spread, collective by
    collective. Of each rank: collectives that it took part in with others, and those that it came last to.
    """

    total_ns: Int64
    exposed_ns: Int64
    sure_ns: Int64
    first_ns: Int64
    paired: Int64
    last: Int64

    def of(self, place: int, numbers: Sequence[int]) -> list[Waiting]:
        """For whom one rank waited, most first; `numbers`: the ranks' own."""
        total, exposed = self.total_ns[place], self.exposed_ns[place]
        rows = [
            Waiting(numbers[j], int(total[j]), int(exposed[j]), int(self.first_ns[place, j]))
            for j in np.argsort(-total, kind="stable")
        ]
        return [row for row in rows if row.total_ns > 0]

    def straggler(self, spans_ns: Sequence[int]) -> int | None:
        """The place of the rank that most exposed waiting was for; None where it is no single one's, or matters little.

        It matters where a rank loses a material share of its time. The first collective of a group doesn't count:
        captures that begin apart make it long. `spans_ns`: each rank's time.
        """
        caused = (self.exposed_ns - self.first_ns).sum(axis=0)
        most = int(np.argmax(caused))
        if caused[most] == 0 or caused[most] < LARGEST * caused.sum():
            return None
        return most if (self.sure_ns[:, most] >= self._least(spans_ns)).any() else None

    def _least(self, spans_ns: Sequence[int]) -> npt.NDArray[np.float64]:
        """What is a material share of each rank's time, without its waiting in first collectives."""
        least: npt.NDArray[np.float64] = MATERIAL * (np.array(spans_ns) - self.first_ns.sum(axis=1))
        return least

    def unsure(self, spans_ns: Sequence[int]) -> bool:
        """Whether waiting would matter, were it not shorter than the clocks' spread."""
        least = self._least(spans_ns)
        later = (self.exposed_ns - self.first_ns).sum(axis=1)
        return bool((later >= least).any() and not (self.sure_ns.sum(axis=1) >= least).any())


def waits_of(ranks: Sequence[Computing], pairs: Sequence[Paired], offsets: Int64, spread_ns: int) -> Waits:
    """The waiting in collectives that belong together.

    Args:
        ranks: their compute.
        pairs: the collectives.
        offsets: each clock's lead over the first rank's.
        spread_ns: how far apart the ends of a collective lie on aligned clocks.
    """
    count = len(ranks)
    total, exposed, sure, first = (np.zeros((count, count), dtype=np.int64) for _ in range(4))
    paired, last_in = (np.zeros(count, dtype=np.int64) for _ in range(2))
    for one in pairs:
        start = one.start_ns - offsets[one.members][:, None]
        end = one.end_ns - offsets[one.members][:, None]
        last = one.members[np.argmax(start, axis=0)]
        waited = np.maximum(np.minimum(start.max(axis=0), end) - start, 0)
        for row, place in enumerate(one.members.tolist()):
            rank, began = ranks[place], one.start_ns[row]
            hidden = covered_ns(rank.beside_start_ns, rank.beside_end_ns, began, began + waited[row])
            np.add.at(total[place], last, waited[row])
            np.add.at(exposed[place], last, waited[row] - hidden)
            np.add.at(first[place], last[:1], (waited[row] - hidden)[:1])
            np.add.at(sure[place], last[1:], np.maximum(waited[row] - hidden - spread_ns, 0)[1:])
        paired[one.members] += start.shape[1]
        np.add.at(last_in, last, 1)
    return Waits(total, exposed, sure, first, paired, last_in)
