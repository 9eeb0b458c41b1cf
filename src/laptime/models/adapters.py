"""PEFT adapters (LoRA, prompt tuning, ...) on a loaded model. Only safetensors are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from huggingface_hub import snapshot_download

from laptime.errors import LaptimeError
from laptime.models.loading import Loaded
from laptime.models.quantized import need_package
from laptime.models.sources import explained, first_line

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def with_adapter(loaded: Loaded, adapter: str) -> Loaded:
    """The model with the adapter on top of its weights, not merged into them. adapter: a folder or a hub id.

    Raises LaptimeError: PEFT is missing, no adapter there, its weights are a pickle, or it doesn't fit the model.
    """
    need_package("peft", f"`adapter` {adapter}")
    from peft import PeftModel

    folder = _folder(adapter)
    for file in _FILES:
        if not (folder / file).is_file():
            raise LaptimeError(f"`adapter` {adapter}: no {file} in {folder}; a PEFT adapter is saved with safetensors")
    try:
        model = PeftModel.from_pretrained(loaded.model, str(folder), use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise LaptimeError(f"`adapter` {adapter}: does not fit {loaded.name}: {first_line(error)}") from error
    return dataclasses.replace(loaded, model=model.eval().requires_grad_(False), adapter=adapter)


def _folder(adapter: str) -> Path:
    if Path(adapter).is_dir():
        return Path(adapter)
    if adapter.startswith((".", "/", "~")) or adapter.count("/") != 1:
        raise LaptimeError(f"`adapter` {adapter}: no such folder (an adapter is a folder, or a hub id OWNER/NAME)")
    try:
        return Path(snapshot_download(adapter, allow_patterns=list(_FILES)))
    except Exception as error:  # what the hub client raises differs by version
        raise explained(f"`adapter` {adapter}", error) from error
