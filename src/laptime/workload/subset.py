"""Which of a data set's questions a run takes when it takes some of them. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def pick(items: Sequence[T], ids: Sequence[str], samples: int | None, seed: int) -> list[T]:
    """`samples` of the items (all when None or too many), in their order.

    The items whose hashes of (seed, id) are smallest: the same on every machine and worker, whatever the order of the
    file, and a larger number keeps the smaller one's items, so that a run can be extended.
    """
    if samples is None or samples >= len(items):
        return list(items)
    keys = [blake2b(f"{seed}:{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in ids]
    chosen = sorted(sorted(range(len(items)), key=keys.__getitem__)[:samples])
    return [items[i] for i in chosen]
