"""A search and an importance as a real run yields them, small."""

from __future__ import annotations

from laptime.control.search.result import JudgedSetting, KnobSearch
from laptime.data.record import Interval
from laptime.models.block_importance import BlockImportance

COUNT = 30


def a_block_search() -> KnobSearch:
    """Thirty blocks at three totals; a way that is surely worse at the smallest."""
    rows = []
    for total in (28, 26, 24):
        kept = [int(index not in range(20, 20 + COUNT - total)) for index in range(COUNT)]
        rows.append(JudgedSetting(way="beam", total=total, levels=kept, right=Interval(0.61, 0.5, 0.72, 58), found=0.6))
        rows += [
            JudgedSetting(
                way=way,
                total=total,
                levels=[] if way == "random" else kept[::-1],
                right=Interval(0.4, 0.29, 0.52, 58),
                less=Interval(-0.21, -0.3, -0.1, 58),
                p=0.004 if total == 24 else 0.4,
            )
            for way in ("importance", "prefix", "random")
        ]
    return KnobSearch(
        model="</script>SmolLM2-135M",
        knob="blocks",
        score="likelihood",
        searched=60,
        judged=58,
        width=2,
        tries=4,
        settings=21,
        whole=Interval(0.66, 0.54, 0.77, 58),
        importance=[0.9 / (1 + index) for index in range(COUNT)],
        rows=rows,
    )


def an_importance() -> BlockImportance:
    """Six blocks of which the first and the last always run."""
    return BlockImportance(
        model="tiny",
        inputs=8,
        importance=[9.0, 2.0, 1.0, 3.0, 2.5, 0.5],
        active={5: [0, 1, 3, 4, 5], 4: [0, 3, 4, 5], 3: [0, 3, 5], 2: [0, 5]},
        agreement={5: 0.9, 4: 0.7, 3: 0.5, 2: 0.1},
    )
