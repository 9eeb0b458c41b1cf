"""Of a large run some calls of each configuration are drawn, and the answers stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.run_fit import FitOptions, fit_run
from laptime.estimate.table.reading import read_table, some_of_each


def table(counts: list[int]) -> pl.DataFrame:
    names = [f"c{place}" for place, count in enumerate(counts) for _ in range(count)]
    return pl.DataFrame({"config_id": names, "row": range(len(names))}).sample(fraction=1.0, shuffle=True, seed=3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 200), st.integers(0, 3))
@example([2, 2, 4], 7, 0)  # a configuration of just its share leaves more to the others
def test_as_many_of_each_configuration_as_fit(counts: list[int], most: int, seed: int) -> None:
    frame = table(counts)
    drawn, each = some_of_each(frame, most, seed)
    if each is None:
        assert drawn.equals(frame)
        assert sum(counts) <= most
        return
    left = dict(drawn.group_by("config_id").len().iter_rows())
    assert left == {f"c{place}": min(count, each) for place, count in enumerate(counts)}
    assert drawn.height <= max(most, len(counts))
    assert sum(min(count, each + 1) for count in counts) > most  # one more of each would be too many
    assert drawn.equals(frame.filter(pl.col("row").is_in(drawn["row"].to_list())))  # in their order, none twice
    assert drawn.equals(some_of_each(frame, most, seed)[0])


def test_a_fit_on_some_calls_answers_as_one_on_all() -> None:
    rng = np.random.default_rng(0)
    grid = [(k, b) for k in (1, 2, 4, 8) for b in (8, 12, 16)]
    rows = [(k, b) for k, b in grid for _ in range(1000)]
    knobs = np.array(rows)
    took = (5 * knobs[:, 1] + 3 * knobs[:, 0]) * np.exp(rng.normal(0, 0.02, len(rows)))
    names = [f"{k}-{b}" for k, b in rows]
    frame = pl.DataFrame(
        {"config_id": names, "config.top_k": knobs[:, 0], "config.blocks": knobs[:, 1], "total_ms": took}
    )
    all_calls, some = (fit_run(frame, None, FitOptions(most_rows=most)) for most in (len(rows), 3000))
    one, other = (fitted.targets["total_ms"].estimator for fitted in (all_calls, some))
    asked = frame.unique("config_id", maintain_order=True)
    assert np.abs(other.predict(asked) / one.predict(asked) - 1).max() < 0.01
    assert np.abs(other.quantile(asked, 0.95) / one.quantile(asked, 0.95) - 1).max() < 0.01
    assert not any("drawn at random" in note for note in one.card.notes)
    assert other.card.notes[0].startswith("fitted on 3\u202f000 of 12\u202f000 calls: at most 250 of each")


@pytest.mark.parametrize("name", ["table.txt", "notes.md", "samples.xlsx"])
def test_a_file_that_is_no_table_by_its_name_is_called_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(LaptimeError, match=r"neither a run folder nor, by its name, a table; give a CSV or Parquet"):
        read_table(tmp_path / name)
