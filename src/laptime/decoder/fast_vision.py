"""FastVision: the features of a call's images, by a tower that is captured once for each shape of images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from laptime.decoder.aligned_weights import Aligned
from laptime.decoder.imprint import Hooks
from laptime.decoder.plan import DecodePlan
from laptime.decoder.prompt import Layout, Prompt
from laptime.decoder.shelf import Part, Shelf
from laptime.decoder.vision import Features, Tower, compiled_blocks, is_packed, seeing_modules, shape_of
from laptime.errors import LaptimeError


@dataclass(frozen=True, eq=False)
class Images:
    """One bucket's vision: the tower's pixel buffers, and the features that it leaves."""

    tower: Tower
    features: Features


class FastVision:
    """The vision of FastModel. core: the module with the tower and the projector.

    compiled: let Inductor compile the tower's blocks on a GPU. graph, most_bytes: as Shelf takes them.
    """

    def __init__(self, core: Any, plan: DecodePlan, *, compiled: bool, graph: bool, most_bytes: int) -> None:
        self._core, self._dtype = core, plan.dtype
        self._compiled = compiled and plan.device.type == "cuda"
        self._graph = graph
        self._aligned = Aligned(core) if graph else None
        self._hooks = Hooks(seeing_modules(core))
        self.shelf: Shelf[Images] = Shelf(graph=graph, most_bytes=most_bytes)

    @property
    def nbytes(self) -> int:
        """Bytes of the buckets, and of the tower's weights that were copied for them."""
        return self.shelf.nbytes + (0 if self._aligned is None else self._aligned.nbytes)

    def hooked(self) -> str | None:
        """The path of a module with a forward hook among those that see; None where there is none."""
        return self._hooks.first()

    def drop(self) -> None:
        """Free all buckets, and copy anew the weights that were copied for them."""
        self.shelf.clear()
        self._aligned = Aligned(self._core) if self._graph else None

    def look(self, inputs: Mapping[str, Any], layout: Layout, prompt: Prompt) -> None:
        """Put the features of the call's images into the prompt's buffers.

        Raises LaptimeError when the prompt has more or fewer image tokens than the images give features, and for
        images that the tower can't take.
        """
        assert prompt.features is not None
        if is_packed(self._core) and inputs.get("image_grid_thw") is None:
            raise LaptimeError("image_grid_thw is missing: without it the images' sizes are not known")
        if self._aligned is not None:
            self._aligned.refresh()
        key = shape_of(self._core, inputs)
        if self._compiled and key not in self.shelf:
            with compiled_blocks(self._core), suppress(Exception):  # a compiler can raise anything
                self._bucket(key, inputs)
            if key in self.shelf and not self._bucket(key, inputs)[1].captured:
                self.shelf.drop(key)
        images, part = self._bucket(key, inputs)
        images.tower.load(inputs)
        part.run()
        count = images.features.first.shape[0]
        if count != layout.features:
            raise LaptimeError(
                f"the prompt has {layout.features} image tokens and the images give {count} features; make both with "
                "one processor, inside one applied(crops=...) where crops are set"
            )
        prompt.features[:count].copy_(images.features.first)
        if prompt.deep is not None and images.features.deep is not None:
            prompt.deep[:, :count].copy_(images.features.deep)

    def _bucket(self, key: Hashable, inputs: Mapping[str, Any]) -> tuple[Images, Part]:
        """The tower's bucket for images of this shape, and its one part."""

        def make() -> tuple[Images, int]:
            tower = Tower(self._core, inputs, self._dtype, self._aligned)
            try:
                features = tower()
            except torch.cuda.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, IndexError) as error:
                said = (str(error).splitlines() or [type(error).__name__])[0][:200]
                raise LaptimeError(
                    f"the model's vision can't take these images ({said}); if they were cut for other crops, make the "
                    "inputs and answer inside one applied(crops=...)"
                ) from error
            return Images(tower, features), features.nbytes + sum(buffer.nbytes for buffer in tower.pixels.values())

        bucket = self.shelf.bucket(key, make)
        images = bucket.content

        def see() -> None:
            found = images.tower()
            images.features.first.copy_(found.first)
            if images.features.deep is not None and found.deep is not None:
                images.features.deep.copy_(found.deep)

        return images, self.shelf.part(bucket, "features", see)
