"""A model by its name: `preset:NAME` (random weights, no download), a local folder, or a hub id."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
)

from laptime.errors import LaptimeError, did_you_mean
from laptime.models.presets import recipe
from laptime.models.quantized import device_map_of, quantization
from laptime.models.sources import explained, load_config, load_processor, locate

PRESET_PREFIX = "preset:"
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class Loaded:
    """A model ready for generate(), in eval mode, with what makes its inputs.

    processor is None for a text model; tokenizer is None only when the model's folder holds none. is_vlm: it takes
    images. adapter: what was put onto it (laptime.models.adapters). image_tokens: how many its processor makes of an
    image at most, where that was set (laptime.workload.image_budget).
    """

    name: str
    model: Any
    processor: Any | None
    tokenizer: Any | None
    source: Literal["preset", "local", "hub"]
    is_vlm: bool
    adapter: str | None = None
    image_tokens: int | None = None

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt, and a decoder writes (T5, BART, Whisper)."""
        return bool(getattr(self.model.config, "is_encoder_decoder", False))

    @property
    def takes_sound(self) -> bool:
        """Whether its processor makes features of sound."""
        return getattr(self.processor, "feature_extractor", None) is not None

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model wants floating inputs in."""
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())


@dataclass(frozen=True)
class LoadingPlan:
    """How a model is loaded: see load_model.

    quantize: one of laptime.models.quantized.QUANTIZATIONS. device_map: as transformers takes it; to be timed, the
    model must come to one device all the same.
    """

    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    seed: int = 0
    quantize: str | None = None
    device_map: str | None = None


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> Loaded:
    """Load a model with its processor.

    name: `preset:NAME`, a folder, or a hub id. dtype: auto (a preset: bfloat16 on a GPU, float32 on a CPU; else what
    the checkpoint says), float32, bfloat16 or float16. device: auto (the first GPU, or the CPU), or a torch device.
    seed: of a preset's weights; the caller's random state is left as it was.
    Only safetensors are read; a repository's own code runs only with `trust_remote_code`.

    Raises LaptimeError for what the user can mend: an unknown name, dtype or device, a model that can't generate(), a
    hub out of reach, too little memory.
    """
    return load_as(name, LoadingPlan(dtype, device, attn_implementation, trust_remote_code, seed))


def load_as(name: str, plan: LoadingPlan) -> Loaded:
    """The same by a plan, which can also quantise the weights and map them to devices."""
    target = resolve_device(plan.device)
    chosen = resolve_dtype(plan.dtype)
    _check_attention(plan.attn_implementation)
    with _one_line_errors(name, target):
        if name.startswith(PRESET_PREFIX):
            if plan.quantize or plan.device_map:
                option = "`quantize`" if plan.quantize else "`device_map`"
                raise LaptimeError(f"{option}: a preset's weights are made in place; name a folder or a hub id")
            return _load_preset(name, chosen, target, plan.attn_implementation, plan.seed)
        return _load_pretrained(name, chosen, target, plan)


def check_decoder_only(loaded: Loaded, verb: str) -> None:
    """Raise LaptimeError for an encoder-decoder, which this verb can't take."""
    if loaded.is_encoder_decoder:
        raise LaptimeError(
            f"{loaded.name}: an encoder-decoder model; {verb} takes decoder-only ones, and profile measures it"
        )


def resolve_device(device: str) -> torch.device:
    """The torch device that `device` means; auto is the first GPU, or the CPU. Raises LaptimeError."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return torch.device("cpu") if accelerator is None else torch.device(accelerator.type, 0)
    try:
        target = torch.device(device)
    except RuntimeError:
        written = device.lower()
        if "gpu" in written or written.isdigit() or "nvidia" in written:  # gpu is nearer to cpu than to cuda
            near = f"did you mean {f'cuda:{written}' if written.isdigit() else 'cuda'}?"
        else:
            near = did_you_mean(written, ("auto", "cpu", "cuda"))
        raise LaptimeError(
            f"device {device!r} is unknown: {f'{near} ' if near else ''}use auto, cpu, cuda or cuda:N"
        ) from None
    if target.type in ("cpu", "meta"):
        return target
    if accelerator is None or accelerator.type != target.type:
        has = "no GPU here" if accelerator is None else f"this machine has {accelerator.type}"
        raise LaptimeError(f"device {device!r} asked for, {has}: use cpu or auto")
    count = torch.accelerator.device_count()
    if target.index is not None and target.index >= count:
        raise LaptimeError(f"device {device!r} asked for, there are only {count}: use {target.type}:0")
    return torch.device(target.type, target.index or 0)


def resolve_dtype(dtype: str) -> torch.dtype | None:
    """The torch dtype of that name; None for auto. Raises LaptimeError."""
    if dtype != "auto" and dtype not in DTYPES:
        raise LaptimeError(f"dtype {dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
    return DTYPES.get(dtype)


def _check_attention(implementation: str | None) -> None:
    if implementation is not None and implementation not in ATTENTIONS:
        raise LaptimeError(f"attention {implementation!r} is unknown: use {', '.join(ATTENTIONS)}")


def _load_preset(
    name: str, dtype: torch.dtype | None, device: torch.device, attention: str | None, seed: int
) -> Loaded:
    preset = recipe(name.removeprefix(PRESET_PREFIX))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    auto = AutoModelForCausalLM if preset.processor is None else AutoModelForImageTextToText
    options = {} if attention is None else {"attn_implementation": attention}
    forked = [] if device.type in ("cpu", "meta") else [device]
    with torch.random.fork_rng(forked, device_type="cuda" if not forked else device.type), torch.device(device):
        torch.manual_seed(seed)
        model = auto.from_config(preset.config, dtype=dtype, **options)
    model.eval().requires_grad_(False)
    generation = model.generation_config
    generation.do_sample = False
    generation.eos_token_id = None  # random weights must not stop early: every answer has the length that was asked for
    generation.pad_token_id = preset.pad
    generation.suppress_tokens = list(preset.suppress) or None
    return Loaded(name, model, preset.processor, preset.tokenizer, "preset", preset.processor is not None)


def _load_pretrained(name: str, dtype: torch.dtype | None, device: torch.device, plan: LoadingPlan) -> Loaded:
    trust = plan.trust_remote_code
    place = locate(name, trust_remote_code=trust)
    config = load_config(place)
    auto, is_vlm = _auto_class(name, config)
    hears = getattr(config, "audio_config", None) is not None or auto is AutoModelForSpeechSeq2Seq
    processor, tokenizer = load_processor(place, with_media=is_vlm or hears)  # before the weights: it fails sooner
    source: Literal["local", "hub"] = "local" if place.folder else "hub"
    options: dict[str, Any] = (
        {} if plan.attn_implementation is None else {"attn_implementation": plan.attn_implementation}
    )
    stated = dtype or getattr(config, "dtype", None)
    if device.type == "meta" and isinstance(stated, torch.dtype):
        with torch.device("meta"):  # no weights are asked for, so none are read
            model = auto.from_config(config, dtype=stated, trust_remote_code=trust, **options)
        return Loaded(name, model.eval(), processor, tokenizer, source, is_vlm)
    if plan.quantize is not None:
        options["quantization_config"] = quantization(plan.quantize)
    placed = device_map_of(plan.device_map, plan.quantize, device)
    if placed is not None:
        options["device_map"] = placed
    model = auto.from_pretrained(
        name,
        config=config,
        dtype="auto" if dtype is None else dtype,
        use_safetensors=True,  # a pickle can run code when it is opened
        **place.options,
        **options,
    )
    if not callable(getattr(model, "generate", None)):
        raise LaptimeError(f"{name}: {type(model).__name__} has no generate()")
    if placed is None:
        model = model.to(device)
    return Loaded(name, model.eval().requires_grad_(False), processor, tokenizer, source, is_vlm)


def _auto_class(name: str, config: Any) -> tuple[Any, bool]:
    """The auto class that makes a generating model of this config, and whether it takes images."""
    has_vision = getattr(config, "vision_config", None) is not None
    remote = getattr(config, "auto_map", None) or {}
    classes = [AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM]
    if has_vision:
        classes = [AutoModelForImageTextToText, AutoModelForCausalLM, AutoModelForMultimodalLM]
    speaking = [AutoModelForSpeechSeq2Seq, AutoModelForSeq2SeqLM]
    classes = speaking + classes if getattr(config, "is_encoder_decoder", False) else classes + speaking
    for auto in classes:
        if auto.__name__ in remote or type(config) in auto._model_mapping:
            return auto, has_vision or auto is AutoModelForImageTextToText
    kind = getattr(config, "model_type", type(config).__name__)
    raise LaptimeError(
        f"{name}: a {kind} model has no generate(); laptime needs a causal, image-text-to-text or sequence-to-sequence "
        "model"
    )


@contextlib.contextmanager
def _one_line_errors(name: str, device: torch.device) -> Iterator[None]:
    """Turn what goes wrong while loading, and can be mended, into one line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise _out_of_memory(name, device) from None
    except RuntimeError as error:
        if "allocate memory" in str(error) or "out of memory" in str(error):  # what torch says on a CPU
            raise _out_of_memory(name, device) from None
        raise explained(name, error) from error
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        raise explained(name, error) from error


def _out_of_memory(name: str, device: torch.device) -> LaptimeError:
    return LaptimeError(f"{name}: out of memory on {device} while loading: use a smaller model, dtype or device")
