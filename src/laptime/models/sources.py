"""Where a model's config, tokenizer and processor come from: a folder or the hub, and what can go wrong there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import model_info
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

# At transformers' top level it is a stub that raises when torchvision is missing; this one falls back to Pillow.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import cached_file, is_torchvision_available

from laptime.errors import LaptimeError
from laptime.models.processors import without_video

HUB_TIMEOUT_S = 10
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is. files_only: nothing may be asked of the hub (a folder, or the hub is out of reach)."""

    name: str
    folder: bool
    files_only: bool
    trust_remote_code: bool

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of every from_pretrained() of this model."""
        return {"trust_remote_code": self.trust_remote_code, "local_files_only": self.files_only}


def locate(name: str, *, trust_remote_code: bool) -> ModelPlace:
    """Find out where the model is. The hub is asked once, and left alone when it does not answer (its client would
    retry every file for half a minute); what was downloaded before still loads then.

    Raises LaptimeError: no such folder or hub id, a log-in needed.
    """
    if name and Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise LaptimeError(f"{name}: no config.json in this folder, so it holds no model")
        return ModelPlace(name, folder=True, files_only=True, trust_remote_code=trust_remote_code)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise LaptimeError(f"{name!r}: no such folder (a model is preset:NAME, a folder, or a hub id OWNER/NAME)")
    reachable = True
    try:
        model_info(name, timeout=HUB_TIMEOUT_S)
    except GatedRepoError as error:  # a kind of RepositoryNotFoundError
        raise explained(name, error) from error
    except (RepositoryNotFoundError, HFValidationError):
        raise LaptimeError(f"{name}: no such folder, and no such model on the hub (presets are preset:NAME)") from None
    except Exception:  # offline by choice, no network, or a hub in trouble: the files may be here all the same
        reachable = False
    return ModelPlace(name, folder=False, files_only=not reachable, trust_remote_code=trust_remote_code)


def load_config(place: ModelPlace) -> Any:
    """The model's config. Raises LaptimeError: hub out of reach, own code without permission, unreadable."""
    try:
        return AutoConfig.from_pretrained(place.name, **place.options)
    except Exception as error:  # what the hub client raises differs by version, and comes wrapped in OSError
        raise explained(place.name, error) from error


def explained(name: str, error: Exception) -> LaptimeError:
    """What went wrong, in one line with its mend."""
    chain = list(_causes(error))
    text = " ".join(str(e) for e in chain)
    if any(isinstance(e, GatedRepoError) for e in chain):
        return LaptimeError(f"{name}: the hub asks for a log-in and acceptance of the model's terms (hf auth login)")
    if "trust_remote_code" in text or "custom code" in text:
        return LaptimeError(f"{name}: runs its own code; read it, then allow it with `trust_remote_code`")
    if any(isinstance(e, OfflineModeIsEnabled | LocalEntryNotFoundError) for e in chain) or "connect" in text.lower():
        return LaptimeError(f"{name}: not on this machine, and the hub can't be reached: use a folder or preset:NAME")
    if any(isinstance(e, EntryNotFoundError) for e in chain):
        return LaptimeError(f"{name}: a file is missing from it: {first_line(error)}")
    return LaptimeError(f"{name}: can't be loaded: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind when it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def load_processor(place: ModelPlace, *, with_media: bool) -> tuple[Any | None, Any | None]:
    """(processor, tokenizer) of the model. A text model has no processor; its tokenizer may be missing (None).

    with_media: the model takes images or sound. Raises LaptimeError when such a model's processor can't be had.
    """
    if not with_media:
        if not any(_file(place, file) for file in _TOKENIZER_FILES):
            return None, None  # AutoTokenizer would make up an empty one
        try:
            return None, AutoTokenizer.from_pretrained(place.name, **place.options)
        except Exception:  # random token ids need no tokenizer, so a model without one can still be measured
            return None, None
    try:
        processor = AutoProcessor.from_pretrained(place.name, **place.options)
    except Exception as error:
        processor = None if is_torchvision_available() else _still_processor(place)
        if processor is None:
            raise LaptimeError(f"{place.name}: its processor can't be loaded: {first_line(error)}") from error
    return processor, getattr(processor, "tokenizer", None)


def _still_processor(place: ModelPlace) -> Any | None:
    """The model's processor without its video part, for where there is no torchvision. None if that isn't it.

    Raises LaptimeError when the images themselves need torchvision.
    """
    settings = _settings(place)
    family = getattr(transformers, str(settings.get("processor_class")), None)
    if family is None or "video_processor" not in family.get_attributes():
        return None
    try:
        images = AutoImageProcessor.from_pretrained(place.name, backend="pil", **place.options)
        tokenizer = AutoTokenizer.from_pretrained(place.name, **place.options)
    except ImportError:
        raise LaptimeError(f"{place.name}: its image processor needs torchvision: pip install torchvision") from None
    except (OSError, ValueError):
        return None
    known = {key: settings[key] for key in ("image_seq_length",) if key in settings}
    template = settings.get("chat_template", getattr(tokenizer, "chat_template", None))
    return without_video(family)(images, tokenizer, chat_template=template, **known)


def _settings(place: ModelPlace) -> dict[str, Any]:
    """What the processor's files say: its class, and the few settings that are neither image's nor tokenizer's."""
    settings: dict[str, Any] = {}
    for file in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):  # the last word counts
        file_path = _file(place, file)
        if file_path is not None:
            settings.update(json.loads(file_path.read_text(encoding="utf-8")))
    template = _file(place, "chat_template.jinja")
    if template is not None:
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings


def _file(place: ModelPlace, file: str) -> Path | None:
    try:
        cached = cached_file(place.name, file, local_files_only=place.files_only)
    except OSError:
        return None
    return None if cached is None else Path(cached)
