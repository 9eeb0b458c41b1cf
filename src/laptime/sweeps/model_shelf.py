"""The loaded models of one worker, one for each dtype: one on the device, the others in memory while there is room."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path

import torch

from laptime.models.loading import Loaded, load_model


class ModelShelf:
    """Loads each dtype's model once where memory allows.

    On a GPU only the model in use is on the device, so that the memory peak of a sample is its configuration's own.
    """

    def __init__(self, name: str, *, device: torch.device, seed: int, trust_remote_code: bool, endless: bool) -> None:
        """endless: ignore EOS, so that every call generates exactly the tokens that were asked for."""
        self._name, self._device, self._seed = name, device, seed
        self._trust, self._endless = trust_remote_code, endless
        self._models: dict[str, Loaded] = {}
        self._active: str | None = None

    def take(self, dtype: str) -> Loaded:
        """Bring the model of this dtype to the device. Raises LaptimeError when it can't be loaded."""
        if self._active != dtype:
            self._put_away()
        loaded = self._models.get(dtype)
        if loaded is None:
            loaded = load_model(
                self._name,
                dtype=dtype,
                device=str(self._device),
                trust_remote_code=self._trust,
                seed=self._seed,
            )
            if self._endless:
                loaded.model.generation_config.eos_token_id = None
            self._models[dtype] = loaded
        else:
            loaded.model.to(self._device)
        self._active = dtype
        return loaded

    def _put_away(self) -> None:
        """Take the active model off the device: into memory if there is room for two of it, else drop it."""
        if self._active is None:
            return
        model = self._models[self._active].model
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        if _available_bytes() > 2 * size:
            if self._device.type != "cpu":
                model.to("cpu")
        else:
            del self._models[self._active]
        self._active = None
        del model
        free(self._device)


def free(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _available_bytes() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
