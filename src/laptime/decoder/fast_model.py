"""FastModel: a transformers model's generate() without launch gaps: vision, prefill and decode are replayed graphs.

with laptime.FastModel(model) as fast:
    ids = fast.generate(**inputs, max_new_tokens=6)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor

from laptime.decoder.decoder import FastDecoder, Kernels
from laptime.decoder.fast_vision import FastVision
from laptime.decoder.one_call import LateSetting as LateSetting
from laptime.decoder.one_call import OneCall
from laptime.decoder.one_call import Setting as Setting
from laptime.decoder.plain_prompt import PlainPrompt
from laptime.decoder.prefill import write_ends
from laptime.decoder.prompt import Layout, Prompt, bucket_of, check_prompt, fill, new_prompt, read_layout
from laptime.decoder.session import Mark, Session, go_on
from laptime.decoder.settings import REFUSED_ARGUMENTS, GenerationSettings, read_settings
from laptime.decoder.shelf import Bucket, Part, PartReport, Shelf
from laptime.decoder.state import choose, take
from laptime.decoder.triton_prompt import TritonPrompt
from laptime.decoder.vision import PIXELS, SIZES, RopePlaces, images_of, levels_of
from laptime.errors import LaptimeError

READ = (*PIXELS, *SIZES, "attention_mask", "mm_token_type_ids", "use_cache")
"""Inputs that the fast prefill understands. With any other one the model's own prefill runs."""
Passes = PlainPrompt | TritonPrompt
SETTINGS = GenerationConfig()
"""It has the names of all settings of a call."""
MEMORY_GIB = 8.0
"""The most memory that the buckets of vision and prefill take, in GiB, unless the caller says otherwise."""


@dataclass(frozen=True, eq=False)
class Prefill:
    """One bucket's prefill: the prompt's buffers, and the pass over them."""

    prompt: Prompt
    passes: Passes


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
        half, graph = int(memory_gib * 2**30) // 2, self.decoder.graph
        self._prefills: Shelf[Prefill] = Shelf(graph=graph, most_bytes=half)
        self._vision: FastVision | None = None
        if self._images is not None:
            self._vision = FastVision(self._images[0], self.plan, compiled=compiled, graph=graph, most_bytes=half)
        self._ends: dict[Any, GenerationSettings] = {}
        self.decoder.forget = self._forget
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
        with self.decoder.one_call():
            self._prefills.clear()
            if self._vision is not None:
                self._vision.drop()
            self._ends.clear()
            self.decoder.drop_sessions()

    def generate(self, input_ids: torch.Tensor, **call: Any) -> torch.Tensor:
        """The prompt's ids and the new ones, (B, S + N), as model.generate() returns them.

        It takes what FastDecoder.generate() takes, and refuses the same settings by their names.
        """
        return self.run(input_ids, call)[0]

    def parts(self) -> list[PartReport]:
        """The buckets that there are, and how each runs."""
        shelves: list[tuple[str, Shelf[Any]]] = [("prefill", self._prefills)]
        if self._vision is not None:
            shelves.insert(0, ("vision", self._vision.shelf))
        return [
            PartReport(stage, str(key), part.captured, part.reason)
            for stage, shelf in shelves
            for key, bucket in shelf.items()
            for part in bucket.parts.values()
        ]

    @property
    def bucket_bytes(self) -> int:
        """Bytes that the buckets of vision and prefill take now, with the tower's weights that were copied for them."""
        return self._prefills.nbytes + (0 if self._vision is None else self._vision.nbytes)

    @property
    def made(self) -> int:
        """Parts and decode sessions made so far. A call in which this rises takes longer than later ones."""
        vision = 0 if self._vision is None else self._vision.shelf.made
        return self._prefills.made + vision + len(self.decoder.sessions)

    def why_not(self, call: Mapping[str, Any]) -> str | None:
        """Why this call takes the model's own vision and prefill; None when it takes the fast ones."""
        known = {"generation_config", "seed", *READ, *REFUSED_ARGUMENTS}
        for name in sorted(call):
            if call[name] is not None and name not in known and not hasattr(SETTINGS, name):
                return f"{name} is an input that the fast prefill doesn't read"
        for name in READ:
            if call.get(name) is not None and name != "use_cache" and not isinstance(call[name], torch.Tensor):
                return f"{name} is a {type(call[name]).__name__}, and the fast prefill reads tensors"
        if call.get("prefill_chunk_size") is not None:
            return "prefill_chunk_size is set"
        if call.get("pixel_values") is not None:
            if self._images is None:
                return f"{type(self.model).__name__} has no get_image_features with an image token"
            if self._vision is not None and (path := self._vision.hooked()) is not None:
                return f"{path} has a forward hook, which a replay would pass by"
        return None

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(
        self,
        input_ids: torch.Tensor,
        call: dict[str, Any],
        *,
        mark: Mark = lambda kind: None,
        per_token: bool = False,
        processors: list[LogitsProcessor] | None = None,
        setting: Setting | LateSetting | None = None,
    ) -> tuple[torch.Tensor, int]:
        """generate() with marks between replays, of the kinds in laptime.measure.timeline: (ids, decode steps run).

        processors: for a call that takes the model's own vision and prefill (`why_not`); they set its first marks.
        setting: blocks and experts of this call, or who chooses them after an early block.

        Raises LaptimeError for a setting in a call that takes the model's own prefill, or a late one of several rows.
        """
        check_prompt(input_ids, call.get("attention_mask"))
        reason = self.why_not(call)
        if reason is not None:
            if setting is not None:
                raise LaptimeError(f"blocks and experts of one call need the fast prefill: {reason}")
            self.passed_by[reason] = self.passed_by.get(reason, 0) + 1
            self._ends.clear()
            return self.decoder.run(input_ids, call, mark=mark, per_token=per_token, processors=processors)
        with self.decoder.one_call():
            return self._run(input_ids, call, mark, per_token, setting)

    def _run(
        self,
        input_ids: torch.Tensor,
        call: dict[str, Any],
        mark: Mark,
        per_token: bool,
        setting: Setting | LateSetting | None,
    ) -> tuple[torch.Tensor, int]:
        self.decoder.check_usable()
        settings, inputs = read_settings(self.model, call, input_ids.shape[1])
        one = OneCall(input_ids, inputs, settings, self._layout(input_ids, inputs), mark)
        chosen = setting if isinstance(setting, Setting) else Setting()
        if isinstance(setting, LateSetting):
            chosen, session = self._late(one, setting)
        else:
            with self.plan.with_top_k(chosen.top_k):
                session = self._at_once(one, chosen)
        mark("first-logits")
        mark("first-token")
        with self.plan.with_top_k(chosen.top_k):
            return go_on(session, input_ids, settings, mark, per_token)

    def _at_once(self, one: OneCall, setting: Setting) -> Session:
        """Vision and the whole prefill of a call whose setting is known."""
        session = self._session(one, setting)
        bucket = self._bucket(session, one.layout)
        whole = self._part(bucket, session, one.settings, setting, None)
        self._enter(one, session, bucket)
        whole.run()
        return session

    def _late(self, one: OneCall, late: LateSetting) -> tuple[Setting, Session]:
        """Vision and prefill of a call whose setting is chosen after an early block."""
        if one.input_ids.shape[0] != 1:
            raise LaptimeError(f"{one.input_ids.shape[0]} rows: a late choice is made for one question; give one row")
        with self.plan.with_top_k(late.top_k):
            session = self._session(one, Setting())
            bucket = self._bucket(session, one.layout)
            passes = bucket.content.passes

            def to_early() -> None:
                passes.embed()
                for number in range(late.early + 1):
                    passes.block(number, number, self.plan.layers[number])
                passes.settle()

            early = self._prefills.part(bucket, ("early", late.early, self.plan.top_k), to_early)
            self._enter(one, session, bucket)
            early.run()
        hidden = passes.x.view(1, bucket.content.prompt.length, -1)[:, : one.layout.longest]
        setting = late.choose(hidden)
        made = self.made
        with self.plan.with_top_k(setting.top_k):
            session = self._session(one, setting)
            rest = self._part(bucket, session, one.settings, setting, late.early)
        if made != self.made:  # a capture's warm-up wrote to the buffers
            with self.plan.with_top_k(late.top_k):
                early.run()
            _seed(session, one.settings)
        with self.plan.with_top_k(setting.top_k):
            rest.run()
        return setting, session

    def _enter(self, one: OneCall, session: Session, bucket: Bucket[Prefill]) -> None:
        """Everything before the prefill's first kernel. Captures are done by now: their warm-ups draw and write too."""
        _seed(session, one.settings)
        if one.layout.images is not None:
            assert self._vision is not None
            one.mark("vision-begin")
            self._vision.look(one.inputs, one.layout, bucket.content.prompt)
            one.mark("vision-end")
        one.mark("prefill-begin")
        fill(bucket.content.prompt, one.layout)

    def _layout(self, input_ids: torch.Tensor, inputs: Mapping[str, Any]) -> Layout:
        core, token = self._images or (None, None)
        seen = inputs.get("pixel_values") is not None
        places = self._places.of(core, inputs) if seen and self.plan.streams > 1 else None
        mask, vocabulary = inputs.get("attention_mask"), self.plan.embedding.shape[0]
        return read_layout(input_ids, mask, token if seen else None, places, vocabulary)

    def _session(self, one: OneCall, setting: Setting) -> Session:
        """The decode session with room for the bucket and the new tokens."""
        settings, (batch, width) = one.settings, one.input_ids.shape
        length = width + settings.new_tokens
        if self.plan.window is None or length <= self.plan.window:
            length = max(length, self._filled(one.layout))
        session = self.decoder.session(batch, length, settings.sampling, setting.active)
        key = (batch, session.state.capacity)
        said = self._ends.get(key)
        if said is None or (said.eos, said.pad, said.suppressed) != (settings.eos, settings.pad, settings.suppressed):
            write_ends(session.state, settings)
            self._ends[key] = settings
        return session

    def _forget(self, size: tuple[int, int]) -> None:
        """Drop what holds a cache that the decoder dropped. size: its rows and capacity."""
        self._ends.pop(size, None)
        for key, bucket in self._prefills.items():
            state = bucket.content.passes.state
            if (state.batch, state.capacity) == size:
                self._prefills.drop(key)

    def _filled(self, layout: Layout) -> int:
        """The length to which the prompt is filled up."""
        filled = bucket_of(layout.longest)
        return filled if self.plan.window is None else min(filled, max(self.plan.window, layout.longest))

    def _bucket(self, session: Session, layout: Layout) -> Bucket[Prefill]:
        state, length, images = session.state, self._filled(layout), layout.images is not None
        key = (state.batch, length, state.capacity, images)

        def make() -> tuple[Prefill, int]:
            levels = levels_of(self._images[0]) if images and self._images is not None else 0
            prompt = new_prompt(self.plan, state.batch, length, images=images, levels=levels)
            passes = (TritonPrompt if self.decoder.kernels == "triton" else PlainPrompt)(self.plan, state, prompt)
            return Prefill(prompt, passes), prompt.nbytes + passes.nbytes

        return self._prefills.bucket(key, make)

    def _part(
        self,
        bucket: Bucket[Prefill],
        session: Session,
        settings: GenerationSettings,
        setting: Setting,
        after: int | None,
    ) -> Part:
        """The prefill under a setting, up to the first token. after: only what follows this block; None: all of it."""
        passes = bucket.content.passes
        active = setting.active or tuple(range(len(self.plan.layers)))
        drawn = settings.sampling
        chosen_by = (drawn.draw, drawn.temperature, drawn.top_k, drawn.top_p)

        def run() -> None:
            if after is None:
                passes.embed()
            for slot, number in enumerate(active):
                if after is None or number > after:
                    passes.block(slot, slot, self.plan.layers[number])
            self._first_token(session, passes, settings)

        return self._prefills.part(bucket, (after, setting.active, self.plan.top_k, chosen_by), run, session.noise)

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


def _seed(session: Session, settings: GenerationSettings) -> None:
    if session.noise is not None:
        session.noise.manual_seed(settings.sampling.seed)
