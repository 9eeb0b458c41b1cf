"""An array that grows in its place holds what was appended to it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.growing_array import GrowingArray


@given(blocks=st.lists(st.integers(0, 5) | st.lists(st.floats(-9, 9), max_size=5), max_size=12))
def test_it_holds_its_blocks_one_after_the_other(blocks):
    """A number in `blocks` stands for so many absent values."""
    array, expected = GrowingArray(np.float64, np.nan), []
    for block in blocks:
        if isinstance(block, int):
            array.skip(block)
            expected += [np.nan] * block
        else:
            array.add(np.array(block))
            expected += block
    assert array.length == len(expected)
    assert array.is_absent == all(np.isnan(expected))
    np.testing.assert_array_equal(array.values(), np.array(expected))
