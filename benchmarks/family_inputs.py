"""Inputs that a tiny model of any type takes: tried in turn until its own feature function, or encoder, takes one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from family_models import SPECIAL, VOCAB
from torch import nn

FEATURES = {"image": ("get_image_features", "get_video_features"), "audio": ("get_audio_features",)}


def inputs(model: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    """What generate() is called with: ids, and the image or the sound that the type is for."""
    if getattr(model.config, "is_encoder_decoder", False):
        return _encoder_inputs(model)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    if kind == "text":
        ids = ids.repeat(getattr(model.config, "num_codebooks", None) or 1, 1)  # MusicGen: a row for each codebook
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = FEATURES["audio"] if kind == "audio" or owner(model, FEATURES["image"]) is None else FEATURES["image"]
    if hasattr(getattr(model, "model", None), "audio_tower") and owner(model, names) is None:
        return _qwen2_audio(model)
    feature = owner(model, names)
    if feature is None:
        return {**_blind(model), "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    holder, name = feature
    word = "video" if "video" in name else "audio" if "audio" in name else "image"
    features, given = _first_that_works(holder, name, list(_candidates(model, word)))
    hidden = model.config.get_text_config().hidden_size
    count = max(1, _numel(features) // hidden)
    ids = torch.cat([ids[:, :1], torch.full((1, count), placeholder(model, word)), ids[:, 1:]], dim=1)
    made = {**given, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    known = _parameters(model)
    if "pixel_values" not in known and "image_patches" in known:  # Fuyu
        made["image_patches"] = made.pop("pixel_values")
    code = {"image": 1, "video": 2, "audio": 3}[word]
    if "mm_token_type_ids" in known:
        made["mm_token_type_ids"] = (ids == placeholder(model, word)).int() * code
    if "token_type_ids" in known:
        made["token_type_ids"] = (ids == placeholder(model, word)).long()
    if "image_embeds_position_mask" in known:
        made["image_embeds_position_mask"] = (ids == placeholder(model, word)).long()
    if "qformer_input_ids" in known:
        made["qformer_input_ids"] = torch.tensor([[5, 6, 7]])
        made["qformer_attention_mask"] = torch.ones(1, 3, dtype=torch.long)
    return made


def owner(model: nn.Module, names: tuple[str, ...]) -> tuple[nn.Module, str] | None:
    """The innermost module with that function of its own, and the function's name."""
    for name in names:
        holders = [m for m in model.modules() if callable(getattr(type(m), name, None))]
        if holders:
            return holders[-1] if len(holders) == 1 else _inner(holders, name), name
    return None


def _inner(holders: list[nn.Module], name: str) -> nn.Module:
    """The one that does the work: the others only pass the call on."""
    return next((h for h in reversed(holders) if f"{name}(" not in _body(h, name)), holders[-1])


def _body(holder: nn.Module, name: str) -> str:
    return inspect.getsource(getattr(type(holder), name)).partition(":\n")[2]


def placeholder(model: nn.Module, word: str) -> int:
    """The id that stands for one feature."""
    for name in (f"{word}_token_id", f"{word}_token_index", "image_token_id", "audio_token_id"):
        value = getattr(model.config, name, None)
        if isinstance(value, int) and value < VOCAB:
            return value
    return SPECIAL[word]


def _first_that_works(holder: nn.Module, name: str, given: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    function = getattr(holder, name)
    known = inspect.signature(inspect.unwrap(function)).parameters
    defaults = {"vision_feature_select_strategy": "default", "vision_feature_layer": -1, "vision_feature_layers": [-1]}
    asked = {k: v for k, v in defaults.items() if k in known and known[k].default is known[k].empty}
    errors: list[str] = []
    for candidate in given:
        fitting = {key: value for key, value in candidate.items() if key in known}
        if not fitting:
            continue
        try:
            with torch.no_grad():
                features = function(**fitting, **asked)
            return features, fitting
        except Exception as error:
            errors.append(f"{type(error).__name__}: {str(error)[:150]}")
    raise ValueError(f"no input fits {name}{list(known)}: {sorted(set(errors))[:12]}")


def _parameters(module: nn.Module) -> set[str]:
    return set(inspect.signature(inspect.unwrap(type(module).forward)).parameters)


def _part(model: nn.Module, words: tuple[str, ...]) -> Any:
    for name in getattr(type(model.config), "sub_configs", {}):
        if any(word in name for word in words):
            return getattr(model.config, name)
    return model.config


def _candidates(model: nn.Module, word: str) -> Iterator[dict[str, Any]]:
    if word == "audio":
        yield from _sounds(model)
        return
    config = _part(model, ("vision", "vq"))
    pixels = "pixel_values_videos" if word == "video" else "pixel_values"
    grid = "video_grid_thw" if word == "video" else "image_grid_thw"
    sizes = [getattr(config, "image_size", None), getattr(model.config, "image_size", None), 32, 64]
    patch = getattr(config, "patch_size", 8)
    patch = patch[0] if isinstance(patch, (list, tuple)) else patch or 8
    channels = getattr(config, "in_channels", None) or getattr(config, "num_channels", 3) or 3
    temporal = getattr(config, "temporal_patch_size", 1) or 1
    grids = {grid: torch.tensor([[1, 4, 4]]), "image_merge_sizes": torch.tensor([2])}
    yield {pixels: torch.randn(16, channels * temporal * patch * patch), **grids}
    yield {pixels: torch.randn(16, channels * patch * patch), **grids}
    yield {pixels: torch.randn(16, channels, patch, patch), **grids}
    yield {pixels: torch.randn(32, channels * patch * patch), grid: torch.tensor([[2, 4, 4]])}
    yield {pixels: torch.randn(16, channels * 2 * patch * patch), **grids}
    flat = {size[0] if isinstance(size, (list, tuple)) else size for size in sizes if size}
    for size in sorted(flat, key=str):
        if not isinstance(size, int) or size > 500:
            continue
        image = torch.randn(1, 3, size, size)
        whole = {
            "image_sizes": torch.tensor([[size, size]]),
            "pixel_attention_mask": torch.ones(1, 1, size, size, dtype=torch.bool),
            "num_patches": torch.tensor([1]),
            "high_res_pixel_values": torch.randn(1, 3, 64, 64),
            "qformer_input_ids": torch.tensor([[5, 6, 7]]),
            "qformer_attention_mask": torch.ones(1, 3, dtype=torch.long),
            "input_ids": torch.tensor([[5, 6, 7]]),
            "batch_num_images": torch.tensor([1]),
            "pixel_values_images": image,
            "image_attention_mask": None,
            "target_sizes": torch.tensor([[size // patch, size // patch]]),
            "aspect_ratios": torch.tensor([[[1, 1]]]),
            "cross_attention_mask": None,
        }
        whole = {k: v for k, v in whole.items() if v is not None}
        for shaped in (image, image[None], image[None].repeat(1, 2, 1, 1, 1), image[None].repeat(1, 4, 1, 1, 1)):
            for named in dict.fromkeys((pixels, "pixel_values")):
                yield {named: shaped}
                yield {named: shaped, **whole}
    positions = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"), -1).reshape(1, 36, 2)
    yield {pixels: torch.rand(1, 36, 3 * patch * patch), "image_position_ids": positions}
    yield {pixels: torch.rand(1, 36, 3 * patch * patch), "pixel_position_ids": positions}
    yield {pixels: torch.rand(1, 36, 27 * patch * patch), "image_position_ids": positions}  # three by three at once
    shapes = torch.tensor([[4, 4]])
    yield {
        pixels: torch.randn(1, 16, 3 * patch * patch),
        "spatial_shapes": shapes,
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }
    yield {pixels: torch.randn(1, 16, 3 * patch * patch), "image_patches_indices": torch.arange(16)[None]}


def _sounds(model: nn.Module) -> Iterator[dict[str, Any]]:
    config = _part(model, ("audio", "encoder"))
    bins = {getattr(config, n, None) for n in ("num_mel_bins", "input_dim", "input_feat_size", "mel_bins")} | {128, 80}
    for mel in sorted(b for b in bins if isinstance(b, int)):
        for steps in (96, 100, 200, 3000):
            sound = torch.randn(1, mel, steps)
            mask = torch.ones(1, steps, dtype=torch.long)
            for features in (sound, sound.transpose(1, 2).contiguous()):
                masks = {
                    "feature_attention_mask": mask,
                    "input_features_mask": mask.bool(),
                    "attention_mask": mask,
                    "padding_mask": mask,
                    "audio_feature_lengths": torch.tensor([steps]),
                }
                yield {"input_features": features, **masks}
                yield {"input_features": features, "input_features_mask": mask.bool()}
                yield {"input_features": features}
    yield {"input_values": torch.randn(1, 1, 6400)}
    yield {"input_values": torch.randn(1, 6400), "padding_mask": torch.ones(1, 6400, dtype=torch.bool)}


def _qwen2_audio(model: nn.Module) -> dict[str, torch.Tensor]:
    mask = torch.ones(1, 96, dtype=torch.long)
    count = int(model.model.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))[1])
    ids = torch.tensor([[5, *[model.config.audio_token_index] * count, 6, 7]])
    sound = {"input_features": torch.randn(1, 16, 96), "feature_attention_mask": mask}
    return {**sound, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _encoder_inputs(model: nn.Module) -> dict[str, torch.Tensor]:
    """Of an encoder-decoder: what its encoder takes, by the name of its main input."""
    main = model.main_input_name
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    if main == "input_ids":
        made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        feature = owner(model, FEATURES["image"])
        if feature is not None:
            features, given = _first_that_works(*feature, list(_candidates(model, "image")))
            count = max(1, _numel(features) // model.config.get_text_config().hidden_size)
            ids = torch.cat([ids[:, :1], torch.full((1, count), placeholder(model, "image")), ids[:, 1:]], dim=1)
            made = {**given, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return made
    if "pixel" in main:
        size = getattr(_part(model, ("vision", "encoder")), "image_size", 32)
        return {main: torch.randn(1, 3, size, size)}
    if "patches" in main:
        return {main: torch.rand(1, 16, 770), "attention_mask": torch.ones(1, 16)}
    for candidate in _sounds(model):
        value = candidate.get(main)
        if value is None:
            continue
        mask = {"attention_mask": torch.ones(value.shape[0], value.shape[1], dtype=torch.long)}
        for made in ({main: value}, {main: value, **mask}):
            if _takes(model.get_encoder(), made):
                return made
    raise ValueError(f"no input fits {main}")


def _takes(module: nn.Module, given: dict[str, torch.Tensor]) -> bool:
    try:
        with torch.no_grad():
            module(**given)
    except Exception:
        return False
    return True


def _blind(model: nn.Module) -> dict[str, torch.Tensor]:
    """For a type without a feature function: what its forward asks for."""
    known = _parameters(model)
    size = getattr(_part(model, ("vision",)), "image_size", 32)
    made: dict[str, torch.Tensor] = {}
    if "pixel_values" in known:
        made["pixel_values"] = torch.randn(1, 3, size, size)
    if "image_attention_mask" in known and "pixel_values" in known:
        made["pixel_values"] = torch.randn(1, 1, 3, size, size)
        made["image_attention_mask"] = torch.ones(1, 6, 1, dtype=torch.long)
    if "aspect_ratio_ids" in known:
        made["pixel_values"] = torch.randn(1, 1, 4, 3, size, size)
        made["aspect_ratio_ids"] = torch.ones(1, 1, dtype=torch.long)
        made["aspect_ratio_mask"] = torch.ones(1, 1, 4, dtype=torch.long)
        made["cross_attention_mask"] = torch.ones(1, 6, 1, 4, dtype=torch.long)
    return made


def _numel(features: Any) -> int:
    pooled = getattr(features, "pooler_output", None)
    features = pooled if pooled is not None else getattr(features, "last_hidden_state", features)
    if torch.is_tensor(features):
        return int(features.numel())
    if isinstance(features, (list, tuple)):
        return sum(_numel(one) for one in features)
    raise ValueError(f"features of {type(features).__name__}")
