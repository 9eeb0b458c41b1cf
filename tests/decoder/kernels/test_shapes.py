"""Attention's parts: every one has a tile of the cache, whatever the capacity."""

from hypothesis import given
from hypothesis import strategies as st

from laptime.decoder.kernels.shapes import SHAPES


@given(
    capacity=st.sampled_from([1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384]),
    tile=st.sampled_from([32, 64, 128]),
    batch=st.integers(1, 32),
    kv_heads=st.integers(1, 64),
)
def test_a_split_reads_no_further_than_the_cache(capacity, tile, batch, kv_heads):
    splits = SHAPES.splits(capacity, tile, batch, kv_heads)
    assert splits * tile <= capacity
    assert capacity % tile == 0
    assert splits == 1 or splits // 2 * batch * kv_heads < SHAPES.programs


def test_few_heads_and_rows_are_divided_until_the_gpu_is_full():
    assert SHAPES.splits(8192, 128, 1, 8) * 8 >= SHAPES.programs
    assert SHAPES.splits(8192, 128, 32, 8) == 1
