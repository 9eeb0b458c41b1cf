"""FastDecoder: a transformers model's generate(), decoded by merged weights, fused kernels and one CUDA graph.

with laptime.FastDecoder(model) as decoder:
    ids = decoder.generate(**inputs, max_new_tokens=256)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import TracebackType
from typing import Any, Literal

import torch
from transformers import LogitsProcessor

from laptime.decoder.graph import capture
from laptime.decoder.imprint import Imprint
from laptime.decoder.merged_weights import merge, separate
from laptime.decoder.plain_step import decode_one_token
from laptime.decoder.plan import DecodePlan, read_plan
from laptime.decoder.prefill import prefill
from laptime.decoder.prompt import check_prompt
from laptime.decoder.session import Mark, Session, go_on
from laptime.decoder.settings import read_settings
from laptime.decoder.state import DecodeState, Sampling, advance, choose, new_state, take
from laptime.decoder.triton_step import triton_step, why_not
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy

SMALLEST_BUCKET = 1024
"""Positions of the smallest cache. Larger ones have 1.5, 2, 3, 4, 6, ... times as many: at most a third is unused."""
LARGEST_BATCH = 32
"""The most rows that the kernels take. With more rows the plain step runs."""
MOST_SESSIONS = 128
"""Ways of choosing, settings and sizes that a step is kept for. Beyond that, all are dropped: a server may be asked for
ever new temperatures."""
Kernels = Literal["auto", "plain", "triton"]


class FastDecoder:
    """Decodes for a transformers model, with merged weights and a captured step for each shape of call.

    The model stays usable and computes the same bits: its q, k, v and gate, up weights become views into merged
    matrices, without a second copy. `close()`, or leaving the `with` block, undoes that. Calls from several threads
    follow one another.

    kernels: "triton" (needs a GPU, and float16 or bfloat16), "plain" (torch operations), or "auto": triton if it can.
    graph: capture the step in a CUDA graph on a GPU.
    language: path of the language model's module, for a model in which laptime can't find it.
    cache_gib: the most that caches of other sizes may take beside the one in use. The longest unused is dropped first.
    None: as long as there is room.

    Raises LaptimeError, with the reason, for a model that it can't decode. The model is then as it was before.
    """

    def __init__(
        self,
        model: Any,
        *,
        kernels: Kernels = "auto",
        graph: bool = True,
        language: str | None = None,
        cache_gib: float | None = None,
    ) -> None:
        if not callable(getattr(model, "generate", None)):
            raise LaptimeError(f"{type(model).__name__} has no generate(); FastDecoder takes a transformers model")
        self.model = model
        self._moved = merge(model, language=language)
        try:
            self.plan: DecodePlan = read_plan(model, language=language)
            self.kernels = _choose_kernels(self.plan, kernels)
            self._imprint = _imprint(model, language)
        except BaseException:
            separate(self._moved)
            raise
        self._lock, self._answering = RLock(), False
        self.graph = graph and self.plan.device.type == "cuda"
        self._closed = False
        self.cache_gib = cache_gib
        self.forget: Callable[[tuple[int, int]], None] = lambda size: None
        """Called with rows and capacity when sessions of that size are dropped, for whoever else holds them."""
        self._sessions: dict[Any, Session] = {}
        self._states: OrderedDict[tuple[int, int], DecodeState] = OrderedDict()

    def __enter__(self) -> FastDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the model its separate weights back and free caches and graphs."""
        with self._lock:
            self.drop_sessions()
            separate(self._moved)
            self._moved, self._closed = [], True

    @property
    def sessions(self) -> list[Session]:
        """The sessions that there are."""
        return list(self._sessions.values())

    def drop_sessions(self) -> None:
        """Free caches and graphs. The next call allocates and captures again."""
        self._sessions.clear()
        self._states.clear()

    @property
    def cache_bytes(self) -> int:
        """Bytes of the caches that there are."""
        return sum(self.plan.cache_bytes(capacity, batch) for batch, capacity in self._states)

    @torch.no_grad()
    def generate(self, input_ids: torch.Tensor, **call: Any) -> torch.Tensor:
        """The prompt's ids and the new ones, (B, S + N), as model.generate() returns them.

        It takes attention_mask and the model's image inputs, max_new_tokens, do_sample, temperature, top_k, top_p,
        seed, eos_token_id, pad_token_id, suppress_tokens. The model's generation_config gives what the call doesn't.

        Raises LaptimeError for a setting with which it can't do what generate() does, and names the setting.
        """
        return self.run(input_ids, call)[0]

    def run(
        self,
        input_ids: torch.Tensor,
        call: dict[str, Any],
        *,
        mark: Mark = lambda kind: None,
        per_token: bool = False,
        processors: list[LogitsProcessor] | None = None,
    ) -> tuple[torch.Tensor, int]:
        """generate() with marks at its stages ("first-token", "decode-begin", "logits"): (ids, decode steps run).

        Marks lie between replays, never inside a capture. per_token: mark every step, not only the last. Where an end
        can come, every step is marked anyhow: some may run behind it.
        """
        check_prompt(input_ids, call.get("attention_mask"))
        with self.one_call():
            return self._run(input_ids, call, mark, per_token, processors or [])

    def _run(
        self,
        input_ids: torch.Tensor,
        call: dict[str, Any],
        mark: Mark,
        per_token: bool,
        processors: list[LogitsProcessor],
    ) -> tuple[torch.Tensor, int]:
        self.check_usable()
        settings, inputs = read_settings(self.model, call, input_ids.shape[1])
        session = self.session(input_ids.shape[0], input_ids.shape[1] + settings.new_tokens, settings.sampling)
        if session.noise is not None:
            session.noise.manual_seed(settings.sampling.seed)
        inputs["input_ids"] = input_ids
        logits = prefill(self.model, self.plan, session.state, inputs, settings, processors)
        take(session.state, choose(logits + session.state.bias, settings.sampling, session.noise))
        session.begin()
        mark("first-token")
        return go_on(session, input_ids, settings, mark, per_token)

    @contextmanager
    def one_call(self) -> Iterator[None]:
        """Inside, no other call runs on this decoder's buffers; calls from other threads wait.

        Raises LaptimeError for a call inside a call.
        """
        with self._lock:
            if self._answering:
                raise LaptimeError("a call inside a call: the decoder has one set of buffers; call it afterwards")
            self._answering = True
            try:
                yield
            finally:
                self._answering = False

    def check_usable(self) -> None:
        """Raises LaptimeError when the decoder is closed, and when the model isn't as it was when it was made."""
        if self._closed:
            raise LaptimeError("this decoder is closed; make a new one")
        self._imprint.check()

    @torch.inference_mode(False)
    @torch.no_grad()
    def session(self, batch: int, length: int, sampling: Sampling, active: tuple[int, ...] | None = None) -> Session:
        """The session for `batch` rows of `length` positions. It is made and captured if there is none yet.

        active: the blocks that run, ascending; None for all. Sessions of one size share their buffers.
        """
        plan = self.plan
        if plan.window is not None and length > plan.window:
            raise LaptimeError(
                f"{length} positions don't fit into the sliding window of {plan.window}: beyond it the fast step "
                "attends to more than the model does; use model.generate()"
            )
        capacity = _capacity(length)
        drawn = Sampling(sampling.draw, sampling.temperature, sampling.top_k, sampling.top_p)
        key = (batch, capacity, drawn, plan.top_k, active)
        if key not in self._sessions and len(self._sessions) >= MOST_SESSIONS:
            self._sessions.clear()
            for size in self._states:
                self.forget(size)
        while True:
            try:
                state = self._state(batch, capacity)
                if key not in self._sessions:
                    self._sessions[key] = self._make(self.plan.with_blocks(active), state, drawn)
                break
            except torch.OutOfMemoryError:
                if not self._drop_oldest(but=key[:2]):
                    gib = plan.cache_bytes(capacity, batch) / 2**30
                    raise LaptimeError(
                        f"no room for a cache of {capacity} positions for {batch} rows ({gib:.1f} GiB); use fewer "
                        "rows, a shorter prompt, or close other decoders"
                    ) from None
        self._states.move_to_end(key[:2])
        return self._sessions[key]

    def _state(self, batch: int, capacity: int) -> DecodeState:
        """The buffers of this size. They are made, and others dropped for them, if there are none."""
        size = (batch, capacity)
        if size not in self._states:
            self._states[size] = new_state(self.plan, batch, capacity)
        most = None if self.cache_gib is None else self.cache_gib * 2**30 + self.plan.cache_bytes(capacity, batch)
        while most is not None and self.cache_bytes > most and self._drop_oldest(but=size):
            pass
        return self._states[size]

    def _drop_oldest(self, *, but: tuple[int, int]) -> bool:
        """Free the longest unused cache of another size and the graphs on it. Whether there was one."""
        oldest = next((size for size in self._states if size != but), None)
        if oldest is None:
            return False
        del self._states[oldest]
        for key in [key for key in self._sessions if key[:2] == oldest]:
            del self._sessions[key]
        self.forget(oldest)
        return True

    def _make(self, plan: DecodePlan, state: DecodeState, sampling: Sampling) -> Session:
        device = plan.device
        noise = torch.Generator(device) if sampling.draw else None
        kernels = self.kernels if state.batch <= LARGEST_BATCH else "plain"
        step = _step(plan, state.of_layers(len(plan.layers)), sampling, noise, kernels)
        captured = None
        if self.graph:
            for buffer in (state.position, state.begin, state.shift, state.token, state.ended):
                buffer.zero_()
            captured = capture(step, noise)
        return Session(state, step, getattr(step, "begin", _nothing), captured, noise, kernels)


def _imprint(model: Any, language: str | None) -> Imprint:
    anatomy = find_anatomy(model, language=language)
    parent = model.get_submodule(anatomy.layers_path.rpartition(".")[0])
    stepped = [anatomy.layers, parent.norm, model.get_input_embeddings(), model.get_output_embeddings()]
    imprint = Imprint(model, anatomy.layers_path, stepped)
    imprint.check()
    return imprint


def _capacity(length: int) -> int:
    """The smallest capacity with room for `length` positions."""
    capacity = SMALLEST_BUCKET
    while capacity < length:
        capacity = capacity * 3 // 2 if capacity & (capacity - 1) == 0 else capacity * 4 // 3
    return capacity


def _nothing() -> None:
    """A plain step starts from the state's token and needs no preparation."""


def _choose_kernels(plan: DecodePlan, asked: Kernels) -> str:
    if asked == "plain":
        return "plain"
    reason = why_not(plan)
    if reason is None:
        return "triton"
    if asked == "triton":
        raise LaptimeError(f"kernels='triton': {reason}; use kernels='plain'")
    return "plain"


def _step(
    plan: DecodePlan, state: DecodeState, sampling: Sampling, noise: torch.Generator | None, kernels: str
) -> Callable[[], None]:
    """One step on the state's buffers as a function without arguments, to capture or to call."""
    if kernels == "triton":
        return triton_step(plan, state, sampling, noise)

    on_host = state.position.device.type == "cpu"

    def plain() -> None:
        reach = int(state.position.max()) + 1 if on_host else None  # a GPU would have to wait for it
        state.logits.copy_(decode_one_token(plan, state, reach))
        advance(state, state.logits, sampling, noise)

    return plain
