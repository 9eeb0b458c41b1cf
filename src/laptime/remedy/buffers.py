"""The buffers remedy alone: the model's own eager decode over a cache that is allocated once and grows by a view."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """As DynamicLayer, without a new tensor every step: keys and values are views of buffers with room for all."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.room is None:
            shape = (*key_states.shape[:2], self.capacity, key_states.shape[-1])
            self.room = (key_states.new_empty(shape), value_states.new_empty(shape))
        begin, self.length = self.length, self.length + key_states.shape[-2]
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, begin : self.length] = new
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def empty(self) -> None:
        """Forget what is in it, keep the buffers."""
        self.length = 0


def roomy_cache(layers: int, capacity: int) -> Cache:
    """A cache for generate(past_key_values=...) with room for `capacity` positions."""
    return Cache(layers=[RoomyLayer(capacity) for _ in range(layers)])


def empty(cache: Any) -> Any:
    """The same cache, ready for another call."""
    for layer in cache.layers:
        layer.empty()
    return cache
