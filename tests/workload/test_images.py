from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.workload.images import MAX_SIDE, parse_size, synthetic_image


@given(width=st.integers(1, MAX_SIDE), height=st.integers(1, MAX_SIDE), cross=st.sampled_from("xX×"))
def test_a_size_is_read_back(width: int, height: int, cross: str) -> None:
    assert parse_size(f" {width} {cross}{height}") == (width, height)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "WIDTHxHEIGHT"),
        ("big", "WIDTHxHEIGHT"),
        ("672", "WIDTHxHEIGHT"),
        ("672x", "WIDTHxHEIGHT"),
        ("672x672x3", "WIDTHxHEIGHT"),
        ("6.5x6", "WIDTHxHEIGHT"),
        ("672 672", "WIDTHxHEIGHT"),
        ("٣x٣", "WIDTHxHEIGHT"),
        ("0x672", "at least 1"),
        ("672x-1", "at least 1"),
        ("16385x1", "16384"),
        ("9" * 9 + "x1", "16384"),
        ("9" * 5000 + "x1", "WIDTHxHEIGHT"),
    ],
)
def test_a_size_of_nonsense_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(LaptimeError) as raised:
        parse_size(text)
    assert says in str(raised.value)
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=20))
def test_any_text_is_a_size_or_a_clear_error(text: str) -> None:
    try:
        width, height = parse_size(text)
    except LaptimeError:
        return
    assert min(width, height) >= 1
    assert max(width, height) <= MAX_SIDE


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700), seed=st.integers(0, 2**64))
def test_images_have_their_size_and_are_reproducible(width: int, height: int, seed: int) -> None:
    image = synthetic_image(width, height, seed)
    assert (image.size, image.mode) == ((width, height), "RGB")
    assert image.tobytes() == synthetic_image(width, height, seed).tobytes()
    if width * height >= 16:
        assert image.tobytes() != synthetic_image(width, height, seed + 1).tobytes()


def test_images_are_textured_everywhere() -> None:
    pixels = np.asarray(synthetic_image(672, 672, 0)).astype(float)
    tiles = pixels.reshape(48, 14, 48, 14, 3).transpose(0, 2, 1, 3, 4).reshape(48 * 48, -1)
    assert tiles.std(axis=1).min() > 5  # every patch of 14 x 14 has something in it
    assert tiles.mean(axis=1).std() > 10  # and patches differ


def test_neighbouring_pixels_do_not_wrap_around() -> None:
    """Colours change slowly but for the fine grain; an overflow would jump by 255."""
    for seed in range(5):
        pixels = np.asarray(synthetic_image(672, 672, seed)).astype(int)
        assert np.abs(np.diff(pixels, axis=1)).max() <= 63 + 24


def test_no_two_of_many_seeds_share_an_image() -> None:
    assert len({synthetic_image(32, 32, seed).tobytes() for seed in range(500)}) == 500


def test_a_large_image_is_fast() -> None:
    start = time.process_time()  # of the processor: other programs don't count
    synthetic_image(4096, 4096, 1)
    assert time.process_time() - start < 5  # 0.4 s on one idle core


def test_a_size_out_of_range_is_refused() -> None:
    with pytest.raises(LaptimeError, match="at least 1"):
        synthetic_image(0, 5, 1)
