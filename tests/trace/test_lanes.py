"""Streams one after the other, against a sort by all columns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.lanes import by_lane
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow

NUMBERS = st.sampled_from([0, 1, 2, 7, 40_000, 3_000_000, 2_000_000_000])
ROWS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2), NUMBERS, NUMBERS), max_size=30)


@given(ROWS)
def test_lanes_are_those_of_a_sort_by_all_columns(rows: list[tuple[int, int, int, int]]) -> None:
    work = [ActivityRow(at, at + 1, "k", device=d, stream=s, process=p) for at, d, s, p in rows]
    a = build(work, []).activities
    chosen = np.arange(0, len(a.start_ns), 1 + len(rows) % 2)
    order, same = by_lane(a, chosen)
    expected = chosen[np.lexsort((a.start_ns[chosen], a.process[chosen], a.stream[chosen], a.device[chosen]))]
    assert order.tolist() == expected.tolist()
    lanes = list(zip(a.device[order].tolist(), a.stream[order].tolist(), a.process[order].tolist(), strict=True))
    assert same.tolist() == [one == other for one, other in pairwise(lanes)]
