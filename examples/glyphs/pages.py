"""A page and its truth: glyphs of very different sizes, drawn from a split's name and a number alone.

A page is a 6 x 6 grid of cells. One large shape takes 2 x 2 cells, a word of three letters two, and a cell each takes
a shape, a digit or the small code. The code's letters are 8 to 11 pixels high: a third of that is illegible, two
thirds are hard. The same page comes out on every machine and in every process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .font import Mask, glyph, width_at
from .shapes import KINDS, shape

SIDE = 288
"""Width and height of a page in pixels."""
CELL = SIDE // 6
COLOURS = {
    "red": (205, 40, 40),
    "green": (35, 155, 60),
    "blue": (45, 75, 215),
    "yellow": (230, 205, 40),
    "orange": (240, 130, 30),
    "purple": (140, 55, 175),
}
NAMES = tuple(COLOURS)
WORD_LETTERS = "ACDEFHJKLMNPRTUVWXYZ"
CODE_LETTERS = WORD_LETTERS + "234679"
CODE_HEIGHTS = (8, 11)
"""Pixels, lowest and highest."""

# What a point of the page shows, as one number; train.py's auxiliary loss asks the image features for it.
LARGE, SMALL, DIGIT = 1, 1 + len(KINDS), 1 + 2 * len(KINDS)
WORD, CODE = DIGIT + 10, DIGIT + 10 + len(WORD_LETTERS)
CODE_UNREAD = CODE + len(CODE_LETTERS)
"""Some letter of the code, where it is too small to say which."""
SHOWN = CODE_UNREAD + 1
MAP = SIDE // 2
"""Side of the label maps: a point is 2 x 2 pixels."""


@dataclass(frozen=True)
class Coloured:
    """A shape by its kind or a digit by its value, and the name of its colour."""

    what: str
    colour: str


@dataclass(frozen=True)
class Truth:
    """What is on a page. The digits differ in value and in colour; one of them has the large shape's colour."""

    large: Coloured
    shapes: tuple[Coloured, ...]
    digits: tuple[Coloured, ...]
    word: str
    code: str

    def count(self, colour: str) -> int:
        """How many shapes have this colour, the large one among them. Digits are no shapes."""
        return sum(one.colour == colour for one in (self.large, *self.shapes))

    def digit(self, colour: str) -> int:
        """The value of the digit of this colour."""
        return next(int(one.what) for one in self.digits if one.colour == colour)


@dataclass(frozen=True)
class Page:
    """image: (SIDE, SIDE, 3) uint8; labels: (4, MAP, MAP) uint8, what is shown, its colour (0: none, else 1 + its
    place in NAMES), its place in the text from 1, and whether a shape's or digit's centre is there."""

    image: NDArray[np.uint8]
    truth: Truth
    labels: NDArray[np.uint8]


def draw_page(split: str, number: int) -> Page:
    """The page `number` (from 0) of the split of that name."""
    rng = np.random.default_rng((zlib.crc32(split.encode()), number))
    uniform = iter(rng.random(256).tolist())

    def below(count: int) -> int:
        return int(next(uniform) * count)

    def shuffled(items: list[int]) -> list[int]:
        return sorted(items, key=lambda _: next(uniform))

    dark = next(uniform) < 0.5
    base = [(12 if dark else 200) + below(28) for _ in range(3)]
    image = _background(base, below(SIDE), below(SIDE))
    labels = np.zeros((4, MAP, MAP), dtype=np.uint8)
    ink = _Ink(image, labels, below)

    large, word_at, free = _layout(below, shuffled)
    truth = _truth(below, shuffled)
    size = 78 + below(17)
    ink.put(shape(truth.large.what, size), large, 2 * CELL, truth.large.colour, LARGE + KINDS.index(truth.large.what))
    for one in truth.shapes:
        ink.put(shape(one.what, 24 + below(15)), next(free), CELL, one.colour, SMALL + KINDS.index(one.what))
    for one in truth.digits:
        ink.put(glyph(one.what, 20 + below(19)), next(free), CELL, one.colour, DIGIT + int(one.what))
    grey = 245 - below(50) if dark else 10 + below(50)
    word = [(letter, WORD + WORD_LETTERS.index(letter)) for letter in truth.word]
    ink.write(word, 22 + below(9), word_at, 2 * CELL, grey)
    low, high = CODE_HEIGHTS
    code = [(letter, CODE + CODE_LETTERS.index(letter)) for letter in truth.code]
    ink.write(code, low + below(high - low + 1), next(free), CELL, grey)
    return Page(image, truth, labels)


class _Ink:
    """Draws on a page and notes in its labels what it drew."""

    def __init__(self, image: NDArray[np.uint8], labels: NDArray[np.uint8], below: Callable[[int], int]) -> None:
        self.image, self.labels, self.below = image, labels, below

    def put(self, mask: Mask, cell: tuple[int, int], room: int, colour: str, shown: int) -> None:
        """One shape or digit somewhere in the square of `room` pixels that starts at the cell."""
        height, width, _ = mask.shape
        top, left = (
            at * CELL + self.below(room - extent + 1) for at, extent in zip(cell, (height, width), strict=True)
        )
        rgb = [max(0, min(255, part + self.below(41) - 20)) for part in COLOURS[colour]]
        self._blend(mask, top, left, rgb)
        solid = (mask[::2, ::2, 0] > 127) | (shown >= DIGIT)  # a digit's whole box
        rows, columns = solid.shape
        top, left = min(top // 2, MAP - rows), min(left // 2, MAP - columns)
        region = self.labels[:2, top : top + rows, left : left + columns]
        region[0][solid], region[1][solid] = shown, 1 + NAMES.index(colour)
        self.labels[3, top + rows // 2, left + columns // 2] = 1

    def write(self, text: list[tuple[str, int]], height: int, cell: tuple[int, int], room: int, grey: int) -> None:
        """Letters, each with what it is for the labels, in one line within `room` pixels from the cell on."""
        width = width_at(height)
        gap = height // 8
        length = len(text) * (width + gap) - gap
        top = cell[0] * CELL + self.below(CELL - height + 1)
        left = cell[1] * CELL + self.below(room - length + 1)
        for place, (letter, shown) in enumerate(text, 1):
            self._blend(glyph(letter, height), top, left, [grey] * 3)
            box = self.labels[:, top // 2 : (top + height) // 2, left // 2 : (left + width + gap) // 2]
            box[0], box[2] = shown, place
            left += width + gap

    def _blend(self, mask: Mask, top: int, left: int, rgb: list[int]) -> None:
        height, width, _ = mask.shape
        region = self.image[top : top + height, left : left + width]
        region[:] = (region * (255 - mask) + mask * np.array(rgb, dtype=np.uint16)) // 255


def _layout(
    below: Callable[[int], int], shuffled: Callable[[list[int]], list[int]]
) -> tuple[tuple[int, int], tuple[int, int], Iterator[tuple[int, int]]]:
    """Cells, as (row, column): of the large shape's corner, of the word's first half, and the free ones, shuffled."""
    row, column = below(5), below(5)
    taken = {(row + i, column + j) for i in (0, 1) for j in (0, 1)}
    halves = [(r, c) for r in range(6) for c in (0, 2, 4) if not {(r, c), (r, c + 1)} & taken]
    word = halves[below(len(halves))]
    taken |= {word, (word[0], word[1] + 1)}
    free = (divmod(index, 6) for index in shuffled(list(range(36))))
    return (row, column), word, (cell for cell in free if cell not in taken)


def _truth(below: Callable[[int], int], shuffled: Callable[[list[int]], list[int]]) -> Truth:
    large = Coloured(KINDS[below(6)], NAMES[below(6)])
    frequent = NAMES[below(6)]
    others = [name for name in NAMES if name != frequent]
    colours = [frequent] * below(6) + [others[below(5)] for _ in range(3 + below(3))]
    shapes = tuple(Coloured(KINDS[below(6)], colour) for colour in colours)
    rest = [index for index, name in enumerate(NAMES) if name != large.colour]
    digit_colours = [large.colour, *(NAMES[index] for index in shuffled(rest)[:2])]
    values = shuffled(list(range(1, 10)))
    digits = tuple(Coloured(str(value), colour) for value, colour in zip(values, digit_colours, strict=False))
    word = "".join(WORD_LETTERS[below(len(WORD_LETTERS))] for _ in range(3))
    code = "".join(CODE_LETTERS[below(len(CODE_LETTERS))] for _ in range(5))
    return Truth(large, shapes, digits, word, code)


def _background(base: list[int], top: int, left: int) -> NDArray[np.uint8]:
    grain = _grain()[top : top + SIDE, 3 * left : 3 * (left + SIDE)]
    return (grain + np.tile(np.array(base, dtype=np.uint8), SIDE)).reshape(SIDE, SIDE, 3)


@cache
def _grain() -> NDArray[np.uint8]:
    """Grey noise, 0 to 20, of 2 x 2 pixels, twice a page wide and high; three equal bytes a pixel in each row."""
    dots = np.random.default_rng(7).integers(0, 21, (SIDE, SIDE), dtype=np.uint8)
    return np.repeat(np.repeat(dots, 2, 0), 6, 1)
