"""Tiny random models of any generative type of transformers: its own config class with small numbers everywhere."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

sys.path.insert(0, str(Path(__file__).parents[1]))
from family_fixes import FIXES

from tests.models.many_families import SMALL, build_text

VOCAB = SMALL["vocab_size"]
WIDTH = 64
SPECIAL = {"image": 300, "video": 301, "audio": 302}
"""Which id stands for what; every tiny vocabulary is larger."""

OTHER_IDS = {
    "vision_start_token_id": 303,
    "vision_end_token_id": 304,
    "audio_start_token_id": 305,
    "audio_end_token_id": 306,
    "image_start_token_id": 307,
    "image_end_token_id": 308,
}

TEXT: dict[str, Any] = {
    **SMALL,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), WIDTH),
    **dict.fromkeys(("head_dim", "global_head_dim"), 16),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "d_kv"), 16),
    "decoder_start_token_id": 1,
    "vocab_size_audio": VOCAB,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "eos_token_id": None,
    "max_position_embeddings": 512,
    "sliding_window": 64,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCAB,
    "num_global_key_value_heads": 2,
}
VISION: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "embed_dim", "d_model", "width", "embed_dims", "hidden_dim"), WIDTH),
    **dict.fromkeys(("intermediate_size", "mlp_dim", "ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "depth", "num_layers", "layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "attention_heads", "n_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("out_hidden_size", "vision_output_dim", "projection_dim", "output_hidden_size"), WIDTH),
    "image_size": 32,
    "patch_size": 8,
    "head_dim": 16,
    "num_global_layers": 1,
    "num_position_embeddings": 64,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [0],
    "position_embedding_size": 8,
}
AUDIO: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "hidden_dim", "output_dim", "encoder_hidden_size"), WIDTH),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "feedforward_dim"), 4 * WIDTH),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "num_layers", "num_blocks", "conf_num_hidden_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "num_heads", "num_key_value_heads"), 4),
    "head_dim": 16,
    "dim_head": 16,
    "num_mel_bins": 16,
    "max_source_positions": 48,
}
AS_PARTS = (
    *("whisper", "bart", "mbart", "mvp", "pegasus", "plbart", "prophetnet", "blenderbot", "blenderbot-small"),
    *("marian", "bigbird_pegasus", "moshi"),
)
"""Decoders of encoder-decoders: they count heads and layers by side."""

MAY_BE_NONE = ("q_lora_rank", "num_key_value_heads", "eos_token_id", "pad_token_id")
"""Names that a config has even where their value is None."""

ROLES = {"vision": VISION, "image": VISION, "audio": AUDIO, "encoder": AUDIO, "text": TEXT}


SOUND_TOO = (
    *("gemma3n", "gemma4", "gemma4_unified", "inkling_mm_model"),
    *("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"),
)
"""Types that take images and sound: measured once with each."""


def types() -> dict[str, tuple[str, str]]:
    """Every generative model type -> (what it takes, class name): text, image or audio. A second class is TYPE:KIND."""
    found: dict[str, tuple[str, str]] = {}
    for kind, mapping in (
        ("image", modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
        ("any", modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES),
        ("audio", modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES),
        ("seq2seq", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        ("text", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ):
        for model_type, name in mapping.items():
            name = name if isinstance(name, str) else name[0]
            if any(key.partition(":")[0] == model_type and known == name for key, (_, known) in found.items()):
                continue
            found[model_type if model_type not in found else f"{model_type}:{kind}"] = (kind, name)
    sound = {f"{key}:sound": ("audio", name) for key, (_, name) in found.items() if key in SOUND_TOO}
    return found | sound


def shrink(config_class: Any, table: dict[str, Any], more: dict[str, Any] | None = None) -> Any:
    """That class's config with the table's numbers wherever it knows their names; its parts by their own roles."""
    default = config_class()
    known = default.to_dict()
    aliases = dict(getattr(config_class, "attribute_map", {}))
    small: dict[str, Any] = {}
    for name, value in table.items():
        real = aliases.get(name, name)
        settable = known.get(real) is not None or name in MAY_BE_NONE
        if real in known and settable and not isinstance(known[real], dict):
            ends = isinstance(known[real], (list, tuple)) and real == "eos_token_id"
            small[real] = [2] if ends else _like(known[real], value)
    parts = getattr(config_class, "sub_configs", {})
    for part in parts:
        made = getattr(default, part, None)
        if made is None and parts[part].__name__ == "AutoConfig":
            continue
        role = next((ROLES[word] for word in ROLES if word in part), TEXT)
        own = more.get(part) if more else None
        small[part] = shrink(parts[part] if made is None else type(made), role, own)
    for name in known:
        for word, index in SPECIAL.items():
            if name in (f"{word}_token_id", f"{word}_token_index"):
                small[name] = index
        if name in OTHER_IDS:
            small[name] = OTHER_IDS[name]
    rope = known.get("rope_parameters") or {}
    sections = rope.get("mrope_section") or _sections_in_code(config_class)
    if sections and "rope_parameters" in known and not any(isinstance(value, dict) for value in rope.values()):
        small["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 10000.0,
            **rope,
            "mrope_section": _sections(rope),
        }
    if known.get("kv_lora_rank") is not None:  # latent attention: one key head for each query head
        small["num_key_value_heads"] = 4
        small.pop("head_dim", None)
    kinds = known.get("layer_types")
    if kinds:  # one layer of each kind, the last one with attention
        small["layer_types"] = _two_layers(list(kinds))
    elif "layer_types" in known:
        small["layer_types"] = None
    small.update({name: value for name, value in (more or {}).items() if name not in parts})
    return config_class(**small)


def _two_layers(kinds: list[str]) -> list[str]:
    """One layer of each kind, the full attention last."""
    names = sorted(set(kinds), key=lambda kind: (kind == "full_attention", kinds.index(kind)))
    return [names[0], names[-1]]


def _sections_in_code(config_class: Any) -> list[int] | None:
    """The default that the type's own code has where its config names no sections."""
    path = Path(inspect.getfile(config_class))
    code = path.with_name(path.name.replace("configuration_", "modeling_"))
    found = re.search(r"mrope_section\", \[(\d+), (\d+), (\d+)\]", code.read_text()) if code.exists() else None
    return [int(number) for number in found.groups()] if found and "text" in config_class.__name__.lower() else None


def _sections(rope: dict[str, Any]) -> list[int]:
    """The parts of a rotary embedding for time, height and width, for a head of 16."""
    half = int(8 * (rope.get("partial_rotary_factor") or 1))
    return [half - 2 * (half // 3), half // 3, half // 3]


def _like(known: Any, value: Any) -> Any:
    """The small number in the shape that the config has it in (a pair, a list)."""
    if isinstance(known, (list, tuple)) and not isinstance(value, (list, tuple)):
        return [value] * len(known)
    return value


def build(key: str, seed: int = 0) -> nn.Module:
    """A tiny model of that type, float32, in eval mode, that never ends by itself."""
    kind, name = types()[key]
    model_type = key.partition(":")[0]
    if (
        kind == "text"
        and key not in FIXES
        and not getattr(CONFIG_MAPPING[model_type], "sub_configs", {})
        and model_type not in AS_PARTS
    ):
        with contextlib.suppress(Exception):  # that table of small numbers doesn't fit; the one here may
            return build_text(model_type, seed=seed)
    torch.manual_seed(seed)
    config_class = getattr(transformers, name).config_class or CONFIG_MAPPING[model_type]
    config = shrink(config_class, TEXT, FIXES.get(key, {}))
    model = getattr(transformers, name)(config).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    if model_type.startswith("musicgen"):
        model.generation_config.decoder_start_token_id = 1
    if getattr(config, "is_encoder_decoder", False):
        model.generation_config.decoder_start_token_id = 1
        model.generation_config.bos_token_id = 1
        model.generation_config.forced_bos_token_id = model.generation_config.forced_eos_token_id = None
    return model
