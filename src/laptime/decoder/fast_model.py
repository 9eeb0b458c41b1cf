"""FastModel: a transformers model's generate() without launch gaps: vision, prefill and decode are replayed graphs.

with laptime.FastModel(model) as fast:
    ids = fast.generate(**inputs, max_new_tokens=6)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from transformers import LogitsProcessor

from laptime.decoder.decoder import FastDecoder, Kernels, Mark, Session, go_on
from laptime.decoder.plain_prompt import PlainPrompt
from laptime.decoder.prefill import write_ends
from laptime.decoder.prompt import Layout, Prompt, bucket_of, fill, new_prompt, read_layout
from laptime.decoder.settings import GenerationSettings, read_settings
from laptime.decoder.shelf import Bucket, Shelf
from laptime.decoder.state import choose, take
from laptime.decoder.triton_prompt import TritonPrompt
from laptime.decoder.vision import (
    PIXELS,
    SIZES,
    Aligned,
    Features,
    RopePlaces,
    Tower,
    compiled_blocks,
    images_of,
    levels_of,
    shape_of,
)
from laptime.errors import LaptimeError

READ = (*PIXELS, *SIZES, "attention_mask", "mm_token_type_ids", "use_cache")
"""Inputs that the fast prefill understands. With any other one the model's own prefill runs."""
Passes = PlainPrompt | TritonPrompt
MEMORY_GIB = 8.0
"""The most memory that the buckets of vision and prefill take, in GiB, unless the caller says otherwise."""


@dataclass(frozen=True, eq=False)
class Prefill:
    """One bucket's prefill: the prompt's buffers, and the pass over them."""

    prompt: Prompt
    passes: Passes


@dataclass(frozen=True, eq=False)
class Images:
    """One bucket's vision: the tower's pixel buffers, and the features that it leaves."""

    tower: Tower
    features: Features


@dataclass(frozen=True)
class PartReport:
    """How a bucket of a part runs. reason: why it isn't captured; None when it is, or where nothing can be."""

    part: str
    bucket: str
    captured: bool
    reason: str | None


class FastModel:
    """Answers with a transformers model whose vision, prefill and decode are captured once for each size.

    FastDecoder is its decode part, and what is said there of weights, `close()` and the `with` block holds here too.
    A prompt is filled up to the length of a bucket; that changes no token, and takes the time of the bucket. What can't
    be captured runs as the model runs it; `parts()` and `passed_by` name the reason.

    kernels, graph, language: as FastDecoder takes them.
    compiled: let Inductor compile the blocks of the vision tower on a GPU, once for each shape of images.
    memory_gib: the most that buckets of vision and prefill take; the longest unused is dropped first.

    Raises LaptimeError, with the reason, for a model that FastDecoder can't decode.
    """

    def __init__(
        self,
        model: Any,
        *,
        kernels: Kernels = "auto",
        graph: bool = True,
        compiled: bool = True,
        memory_gib: float = MEMORY_GIB,
        language: str | None = None,
    ) -> None:
        if memory_gib <= 0:
            raise LaptimeError(f"memory_gib = {memory_gib}: write how many GiB the buckets may take, above 0")
        self.decoder = FastDecoder(model, kernels=kernels, graph=graph, language=language)
        self.model, self.plan = model, self.decoder.plan
        self.passed_by: dict[str, int] = {}
        """Why calls took the model's own vision and prefill, and how many of them."""
        self._images = images_of(model)
        self._aligned = Aligned(self._images[0]) if self._images is not None and self.decoder.graph else None
        self._compiled = compiled and self.plan.device.type == "cuda"
        half = int(memory_gib * 2**30) // 2
        self._prefills: Shelf[Prefill] = Shelf(graph=self.decoder.graph, most_bytes=half)
        self._visions: Shelf[Images] = Shelf(graph=self.decoder.graph, most_bytes=half)
        self._ends: dict[Any, GenerationSettings] = {}
        self._places = RopePlaces()

    def __enter__(self) -> FastModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the model its separate weights back and free caches and graphs."""
        self.drop()
        self.decoder.close()

    def drop(self) -> None:
        """Free caches, buckets and graphs. The next call allocates and captures again."""
        self._prefills.clear()
        self._visions.clear()
        self._ends.clear()
        self.decoder.drop_sessions()

    def generate(self, input_ids: torch.Tensor, **call: Any) -> torch.Tensor:
        """The prompt's ids and the new ones, (B, S + N), as model.generate() returns them.

        It takes what FastDecoder.generate() takes, and refuses the same settings by their names.
        """
        return self.run(input_ids, call)[0]

    def parts(self) -> list[PartReport]:
        """The buckets that there are, and how each runs."""
        shelves: tuple[tuple[str, Shelf[Any]], ...] = (("vision", self._visions), ("prefill", self._prefills))
        return [
            PartReport(part, str(key), bucket.captured, bucket.reason)
            for part, shelf in shelves
            for key, bucket in shelf.items()
        ]

    @property
    def bucket_bytes(self) -> int:
        """Bytes that the buckets of vision and prefill take now, with the tower's weights that were copied for them."""
        return self._prefills.nbytes + self._visions.nbytes + (0 if self._aligned is None else self._aligned.nbytes)

    def why_not(self, call: Mapping[str, Any]) -> str | None:
        """Why this call takes the model's own vision and prefill; None when it takes the fast ones."""
        known = {"generation_config", "seed", *READ}
        for name in sorted(call):
            if call[name] is not None and name not in known and isinstance(call[name], torch.Tensor):
                return f"{name} is an input that the fast prefill doesn't read"
        if call.get("prefill_chunk_size") is not None:
            return "prefill_chunk_size is set"
        if call.get("pixel_values") is not None and self._images is None:
            return f"{type(self.model).__name__} has no get_image_features with an image token"
        return None

    @torch.no_grad()
    @torch.inference_mode(False)
    def run(
        self,
        input_ids: torch.Tensor,
        call: dict[str, Any],
        *,
        mark: Mark = lambda kind: None,
        per_token: bool = False,
        processors: list[LogitsProcessor] | None = None,
    ) -> tuple[torch.Tensor, int]:
        """generate() with marks between replays, of the kinds in laptime.measure.timeline: (ids, decode steps run).

        processors: for a call that takes the model's own vision and prefill (`why_not`); they set its first marks.
        """
        reason = self.why_not(call)
        if reason is not None:
            self.passed_by[reason] = self.passed_by.get(reason, 0) + 1
            self._ends.clear()
            return self.decoder.run(input_ids, call, mark=mark, per_token=per_token, processors=processors)
        self.decoder.check_usable()
        settings, inputs = read_settings(self.model, call, input_ids.shape[1])
        layout = self._layout(input_ids, inputs)
        session = self._session(input_ids.shape, layout, settings)
        bucket = self._prefill(session, layout, settings)
        if session.noise is not None:  # after a capture, whose warm-up draws too
            session.noise.manual_seed(settings.sampling.seed)
        if layout.images is not None:
            mark("vision-begin")
            self._look(inputs, layout, bucket.content.prompt)
            mark("vision-end")
        mark("prefill-begin")
        fill(bucket.content.prompt, layout)
        bucket.run()
        mark("first-logits")
        mark("first-token")
        return go_on(session, input_ids, settings, mark, per_token)

    def _layout(self, input_ids: torch.Tensor, inputs: Mapping[str, Any]) -> Layout:
        core, token = self._images or (None, None)
        seen = inputs.get("pixel_values") is not None
        places = self._places.of(core, inputs) if seen and self.plan.streams > 1 else None
        return read_layout(input_ids, inputs.get("attention_mask"), token if seen else None, places)

    def _session(self, shape: torch.Size, layout: Layout, settings: GenerationSettings) -> Session:
        """The decode session with room for the bucket and the new tokens."""
        length = shape[1] + settings.new_tokens
        window = self.plan.window
        filled = self._bucket(layout)
        if window is None or length <= window:
            length = max(length, filled)
        session = self.decoder.session(shape[0], length, settings.sampling)
        key = (shape[0], session.state.capacity)
        said = self._ends.get(key)
        if said is None or (said.eos, said.pad, said.suppressed) != (settings.eos, settings.pad, settings.suppressed):
            write_ends(session.state, settings)
            self._ends[key] = settings
        return session

    def _bucket(self, layout: Layout) -> int:
        filled = bucket_of(layout.longest)
        return filled if self.plan.window is None else min(filled, max(self.plan.window, layout.longest))

    def _prefill(self, session: Session, layout: Layout, settings: GenerationSettings) -> Bucket[Prefill]:
        state, length = session.state, self._bucket(layout)
        images = layout.images is not None
        drawn = settings.sampling
        chosen_by = (drawn.draw, drawn.temperature, drawn.top_k, drawn.top_p)
        key = (state.batch, length, state.capacity, images, chosen_by, self.plan.top_k)

        def make() -> tuple[Prefill, Callable[[], object], int]:
            levels = levels_of(self._images[0]) if images and self._images is not None else 0
            prompt = new_prompt(self.plan, state.batch, length, images=images, levels=levels)
            passes = self._passes(session, prompt)

            def whole() -> None:
                passes.embed()
                for slot, layer in enumerate(self.plan.layers):
                    passes.block(slot, slot, layer)
                self._first_token(session, passes, settings)

            return Prefill(prompt, passes), whole, prompt.nbytes + passes.nbytes

        return self._prefills.get(key, make, session.noise)

    def _passes(self, session: Session, prompt: Prompt) -> Passes:
        kind = TritonPrompt if self.decoder.kernels == "triton" else PlainPrompt
        return kind(self.plan, session.state, prompt)

    def _first_token(self, session: Session, passes: Passes, settings: GenerationSettings) -> None:
        """Choose the first token and leave the state as the next step needs it: part of the captured prefill."""
        state, prompt = session.state, passes.prompt
        state.position.copy_(prompt.lengths)
        state.begin.copy_(prompt.lengths)
        state.shift.copy_(prompt.shift)
        state.ended.zero_()
        state.logits.copy_(passes.logits())
        take(state, choose(state.logits + state.bias, settings.sampling, session.noise))
        session.begin()

    def _look(self, inputs: Mapping[str, Any], layout: Layout, prompt: Prompt) -> None:
        """Put the features of the call's images into the prompt's buffers."""
        assert self._images is not None and prompt.features is not None
        core, _ = self._images

        def make() -> tuple[Images, Callable[[], object], int]:
            tower = Tower(core, inputs, self.plan.dtype, self._aligned)
            features = tower()

            def look() -> None:
                found = tower()
                features.first.copy_(found.first)
                if features.deep is not None and found.deep is not None:
                    features.deep.copy_(found.deep)

            nbytes = sum(buffer.nbytes for buffer in tower.pixels.values()) + features.first.nbytes
            return Images(tower, features), look, nbytes

        key = shape_of(inputs)
        if self._compiled and key not in self._visions:
            with compiled_blocks(core), suppress(Exception):  # a compiler can raise anything
                self._visions.get(key, make)
            if key in self._visions and not self._visions.get(key, make).captured:
                self._visions.drop(key)
        bucket = self._visions.get(key, make)
        images = bucket.content
        images.tower.load(inputs)
        bucket.run()
        count = images.features.first.shape[0]
        if count != layout.features:
            raise LaptimeError(
                f"the prompt has {layout.features} image tokens and the images give {count} features; make both with "
                "one processor"
            )
        prompt.features[:count].copy_(images.features.first)
        if prompt.deep is not None and images.features.deep is not None:
            prompt.deep[:, :count].copy_(images.features.deep)
