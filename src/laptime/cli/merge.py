"""`laptime merge RUN…`: one run of the parts that several workers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument
from laptime.cli.options import Json, OutFolder
from laptime.cli.output import give


def merge(
    runs: Annotated[list[Path], argument(metavar="RUN...", help="Run folders of one sweep, or of one profile.")],
    out: OutFolder,
    as_json: Json = False,
) -> int:
    """Make one run of the parts that several workers wrote.

    Samples are copied byte for byte. The order of the folders doesn't matter.
    Of two different samples with one key the one that was measured first is
    kept. This verb needs no torch.

    Example: laptime merge runs/node0 runs/node1 --out runs/all

    Exit codes: 0 done, 1 merged, but the runs disagree about some samples, 2
    not parts of one sweep (nothing is written).
    """
    from laptime.sweeps.merge import merge as merge_runs

    merged = merge_runs(runs, out)
    give(merged, as_json=as_json)
    return 1 if merged.conflicts else 0
