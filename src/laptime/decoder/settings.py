"""The settings of one generate() call. A setting that the fast step can't follow is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from laptime.decoder.state import MOST_EOS, Sampling
from laptime.errors import LaptimeError

WITHOUT_EFFECT = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "length_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1.0,),
    "diversity_penalty": (0.0,),
    "num_beam_groups": (1,),
}
"""Settings that change tokens, and the values at which they have no effect."""
CHANGES_TOKENS = {
    *WITHOUT_EFFECT,
    "stop_strings",
    "max_time",
    "min_p",
    "top_h",
    "bad_words_ids",
    "renormalize_logits",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "begin_suppress_tokens",
    "sequence_bias",
    "token_healing",
    "watermarking_config",
    "penalty_alpha",
    "dola_layers",
    "prompt_lookup_num_tokens",
    "constraints",
    "force_words_ids",
    "use_mtp",
}
RETURNS_MORE = {
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
}
REFUSED_ARGUMENTS = (
    "logits_processor",
    "stopping_criteria",
    "streamer",
    "assistant_model",
    "past_key_values",
    "cache",
    "inputs_embeds",
    "prefix_allowed_tokens_fn",
    "negative_prompt_ids",
    "custom_generate",
    "cache_implementation",
)

SEEDS = 2**62
"""A call without a seed takes one below this number from torch's own generator, so torch.manual_seed repeats it."""


@dataclass(frozen=True)
class GenerationSettings:
    """One call: at most `new_tokens`; any id of `eos` ends a row, `pad` follows; `suppressed` ids are never chosen."""

    new_tokens: int
    sampling: Sampling
    eos: tuple[int, ...]
    pad: int
    suppressed: tuple[int, ...]
    prefill_chunk: int | None


def read_settings(model: Any, call: Mapping[str, Any], prompt_tokens: int) -> tuple[GenerationSettings, dict[str, Any]]:
    """The settings of a call, and its other arguments, which are the model's inputs.

    Raises LaptimeError for a setting that the fast step can't follow and for a value out of range.
    """
    known = GenerationConfig()
    given = {key: value for key, value in call.items() if hasattr(known, key) and key not in REFUSED_ARGUMENTS}
    inputs = {
        key: value for key, value in call.items() if key not in given and key not in ("generation_config", "seed")
    }
    for key in REFUSED_ARGUMENTS:
        if inputs.pop(key, None) is not None:
            raise LaptimeError(f"{key} is not supported by the fast decoder; leave it out, or use model.generate()")

    def setting(key: str) -> Any:
        for holder in (call.get("generation_config"), model.generation_config):
            if given.get(key) is None and holder is not None and getattr(holder, key, None) is not None:
                return getattr(holder, key)
        return given.get(key)

    for key in sorted(CHANGES_TOKENS | RETURNS_MORE):
        value = setting(key)
        if value not in (None, False, *WITHOUT_EFFECT.get(key, ())):
            raise LaptimeError(f"{key} = {value} is not supported by the fast decoder; use model.generate() for it")
    new_tokens = setting("max_new_tokens")
    if new_tokens is None and setting("max_length") is not None:
        new_tokens = setting("max_length") - prompt_tokens
    if new_tokens is None or new_tokens < 1:
        raise LaptimeError(f"max_new_tokens = {new_tokens}: say how many tokens to generate, 1 or more")
    eos = setting("eos_token_id")
    eos = () if eos is None else tuple(int(i) for i in (eos if isinstance(eos, (list, tuple)) else [eos]))
    if len(eos) > MOST_EOS:
        raise LaptimeError(f"eos_token_id names {len(eos)} ids; the fast decoder takes up to {MOST_EOS}")
    pad = setting("pad_token_id")
    return (
        GenerationSettings(
            new_tokens=int(new_tokens),
            sampling=_sampling(setting, call.get("seed")),
            eos=eos,
            pad=int(pad) if pad is not None else (eos[0] if eos else 0),
            suppressed=tuple(int(i) for i in setting("suppress_tokens") or ()),
            prefill_chunk=setting("prefill_chunk_size"),
        ),
        inputs,
    )


def _sampling(setting: Any, seed: int | None) -> Sampling:
    if not setting("do_sample"):
        return Sampling()
    temperature, top_k, top_p = setting("temperature"), setting("top_k"), setting("top_p")
    temperature = 1.0 if temperature is None else float(temperature)
    top_k = 50 if top_k is None else int(top_k)  # what generate() takes when nothing is said
    top_p = 1.0 if top_p is None else float(top_p)
    for name, value, fine in (
        ("temperature", temperature, temperature > 0),
        ("top_k", top_k, top_k >= 0),
        ("top_p", top_p, 0 < top_p <= 1),
    ):
        if not fine:
            raise LaptimeError(
                f"{name} = {value} is out of range: temperature above 0, top_k 0 or more, top_p above 0 to 1"
            )
    drawn = int(torch.randint(SEEDS, ())) if seed is None else int(seed)
    return Sampling(draw=True, temperature=temperature, top_k=top_k, top_p=top_p, seed=drawn)
