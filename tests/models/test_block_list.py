"""Block numbers as a text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.models.block_list import read_blocks, written_blocks


@given(st.sets(st.integers(0, 200), min_size=1))
def test_what_is_written_is_read_back(blocks: set[int]) -> None:
    assert read_blocks(written_blocks(sorted(blocks))) == tuple(sorted(blocks))


def test_runs_are_ranges() -> None:
    assert written_blocks([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "1,1", "2-4,3", "-1", "1 - 2", "1;2", "99999"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(LaptimeError, match="active blocks"):
        read_blocks(text)
