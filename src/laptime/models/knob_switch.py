"""Knobs of one model, prepared once and then set within microseconds: before a call, or in the middle of its prefill.

`models.knobs.applied` searches the model and empties compilers' caches each time. Between configurations nobody notices
those milliseconds. Here a choice is made for every call, and part of it after an early block of the prefill. So what
each value means is worked out once, and set as a list of attributes.

In the middle of a prefill the model's loop over its blocks has begun. Until the prefill is over, blocks that shall not
run pass their input on. The blocks that run are numbered as if the others did not exist, so the cache holds exactly
them. After the prefill the others are taken off, as `applied` does it. Decoding then runs as in a model that never had
more blocks, with no code of laptime in its loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.active_blocks import always_active, choose_blocks, cut_values, new_numbers
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.block_experts import own_experts, places_by_block
from laptime.models.config_changes import text_configs
from laptime.models.image_tiles import PINPOINTS, pinpoints
from laptime.models.knobs import ModelKnobs, check_knobs, places_of_top_k

_ABSENT = object()


class LateKnobs(NamedTuple):
    """What is left to choose after an early block; None leaves it as it is."""

    top_k: int | None
    blocks: int | None


class _Blocks(NamedTuple):
    """One number of active blocks, worked out."""

    active: tuple[int, ...]
    passed: tuple[nn.Module, ...]  # those that let their input through
    numbers: list[tuple[nn.Module, int]]
    layers: nn.ModuleList
    config: list[tuple[Any, str, Any]]


class KnobSwitch:
    """Sets a model's knobs for one call and puts back what was there, also when the call raises.

        switch = KnobSwitch(model, crops=[(1, 3), (4, 8)], top_ks=[1, 2, 4], blocks=[2, 4, 8])
        with switch.crops((1, 3)), switch.late(lambda hidden: LateKnobs(top_k=2, blocks=4)):
            model.generate(**inputs)

    early: the block after which `late` asks; it and those before it always run, with the smallest of `top_ks` in
    prefill: more experts there would take longer than a call that is set to few from the start.
    active: which blocks run, for each number of them that isn't chosen by position (choose_blocks).
    experts: how many each block of the whole model has, for each of `top_ks` that isn't one number for all.

    Raises LaptimeError for a value that the model can't take, for a model whose blocks are of several kinds (what a
    block's cache is, is settled before the late choice), and for one that is compiled.
    """

    def __init__(
        self,
        model: Any,
        *,
        crops: Sequence[tuple[int, int]] = (),
        top_ks: Sequence[int] = (),
        blocks: Sequence[int] = (),
        active: Mapping[int, Sequence[int]] | None = None,
        experts: Mapping[int, Sequence[int]] | None = None,
        early: int = 0,
    ) -> None:
        for one in crops:
            check_knobs(model, ModelKnobs(crops=one))
        self._experts = {k: tuple(numbers) for k, numbers in (experts or {}).items() if k in top_ks}
        for k in top_ks:
            by_block = self._experts.get(k)
            check_knobs(model, ModelKnobs(top_k=k) if by_block is None else ModelKnobs(experts=by_block))
        for count in blocks:
            named = None if active is None or count not in active else tuple(active[count])
            check_knobs(model, ModelKnobs(blocks=count, active=named))
        anatomy = find_anatomy(model)
        self.model = model
        self.early = early
        self._layers = list(anatomy.layers)
        parent, _, self._name = anatomy.layers_path.rpartition(".")
        self._parent: nn.Module = model.get_submodule(parent)
        self._top_k_places = places_of_top_k(model, anatomy) if top_ks else []
        self.own_top_k = anatomy.experts.top_k if anatomy.experts is not None else None
        self.early_top_k = min(top_ks, default=None)
        self._by_block = {k: places_by_block(anatomy, numbers) for k, numbers in self._experts.items()}
        self._early_places: list[tuple[nn.Module, str, int]] = []
        self._early_experts = self._fewest(anatomy, top_ks)
        self._pinpoints = model.config.model_type in PINPOINTS
        self._blocks = {count: self._worked_out(count, (active or {}).get(count)) for count in blocks}
        self._check(blocks)

    @property
    def block_count(self) -> int:
        """How many blocks the model has."""
        return len(self._layers)

    def active(self, blocks: int | None) -> tuple[int, ...]:
        """Which blocks run, ascending, when `blocks` of them are asked for."""
        return tuple(range(self.block_count)) if blocks is None else self._blocks[blocks].active

    def experts(self, top_k: int | None) -> int | tuple[int, ...] | None:
        """The experts of every block, or of each block, that a top-k stands for."""
        return top_k if top_k is None else self._experts.get(top_k, top_k)

    @property
    def early_experts(self) -> int | tuple[int, ...] | None:
        """The experts up to the early block: in each block the fewest that any choice has."""
        return self._early_experts or self.early_top_k

    def _fewest(self, anatomy: Anatomy, top_ks: Sequence[int]) -> tuple[int, ...]:
        if not self._experts:
            return ()
        own = own_experts(self.model)
        rows = [self._experts.get(k, tuple(min(k, number) for number in own)) for k in top_ks]
        fewest = tuple(min(numbers) for numbers in zip(*rows, strict=True))
        self._early_places = places_by_block(anatomy, fewest)
        return fewest

    @contextlib.contextmanager
    def crops(self, crops: tuple[int, int] | None) -> Iterator[None]:
        """The model expects images cut so inside the block."""
        with _SetAttributes() as attributes:
            if crops is not None and self._pinpoints:
                side = self.model.config.vision_config.image_size
                attributes.set(self.model.config, "image_grid_pinpoints", pinpoints(crops, side))
            yield

    @contextlib.contextmanager
    def fixed(self, knobs: LateKnobs) -> Iterator[None]:
        """The model with these knobs from its first block on: what `applied` does, in microseconds."""
        with _SetAttributes() as attributes:
            self._set_top_k(attributes, knobs.top_k)
            if knobs.blocks is not None:
                self._renumber(attributes, self._blocks[knobs.blocks])
                self._take_off(attributes, self._blocks[knobs.blocks])
            yield

    @contextlib.contextmanager
    def late(self, choose: Callable[[torch.Tensor], LateKnobs]) -> Iterator[None]:
        """The next forward asks `choose` after the early block; what it says holds from there to the block's end.

        choose: from the hidden states (batch, positions, width) that the early block gave.
        """
        chosen: list[LateKnobs] = []
        handles: list[Any] = []
        with _SetAttributes() as passing, _SetAttributes() as attributes:

            def after_early(module: nn.Module, arguments: Any, output: Any) -> None:
                handles[0].remove()
                hidden = output if isinstance(output, torch.Tensor) else output[0]
                knobs = choose(hidden)
                chosen.append(knobs)
                self._set_top_k(attributes, knobs.top_k)
                if knobs.blocks is not None:
                    self._renumber(attributes, self._blocks[knobs.blocks])
                    through = _through if isinstance(output, torch.Tensor) else _through_tuple
                    for block in self._blocks[knobs.blocks].passed:
                        passing.set(block, "forward", through)

            def after_prefill(module: nn.Module, arguments: Any, output: Any) -> None:
                handles[1].remove()
                passing.put_back()
                if chosen and chosen[0].blocks is not None:
                    self._take_off(attributes, self._blocks[chosen[0].blocks])

            self._set_early_top_k(attributes)
            handles.append(self._layers[self.early].register_forward_hook(after_early))
            handles.append(self._parent.register_forward_hook(after_prefill))
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def _worked_out(self, count: int, named: Sequence[int] | None) -> _Blocks:
        whole = len(self._layers)
        active = tuple(named or choose_blocks(whole, count, always_active(self.model, whole)))
        cut = [
            (config, key, value)
            for config in text_configs(self.model)
            for key, value in cut_values(config, whole, active)
        ]
        return _Blocks(
            active,
            tuple(self._layers[index] for index in range(whole) if index not in active),
            new_numbers(self._layers, active),
            nn.ModuleList(self._layers[index] for index in active),
            cut,
        )

    def _check(self, blocks: Sequence[int]) -> None:
        name = type(self.model).__name__
        if not 0 <= self.early < self.block_count:
            raise LaptimeError(f"early block {self.early}: the model has blocks 0 to {self.block_count - 1}")
        if vars(self.model).get("_compiled_call") is not None or hasattr(self.model, "_orig_mod"):
            raise LaptimeError(f"{name} is compiled: a choice for each call would compile anew each time; load it anew")
        for count in blocks:
            missing = [index for index in range(self.early + 1) if index not in self._blocks[count].active]
            if missing:
                raise LaptimeError(
                    f"blocks {count}: block {missing[0]} would be left out, and it runs before the choice after block "
                    f"{self.early}; choose an earlier early block, or more blocks"
                )
        kinds = set(getattr(text_configs(self.model)[0], "layer_types", None) or ())
        if len(kinds) > 1 and any(count < self.block_count for count in blocks):
            raise LaptimeError(
                f"{name} has blocks of several kinds ({', '.join(sorted(map(str, kinds)))}), and what each one's cache "
                "is was settled before a late choice; leave blocks out of the choices"
            )

    def _set_top_k(self, attributes: _SetAttributes, top_k: int | None) -> None:
        if top_k in self._by_block:
            for holder, name, number in self._by_block[top_k]:
                attributes.set(holder, name, number)
        elif top_k is not None:
            for holder, name in self._top_k_places:
                attributes.set(holder, name, top_k)

    def _set_early_top_k(self, attributes: _SetAttributes) -> None:
        if not self._early_experts:
            self._set_top_k(attributes, self.early_top_k)
        for holder, name, number in self._early_places:
            attributes.set(holder, name, number)

    def _renumber(self, attributes: _SetAttributes, blocks: _Blocks) -> None:
        for module, number in blocks.numbers:
            attributes.set(module, "layer_idx", number)

    def _take_off(self, attributes: _SetAttributes, blocks: _Blocks) -> None:
        for config, key, value in blocks.config:
            attributes.set(config, key, value)
        attributes.set(self._parent, self._name, blocks.layers)


def _through(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def _through_tuple(hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
    return (hidden_states,)


class _SetAttributes:
    """Attributes that were set, with what was there before; all put back at the end, the newest first."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> _SetAttributes:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def set(self, holder: Any, name: str, value: Any) -> None:
        own = vars(holder).get(name, _ABSENT)
        if own is _ABSENT and isinstance(holder, nn.Module) and name in holder._modules:
            own = holder._modules[name]
        self._before.append((holder, name, own))
        setattr(holder, name, value)

    def put_back(self) -> None:
        while self._before:
            holder, name, value = self._before.pop()
            if value is _ABSENT:
                delattr(holder, name)
            else:
                setattr(holder, name, value)
