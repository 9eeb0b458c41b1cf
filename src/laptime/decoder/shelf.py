"""Captured parts of a model by bucket. They share one pool of memory, and the bound of it is kept.

All of them run on one stream, one after the other, so what one needs between its kernels is free for the next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from laptime.decoder.graph import CapturedStep, capture
from laptime.errors import LaptimeError

Content = TypeVar("Content")


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a call at one size. run: a replay, or the part itself. reason: why it isn't captured."""

    run: Callable[[], object]
    captured: bool
    reason: str | None


@dataclass(frozen=True)
class PartReport:
    """How a bucket of a part runs. reason: why it isn't captured; None when it is, or where nothing can be."""

    part: str
    bucket: str
    captured: bool
    reason: str | None


@dataclass(frozen=True, eq=False)
class Bucket(Generic[Content]):
    """One size: the buffers that its parts share, how many bytes they have, and its parts by name."""

    content: Content
    nbytes: int
    parts: dict[Hashable, Part] = field(default_factory=dict)


class Shelf(Generic[Content]):
    """The newest buckets of a stage. graph: capture their parts.

    most_bytes: of buffers and of the graphs' memory together.
    """

    def __init__(self, *, graph: bool, most_bytes: int) -> None:
        self._graph, self._most = graph, most_bytes
        self._buckets: OrderedDict[Hashable, Bucket[Content]] = OrderedDict()
        self._pool: Any = None
        self.pool_bytes = 0
        self.made = 0
        """Parts made so far. Where this rises, buffers were written to by warm-ups."""

    def __contains__(self, key: Hashable) -> bool:
        return key in self._buckets

    @property
    def nbytes(self) -> int:
        """Bytes of all buckets' buffers and of the memory that their graphs share."""
        return self.pool_bytes + sum(bucket.nbytes for bucket in self._buckets.values())

    def items(self) -> list[tuple[Hashable, Bucket[Content]]]:
        """The buckets, the longest unused first."""
        return list(self._buckets.items())

    def drop(self, key: Hashable) -> None:
        """Free one bucket."""
        self._buckets.pop(key, None)

    def clear(self) -> None:
        """Free all buckets."""
        self._buckets.clear()
        self._pool, self.pool_bytes = None, 0

    def bucket(self, key: Hashable, make: Callable[[], tuple[Content, int]]) -> Bucket[Content]:
        """The bucket of this key. make: gives its content, and the bytes of the content's buffers."""
        if key in self._buckets:
            self._buckets.move_to_end(key)
        else:
            content, nbytes = make()
            self._make_room(nbytes)
            self._buckets[key] = Bucket(content, nbytes)
        return self._buckets[key]

    def part(
        self,
        bucket: Bucket[Content],
        name: Hashable,
        run: Callable[[], object],
        noise: torch.Generator | None = None,
    ) -> Part:
        """A part of the bucket. It is captured if it is not there yet. noise: the generator that it draws from."""
        if name not in bucket.parts:
            captured, reason = self._capture(run, noise) if self._graph else (None, None)
            bucket.parts[name] = Part(captured or run, captured is not None, reason)
            self.made += 1
            self._make_room(0)
        return bucket.parts[name]

    def _capture(
        self, part: Callable[[], object], noise: torch.Generator | None
    ) -> tuple[CapturedStep | None, str | None]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        before = torch.cuda.memory_reserved()
        try:
            captured = capture(part, noise, pool=self._pool)
        except LaptimeError as error:
            return None, str(error)
        except torch.OutOfMemoryError:
            return None, "no memory for its graph"
        except Exception as error:  # a compiler can raise anything
            return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        self.pool_bytes += max(0, torch.cuda.memory_reserved() - before)
        return captured, None

    def _make_room(self, wanted: int) -> None:
        """Drop what was not used for longest until the bound holds; the newest stays. The pool is freed with the last.

        A pool that alone is too large is left to its graphs, and the next graph begins a new one.
        """
        while len(self._buckets) > 1 and self.nbytes + wanted > self._most:
            self._buckets.popitem(last=False)
        if len(self._buckets) == 1 and wanted and self.nbytes + wanted > self._most:
            self.clear()
